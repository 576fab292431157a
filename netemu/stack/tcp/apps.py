"""Users of connections that are kernels: they take, make or send back bytes without Python being entered.

An app is a hook ``(host, tcb)`` in the TCB's ``app`` field; it is called when something happened, before what is owed
is sent, and works with the kernels of `netemu.stack.tcp.calls`. A listener's app becomes that of each connection, with
its ``app_state`` and ``app_count``.
"""

from __future__ import annotations

from netemu.jit import call2, entry, i64, kernel
from netemu.stack.tcp.calls import at_end, close, discard, readable, writable, write
from netemu.stack.tcp.events import notify, take_events, tell
from netemu.stack.tcp.lifetime import release
from netemu.stack.tcp.receive_buffer import receive_buffer_at, receive_piece, receive_piece_len
from netemu.stack.tcp.send_buffer import send_buffer_at, send_buffer_commit
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import EVENT_WRITABLE, Tcb, tcb_at


@entry
def tcp_sink(_host: i64, address: i64) -> i64:
    """Take whatever comes, count it in ``app_count``, and close when the peer does."""
    tcb = tcb_at(address)
    take_events(tcb)
    got = readable(tcb)
    if got > 0:
        tcb.app_count += discard(tcb, got)
    if at_end(tcb) != 0 and tcb.rcv_closed == 0:
        close(address)
    return 0


@entry
def tcp_source(_host: i64, address: i64) -> i64:
    """Send ``app_count`` bytes, which it counts down, then close. The bytes are whatever the ring holds."""
    tcb = tcb_at(address)
    take_events(tcb)
    got = readable(tcb)
    if got > 0:
        discard(tcb, got)
    if tcb.rcv_closed != 0:
        return 0
    if tcb.app_count > 0:
        size = min(writable(tcb), tcb.app_count)
        send_buffer_commit(send_buffer_at(tcb.send_buffer), size)
        tcb.app_count -= size
        tcb.want_write = 1 if tcb.app_count > 0 else 0
    if tcb.app_count == 0:
        close(address)
    return 0


@kernel
def _give_back(tcb: Tcb) -> None:
    """Move bytes from the receive buffer to the send buffer, while there are some and there is room."""
    buffer = receive_buffer_at(tcb.receive_buffer)
    while readable(tcb) > 0:
        size = receive_piece_len(buffer)
        if writable(tcb) < size:
            tcb.want_write = 1
            size = writable(tcb)
        if size == 0:
            return
        write(tcb, receive_piece(buffer), size)
        discard(tcb, size)


@entry
def tcp_echo(_host: i64, address: i64) -> i64:
    """Send back whatever comes, count it in ``app_count``, and close when the peer has."""
    tcb = tcb_at(address)
    take_events(tcb)
    before = readable(tcb)
    _give_back(tcb)
    tcb.app_count += before - readable(tcb)
    if at_end(tcb) != 0 and tcb.rcv_closed == 0:
        close(address)
    return 0


@entry
def tcp_start_app(address: i64) -> i64:
    """Have the app of a connection look at it for the first time."""
    tcb = tcb_at(address)
    tell(tcb, EVENT_WRITABLE)
    notify(address)
    call2(table_at(tcb.table).output, address, 0)
    release(address)
    return 0
