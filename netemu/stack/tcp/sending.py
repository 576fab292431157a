"""What may be sent now: the windows, Nagle's rule and the sender's part against silly windows.

Theory of operation
-------------------
`tcp_output` sends all that may go, and is called whenever something has changed: after each segment that arrived, each
call of the user's and each timer. What is lost goes first. New bytes go as far as both windows allow; a segment that is
not full goes only if it has all there is to send, and

* nothing that was not full is outstanding (Nagle, in the form of Minshall that Linux has: full segments under way do
  not hold back the last one), or the user wants no delay, or has closed; or
* it fills half of the largest window that the peer ever offered (RFC 9293 section 3.8.6.2.1).

An interface that segments gets frames of many segments. While there is more to send than the windows let through, they
are not made small: up to a third of the window is let accumulate as long as acknowledgements are to come (as Linux's
tcp_tso_should_defer does).

If nothing is under way and something is left that must not go, the *persist timer* runs (`netemu.stack.tcp.timeouts`).
"""

from __future__ import annotations

from netemu.jit import entry, i64, kernel
from netemu.stack.host import OFFLOAD_TSO4, OFFLOAD_TSO6, SEND_TOO_BIG, SENT, interface_at
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.congestion import congestion_at
from netemu.stack.tcp.congestion_control import after_idle, on_recovery_sent
from netemu.stack.tcp.lifetime import mib_of, settings_of, timers_of
from netemu.stack.tcp.output import (
    IPV4_HEADER,
    count_out,
    full_segment,
    network_header,
    send_ack,
    send_reset,
    send_syn,
    transmit,
)
from netemu.stack.tcp.recovery import arm_retransmit, in_flight, retransmit, retransmit_head
from netemu.stack.tcp.rtt import rtt_at, rtt_timeout
from netemu.stack.tcp.scoreboard import (
    NEW_DATA,
    NOTHING,
    next_seg,
    note_new_data,
    note_retransmitted,
    scoreboard_at,
)
from netemu.stack.tcp.segment import ACK, FIN, PSH, SYN
from netemu.stack.tcp.send_buffer import send_buffer_at
from netemu.stack.tcp.send_times import note_sent, send_times_at
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FAST_RECOVERY,
    FIN_WAIT_1,
    LAST_ACK,
    LISTEN,
    NOWHERE,
    OPEN,
    SYN_SENT,
    Tcb,
    tcb_at,
)
from netemu.timers import STOPPED, timer_at, timer_start

_TCP_HEADER_MAX = 60
_DEFER_PART = 3


@kernel
def may_send(tcb: Tcb) -> i64:
    """1 in the states in which data or a FIN may have to be sent."""
    return 1 if tcb.state in (ESTABLISHED, CLOSE_WAIT, FIN_WAIT_1, CLOSING, LAST_ACK) else 0


@kernel
def unsent(tcb: Tcb) -> i64:
    """Positions that are still to be sent for the first time, the FIN's included."""
    end = send_buffer_at(tcb.send_buffer).end
    if tcb.snd_fin != NOWHERE:
        end += 1
    return end - tcb.snd_nxt


