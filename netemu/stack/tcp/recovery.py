"""What was lost, and how fast it is sent again: RFC 6675 with SACK, RFC 6582 without, RFC 5681 after a timeout.

Theory of operation
-------------------
A connection is OPEN until duplicate acknowledgements tell of a loss; then in FAST_RECOVERY, or after a timeout in
TIMEOUT_RECOVERY, until all that was outstanding at that moment is acknowledged (``recover``). Either begins with the
first segment, which is sent again at once (``lost_now``), whatever the congestion window says. Then, as long as less is
under way than the congestion window, the scoreboard's `next_seg` chooses what is sent.

Without SACK the scoreboard knows only of timeouts. In FAST_RECOVERY each duplicate acknowledgement then stands for a
segment that has left the network (``dup_bytes``: what RFC 6582 "inflates" the window by), and an acknowledgement of a
part alone makes the first segment that is left be sent again.

Limited transmit (RFC 3042) is the same rule: with the first two duplicate acknowledgements, bytes that were SACKed, or
``dup_bytes``, are no longer under way.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.host import SENT
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.congestion import congestion_at
from netemu.stack.tcp.congestion_control import (
    on_ack,
    on_recovery_ack,
    on_recovery_end,
    on_recovery_sent,
    on_recovery_start,
    on_timeout,
)
from netemu.stack.tcp.lifetime import mib_of, timers_of
from netemu.stack.tcp.output import full_segment, timestamp_now, transmit
from netemu.stack.tcp.rtt import rtt_at, rtt_backoff, rtt_timeout
from netemu.stack.tcp.scoreboard import (
    RETRANSMIT,
    begin_recovery,
    begin_timeout,
    dup_thresh,
    is_lost,
    note_retransmitted,
    scoreboard_at,
    set_pipe,
)
from netemu.stack.tcp.segment import FIN, PSH
from netemu.stack.tcp.send_buffer import send_buffer_at
from netemu.stack.tcp.send_times import forget_sent, send_times_at
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import FAST_RECOVERY, NOWHERE, OPEN, TIMEOUT_RECOVERY, Tcb
from netemu.stack.tcp.undo import watch_reduction, watch_retransmission
from netemu.timers import timer_start

DUP_THRESH = 3


@kernel
def arm_retransmit(tcb: Tcb) -> None:
    """Start the retransmission timer anew."""
    timers = timers_of(tcb)
    tcb.persisting = 0
    timer_start(timers, tcb.retransmit_timer, timers.now + rtt_timeout(rtt_at(tcb.rtt)))


@kernel
def in_flight(tcb: Tcb) -> i64:
    """Bytes that are taken to be under way (pipe; FlightSize less what duplicates stand for)."""
    if tcb.sack != 0 or tcb.recovery == TIMEOUT_RECOVERY:
        return set_pipe(scoreboard_at(tcb.scoreboard))
    return tcb.snd_nxt - tcb.snd_una - tcb.dup_bytes


@kernel
def retransmit(tcb: Tcb, position: i64, length: i64) -> i64:
    """Send again up to ``length`` positions, at most a segment's, from ``position`` on; how many, or 0: no room.

    The position of a FIN is sent as one.
    """
    full = full_segment(tcb)
    buffer = send_buffer_at(tcb.send_buffer)
    size = max(min(length, buffer.end - position, full), 0)
    flags = PSH if size > 0 and position + size == buffer.end else 0
    covered = size
    if tcb.snd_fin != NOWHERE and position + size == tcb.snd_fin and tcb.snd_nxt > tcb.snd_fin and size < length:
        flags |= FIN
        covered += 1
    if covered == 0:
        return 0
    if transmit(tcb, position, size, flags, full) != SENT:
        tcp_ext_mib_at(table_at(tcb.table).ext).TCPRetransFail += 1
        return 0
    forget_sent(send_times_at(tcb.send_times))
    watch_retransmission(tcb, timestamp_now(tcb))
    on_recovery_sent(congestion_at(tcb.congestion), size)
    mib_of(tcb).RetransSegs += 1
    tcb.total_retrans += 1
    tcb.bytes_retrans += size
    ext = tcp_ext_mib_at(table_at(tcb.table).ext)
    if tcb.recovery == FAST_RECOVERY:
        ext.TCPFastRetrans += 1
    elif tcb.recovery == TIMEOUT_RECOVERY and tcb.lost_now == 0:
        ext.TCPSlowStartRetrans += 1
    return covered


@kernel
def retransmit_head(tcb: Tcb) -> i64:
    """Send the first segment that is outstanding again, whatever the congestion window says; 1 if it went."""
    board = scoreboard_at(tcb.scoreboard)
    sent = retransmit(tcb, tcb.snd_una, min(tcb.snd_nxt - tcb.snd_una, tcb.mss))
    tcb.lost_now = 0
    if sent == 0:
        return 0
    note_retransmitted(board, RETRANSMIT, tcb.snd_una + sent)
    return 1


@kernel
def _enter_fast_recovery(tcb: Tcb) -> None:
    ext = tcp_ext_mib_at(table_at(tcb.table).ext)
    if tcb.sack != 0:
        ext.TCPSackRecovery += 1
    else:
        ext.TCPRenoRecovery += 1
    tcb.recovery = FAST_RECOVERY
    tcb.recover = tcb.snd_nxt
    watch_reduction(tcb)
    board = scoreboard_at(tcb.scoreboard)
    tcb.lost_now = 1 if board.high_rxt <= tcb.snd_una else 0  # it may have been sent again already
    tcb.dup_bytes = DUP_THRESH * tcb.mss
    on_recovery_start(congestion_at(tcb.congestion), tcb.snd_nxt - tcb.snd_una)
    begin_recovery(board)
    arm_retransmit(tcb)


@kernel
def acked_in_recovery(tcb: Tcb, delivered: i64, advanced: i64) -> None:
    """An ACK in FAST_RECOVERY: ``delivered`` bytes more have arrived; ``advanced``: SND.UNA has moved."""
    if tcb.sack != 0:
        on_recovery_ack(congestion_at(tcb.congestion), max(delivered, 0), in_flight(tcb), advanced)


@kernel
def duplicate_acked(tcb: Tcb) -> None:
    """A duplicate acknowledgement came; the scoreboard knows of its SACK blocks."""
    if tcb.recovery == OPEN:
        tcb.dup_acks += 1
        if tcb.sack != 0:
            board = scoreboard_at(tcb.scoreboard)
            if tcb.dup_acks >= dup_thresh(board) or is_lost(board, tcb.snd_una) != 0:
                _enter_fast_recovery(tcb)
            return
        tcb.dup_bytes = min(tcb.dup_acks, DUP_THRESH - 1) * tcb.mss
        # Duplicates of what is sent again after a recovery must not begin another one (RFC 6582 section 3.2, step 2).
        if tcb.dup_acks == DUP_THRESH and tcb.snd_una > tcb.recover:
            _enter_fast_recovery(tcb)
    elif tcb.recovery == FAST_RECOVERY:
        tcb.dup_bytes += tcb.mss


@kernel
def new_data_acked(tcb: Tcb, acked: i64, sample: i64) -> None:
    """``acked`` positions were acknowledged; ``snd_una`` and the scoreboard have moved. ``sample``: round trip or 0."""
    c = congestion_at(tcb.congestion)
    now = timers_of(tcb).now
    tcb.dup_acks = 0
    tcb.timed_out = 0
    srtt = rtt_at(tcb.rtt).srtt
    if tcb.recovery == FAST_RECOVERY:
        if tcb.snd_una >= tcb.recover:
            tcb.recovery = OPEN
            tcb.dup_bytes = 0
            on_recovery_end(c)
        elif tcb.sack == 0:
            tcb.dup_bytes = max(tcb.dup_bytes - acked, 0) + (tcb.mss if acked >= tcb.mss else 0)
            tcb.lost_now = 1
        return
    tcb.dup_bytes = 0
    limited = tcb.cwnd_limited
    if tcb.recovery == TIMEOUT_RECOVERY:
        limited = 1
        if tcb.snd_una >= tcb.recover:
            tcb.recovery = OPEN
    on_ack(c, acked, tcb.snd_una, tcb.snd_nxt, sample, srtt, limited, now)


@kernel
def timed_out(tcb: Tcb) -> None:
    """The retransmission timer expired: all that is outstanding counts as lost, and slow start begins."""
    # A fast recovery that does not get on has reduced the window for the same loss already (as in Linux).
    again = 1 if tcb.timed_out != 0 or tcb.recovery == FAST_RECOVERY else 0
    on_timeout(congestion_at(tcb.congestion), tcb.snd_nxt - tcb.snd_una, again)
    if again == 0:
        watch_reduction(tcb)
    tcb.timed_out = 1
    rtt_backoff(rtt_at(tcb.rtt))
    _all_lost(tcb)


@kernel
def resend_smaller(tcb: Tcb) -> None:
    """The path takes less than what is under way: that is sent again in smaller segments; no congestion (RFC 1191)."""
    if tcb.snd_nxt > tcb.snd_una:
        _all_lost(tcb)


@kernel
def _all_lost(tcb: Tcb) -> None:
    begin_timeout(scoreboard_at(tcb.scoreboard))
    tcb.recovery = TIMEOUT_RECOVERY
    tcb.recover = tcb.snd_nxt
    tcb.dup_acks = 0
    tcb.dup_bytes = 0
    tcb.lost_now = 1
