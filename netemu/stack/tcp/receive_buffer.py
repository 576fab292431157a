"""What a connection received: a ring of bytes by stream position, with the ranges that arrived out of order.

Theory of operation
-------------------
From ``read`` on, the next byte the user gets, the ring keeps what lies before ``rcv_nxt`` in order, and behind it
whatever arrived early, at its own place; ``ranges`` says what that is. When the bytes in between come, ``rcv_nxt``
moves over all that is then in order, and nothing is copied a second time. A ring that has neither begins anew at its
first byte, so that a user who reads as fast as data comes stays in the same cache lines.

Bytes that came before are not taken again: ranges and in-order data keep the first copy, and the duplicate is noted for
a D-SACK. SYN and FIN have positions and no bytes: the connection counts them itself.

The window's right edge is remembered as it was promised, and never moves left. A peer's window field counts in units of
the window scale, so the promise is rounded up; for that, and because the peer's segments end anywhere, a sixteenth of
the ring is not offered when there is a scale.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, memcpy, pointer, struct
from netemu.skb import Skb, skb_copy_bits
from netemu.stack.tcp.options import SACK_BLOCK_SIZE, SACK_BLOCKS_MAX, sack_block_at
from netemu.stack.tcp.ranges import (
    NO_ROOM,
    add_range,
    range_above,
    range_left,
    range_mark,
    range_right,
    ranges_at,
    start_ranges,
    trim_ranges,
)

_WINDOW_FIELD_MAX = 65535


@struct
class ReceiveBuffer(Struct):
    """Bytes of a stream that came and were not read yet. Positions are of the stream."""

    data: i64
    """Host address of ``capacity`` bytes."""
    capacity: i64
    read: i64
    """Position of the next byte for the user."""
    rcv_nxt: i64
    """Position of the first byte that has not come."""
    offset: i64
    """Where in the ring ``read`` lies."""
    window_right: i64
    """Right edge of the window as it was offered last."""
    ranges: i64
    """Address of the `Ranges` that came out of order. A range's mark says when a segment last fell into it."""
    arrivals: i64
    """Segments that came out of order."""
    duplicate_left: i64
    duplicate_right: i64
    """Bytes that came a second time, to be reported once (RFC 2883); equal: none."""
    refused: i64
    """Segments out of order for which there was no range left, and bytes beyond the ring: as if they had been lost."""


receive_buffer_at = pointer(ReceiveBuffer)
RECEIVE_BUFFER_SIZE = ReceiveBuffer.dtype.itemsize


@kernel
def start_receive_buffer(
    buffer: ReceiveBuffer, data: i64, capacity: i64, ranges: i64, items: i64, range_count: i64, position: i64
) -> None:
    """Make it an empty buffer of ``capacity`` bytes at ``data`` that expects ``position``, with nothing offered yet.

    ``ranges`` is the address of a `Ranges` for it, with ``items`` the memory of ``range_count`` ranges.
    """
    buffer.data = data
    buffer.capacity = capacity
    buffer.read = position
    buffer.rcv_nxt = position
    buffer.offset = 0
    buffer.window_right = position
    buffer.ranges = ranges
    buffer.arrivals = 0
    buffer.duplicate_left = 0
    buffer.duplicate_right = 0
    buffer.refused = 0
    start_ranges(ranges_at(ranges), items, range_count)


@kernel
def _index(buffer: ReceiveBuffer, position: i64) -> i64:
    """Where in the ring a position lies."""
    index = buffer.offset + (position - buffer.read)
    return index - buffer.capacity if index >= buffer.capacity else index


@kernel
def _copy_in(buffer: ReceiveBuffer, skb: Skb, offset: i64, position: i64, size: i64) -> None:
    at = _index(buffer, position)
    first = min(size, buffer.capacity - at)
    skb_copy_bits(skb, offset, buffer.data + at, first)
    if first < size:
        skb_copy_bits(skb, offset + first, buffer.data, size - first)


@kernel
def receive_duplicate(buffer: ReceiveBuffer, left: i64, right: i64) -> None:
    """Note that the bytes from ``left`` to ``right`` came a second time; the next `write_sack_blocks` reports them."""
    buffer.duplicate_left = left
    buffer.duplicate_right = right


@kernel
def _keep(buffer: ReceiveBuffer, skb: Skb, offset: i64, left: i64, right: i64) -> None:
    """Copy those of the bytes from ``left`` to ``right`` that are in no range yet."""
    ranges = ranges_at(buffer.ranges)
    index = range_above(ranges, left)
    at = left
    while at < right:
        gap = min(range_left(ranges, index), right) if index < ranges.count else right
        if at < gap:
            _copy_in(buffer, skb, offset + at - left, at, gap - at)
        if index == ranges.count or gap == right:
            return
        again = min(range_right(ranges, index), right)
        if buffer.duplicate_left == buffer.duplicate_right:
            receive_duplicate(buffer, max(at, gap), again)
        at = again
        index += 1


