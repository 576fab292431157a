"""What the device keeps of a virtqueue of either kind, and of the chains it has taken from it.

Theory of operation
-------------------
A `DeviceQueue` holds the positions the device moves, and the chains taken and not yet given back: one `Chain` each,
with a `Segment` for every stretch of host memory, one behind the other. `netemu.device.vring_split` and
`netemu.device.vring_packed` read and write the ring, `netemu.device.queue` chooses between them.

Everything read from the ring is checked where it is used. What fails breaks the queue, as DEVICE_NEEDS_RESET
announces: it is not touched any more.

The limit on a chain is the queue size (SPLIT-V-08, PACK-V-11), but at least ``CHAIN_MAX`` through an indirect table:
Linux exceeds the rule on small rings, where its big buffers have 19 segments, and QEMU accepts up to 1024 for that
reason.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct
from netemu.memory import memory_at, region_at, region_of, translate

CHAIN_MAX = 1024
SEGMENTS_MAX = 1 << 17
"""Segments that can be collected at a time, enough for any frame in a full ring of the largest size; a frame that needs
more, through indirect tables full of tiny buffers, is dropped as too long."""

AVAIL_TOO_FAR = 1
HEAD_OUT_OF_RANGE = 2
CHAIN_TOO_LONG = 3
NEXT_OUT_OF_RANGE = 4
BAD_ADDRESS = 5
BAD_INDIRECT = 6
BAD_ORDER = 7
BROKEN_REASONS = {
    AVAIL_TOO_FAR: "more is available than the ring has room for (SPLIT-B-05)",
    HEAD_OUT_OF_RANGE: "a head lies outside the ring",
    CHAIN_TOO_LONG: "a chain is longer than the queue, or loops (SPLIT-V-04, SPLIT-V-08, PACK-V-11)",
    NEXT_OUT_OF_RANGE: "a chain leaves its table",
    BAD_ADDRESS: "a descriptor points outside guest memory",
    BAD_INDIRECT: "an indirect table is not allowed here (SPLIT-V-06, SPLIT-V-07, SPLIT-V-09, PACK-V-16, PACK-V-19)",
    BAD_ORDER: "a readable descriptor follows a writable one (SPLIT-V-02, PACK-V-12)",
}

_I64_MAX = (1 << 63) - 1


@struct
class DeviceQueue(Struct):
    """What the device keeps of one virtqueue."""

    index: i64
    num: i64
    """0 until the driver has set the queue up and is ready."""
    desc: i64
    avail: i64
    used: i64
    """Host addresses of the ring's parts; of a packed one the latter two are the event areas, driver's and device's."""
    memory: i64
    doorbell: i64
    packed: i64
    event: i64
    indirect: i64
    in_order: i64
    notification_data: i64
    mask: i64
    """Bits of ``used_idx`` that make a slot: ``num`` - 1, or all of a packed ring's, which do not run on."""
    last_avail_idx: i64
    """Split: next available entry to take, 16 bits. Packed: slot of the next descriptor to look at."""
    avail_wrap: i64
    """Packed: the wrap counter there."""
    used_idx: i64
    """Split: index of the next used entry, 16 bits. Packed: slot of the next used descriptor."""
    used_wrap: i64
    """Packed: the wrap counter there."""
    signalled_used: i64
    """Split: used index at the last decision to notify."""
    unsignalled: i64
    """Packed: slots used since the last decision to notify."""
    wants_kick: i64
    broken: i64
    quirks: i64
    """Address of `netemu.device.quirks.DeviceQuirks`, where the device is to misbehave; 0: none."""
    seen: i64
    """What waited when a frame last found it too few; see `netemu.device.queue.available` for its unit."""
    segments: i64
    """Address of SEGMENTS_MAX `Segment` structs."""
    chains: i64
    """Address of ``num`` `Chain` structs."""
    taken: i64
    """Chains taken and not yet flushed."""
    slots_taken: i64
    """Packed: slots of these."""
    segment_count: i64
    # Counters.
    chains_used: i64
    descriptors_used: i64
    notifications: i64
    kicks: i64
    odd_kicks: i64
    """Kicks whose word names another queue or a position that cannot be."""


