"""A frame's used entries and its interrupt, spoilt on purpose."""

from __future__ import annotations

from netemu.device.chain import CHAIN_SIZE, DeviceQueue, chain_at, device_queue_at
from netemu.device.queue import call, call_due
from netemu.device.quirks import (
    ENTRY_SIZE,
    EVENT_IGNORED,
    ID_NOT_HEAD,
    ID_OUT_OF_RANGE,
    ID_TWICE,
    INDEX_BACK,
    INDEX_TORN,
    INTERRUPT_LOST,
    INTERRUPT_SPURIOUS,
    LATE,
    LENGTH_OVER,
    LENGTH_SHORT,
    OUT_OF_ORDER,
    DeviceQuirks,
    device_quirks_at,
    happens,
    used_entry_at,
)
from netemu.device.vring_packed import packed_advance, packed_use, used_flags
from netemu.device.vring_split import split_publish, split_use
from netemu.jit import entry, i64, kernel, load16, memcpy, memset, store16, store16_release
from netemu.virtio import packed, split

_CANDIDATES = 64
"""Ids that are tried when one is looked for that heads no buffer."""


@kernel
def _tag_of(q: DeviceQuirks, dq: DeviceQueue, ahead: i64) -> i64:
    """Address of what belongs to the slot so many behind the next used one."""
    slot = (dq.used_idx & dq.mask) + ahead
    return q.tags + (slot if slot < dq.num else slot - dq.num) * q.tag_size


@kernel
def _list(q: DeviceQuirks, head: i64, written: i64, slots: i64, tag: i64) -> None:
    """Append to the list of entries."""
    one = used_entry_at(q.entries + q.count * ENTRY_SIZE)
    one.head = head
    one.written = written
    one.slots = slots
    one.tag = tag
    q.count += 1


@kernel
def _keep(q: DeviceQuirks, dq: DeviceQueue, first: i64) -> None:
    """Keep the entries from ``first`` on back until the next frame; a frame's number is its first entry's."""
    for n in range(first, q.count):
        if q.kept_count == dq.num:
            break
        one = used_entry_at(q.entries + n * ENTRY_SIZE)
        kept = used_entry_at(q.kept + q.kept_count * ENTRY_SIZE)
        kept.head = one.head
        kept.written = one.written
        kept.slots = one.slots
        if q.tags != 0:
            if n == 0:
                memcpy(kept.tag, _tag_of(q, dq, 0), q.tag_size)
            else:
                memset(kept.tag, 0, q.tag_size)
        q.kept_count += 1
    q.count = first


@kernel
def _list_kept(q: DeviceQuirks) -> None:
    """Append what was kept back."""
    for n in range(q.kept_count):
        kept = used_entry_at(q.kept + n * ENTRY_SIZE)
        _list(q, kept.head, kept.written, kept.slots, kept.tag)
    q.kept_count = 0


@kernel
def _list_taken(q: DeviceQuirks, dq: DeviceQueue) -> i64:
    """Append the chains taken; where they begin."""
    first = q.count
    for n in range(dq.taken):
        chain = chain_at(dq.chains + n * CHAIN_SIZE)
        written = chain.written
        if n == dq.taken - 1 and happens(q, LENGTH_OVER):
            written = 0xFFFF_FFFF if q.random & 7 == 0 else chain.writable_bytes + 1 + (q.random >> 3 & 0xFFFF)
        _list(q, chain.head, written, 1 if dq.packed == 0 else chain.slots, 0)
        dq.descriptors_used += chain.descriptors
    dq.chains_used += dq.taken
    dq.taken = 0
    dq.slots_taken = 0
    dq.segment_count = 0
    return first


@kernel
def _waits(dq: DeviceQueue, head: i64) -> i64:
    """1 if a chain that waits in a split ring has this head."""
    waiting = (load16(dq.avail + split.AVAIL_IDX) - dq.last_avail_idx) & 0xFFFF
    for n in range(min(waiting, dq.num)):
        if load16(dq.avail + split.AVAIL_RING + 2 * ((dq.last_avail_idx + n) & (dq.num - 1))) == head:
            return 1
    return 0


@kernel
def _no_head(q: DeviceQuirks, dq: DeviceQueue, head: i64) -> i64:
    """An id that can be, and heads no buffer the device has; the last one published, if no other is found soon.

    In a packed ring the last one is the best there is: ids of buffers that wait are anywhere.
    """
    if dq.packed == 0:
        for n in range(min(_CANDIDATES, dq.num)):
            candidate = (q.random + n) & (dq.num - 1)
            if candidate != head and _waits(dq, candidate) == 0:
                return candidate
    return q.previous


