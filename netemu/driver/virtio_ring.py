"""The driver's half of a split virtqueue, after Linux's virtio_ring.c.

Theory of operation
-------------------
The ring's three parts lie in guest memory (`netemu.virtio.split`); what the driver remembers of it is the
`Virtqueue` struct and one `DescState` per head. Free descriptors form a list through their ``next`` field,
``free_head`` first; a buffer of n segments takes n of them, or one with an indirect table of its own.
``avail_idx_shadow`` and ``last_used_idx`` are the driver's own copies of the two indices it moves; both run freely
modulo 65536.

What comes from the device, the used ring, is not trusted beyond what Linux trusts: an id out of range or one that
is no head breaks the ring for good (`broken` says why), the length is handed on unchecked, as Linux does, for the
caller to judge.

Two differences of the eras live here: whether the chain is freed along a private copy of ``next`` (``desc_extra``)
or along the shared table, and what disabling callbacks does under EVENT_IDX.
"""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.jit import (
    Struct,
    fence,
    i64,
    kernel,
    load16,
    load16_acquire,
    load32,
    pointer,
    store16,
    store16_release,
    store32,
    store64,
    struct,
)
from netemu.virtio.notify import notification_data, ring_kick
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

ENOMEM = -12
EIO = -5
ENOSPC = -28

# Why a ring is broken.
BAD_RING_ID_OUT_OF_RANGE = 1
BAD_RING_NOT_A_HEAD = 2
BAD_RING_CHAIN = 3
NOTIFY_REFUSED = 4
BROKEN_REASONS = {
    BAD_RING_ID_OUT_OF_RANGE: "id {0} out of range",
    BAD_RING_NOT_A_HEAD: "id {0} is not a head",
    BAD_RING_CHAIN: "the chain of id {0} leaves the ring",
    NOTIFY_REFUSED: "the transport refused a notification",
}

INDIRECT_MAX = 24
"""Entries an indirect table has room for: a big receive buffer needs 19."""


@struct
class Virtqueue(Struct):
    """struct vring_virtqueue: the numbers the driver keeps of one ring."""

    index: i64
    num: i64
    desc: i64
    avail: i64
    used: i64
    """Host addresses of the ring's parts."""
    event: i64
    """EVENT_IDX was negotiated."""
    indirect: i64
    """Indirect tables may be used: INDIRECT_DESC was negotiated and the queue keeps no ctx."""
    indirect_refuse: i64
    """This many allocations of an indirect table to come fail; the buffer is then chained directly."""
    free_head: i64
    num_free: i64
    num_added: i64
    avail_idx_shadow: i64
    avail_flags_shadow: i64
    last_used_idx: i64
    event_triggered: i64
    broken: i64
    """0, or the BAD_RING reason."""
    broken_id: i64
    state: i64
    """Address of ``num`` `DescState` structs."""
    tables: i64
    tables_gpa: i64
    """Host and guest-physical address of ``num`` indirect tables of INDIRECT_MAX entries, where there are any."""
    doorbell: i64
    notification_data: i64
    """NOTIFICATION_DATA was negotiated: a kick says how far the ring has got."""
    refuse_notify: i64
    """The transport's notify fails (a device that went away)."""
    era: i64
    mapped: i64
    """Segments handed to the device and not yet taken back: the balance of DMA map and unmap."""


@struct
class DescState(Struct):
    """struct vring_desc_state and vring_desc_extra of one descriptor."""

    data: i64
    """The caller's token while the head is in use, else 0."""
    ctx: i64
    """The caller's context, on queues that keep one."""
    table: i64
    """Entries of the indirect table in use, else 0."""
    next: i64
    """Private copy of the descriptor's next."""


@struct
class Scatter(Struct):
    """One segment of a buffer: guest-physical address and bytes (struct scatterlist)."""

    gpa: i64
    length: i64


virtqueue_at = pointer(Virtqueue)
desc_state_at = pointer(DescState)
scatter_at = pointer(Scatter)
STATE_SIZE = DescState.dtype.itemsize
SCATTER_SIZE = Scatter.dtype.itemsize
TABLE_SIZE = INDIRECT_MAX * DESC_SIZE


@kernel
def _write_desc(address: i64, gpa: i64, length: i64, flags: i64, following: i64) -> None:
    """Write a descriptor: its length, flags and next make up one 64-bit word."""
    store64(address, gpa)
    store64(address + DESC_LEN, length | (flags << 32) | (following << 48))


@kernel
def _next_free(vq: Virtqueue, index: i64) -> i64:
    """The descriptor after a free one: from the private copy, or in older kernels from the shared table."""
    if era_at(vq.era).desc_extra != 0:
        return desc_state_at(vq.state + index * STATE_SIZE).next
    return load16(vq.desc + index * DESC_SIZE + DESC_NEXT) & (vq.num - 1)


