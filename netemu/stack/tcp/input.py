"""A segment arrives (RFC 9293 section 3.10.7): who it is for, and the order in which it is looked at."""

from __future__ import annotations

from netemu.jit import call2, entry, i64, kernel
from netemu.skb import Skb, skb_at
from netemu.stack.host import host_at
from netemu.stack.mib import tcp_ext_mib_at, tcp_mib_at
from netemu.stack.reasons import DELIVERED, NO_SOCKET
from netemu.stack.tcp.acks import take_ack
from netemu.stack.tcp.events import notify
from netemu.stack.tcp.handshake import establish, in_listen, in_syn_sent
from netemu.stack.tcp.lifetime import (
    count_time_wait,
    enter_time_wait,
    finish,
    release,
    set_state,
    settings_of,
    timers_of,
)
from netemu.stack.tcp.options import options_at
from netemu.stack.tcp.owed import answers_out_of_window, challenge
from netemu.stack.tcp.receive_buffer import receive_buffer_at
from netemu.stack.tcp.resets import answer_with_reset
from netemu.stack.tcp.segment import ACK, FIN, RST, SYN, Segment, segment_at, take_segment
from netemu.stack.tcp.sequence import unwrap
from netemu.stack.tcp.table import TcpTable, find_connection, find_listener, table_at
from netemu.stack.tcp.tcb import (
    CLOSING,
    ERROR_ABORTED,
    ERROR_REFUSED,
    ERROR_RESET,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    NO_ERROR,
    NOWHERE,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    Tcb,
    tcb_at,
)
from netemu.stack.tcp.text import note_fin, restart_time_wait, take_fin, take_text
from netemu.timers import timer_start

_PAWS_IDLE = 24 * 24 * 3600 * 1_000_000_000
"""After 24 days, a timestamp is no longer compared with (RFC 7323 section 5.5)."""
_SECURE_ISS = 65537
"""How far behind the old connection's last byte the new one begins that takes over its TIME-WAIT, as in Linux."""


@kernel
def _older(a: i64, b: i64) -> i64:
    """1 if the timestamp ``a`` lies before ``b``."""
    return 1 if (a - b) & 0xFFFFFFFF >= 1 << 31 else 0


@kernel
def _timestamp_rejects(tcb: Tcb, segment: Segment) -> i64:
    """1 if PAWS, or a timestamp that is not there, makes the segment be dropped (RFC 7323 sections 3.2 and 5.3)."""
    options = options_at(segment.options)
    if tcb.timestamps == 0 or segment.flags & RST:
        return 0
    if options.timestamps == 0:
        return 1
    if _older(options.ts_val, tcb.ts_recent) == 0 or timers_of(tcb).now - tcb.ts_recent_when > _PAWS_IDLE:
        return 0
    ext = tcp_ext_mib_at(table_at(tcb.table).ext)
    ext.PAWSEstab += 1
    if answers_out_of_window(tcb, segment) == 0:
        ext.TCPACKSkippedPAWS += 1
    return 1


@kernel
def _take_timestamp(tcb: Tcb, segment: Segment) -> None:
    """Remember a timestamp to echo, if the segment has what was acknowledged last, or follows it (section 4.3)."""
    options = options_at(segment.options)
    if tcb.timestamps != 0 and options.timestamps != 0 and segment.seq <= tcb.rcv_acked:
        if _older(options.ts_val, tcb.ts_recent) == 0:
            tcb.ts_recent = options.ts_val
            tcb.ts_recent_when = timers_of(tcb).now


@kernel
def _acceptable(tcb: Tcb, segment: Segment) -> i64:
    """The four cases of RFC 9293 section 3.4: 1 if some of the segment lies in the window.

    With the window closed, what comes at its left edge loses its bytes and is acceptable for its ACK.
    """
    left = tcb.rcv_nxt
    right = max(receive_buffer_at(tcb.receive_buffer).window_right, left)
    seq = segment.seq
    if segment.length == 0:
        return 1 if seq == left or left <= seq < right else 0
    if right == left:
        if seq != left:
            return 0
        segment.size = 0
        segment.flags &= ~(FIN | SYN)
        segment.length = 0
        tcb.ack_now = 1
        return 1
    return 1 if seq < right and seq + segment.length > left else 0


@kernel
def _reset_arrived(address: i64, segment: Segment) -> None:
    """A RST that lies in the window: it counts only at the very next position (RFC 5961 section 3.2)."""
    tcb = tcb_at(address)
    if segment.seq != tcb.rcv_nxt:
        challenge(tcb)
    elif tcb.state == SYN_RECEIVED:
        finish(address, ERROR_REFUSED)
    elif tcb.state in (CLOSING, LAST_ACK, TIME_WAIT):
        finish(address, NO_ERROR)
    else:
        finish(address, ERROR_RESET)