@struct
class Segment(Struct):
    """A stretch of a chain: host address, bytes, and whether the device may write it.

    A descriptor makes one, or several where its bytes lie over regions of memory that touch (trap T21).
    """

    address: i64
    length: i64
    writable: i64
    gpa: i64


@struct
class Chain(Struct):
    """A chain taken from the ring, and the bytes the device wrote to it."""

    head: i64
    """Split: its first descriptor. Packed: its buffer id."""
    first: i64
    """Its first segment, of ``count``."""
    count: i64
    descriptors: i64
    """Descriptors that name memory: without the one that points to an indirect table."""
    slots: i64
    """Packed: descriptors in the ring itself."""
    writable: i64
    """A writable segment came up: only such may follow."""
    writable_bytes: i64
    written: i64


device_queue_at = pointer(DeviceQueue)
segment_at = pointer(Segment)
chain_at = pointer(Chain)
SEGMENT_SIZE = Segment.dtype.itemsize
CHAIN_SIZE = Chain.dtype.itemsize


@kernel
def break_queue(dq: DeviceQueue, reason: i64) -> i64:
    """Touch the queue no more, for one of `BROKEN_REASONS`; -1."""
    dq.broken = reason
    return -1


@kernel
def next_chain(dq: DeviceQueue) -> Chain:
    """The `Chain` behind those taken, emptied."""
    chain = chain_at(dq.chains + dq.taken * CHAIN_SIZE)
    chain.first = dq.segment_count
    chain.count = 0
    chain.writable = 0
    chain.writable_bytes = 0
    chain.written = 0
    return chain


@kernel
def _append(dq: DeviceQueue, chain: Chain, address: i64, gpa: i64, length: i64) -> i64:
    """Append one stretch; 0, or -1 without room."""
    count = dq.segment_count
    if count >= SEGMENTS_MAX:
        return -1 if dq.taken > 0 else break_queue(dq, CHAIN_TOO_LONG)
    dq.segment_count = count + 1
    chain.count += 1
    segment = segment_at(dq.segments + count * SEGMENT_SIZE)
    segment.address = address
    segment.gpa = gpa
    segment.length = length
    segment.writable = chain.writable
    return 0


@kernel
def _append_pieces(dq: DeviceQueue, chain: Chain, gpa: i64, length: i64) -> i64:
    """Append bytes that no single region holds, a piece for each of the regions they lie over."""
    memory = memory_at(dq.memory)
    while length > 0:
        at = region_of(memory, gpa, 1)
        if at == 0:
            return break_queue(dq, BAD_ADDRESS)
        region = region_at(at)
        offset = gpa - region.gpa
        piece = min(length, region.size - offset)
        if _append(dq, chain, region.host + offset, gpa, piece) < 0:
            return -1
        length -= piece
        # Nothing goes on behind 2^63 or 2^64, where numbers with a sign would wrap.
        if length > 0 and (piece > _I64_MAX - gpa if gpa >= 0 else gpa + piece == 0):
            return break_queue(dq, BAD_ADDRESS)
        gpa += piece
    return 0


@kernel
def add_segment(dq: DeviceQueue, chain: Chain, gpa: i64, length: i64, writable: i64) -> i64:
    """Append what a descriptor names to a chain; 0, or -1.

    The queue is broken then, unless only the room for segments ran out behind other chains.
    """
    if writable != 0:
        chain.writable = 1
        chain.writable_bytes += length
    elif chain.writable != 0:
        return break_queue(dq, BAD_ORDER)
    address = translate(memory_at(dq.memory), gpa, length)
    if address != 0:
        return _append(dq, chain, address, gpa, length)
    return _append_pieces(dq, chain, gpa, length) if length > 0 else break_queue(dq, BAD_ADDRESS)