@kernel
def receive_bytes(buffer: ReceiveBuffer, skb: Skb, offset: i64, position: i64, size: i64) -> i64:
    """Take ``size`` bytes of an skb, from ``offset`` on, that belong at ``position``; how far ``rcv_nxt`` moved.

    What lies before ``rcv_nxt``, beyond the ring or in a range already is left out, and the first two lots noted. The
    caller has made sure that the segment is acceptable (RFC 9293 section 3.10.7.4), and the bytes are there.
    """
    before = buffer.rcv_nxt
    left = max(position, before)
    right = position + size
    if position < before and size > 0:
        receive_duplicate(buffer, position, min(right, before))
    if right > buffer.read + buffer.capacity:
        right = buffer.read + buffer.capacity
        buffer.refused += 1
    if left >= right:
        return 0
    offset += left - position
    ranges = ranges_at(buffer.ranges)
    if left > before:
        buffer.arrivals += 1
        # A new range without room is as good as lost; nothing may be copied, or noted as a duplicate, before.
        index = range_above(ranges, left - 1)
        apart = 1 if index == ranges.count or range_left(ranges, index) > right else 0
        if apart != 0 and ranges.count == ranges.capacity:
            buffer.refused += 1
            return 0
        _keep(buffer, skb, offset, left, right)
        add_range(ranges, left, right, buffer.arrivals)
        return 0
    if ranges.count == 0:
        if buffer.read == before:
            buffer.offset = 0
        _copy_in(buffer, skb, offset, left, right - left)
        buffer.rcv_nxt = right
        return right - before
    _keep(buffer, skb, offset, left, right)
    index = range_above(ranges, right)
    if index < ranges.count and range_left(ranges, index) <= right:
        right = range_right(ranges, index)
    trim_ranges(ranges, right)
    buffer.rcv_nxt = right
    return right - before


@kernel
def receive_readable(buffer: ReceiveBuffer) -> i64:
    """Bytes that are there for the user, in order."""
    return buffer.rcv_nxt - buffer.read


@kernel
def receive_piece(buffer: ReceiveBuffer) -> i64:
    """Host address of the next byte for the user, for one who looks at the bytes in place."""
    return buffer.data + buffer.offset


@kernel
def receive_piece_len(buffer: ReceiveBuffer) -> i64:
    """Bytes for the user that lie side by side from `receive_piece` on."""
    return min(receive_readable(buffer), buffer.capacity - buffer.offset)


@kernel
def receive_consume(buffer: ReceiveBuffer, size: i64) -> None:
    """The user is done with the next ``size`` bytes, at most `receive_readable`."""
    buffer.offset = _index(buffer, buffer.read + size)
    buffer.read += size


@kernel
def receive_read(buffer: ReceiveBuffer, target: i64, size: i64) -> i64:
    """Move up to ``size`` bytes to host address ``target``; how many there were."""
    size = min(size, receive_readable(buffer))
    if size <= 0:
        return 0
    first = min(size, buffer.capacity - buffer.offset)
    memcpy(target, buffer.data + buffer.offset, first)
    memcpy(target + first, buffer.data, size - first)
    receive_consume(buffer, size)
    return size


# The window.


@kernel
def _offered(buffer: ReceiveBuffer, scale: i64) -> i64:
    """Bytes of the ring that a peer may be told of."""
    return buffer.capacity - (buffer.capacity >> 4) if scale > 0 else buffer.capacity


@kernel
def receive_window(buffer: ReceiveBuffer, mss: i64, scale: i64) -> i64:
    """The window field of the segment that is sent now, in units of ``1 << scale``; what it promises is remembered.

    The right edge stays where it is until it can move by ``mss`` or half the ring (RFC 9293 section 3.8.6.2.2), and
    does not move left. The one exception is a ring whose last sixteenth is used up: then the edge is rounded down, by
    less than one unit, rather than promise what there is no room for.
    """
    offered = _offered(buffer, scale)
    free = buffer.read + offered - buffer.rcv_nxt
    window = max(buffer.window_right - buffer.rcv_nxt, 0)
    if free - window >= min(offered >> 1, mss):
        window = free
    unit = 1 << scale
    field = (window + unit - 1) >> scale
    if buffer.rcv_nxt + (field << scale) > buffer.read + buffer.capacity:
        field = window >> scale
    field = min(field, _WINDOW_FIELD_MAX)
    buffer.window_right = max(buffer.window_right, buffer.rcv_nxt + (field << scale))
    return field


@kernel
def window_update_due(buffer: ReceiveBuffer, mss: i64, scale: i64) -> i64:
    """1 if the peer should be told of the room that reading made: the window at least doubles, and by ``mss`` at least.

    As in Linux (tcp_cleanup_rbuf); in small steps the window opens with the acknowledgements there are anyway.
    """
    free = buffer.read + _offered(buffer, scale) - buffer.rcv_nxt
    window = max(buffer.window_right - buffer.rcv_nxt, 0)
    return 1 if free >= 2 * window and free - window >= min(buffer.capacity >> 1, mss) else 0


# Selective acknowledgements.


@kernel
def write_sack_blocks(buffer: ReceiveBuffer, blocks: i64, limit: i64) -> i64:
    """Fill up to ``limit`` `SackBlock` structs at address ``blocks`` for the segment that is sent now; their number.

    A duplicate comes first, and is forgotten (RFC 2883); then the ranges into which segments fell, latest first, so
    that the first one has the segment that caused this acknowledgement (RFC 2018 section 4). ``limit`` is at most
    SACK_BLOCKS_MAX.
    """
    count = 0
    if buffer.duplicate_left != buffer.duplicate_right:
        block = sack_block_at(blocks)
        block.left = buffer.duplicate_left
        block.right = buffer.duplicate_right
        buffer.duplicate_left = 0
        buffer.duplicate_right = 0
        count = 1
    ranges = ranges_at(buffer.ranges)
    newest = buffer.arrivals + 1
    while count < min(limit, SACK_BLOCKS_MAX):
        best = NO_ROOM
        mark = -1
        for index in range(ranges.count):
            if mark < range_mark(ranges, index) < newest:
                best = index
                mark = range_mark(ranges, index)
        if best == NO_ROOM:
            break
        block = sack_block_at(blocks + count * SACK_BLOCK_SIZE)
        block.left = range_left(ranges, best)
        block.right = range_right(ranges, best)
        newest = mark
        count += 1
    return count
