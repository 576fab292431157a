"""What a connection has to send, from the first byte that is not acknowledged on: a ring of bytes by stream position.

An empty ring begins anew at its first byte, so a sender whose data is acknowledged as fast as it comes keeps using the
same few cache lines.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, memcpy, pointer, struct
from netemu.stack.packet import packet_at


@struct
class SendBuffer(Struct):
    """Bytes of a stream that are kept until they are acknowledged."""

    data: i64
    """Host address of ``capacity`` bytes."""
    capacity: i64
    una: i64
    """Position of the first byte that is kept."""
    end: i64
    """Position behind the last one: the next byte that is written gets it."""
    offset: i64
    """Where in the ring ``una`` lies."""


send_buffer_at = pointer(SendBuffer)
SEND_BUFFER_SIZE = SendBuffer.dtype.itemsize


@kernel
def start_send_buffer(buffer: SendBuffer, data: i64, capacity: i64, position: i64) -> None:
    """Make it an empty buffer of ``capacity`` bytes at host address ``data``, whose first byte will be ``position``."""
    buffer.data = data
    buffer.capacity = capacity
    buffer.una = position
    buffer.end = position
    buffer.offset = 0


@kernel
def send_buffer_free(buffer: SendBuffer) -> i64:
    """Bytes it has room for."""
    return buffer.capacity - (buffer.end - buffer.una)


@kernel
def _index(buffer: SendBuffer, position: i64) -> i64:
    """Where in the ring a position lies: from ``una`` to ``end``."""
    index = buffer.offset + (position - buffer.una)
    return index - buffer.capacity if index >= buffer.capacity else index


@kernel
def send_buffer_append(buffer: SendBuffer, source: i64, size: i64) -> i64:
    """Append up to ``size`` bytes at host address ``source``; how many there was room for."""
    size = min(size, send_buffer_free(buffer))
    if size <= 0:
        return 0
    at = _index(buffer, buffer.end)
    first = min(size, buffer.capacity - at)
    memcpy(buffer.data + at, source, first)
    memcpy(buffer.data, source + first, size - first)
    buffer.end += size
    return size


@kernel
def send_buffer_room(buffer: SendBuffer) -> i64:
    """Host address for bytes that are made in place; `send_buffer_room_len` of them, then `send_buffer_commit`."""
    return buffer.data + _index(buffer, buffer.end)


@kernel
def send_buffer_room_len(buffer: SendBuffer) -> i64:
    """Bytes that lie side by side from `send_buffer_room` on; 0: the buffer is full."""
    return min(send_buffer_free(buffer), buffer.capacity - _index(buffer, buffer.end))


@kernel
def send_buffer_commit(buffer: SendBuffer, size: i64) -> None:
    """Append ``size`` bytes that stand at `send_buffer_room` already, or (up to `send_buffer_free`) whatever does."""
    buffer.end += size


@kernel
def send_buffer_acknowledge(buffer: SendBuffer, position: i64) -> i64:
    """Drop what lies before ``position``, at most all there is; how many bytes those were."""
    acked = min(position, buffer.end) - buffer.una
    if acked <= 0:
        return 0
    buffer.offset = _index(buffer, buffer.una + acked)
    buffer.una += acked
    if buffer.una == buffer.end:
        buffer.offset = 0
    return acked


@kernel
def send_buffer_payload(buffer: SendBuffer, position: i64, size: i64, packet: i64) -> i64:
    """Make ``size`` bytes from ``position`` on the payload of a `Packet`, or as many as there are; their number.

    They stay where they lie, in one or two pieces. A position outside of the buffer gives 0.
    """
    p = packet_at(packet)
    p.payload_len = 0
    p.more_len = 0
    size = min(size, buffer.end - position)
    if size <= 0 or position < buffer.una:
        return 0
    at = _index(buffer, position)
    p.payload = buffer.data + at
    p.payload_len = min(size, buffer.capacity - at)
    p.more = buffer.data
    p.more_len = size - p.payload_len
    return size
