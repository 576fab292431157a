"""Losses that duplicate acknowledgements tell of: RFC 5681, RFC 6582, RFC 6675, RFC 3042."""

from __future__ import annotations

from netemu.stack.tcp.congestion import congestion_at
from netemu.stack.tcp.sockets import TcpSocket
from tests.tcp_kit import SACK_OK, TcpBench, mss, sack

MSS = 1000


def window(sock: TcpSocket) -> tuple[int, int]:
    congestion = congestion_at(sock.tcb.congestion)
    return congestion.cwnd, congestion.ssthresh


def sending(b: TcpBench, *, sack_ok: bool = False, segments: int = 10, more: int = 0) -> TcpSocket:
    """A connection with so many full segments under way and ``more`` bytes that the window holds back."""
    sock = b.accepted([mss(MSS), SACK_OK] if sack_ok else [mss(MSS)])
    sock.write(bytes(segments * MSS + more))
    for n in range(segments):
        last = n == segments - 1 and more == 0
        b.expect("P." if last else ".", 1 + n * MSS, 1, length=MSS)
    b.quiet()
    return sock


def edge(b: TcpBench, segment: int) -> int:
    """The wire's number of the first byte of a segment."""
    return (b.isn or 0) + 1 + segment * MSS


class TestNewReno:
    def test_limited_transmit_then_fast_retransmit(self) -> None:
        """RFC 3042: a new segment for each of the first two duplicates. RFC 5681 section 3.2: then the lost one.

        ssthresh is half of the ten under way; three duplicates more inflate 5 to 8 while 12 are under way.
        """
        b = TcpBench()
        sock = sending(b, more=9 * MSS)
        b.inject(".", 1, 1)
        b.expect(".", 1 + 10 * MSS, 1, length=MSS)
        b.inject(".", 1, 1)
        b.expect(".", 1 + 11 * MSS, 1, length=MSS)
        b.inject(".", 1, 1)
        b.expect(".", 1, 1, length=MSS)
        b.quiet()
        assert window(sock) == (5 * MSS, 5 * MSS)
        # 12 under way; 5 + 3 + n must exceed 12: the fifth further duplicate lets one go.
        for _ in range(4):
            b.inject(".", 1, 1)
        b.quiet()
        b.inject(".", 1, 1)
        b.expect(".", 1 + 12 * MSS, 1, length=MSS)
        b.quiet()
        moved = b.moved()
        assert (moved["TcpExtTCPRenoRecovery"], moved["TcpExtTCPFastRetrans"], moved["TcpRetransSegs"]) == (1, 1, 1)

    def test_a_partial_acknowledgement_sends_the_next_hole(self) -> None:
        """RFC 6582 section 3.2, step 3: the first unacknowledged segment goes at once; a full one ends the recovery."""
        b = TcpBench()
        sock = sending(b)
        for _ in range(3):
            b.inject(".", 1, 1)
        b.expect(".", 1, 1, length=MSS)
        b.inject(".", 1, 1 + 4 * MSS)
        b.expect(".", 1 + 4 * MSS, 1, length=MSS)
        b.quiet()
        b.inject(".", 1, 1 + 10 * MSS)
        assert window(sock) == (5 * MSS, 5 * MSS)
        assert sock.tcb.recovery == 0
        b.quiet()

    def test_two_duplicates_are_no_loss(self) -> None:
        b = TcpBench()
        sock = sending(b)
        b.inject(".", 1, 1)
        b.inject(".", 1, 1)
        b.quiet()
        b.inject(".", 1, 1 + 10 * MSS)
        assert window(sock)[1] > 1 << 30

    def test_a_window_update_is_no_duplicate(self) -> None:
        """RFC 5681 section 2: the same window, no data."""
        b = TcpBench()
        sock = sending(b)
        for n in range(6):
            b.inject(".", 1, 1, win=60_000 - n)
        for n in range(6):
            b.inject("P.", 1 + n, 1, win=60_000 - 5, data=b"x")
        b.collect()
        assert all(len(seg.data) == 0 for seg in b.segments)
        assert sock.tcb.total_retrans == 0

    def test_duplicates_of_what_was_sent_again_after_a_timeout_begin_no_recovery(self) -> None:
        """RFC 6582 section 3.2, step 1 and section 4: only beyond ``recover``."""
        b = TcpBench()
        sock = sending(b)
        b.after(201)
        b.expect(".", 1, 1, length=MSS)
        b.inject(".", 1, 1 + 10 * MSS)
        sock.write(bytes(MSS))
        b.expect("P.", 1 + 10 * MSS, 1, length=MSS)
        for _ in range(5):
            b.inject(".", 1, 1 + 10 * MSS)
        b.quiet()