@kernel
def _closing_acked(address: i64) -> None:
    """What an acknowledgement of our FIN does to the state."""
    tcb = tcb_at(address)
    if tcb.snd_fin == NOWHERE or tcb.snd_una <= tcb.snd_fin:
        return
    if tcb.state == FIN_WAIT_1:
        set_state(tcb, FIN_WAIT_2)
        if tcb.rcv_closed != 0:
            timers = timers_of(tcb)
            timer_start(timers, tcb.wait_timer, timers.now + settings_of(tcb).fin_timeout)
    elif tcb.state == CLOSING:
        enter_time_wait(address)
    elif tcb.state == LAST_ACK:
        finish(address, NO_ERROR)


@kernel
def _other_states(table: TcpTable, address: i64, segment: Segment, skb: Skb) -> None:
    """A segment in a state in which both SYNs are known (section 3.10.7.4)."""
    tcb = tcb_at(address)
    segment.seq = unwrap(segment.sequence, tcb.rcv_nxt)
    segment.ack = unwrap(segment.acknowledgement, tcb.snd_una)
    if tcb.state == SYN_RECEIVED and segment.flags & SYN and segment.seq == tcb.irs and segment.flags & RST == 0:
        if segment.flags & ACK == 0:
            tcb.syn_now = 1  # the peer's SYN again: it has not seen our answer, which can no longer be measured (Karn)
            tcb.total_retrans += 1
            tcp_mib_at(table.mib).RetransSegs += 1
            return
        # Both opened at once, and this answers our SYN: all but the SYN, which is known, counts.
        segment.flags &= ~SYN
        segment.seq += 1
        segment.length -= 1
    if _timestamp_rejects(tcb, segment) != 0:
        return
    if _acceptable(tcb, segment) == 0:
        if segment.flags & RST == 0:
            if segment.flags & SYN:
                tcp_ext_mib_at(table.ext).TCPSYNChallenge += 1
                challenge(tcb)
            else:
                if answers_out_of_window(tcb, segment) == 0:
                    tcp_ext_mib_at(table.ext).TCPACKSkippedSeq += 1
                restart_time_wait(tcb)
        return
    if segment.flags & RST:
        _reset_arrived(address, segment)
        return
    _take_timestamp(tcb, segment)
    if segment.flags & SYN:
        tcp_ext_mib_at(table.ext).TCPSYNChallenge += 1
        challenge(tcb)
        return
    if segment.flags & ACK == 0:
        return
    tcb.last_received = timers_of(tcb).now
    tcb.keepalive_count = 0
    if tcb.state == SYN_RECEIVED:
        if not tcb.snd_una < segment.ack <= tcb.snd_nxt:
            answer_with_reset(table, segment)
            return
        establish(address, segment)
    if take_ack(tcb, segment) == 0:
        return
    _closing_acked(address)
    note_fin(tcb, segment)
    if take_text(tcb, segment, skb) == 0:
        tcp_ext_mib_at(table.ext).TCPAbortOnData += 1
        tcb.reset_now = 1
        finish(address, ERROR_ABORTED)
        return
    take_fin(address)


@kernel
def _recycles(tcb: Tcb, segment: Segment) -> i64:
    """1 if a SYN may begin a new connection though the old one is in TIME-WAIT (RFC 9293 MAY-2, RFC 6191)."""
    if segment.flags & (SYN | ACK | RST) != SYN:
        return 0
    options = options_at(segment.options)
    if tcb.timestamps != 0 and options.timestamps != 0 and options.ts_val != tcb.ts_recent:
        return 1 - _older(options.ts_val, tcb.ts_recent)
    return 1 if unwrap(segment.sequence, tcb.rcv_nxt) > tcb.rcv_nxt else 0


@kernel
def _finish_input(table: TcpTable, address: i64) -> None:
    """All is said about the segment: the user hears of it, what is owed goes out."""
    if tcb_at(address).app != 0:
        notify(address)
    call2(table.output, address, 0)
    release(address)


@entry
def tcp_input(host_address: i64, offset: i64, size: i64) -> i64:
    """Take the segment in the ``size`` bytes at ``offset`` of the host's skb, whose checksum is good; the verdict."""
    host = host_at(host_address)
    table = table_at(host.tcp)
    segment = segment_at(table.segment)
    skb = skb_at(host.skb)
    take_segment(segment, skb, offset, size, table.header)
    address = find_connection(
        table,
        segment.local_hi,
        segment.local_lo,
        segment.local_port,
        segment.remote_hi,
        segment.remote_lo,
        segment.remote_port,
    )
    iss = 0
    if address != 0 and tcb_at(address).state == TIME_WAIT and _recycles(tcb_at(address), segment) != 0:
        iss = tcb_at(address).snd_nxt + _SECURE_ISS
        count_time_wait(tcb_at(address), 1)
        finish(address, NO_ERROR)
        release(address)
        address = 0
    if address == 0:
        listener = find_listener(table, segment.local_hi, segment.local_lo, segment.local_port)
        if listener == 0:
            answer_with_reset(table, segment)
            return NO_SOCKET
        address = in_listen(table, listener, segment, iss)
        if address == 0:
            return DELIVERED
    elif tcb_at(address).state == SYN_SENT:
        tcb_at(address).segs_in += 1
        in_syn_sent(address, segment)
    else:
        tcb_at(address).segs_in += 1
        _other_states(table, address, segment, skb)
    _finish_input(table, address)
    return DELIVERED
