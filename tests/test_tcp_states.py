"""Every way between the states of RFC 9293 figure 5 (section 3.3.2), and the segments that go with it."""

from __future__ import annotations

import pytest

from netemu.errors import NetemuError
from netemu.stack.reasons import StackReason
from netemu.stack.tcp.tcb import ERROR_REFUSED, ERROR_RESET
from tests.tcp_kit import PEER, TcpBench, mss, pair

MINUTE = 60_000


# Opening.


def test_passive_open() -> None:
    """LISTEN, SYN-RECEIVED, ESTABLISHED: RFC 9293 figure 6, seen from the passive end."""
    b = TcpBench()
    listener = b.listen()
    assert listener.state == "LISTEN"
    b.inject("S", 0, opts=[mss(1460)])
    syn_ack = b.expect("S.", 0, 1, win=65535)
    assert syn_ack.opts == [(2, b"\x05\xb4")]
    assert listener.accept() is None
    b.inject(".", 1, 1)
    b.quiet()
    sock = listener.accept()
    assert sock is not None
    assert sock.state == "ESTABLISHED"
    assert listener.state == "LISTEN"
    moved = b.moved()
    assert (moved["TcpPassiveOpens"], moved["TcpInSegs"], moved["TcpOutSegs"]) == (1, 2, 1)
    assert b.sockets.table.established == 1


def test_active_open() -> None:
    """SYN-SENT, ESTABLISHED: RFC 9293 figure 6, seen from the active end."""
    b = TcpBench()
    sock = b.sockets.connect(pair(PEER), 8080, local_port=50000)
    b.sport, b.dport = 8080, 50000
    syn = b.expect("S", 0, win=65535)
    assert (syn.dport, syn.sport, syn.opts) == (8080, 50000, [(2, b"\x05\xb4")])
    assert sock.state == "SYN-SENT"
    b.inject("S.", 0, 1, opts=[mss(1460)])
    b.expect(".", 1, 1)
    assert sock.state == "ESTABLISHED"
    assert b.moved()["TcpActiveOpens"] == 1


def test_simultaneous_open() -> None:
    """RFC 9293 figure 7: SYN-SENT, SYN-RECEIVED, ESTABLISHED."""
    b = TcpBench()
    sock = b.connecting()
    b.inject("S", 0, opts=[mss(1460)])
    assert sock.state == "SYN-RECEIVED"
    b.expect("S.", 0, 1)
    b.inject("S.", 0, 1, opts=[mss(1460)])
    assert sock.state == "ESTABLISHED"
    b.inject("P.", 1, 1, data=b"both")
    assert sock.read() == b"both"


def test_simultaneous_open_answered_without_its_syn() -> None:
    """The answer to our SYN may be an ACK alone: the peer's SYN was here before."""
    b = TcpBench()
    sock = b.connecting()
    b.inject("S", 0)
    b.expect("S.", 0, 1)
    b.inject(".", 1, 1)
    assert sock.state == "ESTABLISHED"


def test_a_syn_that_is_refused() -> None:
    """SYN-SENT, CLOSED by an acceptable RST (section 3.10.7.3, second)."""
    b = TcpBench()
    sock = b.connecting()
    b.inject("R.", 0, 1)
    b.quiet()
    assert (sock.state, sock.error_code) == ("CLOSED", ERROR_REFUSED)
    assert b.moved()["TcpAttemptFails"] == 1


@pytest.mark.parametrize("flags", ["R", "R."])
def test_a_forged_reset_of_a_syn_is_dropped(flags: str) -> None:
    """A RST without ACK, or with one that does not acknowledge our SYN, is not believed."""
    b = TcpBench()
    sock = b.connecting()
    b.inject(flags, 0, 0 if "." in flags else None)
    assert sock.state == "SYN-SENT"


def test_an_ack_in_syn_sent_of_what_was_not_sent_is_reset() -> None:
    """RFC 9293 section 3.10.7.3, first: <SEQ=SEG.ACK><CTL=RST>; the half-open recovery of figure 9."""
    b = TcpBench()
    sock = b.connecting()
    b.inject(".", 300, 91)
    b.expect("R", 91)
    assert sock.state == "SYN-SENT"


def test_close_in_syn_sent() -> None:
    b = TcpBench()
    sock = b.connecting()
    sock.close()
    b.quiet()
    b.inject("S.", 0, 1)
    b.expect("R", 1)


def test_reset_in_syn_received_returns_to_listen() -> None:
    b = TcpBench()
    listener = b.listen()
    b.inject("S", 0)
    b.expect("S.", 0, 1)
    b.inject("R", 1)
    assert (listener.state, listener.accept()) == ("LISTEN", None)
    b.inject("S", 0)
    b.expect("S.", 0)
    assert b.moved()["TcpAttemptFails"] == 1


