"""The ACK of a segment in a connection that stands: what it covers, duplicates, windows (RFC 9293 section 3.10.7.4)."""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.events import tell
from netemu.stack.tcp.lifetime import timers_of
from netemu.stack.tcp.options import options_at, unwrap_sacks
from netemu.stack.tcp.owed import answers_out_of_window, challenge
from netemu.stack.tcp.recovery import acked_in_recovery, arm_retransmit, duplicate_acked, new_data_acked
from netemu.stack.tcp.rtt import rtt_at, rtt_sample
from netemu.stack.tcp.scoreboard import highest_sacked, sacked_bytes, scoreboard_at, update
from netemu.stack.tcp.segment import FIN, SYN, Segment
from netemu.stack.tcp.send_buffer import send_buffer_acknowledge, send_buffer_at, send_buffer_free
from netemu.stack.tcp.send_times import NO_SAMPLE, measure_acked, send_times_at
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import EVENT_SENT, EVENT_WRITABLE, FAST_RECOVERY, NOWHERE, OPEN, Tcb
from netemu.stack.tcp.undo import undo_if_for_nothing
from netemu.timers import timer_stop

_MS = 1_000_000


@kernel
def timestamp_sample(tcb: Tcb, segment: Segment) -> i64:
    """The round trip that an echoed timestamp measures, ns: at least one tick of its clock; or 0."""
    options = options_at(segment.options)
    if tcb.timestamps == 0 or options.timestamps == 0 or options.ts_ecr == 0:
        return 0
    now = (timers_of(tcb).now // _MS + tcb.ts_offset) & 0xFFFFFFFF
    elapsed = (now - options.ts_ecr) & 0xFFFFFFFF
    return max(elapsed, 1) * _MS if elapsed < 1 << 31 else 0


@kernel
def _samples(tcb: Tcb) -> i64:
    """Measurements in a round trip, about."""
    return min(max((tcb.snd_nxt - tcb.snd_una) // max(2 * tcb.mss, 1), 1), 32)


@kernel
def _measure(tcb: Tcb, segment: Segment) -> i64:
    """Take a round trip from what was acknowledged; ns, or 0 where it says nothing of one."""
    sample = measure_acked(send_times_at(tcb.send_times), tcb.snd_una, timers_of(tcb).now)
    if sample == NO_SAMPLE:
        # What was sent again cannot be measured (Karn), but a timestamp says which of them was answered.
        sample = timestamp_sample(tcb, segment) if tcb.recovery != OPEN else 0
    if sample > 0:
        rtt_sample(rtt_at(tcb.rtt), sample, _samples(tcb))
        return sample
    return 0


@kernel
def _advance(tcb: Tcb, segment: Segment) -> None:
    """New bytes are acknowledged."""
    acked = segment.ack - tcb.snd_una
    tcb.snd_una = segment.ack
    tcb.retries = 0
    tcb.soft_error = 0
    timers = timers_of(tcb)
    tcb.stalled_since = timers.now
    buffer = send_buffer_at(tcb.send_buffer)
    tcb.bytes_acked += send_buffer_acknowledge(buffer, segment.ack)
    sample = _measure(tcb, segment)
    new_data_acked(tcb, acked, sample)
    if tcb.snd_una == tcb.snd_nxt:
        timer_stop(tcb.retransmit_timer)
        if buffer.una == buffer.end and (tcb.snd_fin == NOWHERE or tcb.snd_una > tcb.snd_fin):
            tell(tcb, EVENT_SENT)
    else:
        arm_retransmit(tcb)
    if tcb.want_write != 0 and send_buffer_free(buffer) * 3 >= buffer.capacity:
        tcb.want_write = 0
        tell(tcb, EVENT_WRITABLE)


@kernel
def set_window(tcb: Tcb, segment: Segment) -> None:
    """Take the peer's window from a segment, whatever was known."""
    scale = tcb.snd_scale if segment.flags & SYN == 0 and tcb.scaling != 0 else 0
    tcb.snd_wnd = segment.window << scale
    tcb.max_snd_wnd = max(tcb.max_snd_wnd, tcb.snd_wnd)
    tcb.snd_wl1 = segment.seq
    tcb.snd_wl2 = segment.ack


@kernel
def _update_window(tcb: Tcb, segment: Segment) -> None:
    """Take the peer's window unless the segment is older than the one that it came from last."""
    if tcb.snd_wl1 < segment.seq or (tcb.snd_wl1 == segment.seq and tcb.snd_wl2 <= segment.ack):
        set_window(tcb, segment)
    if tcb.persisting != 0:
        tcb.retries = 0  # the peer is there: its window may stay closed for as long as it likes
        if tcb.snd_wnd > 0:
            tcb.persisting = 0
            timer_stop(tcb.retransmit_timer)


@kernel
def take_ack(tcb: Tcb, segment: Segment) -> i64:
    """Take a segment's ACK; 1 if the segment is to be looked at further, 0 if it is dropped."""
    ack = segment.ack
    if ack > tcb.snd_nxt:
        answers_out_of_window(tcb, segment)
        return 0
    if ack < tcb.snd_una - max(tcb.max_snd_wnd, 1 << 16):
        challenge(tcb)  # RFC 5961 section 5.2
        return 0
    options = options_at(segment.options)
    newly = 0
    before = tcb.snd_wnd
    una = tcb.snd_una
    board = scoreboard_at(tcb.scoreboard)
    blocks = 0
    had = una + sacked_bytes(board)
    highest = highest_sacked(board)
    if tcb.sack != 0:
        blocks = options.sack_count
        if blocks > 0:
            unwrap_sacks(options, una)
    if ack > una or blocks > 0:
        reneged = board.reneged
        threshold = board.dup_thresh
        newly = update(board, max(ack, una), tcb.snd_nxt, options.sacks, blocks)
        if board.reneged != reneged:
            tcp_ext_mib_at(table_at(tcb.table).ext).TCPSACKReneging += 1
        undo_if_for_nothing(tcb, segment, una, highest)
        if board.dup_thresh > threshold:
            tcp_ext_mib_at(table_at(tcb.table).ext).TCPSACKReorder += 1
    if ack > una:
        _advance(tcb, segment)
    _update_window(tcb, segment)
    if segment.size == 0 and segment.flags & (SYN | FIN) == 0:
        tcp_ext_mib_at(table_at(tcb.table).ext).TCPPureAcks += 1
    if ack == una and tcb.snd_nxt > una:
        if tcb.sack != 0:
            if newly > 0:
                duplicate_acked(tcb)
        elif segment.length == 0 and tcb.snd_wnd == before:
            duplicate_acked(tcb)
    elif newly > 0 and tcb.recovery == OPEN:
        duplicate_acked(tcb)
    if tcb.recovery == FAST_RECOVERY:
        acked_in_recovery(tcb, tcb.snd_una + sacked_bytes(board) - had, 1 if ack > una else 0)
    return 1
