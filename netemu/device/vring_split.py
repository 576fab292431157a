"""The device's half of a split ring (section 2.7): chains from the available ring, used entries, who notifies whom."""

from __future__ import annotations

from netemu.device.chain import (
    AVAIL_TOO_FAR,
    BAD_ADDRESS,
    BAD_INDIRECT,
    CHAIN_MAX,
    CHAIN_SIZE,
    CHAIN_TOO_LONG,
    HEAD_OUT_OF_RANGE,
    NEXT_OUT_OF_RANGE,
    Chain,
    DeviceQueue,
    add_segment,
    break_queue,
    chain_at,
    next_chain,
)
from netemu.jit import i64, kernel, load16, load16_acquire, load64, store16, store16_release, store32
from netemu.memory import memory_at, translate
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


@kernel
def _walk(dq: DeviceQueue, chain: Chain, head: i64) -> i64:
    """Append the segments of the chain that starts at descriptor ``head``; 0, or -1 as `add_segment` says."""
    limit = max(dq.num, CHAIN_MAX)
    table = dq.desc
    entries = dq.num
    index = head
    inside = 0
    descriptors = 0
    while True:
        if descriptors >= limit:
            return break_queue(dq, CHAIN_TOO_LONG)
        at = table + index * DESC_SIZE
        gpa = load64(at)
        # Length, flags and next in one read, which the driver cannot change in between.
        rest = load64(at + DESC_LEN)
        length = rest & 0xFFFFFFFF
        flags = (rest >> 32) & 0xFFFF
        if flags & INDIRECT:
            if inside != 0 or dq.indirect == 0 or flags & NEXT or length == 0 or length % DESC_SIZE != 0:
                return break_queue(dq, BAD_INDIRECT)
            nested = translate(memory_at(dq.memory), gpa, length)
            if nested == 0:
                return break_queue(dq, BAD_ADDRESS)
            table = nested
            entries = length // DESC_SIZE
            index = 0
            inside = 1
            continue
        if add_segment(dq, chain, gpa, length, flags & WRITE) < 0:
            return -1
        descriptors += 1
        if flags & NEXT == 0:
            chain.descriptors = descriptors
            return 0
        index = (rest >> 48) & 0xFFFF
        if index >= entries:
            return break_queue(dq, NEXT_OUT_OF_RANGE)


@kernel
def split_available(dq: DeviceQueue) -> i64:
    """Chains that wait; -1 if the available index cannot be right: those taken count towards the ring's size."""
    waiting = (load16_acquire(dq.avail + AVAIL_IDX) - dq.last_avail_idx) & 0xFFFF
    if waiting > dq.num - dq.taken:
        return break_queue(dq, AVAIL_TOO_FAR)
    return waiting


@kernel
def split_pop(dq: DeviceQueue) -> i64:
    """Take the next chain; see `netemu.device.queue.pop_chain`."""
    waiting = split_available(dq)
    if waiting <= 0:
        return waiting
    head = load16(dq.avail + AVAIL_RING + 2 * (dq.last_avail_idx & (dq.num - 1)))
    if head >= dq.num:
        return break_queue(dq, HEAD_OUT_OF_RANGE)
    chain = next_chain(dq)
    chain.head = head
    if _walk(dq, chain, head) < 0:
        return -1
    dq.last_avail_idx = (dq.last_avail_idx + 1) & 0xFFFF
    dq.taken += 1
    return 1


@kernel
def split_unpop(dq: DeviceQueue) -> None:
    """Step back over the chains taken."""
    dq.last_avail_idx = (dq.last_avail_idx - dq.taken) & 0xFFFF


@kernel
def split_use(dq: DeviceQueue, ahead: i64, head: i64, written: i64) -> None:
    """Write a used entry ``ahead`` entries behind the index, which does not move yet."""
    element = dq.used + USED_RING + USED_ELEM_SIZE * ((dq.used_idx + ahead) & (dq.num - 1))
    store32(element, head)
    store32(element + USED_ELEM_LEN, written)


@kernel
def split_publish(dq: DeviceQueue, count: i64) -> None:
    """Move the used index over ``count`` entries (SPLIT-D-14, SPLIT-D-15)."""
    dq.used_idx = (dq.used_idx + count) & 0xFFFF
    store16_release(dq.used + USED_IDX, dq.used_idx)


@kernel
def split_flush(dq: DeviceQueue) -> None:
    """Publish the chains taken, each with the bytes written to it."""
    at = dq.chains
    taken = dq.taken
    index = dq.used_idx
    descriptors = 0
    for n in range(taken):
        chain = chain_at(at)
        element = dq.used + USED_RING + USED_ELEM_SIZE * ((index + n) & (dq.num - 1))
        store32(element, chain.head)
        store32(element + USED_ELEM_LEN, chain.written)
        descriptors += chain.descriptors
        at += CHAIN_SIZE
    dq.descriptors_used += descriptors
    split_publish(dq, taken)


@kernel
def split_flush_batch(dq: DeviceQueue) -> None:
    """Publish them with the last one's entry alone, in the slot of the first (ORD-D-01, ORD-D-02)."""
    last = chain_at(dq.chains + (dq.taken - 1) * CHAIN_SIZE)
    split_use(dq, 0, last.head, last.written)
    for n in range(dq.taken):
        dq.descriptors_used += chain_at(dq.chains + n * CHAIN_SIZE).descriptors
    split_publish(dq, dq.taken)


@kernel
def split_call_due(dq: DeviceQueue) -> i64:
    """1 if the driver wants to hear of what was used since this was last asked."""
    old = dq.signalled_used
    dq.signalled_used = dq.used_idx
    if dq.event != 0:
        # SPLIT-D-11, SPLIT-D-12, SPLIT-D-13: only when the index passed used_event.
        return vring_need_event(load16(used_event_at(dq.avail, dq.num)), dq.used_idx, old)
    # SPLIT-D-08, SPLIT-D-09, SPLIT-D-10
    return 0 if load16(dq.avail + AVAIL_FLAGS) & NO_INTERRUPT else 1


@kernel
def split_disable_kicks(dq: DeviceQueue) -> None:
    """SPLIT-D-17, SPLIT-D-18; with EVENT_IDX a stale avail_event does it (SPLIT-D-19)."""
    if dq.event == 0:
        store16(dq.used + USED_FLAGS, NO_NOTIFY)


@kernel
def split_enable_kicks(dq: DeviceQueue, seen: i64) -> None:
    """Ask for a kick with the chain that comes behind the ``seen`` that wait already (SPLIT-D-20)."""
    if dq.event != 0:
        store16(avail_event_at(dq.used, dq.num), dq.last_avail_idx + seen)
    else:
        store16(dq.used + USED_FLAGS, 0)