def test_a_wrong_ack_in_syn_received_is_reset() -> None:
    """Section 3.10.7.4, fifth: an ACK that does not acknowledge our SYN gets a RST at its number."""
    b = TcpBench()
    b.listen()
    b.inject("S", 0)
    b.expect("S.", 0, 1)
    b.inject(".", 1, 9)
    b.expect("R", 9)


# Closing.


def test_the_peer_closes_first() -> None:
    """ESTABLISHED, CLOSE-WAIT, LAST-ACK, CLOSED: figure 12 from the passive end."""
    b = TcpBench()
    sock = b.accepted()
    b.inject("F.", 1, 1)
    b.expect(".", 1, 2)
    assert sock.state == "CLOSE-WAIT"
    assert sock.read() == b""
    assert sock.write(b"still") == 5
    b.expect("P.", 1, 2, data=b"still")
    b.inject(".", 2, 6)
    sock.shutdown()
    assert sock.state == "LAST-ACK"
    b.expect("F.", 6, 2)
    b.inject(".", 2, 7)
    assert (sock.state, sock.error) == ("CLOSED", None)
    b.quiet()
    assert "TcpEstabResets" not in b.moved()


def test_we_close_first() -> None:
    """ESTABLISHED, FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT, CLOSED: figure 12 from the active end."""
    b = TcpBench()
    sock = b.accepted()
    sock.shutdown()
    assert sock.state == "FIN-WAIT-1"
    b.expect("F.", 1, 1)
    b.inject(".", 1, 2)
    assert sock.state == "FIN-WAIT-2"
    b.inject("P.", 1, 2, data=b"half open")
    assert sock.read() == b"half open"
    b.after(50)
    b.expect(".", 2, 10)
    b.inject("F.", 10, 2)
    assert sock.state == "TIME-WAIT"
    b.expect(".", 2, 11)
    b.after(MINUTE - 1)
    assert sock.state == "TIME-WAIT"
    b.after(1)
    assert sock.state == "CLOSED"
    assert b.moved()["TcpExtTW"] == 1


def test_fin_with_the_ack_of_ours() -> None:
    """FIN-WAIT-1 to TIME-WAIT in one segment."""
    b = TcpBench()
    sock = b.accepted()
    sock.shutdown()
    b.expect("F.", 1, 1)
    b.inject("F.", 1, 2)
    b.expect(".", 2, 2)
    assert sock.state == "TIME-WAIT"


def test_simultaneous_close() -> None:
    """RFC 9293 figure 13: FIN-WAIT-1, CLOSING, TIME-WAIT."""
    b = TcpBench()
    sock = b.accepted()
    sock.shutdown()
    b.expect("F.", 1, 1)
    b.inject("F.", 1, 1)
    assert sock.state == "CLOSING"
    b.expect(".", 2, 2)
    b.inject(".", 2, 2)
    assert sock.state == "TIME-WAIT"
    b.quiet()


def test_close_after_the_peer_closed_simultaneous_data() -> None:
    """Data, then FIN in one segment: read first, then the end."""
    b = TcpBench()
    sock = b.accepted()
    b.inject("FP.", 1, 1, data=b"bye")
    b.expect(".", 1, 5)
    assert (sock.read(), sock.read()) == (b"bye", b"")


def test_a_fin_ahead_of_bytes_waits_for_them() -> None:
    b = TcpBench()
    sock = b.accepted()
    b.inject("F.", 4, 1)
    b.expect(".", 1, 1)
    assert sock.state == "ESTABLISHED"
    b.inject("P.", 1, 1, data=b"abc")
    b.expect(".", 1, 5)
    assert sock.state == "CLOSE-WAIT"
    assert (sock.read(), sock.read()) == (b"abc", b"")


def test_a_fin_in_time_wait_is_acknowledged_again_and_the_wait_begins_anew() -> None:
    """Section 3.10.7.4, eighth, TIME-WAIT."""
    b = TcpBench()
    sock = b.accepted()
    sock.shutdown()
    b.expect("F.", 1, 1)
    b.inject("F.", 1, 2)
    b.expect(".", 2, 2)
    b.after(MINUTE - 1)
    b.inject("F.", 1, 2)
    b.expect(".", 2, 2)
    b.after(MINUTE - 1)
    assert sock.state == "TIME-WAIT"
    b.after(2)
    assert sock.state == "CLOSED"


def test_time_wait_gives_way_to_a_new_syn() -> None:
    """RFC 9293 section 3.6.1 (MAY-2): a SYN beyond the old numbers begins a new connection."""
    b = TcpBench()
    sock = b.accepted()
    sock.close()
    b.expect("F.", 1, 1)
    b.inject("F.", 1, 2)
    b.expect(".", 2, 2)
    b.inject("S", 2000)
    answer = b.expect("S.", 65537 + 2, 2001)
    assert answer.sport == 80
    assert b.moved()["TcpExtTWRecycled"] == 1


