"""The driver's half of a packed virtqueue, after Linux's virtio_ring.c.

Theory of operation
-------------------
One ring of descriptors: the driver writes available ones from ``next_avail_idx`` on, the device overwrites them with
used ones in the order in which it finishes, and the driver reads those from ``last_used_idx`` on. Whether a slot is for
the driver, its AVAIL and USED bits say, compared with a wrap counter that flips whenever a position passes the ring's
end (PACK-B-01, PACK-B-02); the driver has one for each position.

A buffer takes as many slots as segments, or one that names an indirect table, and is known by an id that is not its
slot: ids come from a list, of which the buffer takes one for each slot and uses the first (used in order, ids are the
slots after all). How many slots it took has to be remembered, since the device marks only the first used (PACK-V-04).

An id out of range or not in use breaks the ring, as with split rings; lengths are for the caller to judge.

One difference of the eras lives here: until v6.5 a chain exactly as long as the ring did not flip the counter that the
device's event is compared with (``packed_full_chain_wraps``).
"""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.indirect import alloc_table, free_table, table_at
from netemu.driver.vring import (
    BAD_RING_ID_OUT_OF_RANGE,
    BAD_RING_NOT_A_HEAD,
    EIO,
    ENOSPC,
    EXTRA_SIZE,
    NO_BATCH,
    SCATTER_SIZE,
    STATE_SIZE,
    Virtqueue,
    bad_ring,
    desc_extra_at,
    desc_state_at,
    scatter_at,
    spoil,
    writable_bytes,
)
from netemu.jit import (
    fence,
    i64,
    kernel,
    load16,
    load16_acquire,
    load32,
    store16,
    store16_release,
    store32,
    store64,
)
from netemu.virtio.packed import (
    AVAIL,
    DESC_FLAGS,
    DESC_ID,
    DESC_LEN,
    DESC_SIZE,
    EVENT_DESC,
    EVENT_DISABLE,
    EVENT_ENABLE,
    EVENT_FLAGS,
    EVENT_OFF_WRAP,
    EVENT_OFFSET_MASK,
    EVENT_WRAP_SHIFT,
    INDIRECT,
    NEXT,
    USED,
    WRITE,
    is_used,
    packed_need_event,
)


@kernel
def _next_id(vq: Virtqueue, buffer_id: i64) -> i64:
    """The free id behind a free one."""
    return desc_state_at(vq.state + buffer_id * STATE_SIZE).next


@kernel
def _advance(vq: Virtqueue, off_wrap: i64, slots: i64) -> i64:
    """A position with its wrap counter, ``slots`` further on."""
    position = (off_wrap & EVENT_OFFSET_MASK) + slots
    wrap = off_wrap >> EVENT_WRAP_SHIFT
    if position >= vq.num:
        position -= vq.num
        wrap ^= 1
    return position | (wrap << EVENT_WRAP_SHIFT)


@kernel
def _add_indirect(vq: Virtqueue, table_address: i64, sg: i64, total: i64, out: i64) -> None:
    """Put the segments into a table, whose entries say WRITE and nothing else, and fill the head but for its flags."""
    table = table_at(table_address)
    at = table.host
    for n in range(total):
        segment = scatter_at(sg + n * SCATTER_SIZE)
        store64(at, segment.gpa)
        # Length, id (none) and flags make up one 64-bit word.
        store64(at + DESC_LEN, segment.length | ((0 if n < out else WRITE) << 48))
        at += DESC_SIZE
    at = vq.desc + vq.next_avail_idx * DESC_SIZE
    store64(at, table.gpa)
    store32(at + DESC_LEN, total * DESC_SIZE)


@kernel
def _add_direct(vq: Virtqueue, sg: i64, total: i64, out: i64, buffer_id: i64) -> i64:
    """Chain the segments through the ring, all but the head's flags, which are returned (PACK-V-15).

    The id stands in every descriptor, as in Linux; the last is where it counts (PACK-V-02). Bits flip behind the
    ring's end (PACK-V-03).
    """
    position = vq.next_avail_idx
    bits = vq.avail_used_flags
    head_flags = 0
    for n in range(total):
        segment = scatter_at(sg + n * SCATTER_SIZE)
        at = vq.desc + position * DESC_SIZE
        flags = bits | (0 if n < out else WRITE) | (NEXT if n + 1 < total else 0)
        store64(at, segment.gpa)
        store32(at + DESC_LEN, segment.length)
        store16(at + DESC_ID, buffer_id)
        if n == 0:
            head_flags = flags
        else:
            store16(at + DESC_FLAGS, flags)
        position += 1
        if position == vq.num:
            position = 0
            bits ^= AVAIL | USED
    return head_flags


