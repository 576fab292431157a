"""NAPI: when a queue's poll function runs, and the protocol that loses no wake-up between interrupt and poll.

A napi is *scheduled* from the interrupt (or from somebody who knows of work) until its poll function completes it.
Scheduling one that is scheduled already marks it *missed*, so that completing it schedules it again instead. A poll
that used up its budget has not completed and is called again.
"""

from __future__ import annotations

from netemu.driver.virtio_ring import (
    Virtqueue,
    virtqueue_disable_cb,
    virtqueue_enable_cb_prepare,
    virtqueue_poll,
)
from netemu.driver.virtnet import Napi
from netemu.jit import i64, kernel


@kernel
def napi_schedule_prep(napi: Napi) -> i64:
    """1 if the napi is now scheduled by this call; 0 if it is off, or was scheduled before (then it is missed)."""
    if napi.enabled == 0:
        return 0
    if napi.scheduled != 0:
        napi.missed = 1
        return 0
    napi.scheduled = 1
    return 1


@kernel
def napi_complete_done(napi: Napi) -> i64:
    """1 if the poll's turn is over; 0 if somebody scheduled it meanwhile, and it will run again."""
    if napi.missed != 0:
        napi.missed = 0
        return 0
    napi.scheduled = 0
    napi.completions += 1
    return 1


@kernel
def virtqueue_napi_schedule(napi: Napi, vq: Virtqueue) -> None:
    """Schedule the poll and turn the queue's interrupts off; leave them alone if it was scheduled already."""
    if napi_schedule_prep(napi) != 0:
        virtqueue_disable_cb(vq)


@kernel
def virtqueue_napi_complete(napi: Napi, vq: Virtqueue) -> i64:
    """Turn interrupts on, complete, and look at the ring once more: 1 if the poll is really over."""
    opaque = virtqueue_enable_cb_prepare(vq)
    if napi_complete_done(napi) != 0:
        if virtqueue_poll(vq, opaque) != 0:
            virtqueue_napi_schedule(napi, vq)
            return 0
        return 1
    virtqueue_disable_cb(vq)
    return 0


@kernel
def napi_enable(napi: Napi, vq: Virtqueue) -> None:
    """virtnet_napi_enable: turn the napi on and schedule it, for buffers that were used while it was off."""
    napi.enabled = 1
    napi.scheduled = 0
    napi.missed = 0
    virtqueue_napi_schedule(napi, vq)


@kernel
def napi_disable(napi: Napi) -> None:
    """Turn the napi off; whatever was scheduled is over."""
    napi.enabled = 0
    napi.scheduled = 0
    napi.missed = 0
