"""When a connection sends again because nothing comes: RFC 6298, RFC 9293 section 3.8, RFC 5681 section 3.1.

The timeouts are worked out here from the formulae of RFC 6298 section 2, with Linux's floor of 200 ms for the share of
the variance.
"""

from __future__ import annotations

from netemu.stack.tcp.congestion import congestion_at
from netemu.stack.tcp.rtt import rtt_at
from netemu.stack.tcp.tcb import ERROR_TIMED_OUT, ERROR_UNREACHABLE
from tests.tcp_kit import MS, TcpBench, mss, stamp

MINUTE = 60_000


def rto_ms(*samples: float) -> float:
    """RFC 6298 section 2, alpha 1/8, beta 1/4, K 4, over round trips in ms."""
    srtt, rttvar = samples[0], samples[0] / 2
    for sample in samples[1:]:
        rttvar += (abs(srtt - sample) - rttvar) / 4
        srtt += (sample - srtt) / 8
    return srtt + max(4 * rttvar, 200)


def test_a_syn_is_sent_again_after_1_3_7_15_31_63_seconds() -> None:
    """RFC 6298 2.1 (RTO 1 s) and 5.5 (doubled each time); Linux gives up after six more."""
    b = TcpBench()
    sock = b.connecting()
    for wait in (1, 2, 4, 8, 16, 32):
        b.after(wait * 1000 - 1)
        b.quiet()
        b.after(1)
        b.expect("S", 0)
    b.after(64_000 - 1)
    assert sock.state == "SYN-SENT"
    b.after(1)
    b.quiet()
    assert (sock.state, sock.error_code) == ("CLOSED", ERROR_TIMED_OUT)
    moved = b.moved()
    assert (moved["TcpRetransSegs"], moved["TcpExtTCPSynRetrans"], moved["TcpOutSegs"]) == (6, 6, 1)
    assert (moved["TcpExtTCPTimeouts"], moved["TcpExtTCPAbortOnTimeout"], moved["TcpAttemptFails"]) == (6, 1, 1)


def test_a_syn_ack_is_sent_again() -> None:
    b = TcpBench()
    b.listen()
    b.inject("S", 0)
    b.expect("S.", 0, 1)
    b.after(1000)
    b.expect("S.", 0, 1)
    b.after(2000)
    b.expect("S.", 0, 1)


def test_the_peers_syn_again_is_answered_again() -> None:
    b = TcpBench()
    listener = b.listen()
    b.inject("S", 0)
    b.expect("S.", 0, 1)
    b.after(900)
    b.inject("S", 0)
    b.expect("S.", 0, 1)
    b.inject(".", 1, 1)
    sock = listener.accept()
    assert sock is not None
    assert sock.info()["srtt"] == 0  # which of the two was answered nobody knows (Karn)


def test_the_first_measurement_is_that_of_the_syn() -> None:
    """2.2: SRTT is R, RTTVAR R/2."""
    b = TcpBench()
    sock = b.connecting()
    b.after(80)
    b.inject("S.", 0, 1, opts=[mss(1460)])
    b.expect(".", 1, 1)
    rtt = rtt_at(sock.tcb.rtt)
    assert (rtt.srtt, rtt.rttvar) == (80 * MS, 40 * MS)
    sock.write(b"x")
    b.expect("P.", 1, 1, length=1)
    b.after(rto_ms(80) - 0.001)
    b.quiet()
    b.after(0.002)
    b.expect("P.", 1, 1, length=1)


def test_a_syn_that_was_sent_again_is_not_measured() -> None:
    """Karn's rule, and 5.7: the timeout is 3 s when data begins; RFC 5681 section 3.1: the window one segment."""
    b = TcpBench()
    sock = b.connecting()
    b.after(1000)
    b.expect("S", 0)
    b.after(100)
    b.inject("S.", 0, 1, opts=[mss(1460)])
    b.expect(".", 1, 1)
    sock.write(bytes(5000))
    b.expect(".", 1, 1, length=1460)
    b.quiet()
    b.after(2999)
    b.quiet()
    b.after(1)
    b.expect(".", 1, 1, length=1460)


def test_timestamps_measure_a_syn_that_was_sent_again() -> None:
    """RFC 7323 section 4: the echo says which of the two was answered."""
    b = TcpBench(timestamps=1)
    sock = b.connecting()
    b.after(1000)
    again = b.expect("S", 0)
    b.after(100)
    assert again.timestamps is not None
    b.inject("S.", 0, 1, opts=[mss(1460), stamp(7, again.timestamps[0])])
    b.expect(".", 1, 1)
    assert rtt_at(sock.tcb.rtt).srtt == 100 * MS


def test_measurements_are_smoothed() -> None:
    """2.3, with two more round trips of 120 ms and 60 ms."""
    b = TcpBench()
    sock = b.connecting()
    b.after(80)
    b.inject("S.", 0, 1, opts=[mss(1460)])
    b.expect(".", 1, 1)
    for n, trip in enumerate((120, 60)):
        sock.write(b"x")
        b.expect("P.", 1 + n, 1, length=1)
        b.after(trip)
        b.inject(".", 1, 2 + n)
    sock.write(b"y")
    b.expect("P.", 3, 1, length=1)
    b.after(rto_ms(80, 120, 60) - 0.01)
    b.quiet()
    b.after(0.02)
    b.expect("P.", 3, 1, length=1)


