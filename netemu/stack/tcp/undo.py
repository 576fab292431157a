"""Reductions of the congestion window that were for nothing, and are taken back, as in Linux.

Theory of operation
-------------------
What was taken for lost may only have been late. Two things tell, when something was retransmitted:

* *Eifel* (RFC 3522): an acknowledgement that moves SND.UNA echoes a timestamp from before the first retransmission: it
  answers the original. That is known at once, after a timeout as well;
* *D-SACK* (RFC 3708): the receiver reports each retransmission as a duplicate.

Then the window is what it was before (RFC 4015, `on_undo`), recovery ends, and the scoreboard learns how far segments
can come out of order. A network that duplicates packets by itself may look like the second; Linux lives with that, too.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.congestion import congestion_at
from netemu.stack.tcp.congestion_control import on_undo
from netemu.stack.tcp.options import options_at
from netemu.stack.tcp.scoreboard import Scoreboard, forget_losses, highest_sacked, note_reordering, scoreboard_at
from netemu.stack.tcp.segment import Segment
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import OPEN, TIMEOUT_RECOVERY, Tcb


@kernel
def watch_reduction(tcb: Tcb) -> None:
    """The congestion window is reduced because of a loss: from now on, see whether it was one."""
    tcb.undo_from = tcb.snd_una
    tcb.undo_sent = 0
    tcb.undo_left = 0


@kernel
def watch_retransmission(tcb: Tcb, timestamp: i64) -> None:
    """A segment is sent again, with a timestamp."""
    if tcb.undo_from > 0:
        if tcb.undo_sent == 0:
            tcb.undo_stamp = timestamp
        tcb.undo_sent += 1
        tcb.undo_left += 1


@kernel
def _answers_original(tcb: Tcb, segment: Segment) -> i64:
    """1 if the segment echoes a timestamp from before the first retransmission."""
    options = options_at(segment.options)
    if tcb.timestamps == 0 or options.timestamps == 0 or options.ts_ecr == 0:
        return 0
    return 1 if (options.ts_ecr - tcb.undo_stamp) & 0xFFFFFFFF >= 1 << 31 else 0


@kernel
def _count_duplicate(tcb: Tcb, board: Scoreboard) -> None:
    """Take a D-SACK off what was retransmitted, if it is of that."""
    if board.duplicate != 0 and tcb.undo_from <= board.duplicate_left < tcb.recover:
        tcb.undo_left -= (board.duplicate_right - board.duplicate_left + tcb.mss - 1) // tcb.mss


@kernel
def undo_if_for_nothing(tcb: Tcb, segment: Segment, una: i64, highest: i64) -> None:
    """Look at an acknowledgement, before the rest does: ``una`` and ``highest`` (SACKed) are as they were before it."""
    if tcb.undo_from == 0 or tcb.undo_sent == 0:
        return
    board = scoreboard_at(tcb.scoreboard)
    ext = tcp_ext_mib_at(table_at(tcb.table).ext)
    if segment.ack > una and tcb.recovery != OPEN and _answers_original(tcb, segment) != 0:
        if tcb.recovery == TIMEOUT_RECOVERY:
            ext.TCPLossUndo += 1
        elif segment.ack >= tcb.recover:
            ext.TCPFullUndo += 1
        else:
            ext.TCPPartialUndo += 1
    else:
        _count_duplicate(tcb, board)
        if tcb.undo_left > 0:
            return
        ext.TCPDSACKUndo += 1
    note_reordering(board, una, max(highest, highest_sacked(board)))
    tcb.undo_from = 0
    tcb.recovery = OPEN
    tcb.dup_acks = 0
    tcb.dup_bytes = 0
    tcb.lost_now = 0
    tcb.timed_out = 0
    forget_losses(board)
    on_undo(congestion_at(tcb.congestion))
