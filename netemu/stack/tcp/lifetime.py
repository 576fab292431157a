"""States entered and left, with what is counted, stopped and freed thereby."""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.host import host_at
from netemu.stack.mib import TcpMib, tcp_ext_mib_at, tcp_mib_at
from netemu.stack.tcp.events import notify, tell
from netemu.stack.tcp.options import NO_WINDOW_SCALE, WINDOW_SCALE_MAX
from netemu.stack.tcp.receive_buffer import receive_buffer_at, start_receive_buffer
from netemu.stack.tcp.rtt import rtt_at, start_rtt
from netemu.stack.tcp.table import (
    TcpSettings,
    TcpTable,
    alloc_tcb,
    enter_connection,
    free_tcb,
    remove_connection,
    remove_listener,
    settings_at,
    table_at,
)
from netemu.stack.tcp.tcb import (
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    EVENT_CLOSED,
    LISTEN,
    NO_ERROR,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    Tcb,
    tcb_at,
)
from netemu.timers import Timers, timer_start, timer_stop, timers_at

RECEIVE_RANGES = 512
SACKED_RANGES = 1024
"""Ranges that a connection keeps of what it received out of order, and of what the peer says so of."""

_INITIAL_RCV_MSS = 536


@kernel
def timers_of(tcb: Tcb) -> Timers:
    """The queue of events of its host."""
    return timers_at(host_at(tcb.host).timers)


@kernel
def mib_of(tcb: Tcb) -> TcpMib:
    """The counters of its host."""
    return tcp_mib_at(table_at(tcb.table).mib)


@kernel
def settings_of(tcb: Tcb) -> TcpSettings:
    """The settings of its host."""
    return settings_at(table_at(tcb.table).settings)


@kernel
def set_state(tcb: Tcb, state: i64) -> None:
    """Enter a state, and keep CurrEstab (``established``) and EstabResets right."""
    before = tcb.state
    was = 1 if before in (ESTABLISHED, CLOSE_WAIT) else 0
    is_now = 1 if state in (ESTABLISHED, CLOSE_WAIT) else 0
    table_at(tcb.table).established += is_now - was
    if was != 0 and state == CLOSED:
        mib_of(tcb).EstabResets += 1
    tcb.state = state


@kernel
def window_scale_for(capacity: i64) -> i64:
    """The smallest scale by which a window field can say ``capacity`` bytes."""
    scale = 0
    while scale < WINDOW_SCALE_MAX and capacity >> scale > 0xFFFF:
        scale += 1
    return scale


@kernel
def open_tcb(table: TcpTable) -> i64:
    """A new connection's TCB with the host's settings, in CLOSED; its address, or 0 if there is none."""
    address = alloc_tcb(table)
    if address == 0:
        return 0
    tcb = tcb_at(address)
    settings = settings_at(table.settings)
    tcb.timestamps = settings.timestamps
    tcb.sack = settings.sack
    tcb.scaling = settings.window_scaling
    tcb.snd_scale = NO_WINDOW_SCALE
    tcb.rcv_mss = _INITIAL_RCV_MSS
    tcb.nodelay = settings.nodelay
    tcb.keepalive = settings.keepalive
    tcb.quick_acks = settings.quick_acks
    start_rtt(rtt_at(tcb.rtt), settings.rto_min)
    return address


@kernel
def expect_from(tcb: Tcb, irs: i64) -> None:
    """The peer's SYN came, at position ``irs``: what it sends begins behind it."""
    tcb.irs = irs
    tcb.rcv_nxt = irs + 1
    start_receive_buffer(
        receive_buffer_at(tcb.receive_buffer),
        tcb.receive_memory,
        tcb.receive_capacity,
        tcb.receive_ranges,
        tcb.receive_range_items,
        RECEIVE_RANGES,
        irs + 1,
    )


@kernel
def enter_pair(address: i64, state: i64) -> None:
    """A connection whose pair of sockets is known begins, in SYN-SENT or SYN-RECEIVED."""
    tcb = tcb_at(address)
    enter_connection(table_at(tcb.table), address)
    set_state(tcb, state)


@kernel
def leave_listener(address: i64) -> None:
    """A connection is no longer one of those that its listener has to show: accepted, or gone."""
    tcb = tcb_at(address)
    if tcb.parent == 0:
        return
    listener = tcb_at(tcb.parent)
    tcb.parent = 0
    if tcb.state == SYN_RECEIVED:
        listener.embryos -= 1
        return
    before = 0
    at = listener.accept_first
    while at not in (0, address):
        before = at
        at = tcb_at(at).next
    if at == 0:
        return
    if before == 0:
        listener.accept_first = tcb.next
    else:
        tcb_at(before).next = tcb.next
    if listener.accept_last == address:
        listener.accept_last = before
    listener.accept_count -= 1
    tcb.next = 0


@kernel
def stop_timers(tcb: Tcb) -> None:
    """Nothing happens by itself any more."""
    timer_stop(tcb.retransmit_timer)
    timer_stop(tcb.ack_timer)
    timer_stop(tcb.wait_timer)
    tcb.persisting = 0


@kernel
def finish(address: i64, error: i64) -> None:
    """The connection is gone: CLOSED, for the reason given. It is not freed yet (`release`)."""
    tcb = tcb_at(address)
    if tcb.state == CLOSED:
        return
    stop_timers(tcb)
    leave_listener(address)
    table = table_at(tcb.table)
    if tcb.state == LISTEN:
        remove_listener(table, address)
    else:
        remove_connection(table, address)
    if tcb.state in (SYN_SENT, SYN_RECEIVED):
        mib_of(tcb).AttemptFails += 1
    set_state(tcb, CLOSED)
    if tcb.error == NO_ERROR:
        tcb.error = error
    tell(tcb, EVENT_CLOSED)


@kernel
def release(address: i64) -> None:
    """All is said about the segment, timer or call at hand: tell the user, free what is gone and nobody holds."""
    tcb = tcb_at(address)
    notify(address)
    if tcb.state == CLOSED and tcb.owned == 0:
        free_tcb(table_at(tcb.table), address)


@kernel
def enter_time_wait(address: i64) -> None:
    """Both ends have closed; what is still under way must not be taken for a new connection's (2 MSL)."""
    tcb = tcb_at(address)
    set_state(tcb, TIME_WAIT)
    stop_timers(tcb)
    timers = timers_of(tcb)
    timer_start(timers, tcb.wait_timer, timers.now + settings_of(tcb).time_wait)
    tell(tcb, EVENT_CLOSED)


@kernel
def count_time_wait(tcb: Tcb, recycled: i64) -> None:
    """A TIME-WAIT ends: by itself, or by a new SYN."""
    ext = tcp_ext_mib_at(table_at(tcb.table).ext)
    if recycled != 0:
        ext.TWRecycled += 1
    else:
        ext.TW += 1