@kernel
def _spoil_entries(q: DeviceQuirks, dq: DeviceQueue, first: i64) -> None:
    """Change the entries of the frame at hand, which begin at ``first``."""
    one = used_entry_at(q.entries + first * ENTRY_SIZE)
    if happens(q, LENGTH_SHORT):
        one.written = q.random % (q.hdr_len + 14)
    if happens(q, ID_OUT_OF_RANGE):
        one.head = dq.num + q.random % (65536 - dq.num)
    if happens(q, ID_NOT_HEAD):
        one.head = _no_head(q, dq, one.head)
    if happens(q, ID_TWICE):
        _list(q, one.head, one.written, one.slots, 0)
    if happens(q, OUT_OF_ORDER):
        for n in range((q.count - first) // 2):
            low = used_entry_at(q.entries + (first + n) * ENTRY_SIZE)
            high = used_entry_at(q.entries + (q.count - 1 - n) * ENTRY_SIZE)
            head = low.head
            written = low.written
            slots = low.slots
            low.head = high.head
            low.written = high.written
            low.slots = high.slots
            high.head = head
            high.written = written
            high.slots = slots


@kernel
def _write_split(q: DeviceQuirks, dq: DeviceQueue) -> None:
    """The entries into a split ring; its index whole, torn or stepped back: the next publication puts it right."""
    for n in range(q.count):
        one = used_entry_at(q.entries + n * ENTRY_SIZE)
        split_use(dq, n, one.head, one.written)
    before = dq.used_idx
    split_publish(dq, q.count)
    if happens(q, INDEX_TORN):
        store16(dq.used + split.USED_IDX, (dq.used_idx & 0xFF) | ((before + 0x100) & 0xFF00))
    if happens(q, INDEX_BACK):
        store16(dq.used + split.USED_IDX, before - 1)


@kernel
def _write_packed(q: DeviceQuirks, dq: DeviceQueue) -> None:
    """The entries into a packed ring, the first one's flags last, or not yet."""
    start = dq.used_idx
    flags = 0
    for n in range(q.count):
        one = used_entry_at(q.entries + n * ENTRY_SIZE)
        marks = used_flags(dq.used_wrap, one.written)
        packed_use(dq, dq.used_idx, one.head, one.written)
        if n == 0:
            flags = marks
        else:
            store16_release(dq.desc + dq.used_idx * packed.DESC_SIZE + packed.DESC_FLAGS, marks)
        packed_advance(dq, one.slots)
    at = dq.desc + start * packed.DESC_SIZE + packed.DESC_FLAGS
    if happens(q, INDEX_TORN) or happens(q, INDEX_BACK):
        q.repair = at
        q.repair_flags = flags
        if happens(q, INDEX_BACK):
            one = used_entry_at(q.entries)
            slot = (start if start > 0 else dq.num) - 1
            packed_use(dq, slot, one.head, one.written)
            store16_release(dq.desc + slot * packed.DESC_SIZE + packed.DESC_FLAGS, flags)
        else:
            # One of the two bits.
            store16_release(at, flags ^ packed.USED)
    else:
        store16_release(at, flags)


@kernel
def _write(q: DeviceQuirks, dq: DeviceQueue) -> None:
    """Put right what was left wrong, and write the list into the ring."""
    if q.repair != 0:
        store16_release(q.repair, q.repair_flags)
        q.repair = 0
    if q.count == 0:
        return
    ahead = 0
    for n in range(q.count):
        one = used_entry_at(q.entries + n * ENTRY_SIZE)
        if one.tag != 0 and q.tags != 0:
            memcpy(_tag_of(q, dq, ahead % dq.num), one.tag, q.tag_size)
        ahead += one.slots
    q.previous = used_entry_at(q.entries).head
    if dq.packed == 0:
        _write_split(q, dq)
    else:
        _write_packed(q, dq)
    q.count = 0


@kernel
def _lift_tag(q: DeviceQuirks, dq: DeviceQueue) -> i64:
    """The frame at hand does not come first: take its number from the slot that others get; where it is then."""
    spare = q.kept + dq.num * ENTRY_SIZE
    tag = used_entry_at(spare).tag
    memcpy(tag, _tag_of(q, dq, 0), q.tag_size)
    return tag


@entry
def publish_badly(address: i64) -> i64:
    """`netemu.device.receive.publish` as the quirks of the frame at hand have it; how often the driver was called."""
    q = device_quirks_at(address)
    dq = device_queue_at(q.queue)
    q.count = 0
    after = q.kept_after
    q.kept_after = 0
    had = q.kept_count
    if had > 0 and after == 0:
        tag = _lift_tag(q, dq) if q.tags != 0 else 0
        _list_kept(q)
        first = _list_taken(q, dq)
        used_entry_at(q.entries + first * ENTRY_SIZE).tag = tag
    else:
        first = _list_taken(q, dq)
    _spoil_entries(q, dq, first)
    if had > 0 and after != 0:
        _list_kept(q)
    elif had == 0 and happens(q, LATE):
        _keep(q, dq, q.count - 1)
    elif had == 0 and happens(q, OUT_OF_ORDER) and q.count == 1:
        _keep(q, dq, 0)
        q.kept_after = 1
    _write(q, dq)
    calls = call_due(dq)
    if happens(q, EVENT_IGNORED):
        calls = 1
    if happens(q, INTERRUPT_SPURIOUS):
        calls += 1
    if happens(q, INTERRUPT_LOST):
        calls = 0
    for _ in range(calls):
        call(dq)
    q.mask = 0
    q.decided = 0
    return calls


@entry
def settle(address: i64) -> i64:
    """No frame comes for a while: publish what was kept back, put right what was torn; 1 if the driver was called."""
    q = device_quirks_at(address)
    dq = device_queue_at(q.queue)
    if dq.num == 0:
        return 0
    q.count = 0
    q.mask = 0
    torn = dq.packed == 0 and load16(dq.used + split.USED_IDX) != dq.used_idx
    if q.kept_count == 0 and q.repair == 0 and not torn:
        return 0
    _list_kept(q)
    _write(q, dq)
    if torn:
        split_publish(dq, 0)
    if call_due(dq) == 0:
        return 0
    call(dq)
    return 1
