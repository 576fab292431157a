"""The device's half of a split virtqueue: take chains, see their memory, give them back used, notify.

Theory of operation
-------------------
A `DeviceQueue` holds the indices the device moves. `pop_chain` takes the next available chain and writes one
`Segment` per descriptor, with host addresses, behind those already taken; nothing is visible to the driver until
`flush` publishes used entries, so chains can be put back (`unpop`) when they turn out not to suffice.

Everything read from the ring is checked where it is used: the available index may not run ahead of the
last one by more than the ring, a head must lie in the ring, a chain has a step limit, each segment goes through
`translate`, and writable segments follow readable ones. What fails breaks the queue, as DEVICE_NEEDS_RESET would
announce: it is not touched any more.

The limit on a chain is the queue size (SPLIT-V-08), but at least ``CHAIN_MAX``: Linux exceeds the rule on small
rings with indirect tables, whose big buffers have 19 segments, and QEMU accepts up to 1024 for that reason.
"""

from __future__ import annotations

from netemu.jit import (
    Struct,
    fence,
    i64,
    kernel,
    load16,
    load16_acquire,
    load64,
    pointer,
    store16,
    store16_release,
    store32,
    struct,
)
from netemu.memory import memory_at, translate
from netemu.virtio.notify import doorbell_at, ring_call
from netemu.virtio.split import (
    AVAIL_FLAGS,
    AVAIL_IDX,
    AVAIL_RING,
    DESC_LEN,
    DESC_SIZE,
    INDIRECT,
    NEXT,
    NO_INTERRUPT,
    NO_NOTIFY,
    USED_ELEM_LEN,
    USED_ELEM_SIZE,
    USED_FLAGS,
    USED_IDX,
    USED_RING,
    WRITE,
    avail_event_at,
    used_event_at,
    vring_need_event,
)

CHAIN_MAX = 1024
SEGMENTS_MAX = 2048
"""Segments that can be collected at a time; a frame over more than these is dropped as too long."""

AVAIL_TOO_FAR = 1
HEAD_OUT_OF_RANGE = 2
CHAIN_TOO_LONG = 3
NEXT_OUT_OF_RANGE = 4
BAD_ADDRESS = 5
BAD_INDIRECT = 6
BAD_ORDER = 7
BROKEN_REASONS = {
    AVAIL_TOO_FAR: "the available index is ahead by more than the ring (SPLIT-B-05)",
    HEAD_OUT_OF_RANGE: "a head lies outside the ring",
    CHAIN_TOO_LONG: "a chain is longer than the queue, or loops (SPLIT-V-04, SPLIT-V-08)",
    NEXT_OUT_OF_RANGE: "a chain leaves its table",
    BAD_ADDRESS: "a descriptor points outside guest memory",
    BAD_INDIRECT: "an indirect table is not allowed here (SPLIT-V-06, SPLIT-V-07, SPLIT-V-09)",
    BAD_ORDER: "a readable descriptor follows a writable one (SPLIT-V-02)",
}


@struct
class DeviceQueue(Struct):
    """What the device keeps of one virtqueue."""

    index: i64
    num: i64
    """0 until the driver has set the queue up and is ready."""
    desc: i64
    avail: i64
    used: i64
    """Host addresses of the ring's parts."""
    memory: i64
    doorbell: i64
    event: i64
    indirect: i64
    last_avail_idx: i64
    """Next available entry to take; 16 bits."""
    used_idx: i64
    signalled_used: i64
    """Used index at the last decision to notify."""
    wants_kick: i64
    broken: i64
    seen: i64
    """Chains that waited when a frame last found them too few."""
    segments: i64
    """Address of SEGMENTS_MAX `Segment` structs."""
    chains: i64
    """Address of ``num`` `Chain` structs."""
    taken: i64
    """Chains taken and not yet flushed."""
    segment_count: i64
    # Counters.
    chains_used: i64
    descriptors_used: i64
    notifications: i64
    kicks: i64


@struct
class Segment(Struct):
    """One descriptor of a chain: host address, bytes, and whether the device may write it."""

    address: i64
    length: i64
    writable: i64
    gpa: i64


@struct
class Chain(Struct):
    """A chain taken from the ring: its head, its segments, and the bytes the device wrote to it."""

    head: i64
    first: i64
    count: i64
    writable_bytes: i64
    written: i64


device_queue_at = pointer(DeviceQueue)
segment_at = pointer(Segment)
chain_at = pointer(Chain)
SEGMENT_SIZE = Segment.dtype.itemsize
CHAIN_SIZE = Chain.dtype.itemsize


@kernel
def _break(dq: DeviceQueue, reason: i64) -> i64:
    dq.broken = reason
    return -1