class TestSack:
    def test_what_is_lost_is_sent_as_the_pipe_allows(self) -> None:
        """RFC 6675 section 5: a hole of two segments, ten under way; pipe comes down to ssthresh, 5 (RFC 9937)."""
        b = TcpBench(sack=1)
        sock = sending(b, sack_ok=True)
        for n in (3, 4, 5):
            b.inject(".", 1, 1, opts=[sack((edge(b, 2), edge(b, n)))])
        b.expect(".", 1, 1, length=MSS)
        b.quiet()
        assert window(sock)[1] == 5 * MSS
        # Segments 5 to 9 and the retransmission are under way: 6. Two more SACKed leave room for the second hole.
        b.inject(".", 1, 1, opts=[sack((edge(b, 2), edge(b, 6)))])
        b.quiet()
        b.inject(".", 1, 1, opts=[sack((edge(b, 2), edge(b, 7)))])
        b.expect(".", 1 + MSS, 1, length=MSS)
        b.quiet()
        b.inject(".", 1, 1 + 10 * MSS)
        assert sock.tcb.recovery == 0
        moved = b.moved()
        assert (moved["TcpExtTCPSackRecovery"], moved["TcpExtTCPFastRetrans"]) == (1, 2)

    def test_an_acknowledgement_without_news_is_no_duplicate(self) -> None:
        """RFC 6675 section 2: it has to SACK something that was not SACKed."""
        b = TcpBench(sack=1)
        sending(b, sack_ok=True)
        for _ in range(6):
            b.inject(".", 1, 1, opts=[sack((edge(b, 2), edge(b, 3)))])
        b.quiet()

    def test_a_block_large_enough_says_it_at_once(self) -> None:
        """RFC 6675 section 4, IsLost: more than (DupThresh - 1) * SMSS bytes above are SACKed."""
        b = TcpBench(sack=1)
        sending(b, sack_ok=True)
        b.inject(".", 1, 1, opts=[sack((edge(b, 1), edge(b, 4)))])
        b.expect(".", 1, 1, length=MSS)

    def test_sacked_segments_are_not_sent_again_after_a_timeout(self) -> None:
        b = TcpBench(sack=1)
        sending(b, sack_ok=True, segments=4)
        b.inject(".", 1, 1, opts=[sack((edge(b, 1), edge(b, 2)))])
        b.after(201)
        b.expect(".", 1, 1, length=MSS)
        b.inject(".", 1, 1 + 2 * MSS, opts=[])
        b.expect(".", 1 + 2 * MSS, 1, length=MSS)
        b.expect("P.", 1 + 3 * MSS, 1, length=MSS)
        b.quiet()

    def test_a_lie_about_what_was_never_sent_is_ignored(self) -> None:
        b = TcpBench(sack=1)
        sock = sending(b, sack_ok=True)
        b.inject(".", 1, 1, opts=[sack((edge(b, 50), edge(b, 60)))])
        b.inject(".", 1, 1, opts=[sack((edge(b, 5), edge(b, 1)))])
        b.quiet()
        assert sock.tcb.dup_acks == 0

    def test_limited_transmit_with_sack(self) -> None:
        b = TcpBench(sack=1)
        sending(b, sack_ok=True, more=5 * MSS)
        b.inject(".", 1, 1, opts=[sack((edge(b, 2), edge(b, 3)))])
        b.expect(".", 1 + 10 * MSS, 1, length=MSS)
        b.quiet()


class TestWhatWeSackOurselves:
    def test_each_segment_out_of_order_is_told_at_once(self) -> None:
        """RFC 5681 section 4.2, RFC 2018 section 4: the block of the segment that came is the first."""
        b = TcpBench(sack=1)
        b.accepted([mss(MSS), SACK_OK])

        def wire(seq: int) -> int:
            return (seq + b.peer_isn) & 0xFFFFFFFF

        b.inject(".", 1001, 1, data=1000)
        assert b.expect(".", 1, 1).sacks == [(wire(1001), wire(2001))]
        b.inject(".", 4001, 1, data=1000)
        assert b.expect(".", 1, 1).sacks == [(wire(4001), wire(5001)), (wire(1001), wire(2001))]
        b.inject(".", 1, 1, data=1000)
        assert b.expect(".", 1, 2001).sacks == [(wire(4001), wire(5001))]
        b.inject(".", 2001, 1, data=2000)
        assert b.expect(".", 1, 5001).sacks == []
        assert b.moved()["TcpExtTCPOFOQueue"] == 2

    def test_without_permission_there_are_no_blocks(self) -> None:
        b = TcpBench(sack=1)
        b.accepted([mss(MSS)])
        b.inject(".", 1001, 1, data=1000)
        assert b.expect(".", 1, 1).opts == []