@kernel
def _take_ids(vq: Virtqueue, slots: i64) -> i64:
    """Take an id for each slot off the list; the last one taken."""
    last = vq.free_head
    for _ in range(slots - 1):
        last = _next_id(vq, last)
    vq.free_head = _next_id(vq, last)
    return last


@kernel
def virtqueue_add_packed(vq: Virtqueue, sg: i64, out: i64, into: i64, data: i64, ctx: i64) -> i64:
    """`netemu.driver.virtio_ring.virtqueue_add` for a packed ring; there is no kick where descriptors are short."""
    if vq.broken != 0:
        return EIO
    total = out + into
    table = 0
    if vq.indirect != 0 and total > 1 and vq.num_free > 0:
        table = alloc_table(vq.tables, total)
    needed = 1 if table != 0 else total
    # PACK-V-14
    if vq.num_free < needed:
        return ENOSPC
    head = vq.next_avail_idx
    at = vq.desc + head * DESC_SIZE
    buffer_id = head if vq.in_order != 0 else vq.free_head
    if table != 0:
        _add_indirect(vq, table, sg, total, out)
        store16(at + DESC_ID, buffer_id)
        flags = vq.avail_used_flags | INDIRECT
    else:
        flags = _add_direct(vq, sg, total, out, buffer_id)
    state = desc_state_at(vq.state + buffer_id * STATE_SIZE)
    state.data = data
    state.ctx = ctx
    state.table = table
    extra = desc_extra_at(vq.extra + buffer_id * EXTRA_SIZE)
    extra.count = needed
    if vq.in_order != 0:
        extra.writable = writable_bytes(sg, total, out)
    else:
        extra.last = _take_ids(vq, needed)
    position = head + needed
    if position >= vq.num:
        position -= vq.num
        vq.avail_used_flags ^= AVAIL | USED
        if table != 0 or position < head or era_at(vq.era).packed_full_chain_wraps != 0:
            vq.avail_wrap_counter ^= 1
    vq.next_avail_idx = position
    vq.num_free -= needed
    vq.mapped += total
    vq.num_added += needed
    if vq.quirks != 0:
        flags = spoil(vq.quirks, head, buffer_id, flags)
    # PACK-V-15, PACK-V-20: what the head's flags expose is in place before them.
    store16_release(at + DESC_FLAGS, flags)
    return 0


@kernel
def virtqueue_kick_prepare_packed(vq: Virtqueue) -> i64:
    """1 if the device wants to hear of the descriptors added since the last call (PACK-B-09, PACK-V-21)."""
    fence()
    count = vq.num_added
    vq.num_added = 0
    # Both halves of the device's event area at one moment.
    event = load32(vq.used)
    flags = event >> 16
    if flags != EVENT_DESC:
        return 1 if flags != EVENT_DISABLE else 0
    return packed_need_event(event & 0xFFFF, vq.next_avail_idx, vq.avail_wrap_counter, count, vq.num)


@kernel
def used_at(vq: Virtqueue, off_wrap: i64) -> i64:
    """1 if the slot at a position was used under its wrap counter; the one place a driver looks at (PACK-B-03)."""
    flags = load16_acquire(vq.desc + (off_wrap & EVENT_OFFSET_MASK) * DESC_SIZE + DESC_FLAGS)
    return is_used(flags, off_wrap >> EVENT_WRAP_SHIFT)


@kernel
def more_used_packed(vq: Virtqueue) -> i64:
    """1 if there is a used buffer to get, the rest of a batch included."""
    if vq.batch_id != NO_BATCH:
        return 1
    return used_at(vq, vq.last_used_idx)


@kernel
def detach_buf_packed(vq: Virtqueue, buffer_id: i64) -> i64:
    """Give a used buffer's ids back to the free list, newest first; return its ctx."""
    state = desc_state_at(vq.state + buffer_id * STATE_SIZE)
    extra = desc_extra_at(vq.extra + buffer_id * EXTRA_SIZE)
    ctx = state.ctx
    state.data = 0
    if state.table != 0:
        vq.mapped -= table_at(state.table).used
        free_table(vq.tables, state.table)
        state.table = 0
    else:
        vq.mapped -= extra.count
    if vq.in_order == 0:
        desc_state_at(vq.state + extra.last * STATE_SIZE).next = vq.free_head
        vq.free_head = buffer_id
    vq.num_free += extra.count
    return ctx


