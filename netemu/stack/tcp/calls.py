"""What a user calls (RFC 9293 section 3.9.1): OPEN, SEND, RECEIVE, CLOSE, ABORT, as functions of integers.

There are two of most: a kernel, for an app that a connection calls (its changes are sent when the app returns), and an
entry point for Python, which sends at once. A TCB is taken with `tcp_new`, its fields (addresses, ports, ``handle``,
``app`` ...) are set, then it connects or listens. Whoever took or accepted one holds it until `close` or `abort`; then
it belongs to TCP, which frees it when the peer is done too.
"""

from __future__ import annotations

from netemu.jit import call2, entry, i64, kernel, load64
from netemu.stack.host import SENT
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.events import take_events
from netemu.stack.tcp.handshake import begin_send_space, find_path, send_first_syn
from netemu.stack.tcp.lifetime import (
    enter_pair,
    finish,
    mib_of,
    open_tcb,
    release,
    set_state,
    settings_of,
    stop_timers,
    timers_of,
)
from netemu.stack.tcp.receive_buffer import (
    receive_buffer_at,
    receive_consume,
    receive_read,
    receive_readable,
    window_update_due,
)
from netemu.stack.tcp.send_buffer import send_buffer_append, send_buffer_at, send_buffer_free
from netemu.stack.tcp.table import (
    TcpTable,
    choose_port,
    enter_listener,
    find_connection,
    initial_sequence,
    port_is_taken,
    table_at,
)
from netemu.stack.tcp.tcb import (
    CLOSE_WAIT,
    CLOSED,
    ERROR_ABORTED,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    LISTEN,
    NO_ERROR,
    NOWHERE,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    Tcb,
    tcb_at,
)
from netemu.timers import timer_start

# What calls give where they do not give a number of bytes, or an address.
DONE = 0
END_OF_STREAM = -1
"""The peer has closed, and all that it sent was read."""
NOT_CONNECTED = -2
"""The state does not allow it: not connected yet, closed for sending, no listener."""
GONE = -3
"""The connection is gone; its ``error`` says why."""
UNREACHABLE = -4
"""There is no route to the peer, or no address to send from."""
IN_USE = -5
"""Somebody listens there, or just this connection exists already; or no port is free."""


@entry
def tcp_new(table: i64) -> i64:
    """A TCB for the caller, with the host's settings, in CLOSED; 0 if there is none."""
    address = open_tcb(table_at(table))
    if address != 0:
        tcb_at(address).owned = 1
    return address


@kernel
def _flush(address: i64) -> None:
    """Send what the call has made possible; tell, and free."""
    call2(table_at(tcb_at(address).table).output, address, 0)
    release(address)


@entry
def tcp_connect(address: i64) -> i64:
    """Active OPEN to the TCB's remote address and port; local ones that are 0 are chosen. DONE, UNREACHABLE, IN_USE."""
    tcb = tcb_at(address)
    if tcb.state != CLOSED:
        return NOT_CONNECTED
    if find_path(tcb) != SENT:
        return UNREACHABLE
    table = table_at(tcb.table)
    if tcb.local_port == 0:
        tcb.local_port = choose_port(table, tcb)
        if tcb.local_port == 0:
            return IN_USE
    elif (
        find_connection(
            table, tcb.local_hi, tcb.local_lo, tcb.local_port, tcb.remote_hi, tcb.remote_lo, tcb.remote_port
        )
        != 0
    ):
        return IN_USE
    begin_send_space(tcb, initial_sequence(table, tcb, timers_of(tcb).now))
    enter_pair(address, SYN_SENT)
    mib_of(tcb).ActiveOpens += 1
    send_first_syn(tcb)
    _flush(address)
    return DONE


@entry
def tcp_listen(address: i64, backlog: i64) -> i64:
    """Passive OPEN at the TCB's local port, at its local address or, if that is 0, at all. DONE or IN_USE."""
    tcb = tcb_at(address)
    table = table_at(tcb.table)
    if tcb.state != CLOSED:
        return NOT_CONNECTED
    if tcb.local_port == 0:
        tcb.local_port = choose_port(table, tcb)
    if tcb.local_port == 0 or port_is_taken(table, tcb.local_hi, tcb.local_lo, tcb.local_port) != 0:
        return IN_USE
    tcb.backlog = max(backlog, 1)
    enter_listener(table, address)
    set_state(tcb, LISTEN)
    return DONE