@kernel
def _add_indirect(vq: Virtqueue, sg: i64, total: i64, out: i64) -> None:
    """Put the segments into the table of the head descriptor and point the head at it."""
    head = vq.free_head
    table = vq.tables + head * TABLE_SIZE
    for n in range(total):
        segment = scatter_at(sg + n * SCATTER_SIZE)
        flags = (0 if n < out else WRITE) | (NEXT if n + 1 < total else 0)
        _write_desc(table + n * DESC_SIZE, segment.gpa, segment.length, flags, n + 1 if n + 1 < total else 0)
    at = vq.desc + head * DESC_SIZE
    store64(at, vq.tables_gpa + head * TABLE_SIZE)
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
def virtqueue_add(vq: Virtqueue, sg: i64, out: i64, into: i64, data: i64, ctx: i64) -> i64:
    """Make a buffer available: ``out`` readable, then ``into`` writable segments of the `Scatter` array at ``sg``.

    ``data`` is the token that comes back with the used buffer (not 0), ``ctx`` what a queue without indirect tables
    keeps beside it. Returns 0, ENOSPC when descriptors are short, EIO on a broken ring. The index is published at
    once; the device is told by `virtqueue_kick` (Linux: virtqueue_add_split).
    """
    if vq.broken != 0:
        return EIO
    total = out + into
    use_table = vq.indirect != 0 and total > 1 and vq.num_free > 0 and total <= INDIRECT_MAX
    if use_table and vq.indirect_refuse > 0:
        vq.indirect_refuse -= 1
        use_table = False
    needed = 1 if use_table else total
    if vq.num_free < needed:
        if out > 0:
            virtqueue_notify(vq)
        return ENOSPC
    head = vq.free_head
    state = desc_state_at(vq.state + head * STATE_SIZE)
    if use_table:
        _add_indirect(vq, sg, total, out)
        vq.free_head = _next_free(vq, head)
        state.table = total
    else:
        vq.free_head = _add_direct(vq, sg, total, out)
        state.table = 0
    vq.num_free -= needed
    vq.mapped += total
    state.data = data
    state.ctx = ctx
    store16(vq.avail + AVAIL_RING + 2 * (vq.avail_idx_shadow & (vq.num - 1)), head)
    vq.avail_idx_shadow = (vq.avail_idx_shadow + 1) & 0xFFFF
    # SPLIT-V-26: the entry is visible before the index that exposes it.
    store16_release(vq.avail + AVAIL_IDX, vq.avail_idx_shadow)
    vq.num_added += 1
    if vq.num_added == 0xFFFF:
        virtqueue_kick(vq)
    return 0


@kernel
def virtqueue_kick_prepare(vq: Virtqueue) -> i64:
    """1 if the device wants to hear of the buffers added since the last call (SPLIT-V-20 to SPLIT-V-25, SPLIT-V-27)."""
    fence()
    new = vq.avail_idx_shadow
    old = (new - vq.num_added) & 0xFFFF
    vq.num_added = 0
    if vq.event != 0:
        return vring_need_event(load16(avail_event_at(vq.used, vq.num)), new, old)
    return 0 if load16(vq.used + USED_FLAGS) & NO_NOTIFY else 1


@kernel
def virtqueue_notify(vq: Virtqueue) -> i64:
    """Kick the device; 0 on a broken ring, and a transport that refuses breaks it."""
    if vq.broken != 0:
        return 0
    if vq.refuse_notify != 0:
        vq.broken = NOTIFY_REFUSED
        return 0
    data = vq.index
    if vq.notification_data != 0:
        data = notification_data(vq.index, vq.avail_idx_shadow, vq.avail_idx_shadow >> 15)
    ring_kick(vq.doorbell, data)
    return 1


@kernel
def virtqueue_kick(vq: Virtqueue) -> i64:
    """Kick if the device wants it; 1 unless the notification failed."""
    if virtqueue_kick_prepare(vq) != 0:
        return virtqueue_notify(vq)
    return 1


@kernel
def _more_used(vq: Virtqueue) -> i64:
    return 1 if load16_acquire(vq.used + USED_IDX) != vq.last_used_idx else 0


@kernel
def _detach_buf(vq: Virtqueue, head: i64) -> i64:
    """Give a used buffer's descriptors back to the free list, newest first; return its ctx (Linux: detach_buf_split).

    The chain is walked along the NEXT flag in shared memory, as Linux does; a chain that has more links than the ring
    has descriptors in use has been tampered with, and breaks the ring.
    """
    state = desc_state_at(vq.state + head * STATE_SIZE)
    ctx = state.ctx
    state.data = 0
    last = head
    freed = 1
    if state.table != 0:
        vq.mapped -= state.table
        state.table = 0
    else:
        limit = vq.num - vq.num_free
        while load16(vq.desc + last * DESC_SIZE + DESC_FLAGS) & NEXT:
            if freed >= limit:
                _bad_ring(vq, BAD_RING_CHAIN, head)
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
def _bad_ring(vq: Virtqueue, reason: i64, head: i64) -> None:
    vq.broken = reason
    vq.broken_id = head


