"""A virtqueue as the driver keeps it: the numbers of both kinds of ring, and what both do alike.

Theory of operation
-------------------
A `Virtqueue` holds what the driver remembers of one ring, split or packed. Buffers are known by an *id*: in a split
ring the descriptor that heads the chain, in a packed ring a number from a list of its own. Of each id in use a
`DescState` keeps the caller's token; a `DescExtra` keeps what only packed and in-order rings need to know.

Ids that are free form a list through ``DescState.next``, ``free_head`` first; the last that came back is taken first. A
ring used in order (IN_ORDER) needs no list: ids are taken in turn, and come back in turn.

The two kinds are in `netemu.driver.vring_split` and `netemu.driver.vring_packed`, what callers use in
`netemu.driver.virtio_ring`, how a ring comes into being in `netemu.driver.vring_create`.
"""

from __future__ import annotations

from netemu.jit import Struct, call4, i64, kernel, pointer, struct
from netemu.virtio.notify import notification_data, ring_kick
from netemu.virtio.packed import EVENT_WRAP_SHIFT

ENOMEM = -12
EIO = -5
ENOSPC = -28

# Why a ring is broken.
BAD_RING_ID_OUT_OF_RANGE = 1
BAD_RING_NOT_A_HEAD = 2
BAD_RING_CHAIN = 3
NOTIFY_REFUSED = 4
NO_ANSWER = 5
BROKEN_REASONS = {
    BAD_RING_ID_OUT_OF_RANGE: "id {0} out of range",
    BAD_RING_NOT_A_HEAD: "id {0} is not a head",
    BAD_RING_CHAIN: "the chain of id {0} leaves the ring",
    NOTIFY_REFUSED: "the transport refused a notification",
    NO_ANSWER: "the device does not answer commands",
}

NO_BATCH = -1


@struct
class Virtqueue(Struct):
    """struct vring_virtqueue: the numbers the driver keeps of one ring."""

    index: i64
    num: i64
    packed: i64
    """RING_PACKED was negotiated: the ring is a packed one, else split."""
    in_order: i64
    """IN_ORDER was negotiated."""
    event: i64
    """EVENT_IDX was negotiated."""
    indirect: i64
    """Indirect tables may be used: INDIRECT_DESC was negotiated and the queue keeps no ctx."""
    desc: i64
    avail: i64
    used: i64
    """Host addresses of the ring's parts; of a packed ring ``avail`` is the driver's and ``used`` the device's area."""
    free_head: i64
    num_free: i64
    num_added: i64
    """Split: buffers made available since the last kick; packed: descriptors."""
    last_used_idx: i64
    """Split: runs free, 16 bits. Packed: where the next used descriptor will be, with the wrap counter in bit 15."""
    event_triggered: i64
    broken: i64
    """0, or the BAD_RING reason."""
    broken_id: i64
    # Split rings only.
    avail_idx_shadow: i64
    avail_flags_shadow: i64
    # Packed rings only.
    next_avail_idx: i64
    avail_wrap_counter: i64
    avail_used_flags: i64
    """AVAIL or USED: what makes a descriptor available in this round."""
    event_flags_shadow: i64
    # Rings used in order only.
    oldest: i64
    """Split: the head of the buffer that has been in flight for longest."""
    batch_id: i64
    batch_len: i64
    """Of a batch that the device used at once: its last buffer's id (NO_BATCH: none) and used length."""
    # What belongs to the ring.
    state: i64
    extra: i64
    """Addresses of ``num`` `DescState` and of as many `DescExtra` structs."""
    tables: i64
    """Address of the `netemu.driver.indirect.TablePool`, where there is one."""
    doorbell: i64
    notification_data: i64
    """NOTIFICATION_DATA was negotiated: a kick says how far the ring has got."""
    refuse_notify: i64
    """The transport's notify fails (a device that went away)."""
    era: i64
    quirks: i64
    """Address of a `QueueQuirks`, or 0."""
    mapped: i64
    """Segments handed to the device and not yet taken back: the balance of DMA map and unmap."""


@struct
class QueueQuirks(Struct):
    """What a queue that misbehaves on purpose needs; see `netemu.driver.quirks`."""

    spoil: i64
    """Address of the hook that is called with each buffer before the device sees it."""
    vq: i64
    rules: i64
    """Address of the `netemu.quirks.QuirkRules`."""
    clock: i64
    """Address of the guest's clock, ns."""
    memory: i64


@struct
class DescState(Struct):
    """struct vring_desc_state of one id."""

    data: i64
    """The caller's token while the id is in use, else 0."""
    ctx: i64
    """The caller's context, on queues that keep one."""
    table: i64
    """Address of the indirect `Table` in use, else 0."""
    next: i64
    """Private copy of a split descriptor's next; the list of free ids of a packed ring."""


@struct
class DescExtra(Struct):
    """What packed rings, and rings used in order, keep of an id in use besides."""

    count: i64
    """Ring slots the buffer takes."""
    last: i64
    """The last of the ids that the buffer took from the free list: one for each slot."""
    writable: i64
    """Writable bytes that were posted."""


@struct
class Scatter(Struct):
    """One segment of a buffer: guest-physical address and bytes (struct scatterlist)."""

    gpa: i64
    length: i64


virtqueue_at = pointer(Virtqueue)
desc_state_at = pointer(DescState)
desc_extra_at = pointer(DescExtra)
scatter_at = pointer(Scatter)
queue_quirks_at = pointer(QueueQuirks)
STATE_SIZE = DescState.dtype.itemsize
EXTRA_SIZE = DescExtra.dtype.itemsize
SCATTER_SIZE = Scatter.dtype.itemsize


@kernel
def bad_ring(vq: Virtqueue, reason: i64, at: i64) -> None:
    """BAD_RING: the ring is not used any more."""
    vq.broken = reason
    vq.broken_id = at


@kernel
def writable_bytes(sg: i64, total: i64, out: i64) -> i64:
    """Bytes the device may write to a buffer of ``total`` segments of which the first ``out`` are readable."""
    size = 0
    for n in range(out, total):
        size += scatter_at(sg + n * SCATTER_SIZE).length
    return size


@kernel
def spoil(quirks: i64, slot: i64, buffer_id: i64, flags: i64) -> i64:
    """Let the quirks at an address do their worst to a buffer; see `netemu.driver.quirks.spoil_buffer`."""
    return call4(queue_quirks_at(quirks).spoil, quirks, slot, buffer_id, flags)


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
        if vq.packed != 0:
            # PACK-V-08, NOTIF-V-04: the slot that the next available descriptor will take.
            data = notification_data(vq.index, vq.next_avail_idx, vq.avail_wrap_counter)
        else:
            # NOTIF-V-03
            data = notification_data(vq.index, vq.avail_idx_shadow, vq.avail_idx_shadow >> EVENT_WRAP_SHIFT)
    ring_kick(vq.doorbell, data)
    return 1


def broken_reason(vq: Virtqueue) -> str | None:
    """Why the ring is broken, in words; None while it is not."""
    if not vq.broken:
        return None
    return f"virtqueue {vq.index}: " + BROKEN_REASONS[vq.broken].format(vq.broken_id)
