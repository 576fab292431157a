"""Bulk transfers over TCP as apps of connections: a source of bytes that follow a pattern, and a sink that checks it.

The byte at position p of a stream is that at p modulo PERIOD of a table, which is no multiple of any segment's length:
a byte that is lost, comes twice or at the wrong place does not fit.
"""

from __future__ import annotations

from netemu.jit import Struct, entry, i64, kernel, load8, load64, pointer, struct
from netemu.stack.host import host_at, is_ready
from netemu.stack.tcp.calls import at_end, close, discard, readable, writable, write
from netemu.stack.tcp.events import take_events
from netemu.stack.tcp.receive_buffer import receive_buffer_at, receive_piece, receive_piece_len
from netemu.stack.tcp.tcb import CLOSED, EVENT_CLOSED, tcb_at
from netemu.timers import timers_at

PERIOD = 65_521
"""A prime."""
CHUNK = 1 << 16
"""Bytes that are written, or compared, at once."""


@struct
class TcpBulk(Struct):
    """What the connections of one transfer have in common, at either end. Times in ns, sizes in bytes."""

    pattern: i64
    """Host address of PERIOD + CHUNK bytes."""
    size: i64
    """A source's: bytes that each connection sends."""
    until: i64
    """A source's: nothing is sent from this moment on."""
    moved: i64
    """Bytes that were sent, or received, on all connections."""
    bad: i64
    """Bytes that were received, and are not those that were sent."""
    ended: i64
    """Connections over which all was sent, or received."""
    failed: i64
    """Connections that ended by an error."""
    first_at: i64
    last_at: i64
    """When bytes were moved."""
    handle: i64
    """Put on the list of ready sockets when a connection ends, if it is ``wanted``."""
    wanted: i64


tcp_bulk_at = pointer(TcpBulk)


@kernel
def _note(host: i64, bulk: TcpBulk, size: i64) -> None:
    """So many bytes were moved."""
    now = timers_at(host_at(host).timers).now
    if bulk.moved == 0:
        bulk.first_at = now
    bulk.last_at = now
    bulk.moved += size


@kernel
def _wake(host: i64, bulk: TcpBulk) -> None:
    if bulk.wanted != 0:
        bulk.wanted = 0
        is_ready(host_at(host).ready, bulk.handle)


@kernel
def unlike(address: i64, other: i64, size: i64) -> i64:
    """How many of ``size`` bytes at two addresses differ."""
    count = 0
    at = 0
    while at + 8 <= size:
        if load64(address + at) != load64(other + at):
            for n in range(at, at + 8):
                count += 1 if load8(address + n) != load8(other + n) else 0
        at += 8
    for n in range(at, size):
        count += 1 if load8(address + n) != load8(other + n) else 0
    return count


@kernel
def _over(host: i64, bulk: TcpBulk, address: i64) -> None:
    """A connection came to its end; ``app_state`` 0 says that this is known."""
    tcb = tcb_at(address)
    tcb.app_state = 0
    if tcb.error != 0:
        bulk.failed += 1
    else:
        bulk.ended += 1
    _wake(host, bulk)


@entry
def tcp_bulk_source(host: i64, address: i64) -> i64:
    """Send what there is room for; the app of a connection whose ``app_state`` is a `TcpBulk`. Always 0.

    ``app_count`` is the position that was reached.
    """
    tcb = tcb_at(address)
    events = take_events(tcb)
    if tcb.app_state == 0:
        return 0
    bulk = tcp_bulk_at(tcb.app_state)
    if events & EVENT_CLOSED or tcb.state == CLOSED:
        _over(host, bulk, address)
        return 0
    if tcb.rcv_closed != 0:
        return 0  # all is sent, and on its way
    if readable(tcb) > 0:
        discard(tcb, readable(tcb))
    late = 1 if timers_at(host_at(host).timers).now >= bulk.until else 0
    while late == 0 and tcb.app_count < bulk.size:
        some = min(bulk.size - tcb.app_count, CHUNK, max(writable(tcb), 1))
        done = write(tcb, bulk.pattern + tcb.app_count % PERIOD, some)
        if done <= 0:
            return 0
        tcb.app_count += done
        _note(host, bulk, done)
    close(address)
    return 0


@entry
def tcp_bulk_sink(host: i64, address: i64) -> i64:
    """Take and check what came; the app of a listener whose ``app_state`` is a `TcpBulk`. Always 0."""
    tcb = tcb_at(address)
    events = take_events(tcb)
    if tcb.app_state == 0:
        return 0
    bulk = tcp_bulk_at(tcb.app_state)
    buffer = receive_buffer_at(tcb.receive_buffer)
    while readable(tcb) > 0:
        size = min(receive_piece_len(buffer), CHUNK)
        bulk.bad += unlike(receive_piece(buffer), bulk.pattern + tcb.app_count % PERIOD, size)
        tcb.app_count += size
        _note(host, bulk, size)
        discard(tcb, size)
    if at_end(tcb) != 0:
        close(address)
        _over(host, bulk, address)
    elif events & EVENT_CLOSED:
        _over(host, bulk, address)
    return 0