@kernel
def virtqueue_get_buf_ctx(vq: Virtqueue) -> tuple[i64, i64, i64]:
    """Take the next used buffer: its token (0 if there is none), the length the device reports, its ctx.

    An id that is out of range or no head is a BAD_RING: the ring is broken from then on. The length is not checked.
    """
    if vq.broken != 0:
        return 0, 0, 0
    if _more_used(vq) == 0:
        return 0, 0, 0
    element = vq.used + USED_RING + USED_ELEM_SIZE * (vq.last_used_idx & (vq.num - 1))
    head = load32(element)
    length = load32(element + USED_ELEM_LEN)
    if head >= vq.num:
        _bad_ring(vq, BAD_RING_ID_OUT_OF_RANGE, head)
        return 0, 0, 0
    data = desc_state_at(vq.state + head * STATE_SIZE).data
    if data == 0:
        _bad_ring(vq, BAD_RING_NOT_A_HEAD, head)
        return 0, 0, 0
    ctx = _detach_buf(vq, head)
    vq.last_used_idx = (vq.last_used_idx + 1) & 0xFFFF
    if vq.avail_flags_shadow & NO_INTERRUPT == 0:
        store16(used_event_at(vq.avail, vq.num), vq.last_used_idx)
        fence()
    return data, length, ctx


@kernel
def virtqueue_disable_cb(vq: Virtqueue) -> None:
    """Ask for no more interrupts; only a hint unless EVENT_IDX was negotiated, and less than that in old kernels."""
    era = era_at(vq.era)
    if era.event_triggered_early != 0 and vq.event_triggered != 0:
        return
    if vq.avail_flags_shadow & NO_INTERRUPT:
        return
    vq.avail_flags_shadow |= NO_INTERRUPT
    if vq.event == 0:
        store16(vq.avail + AVAIL_FLAGS, vq.avail_flags_shadow)
    elif era.disable_cb_writes_event != 0 and vq.event_triggered == 0:
        # Any value the used index does not pass soon serves.
        store16(used_event_at(vq.avail, vq.num), 0)


@kernel
def _enable_cb(vq: Virtqueue, event: i64) -> None:
    """Turn interrupts on, due when the used index passes ``event``."""
    vq.event_triggered = 0
    if vq.avail_flags_shadow & NO_INTERRUPT:
        vq.avail_flags_shadow &= ~NO_INTERRUPT
        if vq.event == 0:
            store16(vq.avail + AVAIL_FLAGS, vq.avail_flags_shadow)
    store16(used_event_at(vq.avail, vq.num), event & 0xFFFF)


@kernel
def virtqueue_enable_cb_prepare(vq: Virtqueue) -> i64:
    """Turn interrupts on; the value is for `virtqueue_poll`, which tells whether buffers slipped in meanwhile."""
    _enable_cb(vq, vq.last_used_idx)
    return vq.last_used_idx


@kernel
def virtqueue_poll(vq: Virtqueue, last_used_idx: i64) -> i64:
    """1 if the device has used buffers since ``last_used_idx`` (SPLIT-V-29: fence, and look again)."""
    if vq.broken != 0 and era_at(vq.era).poll_sees_broken != 0:
        return 0
    fence()
    return 1 if load16_acquire(vq.used + USED_IDX) != last_used_idx else 0


@kernel
def virtqueue_enable_cb_delayed(vq: Virtqueue) -> i64:
    """Turn interrupts on for when three quarters of the outstanding buffers are used; 0 if they already are."""
    pending = ((vq.avail_idx_shadow - vq.last_used_idx) & 0xFFFF) * 3 // 4
    _enable_cb(vq, vq.last_used_idx + pending)
    fence()
    used = (load16_acquire(vq.used + USED_IDX) - vq.last_used_idx) & 0xFFFF
    return 0 if used > pending else 1


@kernel
def vring_interrupt(vq: Virtqueue) -> i64:
    """The interrupt handler's test: 1 if the queue's callback is to run, 0 for none of ours or a broken ring."""
    if _more_used(vq) == 0:
        return 0
    if vq.broken != 0:
        return 0
    if vq.event != 0:
        vq.event_triggered = 1
    return 1


@kernel
def virtqueue_detach_unused_buf(vq: Virtqueue) -> i64:
    """Take back a buffer the device never used, lowest head first; 0 when none is left. Only on a stopped queue."""
    for head in range(vq.num):
        data = desc_state_at(vq.state + head * STATE_SIZE).data
        if data != 0:
            _detach_buf(vq, head)
            vq.avail_idx_shadow = (vq.avail_idx_shadow - 1) & 0xFFFF
            store16_release(vq.avail + AVAIL_IDX, vq.avail_idx_shadow)
            return data
    return 0


def broken_reason(vq: Virtqueue) -> str | None:
    """Why the ring is broken, in words; None while it is not."""
    if not vq.broken:
        return None
    return f"virtqueue {vq.index}: " + BROKEN_REASONS[vq.broken].format(vq.broken_id)