@entry
def tcp_accept(listener_address: i64) -> i64:
    """The connection that has waited longest to be accepted, which is the caller's now; 0 if there is none."""
    listener = tcb_at(listener_address)
    address = listener.accept_first
    if listener.state != LISTEN or address == 0:
        return 0
    tcb = tcb_at(address)
    listener.accept_first = tcb.next
    if tcb.next == 0:
        listener.accept_last = 0
    listener.accept_count -= 1
    tcb.parent = 0
    tcb.next = 0
    tcb.owned = 1
    return address


# Sending.


@kernel
def can_write(tcb: Tcb) -> i64:
    """1 if the state lets the user send."""
    return 1 if tcb.state in (ESTABLISHED, CLOSE_WAIT, SYN_SENT, SYN_RECEIVED) and tcb.snd_fin == NOWHERE else 0


@kernel
def write(tcb: Tcb, source: i64, size: i64) -> i64:
    """SEND: up to ``size`` bytes at host address ``source``; how many there was room for, or NOT_CONNECTED or GONE.

    After less than ``size``, EVENT_WRITABLE tells of room.
    """
    if tcb.state == CLOSED:
        return GONE
    if can_write(tcb) == 0:
        return NOT_CONNECTED
    written = send_buffer_append(send_buffer_at(tcb.send_buffer), source, size)
    if written < size:
        tcb.want_write = 1
    return written


@kernel
def writable(tcb: Tcb) -> i64:
    """Bytes that `write` has room for."""
    return send_buffer_free(send_buffer_at(tcb.send_buffer)) if can_write(tcb) != 0 else 0


@entry
def tcp_write(address: i64, source: i64, size: i64) -> i64:
    """`write`, and send."""
    written = write(tcb_at(address), source, size)
    if written > 0:
        call2(table_at(tcb_at(address).table).output, address, 0)
    return written


# Receiving.


@kernel
def readable(tcb: Tcb) -> i64:
    """Bytes that are there to be read."""
    if tcb.state < ESTABLISHED and tcb.bytes_received == 0:
        return 0
    return receive_readable(receive_buffer_at(tcb.receive_buffer))


@kernel
def at_end(tcb: Tcb) -> i64:
    """1 if the peer has closed and all that it sent was read."""
    if tcb.rcv_fin == NOWHERE or tcb.rcv_nxt <= tcb.rcv_fin:
        return 0
    return 1 if readable(tcb) == 0 else 0


@kernel
def _after_reading(tcb: Tcb) -> None:
    """Tell the peer of the room that reading made, if it is worth it."""
    if tcb.state in (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2) and tcb.rcv_fin == NOWHERE:
        buffer = receive_buffer_at(tcb.receive_buffer)
        if window_update_due(buffer, tcb.rcv_mss, tcb.rcv_scale) != 0:
            tcb.ack_now = 1


@kernel
def read(tcb: Tcb, target: i64, size: i64) -> i64:
    """RECEIVE: up to ``size`` bytes to host address ``target``; how many.

    0: none are there yet. END_OF_STREAM, or GONE where the connection is CLOSED and nothing is left of it.
    """
    if readable(tcb) > 0:
        done = receive_read(receive_buffer_at(tcb.receive_buffer), target, size)
        _after_reading(tcb)
        return done
    return _nothing_to_read(tcb)


@kernel
def _nothing_to_read(tcb: Tcb) -> i64:
    if at_end(tcb) != 0:
        return END_OF_STREAM
    return GONE if tcb.state == CLOSED else 0


@kernel
def discard(tcb: Tcb, size: i64) -> i64:
    """`read` without a copy: up to ``size`` bytes are dropped."""
    some = min(size, readable(tcb))
    if some > 0:
        receive_consume(receive_buffer_at(tcb.receive_buffer), some)
        _after_reading(tcb)
        return some
    return _nothing_to_read(tcb)