@kernel
def _walk(dq: DeviceQueue, chain: Chain, table: i64, entries: i64, first: i64, inside: i64) -> i64:
    """Append the segments of a chain that starts at entry ``first`` of a table; 0, or -1.

    The queue is broken then, unless only the room for segments ran out behind other chains.
    """
    memory = memory_at(dq.memory)
    limit = max(dq.num, CHAIN_MAX)
    index = first
    writable = 0
    while True:
        if chain.count >= limit or dq.segment_count >= SEGMENTS_MAX:
            if chain.count < limit and dq.taken > 0:
                return -1
            return _break(dq, CHAIN_TOO_LONG)
        at = table + index * DESC_SIZE
        gpa = load64(at)
        # Length, flags and next in one read, which the driver cannot change in between.
        rest = load64(at + DESC_LEN)
        length = rest & 0xFFFFFFFF
        flags = (rest >> 32) & 0xFFFF
        if flags & INDIRECT:
            if inside != 0 or dq.indirect == 0 or flags & NEXT or length == 0 or length % DESC_SIZE != 0:
                return _break(dq, BAD_INDIRECT)
            nested = translate(memory, gpa, length)
            if nested == 0:
                return _break(dq, BAD_ADDRESS)
            table = nested
            entries = length // DESC_SIZE
            index = 0
            inside = 1
            continue
        address = translate(memory, gpa, length)
        if address == 0:
            return _break(dq, BAD_ADDRESS)
        segment = segment_at(dq.segments + dq.segment_count * SEGMENT_SIZE)
        segment.address = address
        segment.gpa = gpa
        segment.length = length
        if flags & WRITE:
            writable = 1
            chain.writable_bytes += length
        elif writable != 0:
            return _break(dq, BAD_ORDER)
        segment.writable = writable
        dq.segment_count += 1
        chain.count += 1
        if flags & NEXT == 0:
            return 0
        index = (rest >> 48) & 0xFFFF
        if index >= entries:
            return _break(dq, NEXT_OUT_OF_RANGE)


@kernel
def available(dq: DeviceQueue) -> i64:
    """Chains that wait in the available ring; -1 if its index cannot be right: those taken count towards its size."""
    waiting = (load16_acquire(dq.avail + AVAIL_IDX) - dq.last_avail_idx) & 0xFFFF
    if waiting > dq.num - dq.taken:
        return _break(dq, AVAIL_TOO_FAR)
    return waiting


@kernel
def pop_chain(dq: DeviceQueue) -> i64:
    """Take the next available chain; 1, or 0 if there is none.

    -1 if the queue is broken, or if this chain's segments find no more room behind those of the chains taken before.
    """
    if dq.broken != 0:
        return -1
    waiting = available(dq)
    if waiting <= 0:
        return waiting
    head = load16(dq.avail + AVAIL_RING + 2 * (dq.last_avail_idx & (dq.num - 1)))
    if head >= dq.num:
        return _break(dq, HEAD_OUT_OF_RANGE)
    chain = chain_at(dq.chains + dq.taken * CHAIN_SIZE)
    chain.head = head
    chain.first = dq.segment_count
    chain.count = 0
    chain.writable_bytes = 0
    chain.written = 0
    if _walk(dq, chain, dq.desc, dq.num, head, 0) < 0:
        return -1
    dq.last_avail_idx = (dq.last_avail_idx + 1) & 0xFFFF
    dq.taken += 1
    return 1


@kernel
def unpop(dq: DeviceQueue) -> None:
    """Put all chains taken since the last flush back: nothing has been published."""
    dq.last_avail_idx = (dq.last_avail_idx - dq.taken) & 0xFFFF
    dq.taken = 0
    dq.segment_count = 0


@kernel
def flush(dq: DeviceQueue) -> None:
    """Publish the chains taken, each with the bytes written to it, all at once (RX-D-04, SPLIT-D-14)."""
    at = dq.chains
    for n in range(dq.taken):
        chain = chain_at(at)
        element = dq.used + USED_RING + USED_ELEM_SIZE * ((dq.used_idx + n) & (dq.num - 1))
        store32(element, chain.head)
        store32(element + USED_ELEM_LEN, chain.written)
        at += CHAIN_SIZE
    dq.used_idx = (dq.used_idx + dq.taken) & 0xFFFF
    store16_release(dq.used + USED_IDX, dq.used_idx)
    dq.chains_used += dq.taken
    dq.descriptors_used += dq.segment_count
    dq.taken = 0
    dq.segment_count = 0


@kernel
def notify(dq: DeviceQueue) -> i64:
    """Call the driver if it wants to hear of what was flushed since the last decision; 1 if it was called."""
    fence()
    old = dq.signalled_used
    dq.signalled_used = dq.used_idx
    if dq.event != 0:
        # SPLIT-D-12, SPLIT-D-13: only when the index passed used_event.
        if vring_need_event(load16(used_event_at(dq.avail, dq.num)), dq.used_idx, old) == 0:
            return 0
    elif load16(dq.avail + AVAIL_FLAGS) & NO_INTERRUPT:
        # SPLIT-D-09
        return 0
    ring_call(dq.doorbell)
    dq.notifications += 1
    return 1


@kernel
def disable_kicks(dq: DeviceQueue) -> None:
    """The device polls: ask the driver not to kick (SPLIT-D-18); with EVENT_IDX a stale avail_event does that."""
    dq.wants_kick = 0
    if dq.event == 0:
        store16(dq.used + USED_FLAGS, NO_NOTIFY)


@kernel
def enable_kicks(dq: DeviceQueue, seen: i64) -> i64:
    """The device is about to wait for more chains than the ``seen`` that it knows of: ask for a kick, and look again.

    Returns how many wait now: more than ``seen`` if some slipped in meanwhile.
    """
    dq.wants_kick = 1
    if dq.event != 0:
        # SPLIT-D-20: the entry that is still to come, behind those that wait already.
        store16(avail_event_at(dq.used, dq.num), dq.last_avail_idx + seen)
    else:
        store16(dq.used + USED_FLAGS, 0)
    fence()
    return available(dq)


@kernel
def take_kick(dq: DeviceQueue) -> i64:
    """1 if the driver has kicked since last asked."""
    bell = doorbell_at(dq.doorbell)
    if bell.kick == 0:
        return 0
    bell.kick = 0
    dq.kicks += 1
    return 1