@kernel
def _longest(tcb: Tcb, full: i64) -> i64:
    """Payload bytes that the interface takes at a time: whole segments."""
    if tcb.out_interface == 0:
        return full
    interface = interface_at(tcb.out_interface)
    header = network_header(tcb)
    wanted = OFFLOAD_TSO4 if header == IPV4_HEADER else OFFLOAD_TSO6
    if interface.offloads & wanted == 0:
        return full
    return max((interface.gso_max - header - _TCP_HEADER_MAX) // full, 1) * full


@kernel
def _small_may_go(tcb: Tcb, size: i64, available: i64) -> i64:
    """Whether a segment that is not full may be sent."""
    if size == available and (tcb.nodelay != 0 or tcb.snd_fin != NOWHERE or tcb.snd_small <= tcb.snd_una):
        return 1
    return 1 if size > 0 and size >= tcb.max_snd_wnd >> 1 else 0


@kernel
def _new_bytes(tcb: Tcb, full: i64, room: i64) -> i64:
    """Bytes of new data to send now, at most ``room`` for the congestion window's sake; 0: none."""
    available = send_buffer_at(tcb.send_buffer).end - tcb.snd_nxt
    window = tcb.snd_una + tcb.snd_wnd - tcb.snd_nxt
    if available <= 0 or window <= 0:
        return 0
    tcb.cwnd_limited = 1 if room < min(available, window) else 0
    size = min(available, window, room)
    longest = _longest(tcb, full)
    if size > longest:
        return longest
    if size >= full:
        rest = size % full
        if rest == 0 or _small_may_go(tcb, rest, available - (size - rest)) == 0:
            size -= rest
            if size < min(longest, available) and longest > full and _better_later(tcb, size) != 0:
                return 0
        return size
    if room < available and room < full:
        return 0
    return size if _small_may_go(tcb, size, available) != 0 else 0


@kernel
def _better_later(tcb: Tcb, size: i64) -> i64:
    """1 if a large frame can be waited for: most of the window is under way, so that acknowledgements will come."""
    window = min(congestion_at(tcb.congestion).cwnd, tcb.snd_wnd)
    return 1 if tcb.recovery == OPEN and size < window // _DEFER_PART and tcb.snd_nxt - tcb.snd_una > size else 0


@kernel
def send_new(tcb: Tcb, size: i64, full: i64) -> i64:
    """Send ``size`` bytes that were never sent, and the FIN if they are the last; SENT, or SEND_...."""
    buffer = send_buffer_at(tcb.send_buffer)
    timers = timers_of(tcb)
    position = tcb.snd_nxt
    end = position + size
    flags = 0
    if end == buffer.end:
        flags = PSH if size > 0 else 0
        if end == tcb.snd_fin:
            flags |= FIN
    result = transmit(tcb, position, size, flags, full)
    if result != SENT:
        return result
    count_out(tcb, size, full)
    if size > 0:
        tcp_ext_mib_at(table_at(tcb.table).ext).TCPOrigDataSent += max((size + full - 1) // full, 1)
        if size % full != 0:
            tcb.snd_small = end
    if tcb.snd_una == position:
        tcb.stalled_since = timers.now
        tcb.retries = 0
    on_recovery_sent(congestion_at(tcb.congestion), size)
    tcb.snd_nxt = end + (flags & FIN)
    tcb.last_sent = timers.now
    note_new_data(scoreboard_at(tcb.scoreboard), tcb.snd_nxt)
    note_sent(send_times_at(tcb.send_times), tcb.snd_nxt, congestion_at(tcb.congestion).cwnd, timers.now)
    if timer_at(tcb.retransmit_timer).due == STOPPED or tcb.persisting != 0:
        arm_retransmit(tcb)
    return SENT


@kernel
def _fin_may_go(tcb: Tcb) -> i64:
    """1 if nothing but the FIN is left to send, and the peer's window has room for it."""
    if tcb.snd_fin == NOWHERE or tcb.snd_nxt != tcb.snd_fin:
        return 0
    return 1 if tcb.snd_nxt < tcb.snd_una + max(tcb.snd_wnd, 1) else 0


@kernel
def _send_next(tcb: Tcb) -> i64:
    """Send one segment, or one frame of several; 1 if there may be more to send."""
    full = full_segment(tcb)
    room = congestion_at(tcb.congestion).cwnd - in_flight(tcb)
    size = _new_bytes(tcb, full, room)
    fin = _fin_may_go(tcb)
    if tcb.recovery != OPEN and (tcb.sack != 0 or tcb.recovery != FAST_RECOVERY):
        if room < full:
            return 0
        board = scoreboard_at(tcb.scoreboard)
        kind = next_seg(board, 1 if size > 0 or fin != 0 else 0)
        if kind == NOTHING:
            return 0
        if kind != NEW_DATA:
            sent = retransmit(tcb, board.next, board.next_len)
            if sent > 0:
                note_retransmitted(board, kind, board.next + sent)
            return 1 if sent > 0 else 0
    if size == 0 and fin == 0:
        return 0
    result = send_new(tcb, size, full)
    if result == SEND_TOO_BIG and full_segment(tcb) < full:
        return 1  # the path's MTU is known now
    return 1 if result == SENT else 0


@kernel
def _probe(tcb: Tcb) -> None:
    """Make the peer say something: by what its window has room for, or by a byte that it has acknowledged already."""
    available = send_buffer_at(tcb.send_buffer).end - tcb.snd_nxt
    size = min(available, tcb.snd_una + tcb.snd_wnd - tcb.snd_nxt, full_segment(tcb))
    if may_send(tcb) != 0 and size > 0:
        send_new(tcb, size, full_segment(tcb))
        return
    tcp_ext_mib_at(table_at(tcb.table).ext).TCPWinProbe += 1
    if transmit(tcb, tcb.snd_una - 1, 0, 0, 1) == SENT:
        mib_of(tcb).OutSegs += 1


@kernel
def _send_data(tcb: Tcb) -> None:
    """Send what is lost, what is new and the FIN, as far as they may go."""
    if tcb.lost_now != 0 and tcb.snd_nxt > tcb.snd_una:
        retransmit_head(tcb)
    timers = timers_of(tcb)
    if tcb.snd_una == tcb.snd_nxt and settings_of(tcb).idle_restart != 0 and unsent(tcb) > 0:
        idle = timers.now - tcb.last_sent
        after_idle(congestion_at(tcb.congestion), idle, rtt_timeout(rtt_at(tcb.rtt)), timers.now)
    while unsent(tcb) > 0 or tcb.recovery != OPEN:
        if _send_next(tcb) == 0:
            break
    if tcb.snd_una == tcb.snd_nxt and unsent(tcb) > 0 and tcb.persisting == 0:
        tcb.persisting = 1
        tcb.probes = 0
        tcb.retries = 0
        tcb.stalled_since = timers.now
        timer_start(timers, tcb.retransmit_timer, timers.now + rtt_timeout(rtt_at(tcb.rtt)))


@kernel
def tcp_output(tcb: Tcb) -> None:
    """Send all that is owed, and all that may be sent; an acknowledgement alone only if it went with nothing else."""
    if tcb.reset_now != 0:
        tcb.reset_now = 0
        send_reset(tcb, tcb.snd_nxt)
    if tcb.state in (CLOSED, LISTEN):
        return
    if tcb.syn_now != 0:
        tcb.syn_now = 0
        if send_syn(tcb, SYN if tcb.state == SYN_SENT else SYN | ACK) == SENT and tcb.total_retrans == 0:
            mib_of(tcb).OutSegs += 1
        return
    if tcb.probe_now != 0:
        tcb.probe_now = 0
        _probe(tcb)
    if may_send(tcb) != 0:
        _send_data(tcb)
    if tcb.ack_now != 0:
        send_ack(tcb)


@entry
def output_hook(tcb: i64, _unused: i64) -> i64:
    """`tcp_output`, for kernels that are not to have a copy of it."""
    tcp_output(tcb_at(tcb))
    return 0