def test_the_timeout_doubles_and_the_window_is_one_segment() -> None:
    """5.4 to 5.6; RFC 5681: ssthresh is half of what was under way, once, the window one segment."""
    b = TcpBench()
    sock = b.accepted()
    sock.write(bytes(14600))
    for n in range(10):
        b.expect("P." if n == 9 else ".", 1 + 1460 * n, 1, length=1460)
    congestion = congestion_at(sock.tcb.congestion)
    assert congestion.cwnd == 14600
    rto = 200 + 1e-6  # the handshake took no time: SRTT 1 ns
    for n in range(4):
        b.after(rto * 2**n - 0.01)
        b.quiet()
        b.after(0.01)
        b.expect(".", 1, 1, length=1460)
        b.quiet()
        assert (congestion.cwnd, congestion.ssthresh) == (1460, 7300)
    assert b.moved()["TcpExtTCPTimeouts"] == 4


def test_after_a_timeout_all_is_sent_again_by_slow_start() -> None:
    """Each acknowledgement lets two more go, none of them new, until all that was lost is through."""
    b = TcpBench()
    sock = b.accepted()
    sock.write(bytes(7300))
    for n in range(5):
        b.expect("P." if n == 4 else ".", 1 + 1460 * n, 1, length=1460)
    b.after(201)
    b.expect(".", 1, 1, length=1460)
    b.inject(".", 1, 1461)
    b.expect(".", 1461, 1, length=1460)
    b.expect(".", 2921, 1, length=1460)
    b.quiet()
    b.inject(".", 1, 4381)
    b.expect(".", 4381, 1, length=1460)
    b.expect("P.", 5841, 1, length=1460)
    b.inject(".", 1, 7301)
    b.quiet()
    moved = b.moved()
    assert (moved["TcpRetransSegs"], moved["TcpExtTCPSlowStartRetrans"], moved["TcpOutSegs"]) == (5, 4, 6)


def test_acknowledgements_of_the_first_sending_spare_the_second() -> None:
    """What arrives after a timeout for all that was sent ends the recovery."""
    b = TcpBench()
    sock = b.accepted()
    sock.write(bytes(4380))
    for n in range(3):
        b.expect("P." if n == 2 else ".", 1 + 1460 * n, 1, length=1460)
    b.after(201)
    b.expect(".", 1, 1, length=1460)
    b.inject(".", 1, 4381)
    b.quiet()
    assert sock.info()["unacked"] == 0
    b.after(MINUTE)
    b.quiet()


def test_each_acknowledgement_starts_the_timer_anew() -> None:
    """5.3."""
    b = TcpBench()
    sock = b.accepted()
    sock.write(bytes(2920))
    b.expect(".", 1, 1, length=1460)
    b.expect("P.", 1461, 1, length=1460)
    b.after(150)
    b.inject(".", 1, 1461)
    b.after(199)
    b.quiet()


def test_a_fin_is_sent_again() -> None:
    b = TcpBench()
    sock = b.accepted()
    sock.write(b"end")
    sock.shutdown()
    b.expect("P.", 1, 1, length=3)
    b.expect("F.", 4, 1)
    b.after(201)
    b.expect("FP.", 1, 1, length=3)
    b.inject(".", 1, 4)
    b.after(401)
    b.expect("F.", 4, 1)
    b.inject(".", 1, 5)
    assert sock.state == "FIN-WAIT-2"


def test_giving_up_takes_15_retransmissions() -> None:
    """tcp_retries2 of Linux: 200 ms doubled up to 120 s, fifteen times, 924.6 s in all (R2 of RFC 9293)."""
    b = TcpBench()
    sock = b.accepted()
    sock.write(b"x")
    b.expect("P.", 1, 1, length=1)
    b.after(924_500)
    assert sock.state == "ESTABLISHED"
    assert len(b.collect()) == 15
    b.after(200)
    assert (sock.state, sock.error_code) == ("CLOSED", ERROR_TIMED_OUT)


def test_a_user_timeout_is_kept() -> None:
    """RFC 9293 section 3.8.3 (R2 in time), RFC 5482."""
    b = TcpBench()
    sock = b.accepted()
    sock.tcb.user_timeout = 1000 * MS
    sock.write(b"x")
    b.after(1300)
    assert sock.state == "ESTABLISHED"
    b.after(300)
    assert (sock.state, sock.error_code) == ("CLOSED", ERROR_TIMED_OUT)


def test_what_icmp_said_is_told_when_time_is_up() -> None:
    b = TcpBench()
    sock = b.accepted()
    sock.tcb.user_timeout = 500 * MS
    sock.tcb.soft_error = ERROR_UNREACHABLE
    sock.write(b"x")
    b.after(1000)
    assert sock.error_code == ERROR_UNREACHABLE


def test_a_full_interface_costs_no_byte() -> None:
    """What the interface does not take was not sent: it goes when the timer says so."""
    b = TcpBench()
    sock = b.accepted()
    b.full = True
    sock.write(b"wait")
    b.full = False
    b.quiet()
    b.after(201)
    b.expect("P.", 1, 1, data=b"wait")