def test_an_old_syn_in_time_wait_is_not_a_new_connection() -> None:
    b = TcpBench()
    sock = b.accepted()
    sock.shutdown()
    b.expect("F.", 1, 1)
    b.inject("F.", 1, 2)
    b.expect(".", 2, 2)
    b.inject("S", -5000)
    b.expect(".", 2, 2)
    assert sock.state == "TIME-WAIT"


def test_fin_wait_2_of_a_closed_socket_does_not_last_forever() -> None:
    """tcp_fin_timeout of Linux: nobody waits for this FIN any more."""
    b = TcpBench()
    sock = b.accepted()
    sock.close()
    b.expect("F.", 1, 1)
    b.inject(".", 1, 2)
    b.after(MINUTE - 1)
    b.inject(".", 1, 2)
    b.quiet()
    b.after(2)
    b.inject(".", 1, 2)
    b.expect("R", 2)


# Calls that are not for every state, and ends by force.


def test_close_with_bytes_unread_resets() -> None:
    """RFC 9293 section 3.6.1 (SHLD-3): the peer must learn that its bytes were lost."""
    b = TcpBench()
    sock = b.accepted()
    b.inject("P.", 1, 1, data=b"unread")
    sock.close()
    b.expect("R.", 1, 7)
    assert b.moved()["TcpExtTCPAbortOnClose"] == 1
    assert b.sockets.table.free_count == b.sockets.table.total - 1  # the listener


def test_data_after_close_is_answered_with_a_reset() -> None:
    b = TcpBench()
    sock = b.accepted()
    sock.close()
    b.expect("F.", 1, 1)
    b.inject("P.", 1, 2, data=b"late")
    b.expect("R.", 2)
    assert b.moved()["TcpExtTCPAbortOnData"] == 1


def test_abort() -> None:
    """Section 3.10.5: a RST at SND.NXT."""
    b = TcpBench()
    sock = b.accepted()
    sock.write(b"abc")
    b.expect("P.", 1, 1, data=b"abc")
    sock.abort()
    b.expect("R.", 4)
    b.after(MINUTE)
    b.quiet()
    assert b.moved()["TcpOutRsts"] == 1


def test_reset_by_the_peer() -> None:
    b = TcpBench()
    sock = b.accepted()
    b.inject("R", 1)
    assert (sock.state, sock.error_code) == ("CLOSED", ERROR_RESET)
    with pytest.raises(NetemuError, match="reset by peer"):
        sock.read()
    with pytest.raises(NetemuError, match="reset by peer"):
        sock.write(b"x")
    b.quiet()
    assert b.moved()["TcpEstabResets"] == 1


def test_closing_a_listener_resets_who_was_not_accepted() -> None:
    b = TcpBench()
    listener = b.listen()
    b.inject("S", 0)
    b.expect("S.", 0, 1)
    b.inject(".", 1, 1)
    listener.close()
    b.expect("R.", 1)
    assert b.inject("S", 50) == StackReason.NO_SOCKET
    b.expect("R.", -(b.isn or 0) & 0xFFFFFFFF, 51)
    assert b.sockets.table.free_count == b.sockets.table.total


def test_writing_after_shutdown_is_refused() -> None:
    b = TcpBench()
    sock = b.accepted()
    sock.shutdown()
    with pytest.raises(NetemuError, match="FIN-WAIT-1"):
        sock.write(b"x")


def test_bytes_written_before_the_handshake_is_done_go_with_it() -> None:
    """SEND in SYN-SENT queues (section 3.10.2)."""
    b = TcpBench()
    sock = b.connecting()
    assert sock.write(b"early") == 5
    b.quiet()
    b.inject("S.", 0, 1, opts=[mss(1460)])
    b.expect("P.", 1, 1, data=b"early")


# Segments for nobody.


def test_a_syn_for_nobody() -> None:
    """Section 3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>."""
    b = TcpBench()
    b.isn = 0
    assert b.inject("S", 100) == StackReason.NO_SOCKET
    b.expect("R.", 0, 101)


def test_an_ack_for_nobody() -> None:
    """Section 3.10.7.1: <SEQ=SEG.ACK><CTL=RST>."""
    b = TcpBench()
    b.isn = 0
    b.inject("P.", 100, 777, data=b"abc")
    assert b.expect("R", 777).ack == 0


def test_a_reset_for_nobody_is_not_answered() -> None:
    b = TcpBench()
    assert b.inject("R", 100) == StackReason.NO_SOCKET
    b.quiet()


def test_an_ack_for_a_listener_is_reset() -> None:
    """Section 3.10.7.2, second."""
    b = TcpBench()
    b.isn = 0
    b.listen()
    b.inject(".", 100, 555)
    b.expect("R", 555)
    b.inject("R", 100)
    b.inject("F", 100)
    b.quiet()