@entry
def tcp_read(address: i64, target: i64, size: i64) -> i64:
    """`read`, and send a window update if one is due."""
    tcb = tcb_at(address)
    done = read(tcb, target, size)
    if tcb.ack_now != 0:
        call2(table_at(tcb.table).output, address, 0)
    return done


# Closing.


@kernel
def shut_down(address: i64) -> i64:
    """CLOSE, of the sending half: a FIN follows what was written. DONE, NOT_CONNECTED or GONE."""
    tcb = tcb_at(address)
    if tcb.state == CLOSED:
        return GONE
    if tcb.snd_fin != NOWHERE or tcb.state not in (SYN_RECEIVED, ESTABLISHED, CLOSE_WAIT):
        return NOT_CONNECTED
    tcb.snd_fin = send_buffer_at(tcb.send_buffer).end
    if tcb.state == ESTABLISHED:
        set_state(tcb, FIN_WAIT_1)
    elif tcb.state == CLOSE_WAIT:
        set_state(tcb, LAST_ACK)
    return DONE


@kernel
def abandon(address: i64) -> None:
    """ABORT: a RST where the peer has to know, and CLOSED."""
    tcb = tcb_at(address)
    if tcb.state in (SYN_RECEIVED, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT):
        tcb.reset_now = 1
    finish(address, ERROR_ABORTED)


@kernel
def _child_of(table: TcpTable, listener: i64) -> i64:
    """A connection of a listener's that was not accepted, or 0. It looks at all there are: listeners close seldom."""
    for bucket in range(table.bucket_mask + 1):
        at = load64(table.buckets + bucket * 8)
        while at != 0:
            if tcb_at(at).parent == listener:
                return at
            at = tcb_at(at).hash_next
    return 0


@kernel
def _close_listener(address: i64) -> None:
    """The connections that nobody has accepted are reset."""
    table = table_at(tcb_at(address).table)
    child = _child_of(table, address)
    while child != 0:
        abandon(child)
        _flush(child)
        child = _child_of(table, address)
    finish(address, NO_ERROR)


@kernel
def close(address: i64) -> None:
    """CLOSE: neither half is used any more. With bytes left unread the peer is told so by a RST (RFC 9293 SHLD-3)."""
    tcb = tcb_at(address)
    tcb.rcv_closed = 1
    if tcb.state == LISTEN:
        _close_listener(address)
    elif tcb.state == SYN_SENT:
        finish(address, ERROR_ABORTED)
    elif tcb.state in (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT) and readable(tcb) > 0:
        tcp_ext_mib_at(table_at(tcb.table).ext).TCPAbortOnClose += 1
        abandon(address)
    elif shut_down(address) == NOT_CONNECTED and tcb.state == FIN_WAIT_2:
        timers = timers_of(tcb)
        timer_start(timers, tcb.wait_timer, timers.now + settings_of(tcb).fin_timeout)


@entry
def tcp_shutdown(address: i64) -> i64:
    """`shut_down`, and send the FIN."""
    result = shut_down(address)
    if result == DONE:
        _flush(address)
    return result


@entry
def tcp_close(address: i64) -> i64:
    """`close`; the caller does not hold the TCB any more, and hears nothing of it."""
    tcb = tcb_at(address)
    tcb.handle = 0
    tcb.app = 0
    tcb.owned = 0
    close(address)
    _flush(address)
    return DONE


@entry
def tcp_abort(address: i64) -> i64:
    """`abandon`; the caller does not hold the TCB any more."""
    tcb = tcb_at(address)
    tcb.handle = 0
    tcb.app = 0
    tcb.owned = 0
    if tcb.state == LISTEN:
        _close_listener(address)
    elif tcb.state == TIME_WAIT:
        stop_timers(tcb)
        finish(address, NO_ERROR)
    else:
        abandon(address)
    _flush(address)
    return DONE


@entry
def tcp_events(address: i64) -> i64:
    """`take_events`, for Python."""
    return take_events(tcb_at(address))
