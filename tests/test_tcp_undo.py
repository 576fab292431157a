"""Reductions of the window that were for nothing: Eifel (RFC 3522), D-SACK (RFC 3708), and real losses, which stand."""

from __future__ import annotations

from netemu.stack.tcp.congestion import Congestion, congestion_at
from netemu.stack.tcp.scoreboard import scoreboard_at
from netemu.stack.tcp.tcb import FAST_RECOVERY, OPEN, TIMEOUT_RECOVERY, Tcb
from tests.tcp_kit import Seg, TcpBench, mss, sack, stamp

FULL = 1448
SACK_PERMITTED = (4, b"")


class Sender:
    """A connection with ten segments under way, sent at once; segment n begins at 1 + n * FULL."""

    def __init__(self) -> None:
        self.bench = TcpBench(sack=1, timestamps=1, idle_restart=0)
        self.sock = self.bench.accepted([mss(1460), SACK_PERMITTED, stamp(100, 0)])
        self.bench.after(50)
        self.sock.write(bytes(10 * FULL))
        self.first = [self.bench.expect(self._flags(n), 1 + n * FULL, length=FULL) for n in range(10)]
        self.congestion: Congestion = congestion_at(self.tcb.congestion)

    @staticmethod
    def _flags(n: int) -> str:
        return "P." if n == 9 else "."

    @property
    def tcb(self) -> Tcb:
        return self.sock.tcb

    @staticmethod
    def echo_of(seg: Seg) -> int:
        """The timestamp of a segment."""
        assert seg.timestamps is not None
        return seg.timestamps[0]

    def ack(self, segments: int, *sacked: tuple[int, int], echo: int) -> None:
        """All before a segment is acknowledged, and some segments are SACKed; after 10 ms."""
        self.bench.after(10)
        base = self.bench.isn or 0
        blocks = [(base + 1 + left * FULL, base + 1 + right * FULL) for left, right in sacked]
        options = [stamp(101, echo)] + ([sack(*blocks)] if blocks else [])
        self.bench.inject(".", 1, 1 + segments * FULL, opts=options)

    def lose_first(self) -> Seg:
        """Segments 1 to 3 are SACKed: the first one is sent again, half a window is gone."""
        echo = self.echo_of(self.first[0])
        for n in (2, 3, 4):
            self.ack(0, (1, n), echo=echo - 60)
        assert self.tcb.recovery == FAST_RECOVERY
        assert self.congestion.ssthresh == 5 * FULL
        return self.bench.expect(".", 1, length=FULL)

    def counters(self) -> dict[str, int]:
        return {name: count for name, count in self.bench.moved().items() if "Undo" in name}


def test_an_echo_from_before_the_retransmission_ends_the_recovery() -> None:
    """RFC 3522: the original arrived, late; window and threshold are what they were, and DupThresh has grown to 4."""
    sender = Sender()
    again = sender.lose_first()
    assert sender.echo_of(again) > sender.echo_of(sender.first[0])
    sender.ack(4, echo=sender.echo_of(sender.first[0]))
    assert sender.tcb.recovery == OPEN
    assert sender.congestion.cwnd >= 10 * FULL
    assert sender.congestion.ssthresh > 1 << 30
    assert scoreboard_at(sender.tcb.scoreboard).dup_thresh == 4
    assert sender.counters() == {"TcpExtTCPPartialUndo": 1}


def test_an_echo_of_the_retransmission_is_a_loss() -> None:
    sender = Sender()
    again = sender.lose_first()
    sender.ack(10, echo=sender.echo_of(again))
    assert sender.tcb.recovery == OPEN
    assert sender.congestion.cwnd == 5 * FULL
    assert sender.counters() == {}


def test_a_timeout_that_was_too_early_is_taken_back() -> None:
    """RFC 4015: nothing but what was never sent goes out afterwards."""
    sender = Sender()
    sender.bench.after(250)
    again = sender.bench.expect(".", 1, length=FULL)
    assert sender.tcb.recovery == TIMEOUT_RECOVERY
    assert sender.congestion.cwnd == FULL
    assert sender.echo_of(again) > sender.echo_of(sender.first[0])
    sender.ack(2, echo=sender.echo_of(sender.first[0]))
    assert sender.tcb.recovery == OPEN
    assert sender.congestion.cwnd >= 10 * FULL
    sender.bench.quiet()
    assert sender.counters() == {"TcpExtTCPLossUndo": 1}


def test_a_timeout_whose_retransmission_is_answered_stands() -> None:
    sender = Sender()
    sender.bench.after(250)
    again = sender.bench.expect(".", 1, length=FULL)
    sender.ack(1, echo=sender.echo_of(again))
    assert sender.tcb.recovery == TIMEOUT_RECOVERY
    assert sender.bench.expect(".", 1 + FULL, length=FULL).seq == 1 + FULL
    assert sender.counters() == {}


def test_a_duplicate_of_each_retransmission_takes_the_reduction_back() -> None:
    """RFC 3708: the receiver has had the first segment twice. Its echo is of the retransmission all the same."""
    sender = Sender()
    again = sender.lose_first()
    sender.ack(10, echo=sender.echo_of(again))
    assert sender.congestion.cwnd == 5 * FULL
    sender.ack(10, (0, 1), echo=sender.echo_of(again))
    assert sender.congestion.cwnd >= 10 * FULL
    assert sender.counters() == {"TcpExtTCPDSACKUndo": 1}
    sender.ack(10, (0, 1), echo=sender.echo_of(again))
    assert sender.counters() == {"TcpExtTCPDSACKUndo": 1}


def test_a_duplicate_of_something_else_takes_nothing_back() -> None:
    """What lies behind the end of the recovery was not retransmitted in it."""
    sender = Sender()
    again = sender.lose_first()
    sender.ack(10, echo=sender.echo_of(again))
    sender.sock.write(bytes(FULL))
    sender.ack(11, (10, 11), echo=sender.echo_of(again))
    assert sender.congestion.ssthresh == 5 * FULL
    assert sender.counters() == {}


def test_a_timeout_in_a_fast_recovery_does_not_reduce_the_threshold_again() -> None:
    """As in Linux (tcp_enter_loss); the window is one segment."""
    sender = Sender()
    sender.lose_first()
    sender.bench.after(3000)
    assert sender.tcb.recovery == TIMEOUT_RECOVERY
    assert (sender.congestion.cwnd, sender.congestion.ssthresh) == (FULL, 5 * FULL)
