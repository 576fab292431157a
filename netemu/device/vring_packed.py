"""The device's half of a packed ring (section 2.8): available descriptors, used ones, who notifies whom.

There are two positions, each with a wrap counter that flips when it passes the end (PACK-B-01): where the next
available descriptor is looked for, and where the next used one goes. A used descriptor takes the slot behind the last
one, whichever buffer it is for: the id says that (traps T6, T8); then as many slots are skipped as the chain had.
"""

from __future__ import annotations

from netemu.device.chain import (
    AVAIL_TOO_FAR,
    BAD_ADDRESS,
    BAD_INDIRECT,
    CHAIN_MAX,
    CHAIN_SIZE,
    CHAIN_TOO_LONG,
    Chain,
    DeviceQueue,
    add_segment,
    break_queue,
    chain_at,
    next_chain,
)
from netemu.jit import fence, i64, kernel, load16, load16_acquire, load64, store16, store16_release, store32
from netemu.memory import memory_at, translate
from netemu.virtio.packed import (
    DESC_FLAGS,
    DESC_ID,
    DESC_LEN,
    DESC_SIZE,
    EVENT_DESC,
    EVENT_DISABLE,
    EVENT_ENABLE,
    EVENT_FLAGS,
    EVENT_OFF_WRAP,
    EVENT_WRAP_SHIFT,
    INDIRECT,
    NEXT,
    WRITE,
    flags_used,
    is_avail,
    packed_need_event,
)


@kernel
def packed_available(dq: DeviceQueue) -> i64:
    """Slots that wait, counted one by one: for when a frame found too few."""
    at = dq.last_avail_idx
    wrap = dq.avail_wrap
    waiting = 0
    while waiting < dq.num - dq.slots_taken and is_avail(load16(dq.desc + at * DESC_SIZE + DESC_FLAGS), wrap) != 0:
        waiting += 1
        at += 1
        if at == dq.num:
            at = 0
            wrap ^= 1
    return waiting


@kernel
def _walk_table(dq: DeviceQueue, chain: Chain, gpa: i64, length: i64) -> i64:
    """Append the entries of an indirect table, one after the other; of their flags WRITE alone counts (PACK-B-04)."""
    if dq.indirect == 0 or length == 0 or length % DESC_SIZE != 0:
        return break_queue(dq, BAD_INDIRECT)
    at = translate(memory_at(dq.memory), gpa, length)
    if at == 0:
        return break_queue(dq, BAD_ADDRESS)
    entries = length // DESC_SIZE
    if entries > max(dq.num, CHAIN_MAX):
        return break_queue(dq, CHAIN_TOO_LONG)
    for _ in range(entries):
        entry = load64(at)
        rest = load64(at + DESC_LEN)
        if add_segment(dq, chain, entry, rest & 0xFFFFFFFF, (rest >> 48) & WRITE) < 0:
            return -1
        at += DESC_SIZE
    chain.descriptors = entries
    return 0


@kernel
def _walk(dq: DeviceQueue, chain: Chain) -> i64:
    """Append the segments of the chain at the available position; 0, or -1 as `add_segment` says."""
    index = dq.last_avail_idx
    slots = 0
    while True:
        if slots >= dq.num - dq.slots_taken:
            return break_queue(dq, CHAIN_TOO_LONG)
        at = dq.desc + index * DESC_SIZE
        gpa = load64(at)
        # Length, id and flags in one read, which the driver cannot change in between.
        rest = load64(at + DESC_LEN)
        length = rest & 0xFFFFFFFF
        flags = (rest >> 48) & 0xFFFF
        slots += 1
        if flags & INDIRECT:
            # PACK-B-05: not inside of a list.
            if slots != 1 or flags & NEXT:
                return break_queue(dq, BAD_INDIRECT)
            if _walk_table(dq, chain, gpa, length) < 0:
                return -1
        else:
            if add_segment(dq, chain, gpa, length, flags & WRITE) < 0:
                return -1
            chain.descriptors = slots
        if flags & NEXT == 0:
            # PACK-V-02
            chain.head = (rest >> 32) & 0xFFFF
            chain.slots = slots
            return 0
        index += 1
        if index == dq.num:
            index = 0


@kernel
def packed_pop(dq: DeviceQueue) -> i64:
    """Take the next chain; see `netemu.device.queue.pop_chain`."""
    # PACK-D-13: nothing else of it is looked at earlier.
    flags = load16_acquire(dq.desc + dq.last_avail_idx * DESC_SIZE + DESC_FLAGS)
    if is_avail(flags, dq.avail_wrap) == 0:
        return 0
    if dq.slots_taken >= dq.num:
        return break_queue(dq, AVAIL_TOO_FAR)
    chain = next_chain(dq)
    if _walk(dq, chain) < 0:
        return -1
    dq.last_avail_idx += chain.slots
    if dq.last_avail_idx >= dq.num:
        dq.last_avail_idx -= dq.num
        dq.avail_wrap ^= 1
    dq.slots_taken += chain.slots
    dq.taken += 1
    return 1