@kernel
def _used_in_order(vq: Virtqueue, buffer_id: i64, length: i64) -> tuple[i64, i64]:
    """The buffer that comes back, and its length, where a used descriptor named ``buffer_id``: the oldest in flight.

    That is the one whose slot is the next to be used; until it is the one named, buffers count as completely used
    (ORD-V-03).
    """
    oldest = vq.last_used_idx & EVENT_OFFSET_MASK
    if oldest == buffer_id:
        vq.batch_id = NO_BATCH
        return buffer_id, length
    vq.batch_id = buffer_id
    vq.batch_len = length
    return oldest, desc_extra_at(vq.extra + oldest * EXTRA_SIZE).writable


@kernel
def virtqueue_get_buf_ctx_packed(vq: Virtqueue) -> tuple[i64, i64, i64]:
    """`netemu.driver.virtio_ring.virtqueue_get_buf_ctx` for a packed ring."""
    if vq.broken != 0:
        return 0, 0, 0
    if more_used_packed(vq) == 0:
        return 0, 0, 0
    if vq.batch_id != NO_BATCH:
        buffer_id = vq.batch_id
        length = vq.batch_len
    else:
        at = vq.desc + (vq.last_used_idx & EVENT_OFFSET_MASK) * DESC_SIZE
        buffer_id = load16(at + DESC_ID)
        length = load32(at + DESC_LEN)
        if buffer_id >= vq.num:
            bad_ring(vq, BAD_RING_ID_OUT_OF_RANGE, buffer_id)
            return 0, 0, 0
    data = desc_state_at(vq.state + buffer_id * STATE_SIZE).data
    if data == 0:
        bad_ring(vq, BAD_RING_NOT_A_HEAD, buffer_id)
        return 0, 0, 0
    if vq.in_order != 0:
        buffer_id, length = _used_in_order(vq, buffer_id, length)
        data = desc_state_at(vq.state + buffer_id * STATE_SIZE).data
    ctx = detach_buf_packed(vq, buffer_id)
    vq.last_used_idx = _advance(vq, vq.last_used_idx, desc_extra_at(vq.extra + buffer_id * EXTRA_SIZE).count)
    if vq.event_flags_shadow == EVENT_DESC:
        store16(vq.avail + EVENT_OFF_WRAP, vq.last_used_idx)
        fence()
    return data, length, ctx


@kernel
def virtqueue_disable_cb_packed(vq: Virtqueue) -> None:
    """Ask for no more interrupts, unless the one that was asked for has come already."""
    if vq.event_flags_shadow == EVENT_DISABLE:
        return
    vq.event_flags_shadow = EVENT_DISABLE
    if vq.event_triggered == 0:
        store16(vq.avail + EVENT_FLAGS, EVENT_DISABLE)


@kernel
def _enable_cb(vq: Virtqueue, off_wrap: i64) -> None:
    """Turn interrupts on, under EVENT_IDX for when the slot at a position is used (PACK-B-07)."""
    if vq.event != 0:
        store16(vq.avail + EVENT_OFF_WRAP, off_wrap)
        fence()
    if vq.event_flags_shadow == EVENT_DISABLE:
        vq.event_flags_shadow = EVENT_DESC if vq.event != 0 else EVENT_ENABLE
        store16_release(vq.avail + EVENT_FLAGS, vq.event_flags_shadow)


@kernel
def virtqueue_enable_cb_prepare_packed(vq: Virtqueue) -> i64:
    """Turn interrupts on for the next used buffer; the value is for `used_at`."""
    _enable_cb(vq, vq.last_used_idx)
    return vq.last_used_idx


@kernel
def virtqueue_enable_cb_delayed_packed(vq: Virtqueue) -> i64:
    """Turn interrupts on for when three quarters of the slots in use are used; 0 as soon as the next one is."""
    _enable_cb(vq, _advance(vq, vq.last_used_idx, (vq.num - vq.num_free) * 3 // 4))
    fence()
    return 1 - used_at(vq, vq.last_used_idx)
