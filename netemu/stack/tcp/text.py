"""The bytes of a segment, and its FIN (RFC 9293 section 3.10.7.4, seventh and eighth)."""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.skb import Skb
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.events import tell
from netemu.stack.tcp.lifetime import enter_time_wait, set_state, settings_of, timers_of
from netemu.stack.tcp.owed import owe_ack
from netemu.stack.tcp.ranges import ranges_at
from netemu.stack.tcp.receive_buffer import receive_buffer_at, receive_bytes, receive_readable
from netemu.stack.tcp.segment import FIN, PSH, Segment
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    EVENT_READABLE,
    FIN_WAIT_1,
    FIN_WAIT_2,
    NOWHERE,
    TIME_WAIT,
    Tcb,
    tcb_at,
)
from netemu.timers import timer_start


@kernel
def take_text(tcb: Tcb, segment: Segment, skb: Skb) -> i64:
    """Take a segment's bytes; 0 if there is nobody any more to read them, and the connection is to be reset."""
    size = segment.size
    if size == 0:
        return 1
    buffer = receive_buffer_at(tcb.receive_buffer)
    ext = tcp_ext_mib_at(table_at(tcb.table).ext)
    end = segment.seq + size
    if end <= buffer.rcv_nxt:
        tcb.ack_now = 1
        if tcb.sack != 0:
            receive_bytes(buffer, skb, segment.payload, segment.seq, size)  # to be reported as a duplicate
        return 1
    if tcb.rcv_closed != 0:
        return 0
    limit = max(buffer.window_right, buffer.rcv_nxt)
    if tcb.rcv_fin != NOWHERE:
        limit = min(limit, tcb.rcv_fin)
    size = min(end, limit) - segment.seq
    if size <= 0:
        tcb.ack_now = 1
        return 1
    full = skb.gso_size if skb.gso_size > 0 else segment.size
    tcb.rcv_mss = max(tcb.rcv_mss, min(full, max(tcb.path_mtu, 536)))
    holes = ranges_at(buffer.ranges).count
    refused = buffer.refused
    moved = receive_bytes(buffer, skb, segment.payload, segment.seq, size)
    if segment.seq > tcb.rcv_nxt:
        if buffer.refused != refused:
            ext.TCPOFODrop += 1
        else:
            ext.TCPOFOQueue += 1
    if moved == 0:
        tcb.ack_now = 1
        return 1
    tcb.rcv_nxt += moved
    tcb.bytes_received += moved
    # What fills a hole may be followed by a push that came before it.
    if segment.flags & PSH or holes > 0 or receive_readable(buffer) >= tcb.rcv_lowat:
        tell(tcb, EVENT_READABLE)
    if holes > 0 or segment.seq + segment.size > limit:
        tcb.ack_now = 1
    else:
        owe_ack(tcb)
    return 1


@kernel
def note_fin(tcb: Tcb, segment: Segment) -> None:
    """Remember where the peer's FIN is, if the segment has one that lies in the window."""
    if segment.flags & FIN == 0 or tcb.rcv_fin != NOWHERE:
        return
    position = segment.seq + segment.size
    if tcb.rcv_nxt <= position <= max(receive_buffer_at(tcb.receive_buffer).window_right, tcb.rcv_nxt):
        tcb.rcv_fin = position
        tcb.ack_now = 1


@kernel
def take_fin(address: i64) -> None:
    """If all bytes before the peer's FIN are there, take it."""
    tcb = tcb_at(address)
    if tcb.rcv_fin == NOWHERE or tcb.rcv_nxt != tcb.rcv_fin:
        return
    tcb.rcv_nxt += 1
    tcb.ack_now = 1
    tell(tcb, EVENT_READABLE)
    if tcb.state == ESTABLISHED:
        set_state(tcb, CLOSE_WAIT)
    elif tcb.state == FIN_WAIT_1:
        # That our FIN is acknowledged was looked at before: the state would be FIN-WAIT-2.
        set_state(tcb, CLOSING)
    elif tcb.state == FIN_WAIT_2:
        enter_time_wait(address)


@kernel
def restart_time_wait(tcb: Tcb) -> None:
    """The peer's FIN came again: acknowledge it again, and wait anew."""
    if tcb.state == TIME_WAIT:
        timers = timers_of(tcb)
        timer_start(timers, tcb.wait_timer, timers.now + settings_of(tcb).time_wait)