@kernel
def packed_unpop(dq: DeviceQueue) -> None:
    """Step back over the chains taken."""
    dq.last_avail_idx -= dq.slots_taken
    if dq.last_avail_idx < 0:
        dq.last_avail_idx += dq.num
        dq.avail_wrap ^= 1
    dq.slots_taken = 0


@kernel
def packed_use(dq: DeviceQueue, slot: i64, buffer: i64, written: i64) -> None:
    """Write all of a used descriptor but its flags."""
    at = dq.desc + slot * DESC_SIZE
    store32(at + DESC_LEN, written)
    store16(at + DESC_ID, buffer)


@kernel
def used_flags(wrap: i64, written: i64) -> i64:
    """The flags of a used descriptor; WRITE says whether anything was written (PACK-D-01, PACK-D-02)."""
    return flags_used(wrap) | (WRITE if written > 0 else 0)


@kernel
def packed_advance(dq: DeviceQueue, slots: i64) -> None:
    """Move the used position (PACK-D-04)."""
    dq.unsignalled += slots
    dq.used_idx += slots
    if dq.used_idx >= dq.num:
        dq.used_idx -= dq.num
        dq.used_wrap ^= 1


@kernel
def packed_flush(dq: DeviceQueue) -> None:
    """Publish the chains taken, each with the bytes written to it: the first one's flags last (PACK-D-07)."""
    if dq.taken == 0:
        return
    first = chain_at(dq.chains)
    first_at = dq.desc + dq.used_idx * DESC_SIZE + DESC_FLAGS
    first_flags = used_flags(dq.used_wrap, first.written)
    at = dq.chains
    for n in range(dq.taken):
        chain = chain_at(at)
        at += CHAIN_SIZE
        packed_use(dq, dq.used_idx, chain.head, chain.written)
        if n > 0:
            flags = used_flags(dq.used_wrap, chain.written)
            store16(dq.desc + dq.used_idx * DESC_SIZE + DESC_FLAGS, flags)
        packed_advance(dq, chain.slots)
        dq.descriptors_used += chain.descriptors
    store16_release(first_at, first_flags)
    dq.slots_taken = 0


@kernel
def packed_flush_batch(dq: DeviceQueue) -> None:
    """Publish them with the last one's used descriptor alone, over the first of the batch (ORD-D-03)."""
    last = chain_at(dq.chains + (dq.taken - 1) * CHAIN_SIZE)
    at = dq.desc + dq.used_idx * DESC_SIZE + DESC_FLAGS
    flags = used_flags(dq.used_wrap, last.written)
    packed_use(dq, dq.used_idx, last.head, last.written)
    for n in range(dq.taken):
        chain = chain_at(dq.chains + n * CHAIN_SIZE)
        packed_advance(dq, chain.slots)
        dq.descriptors_used += chain.descriptors
    store16_release(at, flags)
    dq.slots_taken = 0


@kernel
def packed_call_due(dq: DeviceQueue) -> i64:
    """1 if the driver wants to hear of what was used since this was last asked (PACK-B-07, PACK-B-08)."""
    count = dq.unsignalled
    dq.unsignalled = 0
    flags = load16(dq.avail + EVENT_FLAGS) & 3
    if flags == EVENT_DESC and dq.event != 0:
        return packed_need_event(load16(dq.avail + EVENT_OFF_WRAP), dq.used_idx, dq.used_wrap, count, dq.num)
    return 0 if flags == EVENT_DISABLE else 1


@kernel
def packed_disable_kicks(dq: DeviceQueue) -> None:
    """PACK-D-18."""
    store16(dq.used + EVENT_FLAGS, EVENT_DISABLE)


@kernel
def packed_enable_kicks(dq: DeviceQueue, seen: i64) -> None:
    """Ask for a kick with the descriptor that comes behind the ``seen`` slots that wait already."""
    if dq.event == 0:
        store16(dq.used + EVENT_FLAGS, EVENT_ENABLE)
        return
    at = dq.last_avail_idx + seen
    wrap = dq.avail_wrap
    if at >= dq.num:
        at -= dq.num
        wrap ^= 1
    store16(dq.used + EVENT_OFF_WRAP, at | (wrap << EVENT_WRAP_SHIFT))
    fence()
    store16(dq.used + EVENT_FLAGS, EVENT_DESC)
