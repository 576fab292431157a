"""The driver's half of a split virtqueue, after Linux's virtio_ring.c.

Theory of operation
-------------------
A buffer of n segments takes n descriptors, or one that names an indirect table. Its head goes into the available ring;
``avail_idx_shadow`` and ``last_used_idx`` are the driver's own copies of the two indices it moves, which run freely
modulo 65536. Used in order, descriptors are taken in table order (ORD-V-01), and a used element may stand for all
buffers up to the one it names.

What comes from the device, the used ring, is not trusted beyond what Linux trusts: an id out of range or one that
is no head breaks the ring for good (`broken` says why), the length is handed on unchecked, as Linux does, for the
caller to judge.

Two differences of the eras live here: whether the chain is freed along a private copy of ``next`` (``desc_extra``)
or along the shared table, and what disabling callbacks does under EVENT_IDX.
"""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.indirect import alloc_table, free_table, table_at
from netemu.driver.vring import (
    BAD_RING_CHAIN,
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
    virtqueue_notify,
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
from netemu.virtio.split import (
    AVAIL_FLAGS,
    AVAIL_IDX,
    AVAIL_RING,
    DESC_FLAGS,
    DESC_LEN,
    DESC_NEXT,
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
def _next_free(vq: Virtqueue, index: i64) -> i64:
    """The descriptor after a free one: from the private copy, or in older kernels from the shared table.

    In order it is the one behind, which either copy says of a fresh ring (SPLIT-V-05).
    """
    if era_at(vq.era).desc_extra != 0:
        return desc_state_at(vq.state + index * STATE_SIZE).next
    return load16(vq.desc + index * DESC_SIZE + DESC_NEXT) & (vq.num - 1)


@kernel
def _add_indirect(vq: Virtqueue, table_address: i64, sg: i64, total: i64, out: i64) -> None:
    """Put the segments into a table and point the head descriptor at it."""
    table = table_at(table_address)
    at = table.host
    for n in range(total):
        segment = scatter_at(sg + n * SCATTER_SIZE)
        following = n + 1 if n + 1 < total else 0
        flags = (0 if n < out else WRITE) | (NEXT if n + 1 < total else 0)
        store64(at, segment.gpa)
        # Length, flags and next make up one 64-bit word.
        store64(at + DESC_LEN, segment.length | (flags << 32) | (following << 48))
        at += DESC_SIZE
    at = vq.desc + vq.free_head * DESC_SIZE
    store64(at, table.gpa)
    store32(at + DESC_LEN, total * DESC_SIZE)
    store16(at + DESC_FLAGS, INDIRECT)


@kernel
def _add_direct(vq: Virtqueue, sg: i64, total: i64, out: i64) -> i64:
    """Chain the segments through the ring's own table; return the descriptor that is free next.

    ``next`` is written with the flags even though a free descriptor has it: a device may have changed it meanwhile.
    """
    index = vq.free_head
    for n in range(total):
        segment = scatter_at(sg + n * SCATTER_SIZE)
        at = vq.desc + index * DESC_SIZE
        flags = (0 if n < out else WRITE) | (NEXT if n + 1 < total else 0)
        index = _next_free(vq, index)
        store64(at, segment.gpa)
        store32(at + DESC_LEN, segment.length)
        store32(at + DESC_FLAGS, flags | (index << 16))
    return index


@kernel
def virtqueue_add_split(vq: Virtqueue, sg: i64, out: i64, into: i64, data: i64, ctx: i64) -> i64:
    """`netemu.driver.virtio_ring.virtqueue_add` for a split ring; the index is published at once."""
    if vq.broken != 0:
        return EIO
    total = out + into
    table = 0
    if vq.indirect != 0 and total > 1 and vq.num_free > 0:
        table = alloc_table(vq.tables, total)
    needed = 1 if table != 0 else total
    if vq.num_free < needed:
        if out > 0:
            virtqueue_notify(vq)
        return ENOSPC
    head = vq.free_head
    state = desc_state_at(vq.state + head * STATE_SIZE)
    if table != 0:
        _add_indirect(vq, table, sg, total, out)
        vq.free_head = _next_free(vq, head)
    else:
        vq.free_head = _add_direct(vq, sg, total, out)
    vq.num_free -= needed
    vq.mapped += total
    state.data = data
    state.ctx = ctx
    state.table = table
    if vq.in_order != 0:
        extra = desc_extra_at(vq.extra + head * EXTRA_SIZE)
        extra.count = needed
        extra.writable = writable_bytes(sg, total, out)
    store16(vq.avail + AVAIL_RING + 2 * (vq.avail_idx_shadow & (vq.num - 1)), head)
    vq.avail_idx_shadow = (vq.avail_idx_shadow + 1) & 0xFFFF
    too_far = 0
    if vq.quirks != 0:
        too_far = spoil(vq.quirks, head, head, 0)
    # SPLIT-V-26: the entry is visible before the index that exposes it.
    store16_release(vq.avail + AVAIL_IDX, vq.avail_idx_shadow + too_far)
    vq.num_added += 1
    if vq.num_added == 0xFFFF and virtqueue_kick_prepare_split(vq) != 0:
        virtqueue_notify(vq)
    return 0


@kernel
def virtqueue_kick_prepare_split(vq: Virtqueue) -> i64:
    """1 if the device wants to hear of the buffers added since the last call (SPLIT-V-20 to SPLIT-V-25, SPLIT-V-27)."""
    fence()
    new = vq.avail_idx_shadow
    old = (new - vq.num_added) & 0xFFFF
    vq.num_added = 0
    if vq.event != 0:
        return vring_need_event(load16(avail_event_at(vq.used, vq.num)), new, old)
    return 0 if load16(vq.used + USED_FLAGS) & NO_NOTIFY else 1


@kernel
def more_used_split(vq: Virtqueue) -> i64:
    """1 if there is a used buffer to get, the rest of a batch included."""
    if vq.batch_id != NO_BATCH:
        return 1
    return 1 if load16_acquire(vq.used + USED_IDX) != vq.last_used_idx else 0


@kernel
def detach_buf_split(vq: Virtqueue, head: i64) -> i64:
    """Give a used buffer's descriptors back to the free list, newest first; return its ctx.

    The chain is walked along the NEXT flag in shared memory, as Linux does; a chain that has more links than the ring
    has descriptors in use has been tampered with, and breaks the ring.
    """
    state = desc_state_at(vq.state + head * STATE_SIZE)
    ctx = state.ctx
    state.data = 0
    table = state.table
    if table != 0:
        vq.mapped -= table_at(table).used
        state.table = 0
        free_table(vq.tables, table)
    if vq.in_order != 0:
        count = desc_extra_at(vq.extra + head * EXTRA_SIZE).count
        if table == 0:
            vq.mapped -= count
        vq.num_free += count
        return ctx
    last = head
    freed = 1
    if table == 0:
        limit = vq.num - vq.num_free
        while load16(vq.desc + last * DESC_SIZE + DESC_FLAGS) & NEXT:
            if freed >= limit:
                bad_ring(vq, BAD_RING_CHAIN, head)
                break
            last = _next_free(vq, last)
            freed += 1
        vq.mapped -= freed
    store16(vq.desc + last * DESC_SIZE + DESC_NEXT, vq.free_head)
    desc_state_at(vq.state + last * STATE_SIZE).next = vq.free_head
    vq.free_head = head
    vq.num_free += freed
    return ctx


@kernel
def _used_in_order(vq: Virtqueue, head: i64, length: i64) -> tuple[i64, i64]:
    """The buffer that comes back, and its length, where a used element named ``head``: the oldest in flight.

    Until that is the one named, buffers count as completely used (ORD-V-02).
    """
    oldest = vq.oldest
    vq.batch_id = head
    vq.batch_len = length
    extra = desc_extra_at(vq.extra + oldest * EXTRA_SIZE)
    if oldest == head:
        vq.batch_id = NO_BATCH
    else:
        length = extra.writable
    vq.oldest = (oldest + extra.count) & (vq.num - 1)
    return oldest, length


@kernel
def virtqueue_get_buf_ctx_split(vq: Virtqueue) -> tuple[i64, i64, i64]:
    """`netemu.driver.virtio_ring.virtqueue_get_buf_ctx` for a split ring."""
    if vq.broken != 0:
        return 0, 0, 0
    if more_used_split(vq) == 0:
        return 0, 0, 0
    if vq.batch_id != NO_BATCH:
        head = vq.batch_id
        length = vq.batch_len
    else:
        element = vq.used + USED_RING + USED_ELEM_SIZE * (vq.last_used_idx & (vq.num - 1))
        head = load32(element)
        length = load32(element + USED_ELEM_LEN)
        if head >= vq.num:
            bad_ring(vq, BAD_RING_ID_OUT_OF_RANGE, head)
            return 0, 0, 0
    data = desc_state_at(vq.state + head * STATE_SIZE).data
    if data == 0:
        bad_ring(vq, BAD_RING_NOT_A_HEAD, head)
        return 0, 0, 0
    if vq.in_order != 0:
        head, length = _used_in_order(vq, head, length)
        data = desc_state_at(vq.state + head * STATE_SIZE).data
    ctx = detach_buf_split(vq, head)
    vq.last_used_idx = (vq.last_used_idx + 1) & 0xFFFF
    if vq.avail_flags_shadow & NO_INTERRUPT == 0:
        store16(used_event_at(vq.avail, vq.num), vq.last_used_idx)
        fence()
    return data, length, ctx


@kernel
def virtqueue_disable_cb_split(vq: Virtqueue) -> None:
    """Ask for no more interrupts; only a hint unless EVENT_IDX was negotiated, and less than that in old kernels."""
    if vq.avail_flags_shadow & NO_INTERRUPT:
        return
    vq.avail_flags_shadow |= NO_INTERRUPT
    if vq.event == 0:
        store16(vq.avail + AVAIL_FLAGS, vq.avail_flags_shadow)
    elif era_at(vq.era).disable_cb_writes_event != 0 and vq.event_triggered == 0:
        # Any value the used index does not pass soon serves.
        store16(used_event_at(vq.avail, vq.num), 0)


@kernel
def _enable_cb(vq: Virtqueue, event: i64) -> None:
    """Turn interrupts on, due when the used index passes ``event``."""
    if vq.avail_flags_shadow & NO_INTERRUPT:
        vq.avail_flags_shadow &= ~NO_INTERRUPT
        if vq.event == 0:
            store16(vq.avail + AVAIL_FLAGS, vq.avail_flags_shadow)
    store16(used_event_at(vq.avail, vq.num), event & 0xFFFF)


@kernel
def virtqueue_enable_cb_prepare_split(vq: Virtqueue) -> i64:
    """Turn interrupts on for the next used buffer; the value is for `virtqueue_poll_split`."""
    _enable_cb(vq, vq.last_used_idx)
    return vq.last_used_idx


@kernel
def virtqueue_poll_split(vq: Virtqueue, last_used_idx: i64) -> i64:
    """1 if the used index is not what it was; the caller has issued the barrier (SPLIT-V-29)."""
    return 1 if load16_acquire(vq.used + USED_IDX) != last_used_idx else 0


@kernel
def virtqueue_enable_cb_delayed_split(vq: Virtqueue) -> i64:
    """Turn interrupts on for when three quarters of the outstanding buffers are used; 0 if they already are."""
    pending = ((vq.avail_idx_shadow - vq.last_used_idx) & 0xFFFF) * 3 // 4
    _enable_cb(vq, vq.last_used_idx + pending)
    fence()
    used = (load16_acquire(vq.used + USED_IDX) - vq.last_used_idx) & 0xFFFF
    return 0 if used > pending else 1


@kernel
def detach_unused_split(vq: Virtqueue, head: i64) -> None:
    """Take a buffer back that was never used: the available index goes back too, which only a reset queue allows."""
    detach_buf_split(vq, head)
    vq.avail_idx_shadow = (vq.avail_idx_shadow - 1) & 0xFFFF
    store16_release(vq.avail + AVAIL_IDX, vq.avail_idx_shadow)
