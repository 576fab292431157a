"""The operations on a virtqueue, whichever kind of ring it is: what virtio_net uses of Linux's virtio_ring.c.

Each looks at ``vq.packed`` and calls the function of the same name in `netemu.driver.vring_split` or
`netemu.driver.vring_packed`, as Linux does.
"""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.vring import (
    EIO,
    ENOMEM,
    ENOSPC,
    SCATTER_SIZE,
    STATE_SIZE,
    DescExtra,
    DescState,
    Scatter,
    Virtqueue,
    broken_reason,
    desc_state_at,
    scatter_at,
    virtqueue_at,
    virtqueue_notify,
)
from netemu.driver.vring_packed import (
    detach_buf_packed,
    more_used_packed,
    used_at,
    virtqueue_add_packed,
    virtqueue_disable_cb_packed,
    virtqueue_enable_cb_delayed_packed,
    virtqueue_enable_cb_prepare_packed,
    virtqueue_get_buf_ctx_packed,
    virtqueue_kick_prepare_packed,
)
from netemu.driver.vring_split import (
    detach_unused_split,
    more_used_split,
    virtqueue_add_split,
    virtqueue_disable_cb_split,
    virtqueue_enable_cb_delayed_split,
    virtqueue_enable_cb_prepare_split,
    virtqueue_get_buf_ctx_split,
    virtqueue_kick_prepare_split,
    virtqueue_poll_split,
)
from netemu.jit import fence, i64, kernel
from netemu.virtio.packed import EVENT_OFFSET_MASK

__all__ = [
    "EIO",
    "ENOMEM",
    "ENOSPC",
    "SCATTER_SIZE",
    "DescExtra",
    "DescState",
    "Scatter",
    "Virtqueue",
    "broken_reason",
    "scatter_at",
    "virtqueue_add",
    "virtqueue_at",
    "virtqueue_detach_unused_buf",
    "virtqueue_disable_cb",
    "virtqueue_enable_cb_delayed",
    "virtqueue_enable_cb_prepare",
    "virtqueue_get_buf_ctx",
    "virtqueue_kick",
    "virtqueue_kick_prepare",
    "virtqueue_notify",
    "virtqueue_poll",
    "virtqueue_used_slot",
    "vring_interrupt",
]


@kernel
def virtqueue_add(vq: Virtqueue, sg: i64, out: i64, into: i64, data: i64, ctx: i64) -> i64:
    """Make a buffer available: ``out`` readable, then ``into`` writable segments of the `Scatter` array at ``sg``.

    ``data`` is the token that comes back with the used buffer (not 0), ``ctx`` what a queue without indirect tables
    keeps beside it. Returns 0, ENOSPC when descriptors are short, EIO on a broken ring. The device sees the buffer at
    once, and is told by `virtqueue_kick_prepare` and `virtqueue_notify`.
    """
    if vq.packed != 0:
        return virtqueue_add_packed(vq, sg, out, into, data, ctx)
    return virtqueue_add_split(vq, sg, out, into, data, ctx)


@kernel
def virtqueue_kick_prepare(vq: Virtqueue) -> i64:
    """1 if the device wants to hear of what was added since the last call."""
    if vq.packed != 0:
        return virtqueue_kick_prepare_packed(vq)
    return virtqueue_kick_prepare_split(vq)


@kernel
def virtqueue_kick(vq: Virtqueue) -> i64:
    """Kick if the device wants it; 1 unless the notification failed."""
    if virtqueue_kick_prepare(vq) != 0:
        return virtqueue_notify(vq)
    return 1


@kernel
def virtqueue_get_buf_ctx(vq: Virtqueue) -> tuple[i64, i64, i64]:
    """Take the next used buffer: its token (0 if there is none), the length the device reports, its ctx.

    An id that is out of range or not in use is a BAD_RING: the ring is broken from then on. The length is not checked.
    """
    if vq.packed != 0:
        return virtqueue_get_buf_ctx_packed(vq)
    return virtqueue_get_buf_ctx_split(vq)


@kernel
def virtqueue_used_slot(vq: Virtqueue) -> i64:
    """Where in the ring the next used buffer is to be found: of a split ring the used ring's slot."""
    if vq.packed != 0:
        return vq.last_used_idx & EVENT_OFFSET_MASK
    return vq.last_used_idx & (vq.num - 1)


@kernel
def virtqueue_disable_cb(vq: Virtqueue) -> None:
    """Ask for no more interrupts; see the functions of the two rings for how much that is."""
    if vq.event_triggered != 0 and era_at(vq.era).event_triggered_early != 0:
        return
    if vq.packed != 0:
        virtqueue_disable_cb_packed(vq)
    else:
        virtqueue_disable_cb_split(vq)


@kernel
def virtqueue_enable_cb_prepare(vq: Virtqueue) -> i64:
    """Turn interrupts on; the value is for `virtqueue_poll`, which tells whether buffers slipped in meanwhile."""
    vq.event_triggered = 0
    if vq.packed != 0:
        return virtqueue_enable_cb_prepare_packed(vq)
    return virtqueue_enable_cb_prepare_split(vq)


@kernel
def virtqueue_poll(vq: Virtqueue, last_used_idx: i64) -> i64:
    """1 if the device has used buffers since ``last_used_idx`` (SPLIT-V-29, PACK-V-23: fence, and look again)."""
    if vq.broken != 0 and era_at(vq.era).poll_sees_broken != 0:
        return 0
    fence()
    if vq.packed != 0:
        return used_at(vq, last_used_idx)
    return virtqueue_poll_split(vq, last_used_idx)


@kernel
def virtqueue_enable_cb_delayed(vq: Virtqueue) -> i64:
    """Turn interrupts on for when most of what is outstanding is used; 0 if there is enough to do already."""
    vq.event_triggered = 0
    if vq.packed != 0:
        return virtqueue_enable_cb_delayed_packed(vq)
    return virtqueue_enable_cb_delayed_split(vq)


@kernel
def vring_interrupt(vq: Virtqueue) -> i64:
    """The interrupt handler's test: 1 if the queue's callback is to run, 0 for none of ours or a broken ring."""
    more = more_used_packed(vq) if vq.packed != 0 else more_used_split(vq)
    if more == 0:
        return 0
    if vq.broken != 0:
        return 0
    if vq.event != 0:
        vq.event_triggered = 1
    return 1


@kernel
def virtqueue_detach_unused_buf(vq: Virtqueue) -> i64:
    """Take back a buffer the device never used, lowest id first; 0 when none is left.

    Only on a queue that is stopped and starts afresh before it is used again.
    """
    for buffer_id in range(vq.num):
        data = desc_state_at(vq.state + buffer_id * STATE_SIZE).data
        if data != 0:
            if vq.packed != 0:
                detach_buf_packed(vq, buffer_id)
            else:
                detach_unused_split(vq, buffer_id)
            return data
    return 0
