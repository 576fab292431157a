"""The device's half of a virtqueue of either kind: take chains, see their memory, give them back used, notify.

`pop_chain` takes the next available chain; nothing is visible to the driver until `flush` publishes used entries, so
chains can be put back (`unpop`) when they turn out not to suffice. Used entries are published in the order in which
chains were taken, so that IN_ORDER holds whether it was negotiated or not (RFB-D-05).
"""

from __future__ import annotations

from netemu.device.chain import (
    AVAIL_TOO_FAR,
    BAD_ADDRESS,
    BAD_INDIRECT,
    BAD_ORDER,
    BROKEN_REASONS,
    CHAIN_MAX,
    CHAIN_SIZE,
    CHAIN_TOO_LONG,
    HEAD_OUT_OF_RANGE,
    NEXT_OUT_OF_RANGE,
    SEGMENT_SIZE,
    SEGMENTS_MAX,
    Chain,
    DeviceQueue,
    Segment,
    chain_at,
    device_queue_at,
    segment_at,
)
from netemu.device.vring_packed import (
    packed_available,
    packed_call_due,
    packed_disable_kicks,
    packed_enable_kicks,
    packed_flush,
    packed_flush_batch,
    packed_pop,
    packed_unpop,
)
from netemu.device.vring_split import (
    split_available,
    split_call_due,
    split_disable_kicks,
    split_enable_kicks,
    split_flush,
    split_flush_batch,
    split_pop,
    split_unpop,
)
from netemu.jit import fence, i64, kernel
from netemu.virtio.notify import doorbell_at, ring_call


@kernel
def available(dq: DeviceQueue) -> i64:
    """What waits: chains of a split ring, slots of a packed one; ``num`` if the ring is full. -1 if it is broken."""
    return split_available(dq) if dq.packed == 0 else packed_available(dq)


@kernel
def pop_chain(dq: DeviceQueue) -> i64:
    """Take the next available chain; 1, or 0 if there is none.

    -1 if the queue is broken, or if this chain's segments find no more room behind those of the chains taken before.
    """
    if dq.broken != 0:
        return -1
    return split_pop(dq) if dq.packed == 0 else packed_pop(dq)


@kernel
def unpop(dq: DeviceQueue) -> None:
    """Put all chains taken since the last flush back: nothing has been published."""
    if dq.packed == 0:
        split_unpop(dq)
    else:
        packed_unpop(dq)
    dq.taken = 0
    dq.segment_count = 0


@kernel
def _flushed(dq: DeviceQueue) -> None:
    dq.chains_used += dq.taken
    dq.taken = 0
    dq.segment_count = 0


@kernel
def flush(dq: DeviceQueue) -> None:
    """Publish the chains taken, each with the bytes written to it, all at once (RX-D-04)."""
    if dq.packed == 0:
        split_flush(dq)
    else:
        packed_flush(dq)
    _flushed(dq)


@kernel
def flush_batch(dq: DeviceQueue) -> None:
    """Publish the chains taken with a single used entry, the last one's, as IN_ORDER allows (ORD-D-01, ORD-D-03).

    Those in front count as completely used: for frames that were sent. Without IN_ORDER it is `flush`.
    """
    if dq.in_order == 0 or dq.taken < 2:
        flush(dq)
        return
    if dq.packed == 0:
        split_flush_batch(dq)
    else:
        packed_flush_batch(dq)
    _flushed(dq)


@kernel
def call_due(dq: DeviceQueue) -> i64:
    """1 if the driver wants to hear of what was flushed since the last decision; asking is deciding."""
    fence()
    return split_call_due(dq) if dq.packed == 0 else packed_call_due(dq)


@kernel
def call(dq: DeviceQueue) -> None:
    """Notify the driver."""
    ring_call(dq.doorbell)
    dq.notifications += 1


@kernel
def notify(dq: DeviceQueue) -> i64:
    """Call the driver if it wants to hear of what was flushed since the last decision; 1 if it was called."""
    if call_due(dq) == 0:
        return 0
    call(dq)
    return 1


@kernel
def used_slot(dq: DeviceQueue) -> i64:
    """The slot of the ring where the next used entry goes, from 0 to ``num`` - 1."""
    return dq.used_idx & dq.mask


@kernel
def disable_kicks(dq: DeviceQueue) -> None:
    """The device polls: ask the driver not to kick."""
    dq.wants_kick = 0
    if dq.packed == 0:
        split_disable_kicks(dq)
    else:
        packed_disable_kicks(dq)


@kernel
def enable_kicks(dq: DeviceQueue, seen: i64) -> i64:
    """The device is about to wait for more than the ``seen`` that it knows of: ask for a kick, and look again.

    Returns what waits now, as `available` counts: more than ``seen`` if some slipped in meanwhile.
    """
    dq.wants_kick = 1
    if dq.packed == 0:
        split_enable_kicks(dq, seen)
    else:
        packed_enable_kicks(dq, seen)
    fence()
    return available(dq)


@kernel
def _is_odd(dq: DeviceQueue, data: i64) -> i64:
    """1 if the word of a kick names another queue, or a position where the driver cannot be (NOTIF-V-02 to V-04)."""
    if data & 0xFFFF != dq.index:
        return 1
    position = (data >> 16) & 0xFFFF
    if dq.packed != 0:
        return 1 if position & 0x7FFF >= dq.num else 0
    # The driver does not fall back behind what was taken, nor is it ahead by more than the ring.
    return 1 if ((position - dq.last_avail_idx + dq.num) & 0xFFFF) > 2 * dq.num else 0


@kernel
def take_kick(dq: DeviceQueue) -> i64:
    """1 if the driver has kicked since last asked.

    The ring says what there is; the word that a kick carries under NOTIFICATION_DATA is only checked, and one that
    cannot be is counted (``odd_kicks``) and tolerated (SPLIT-D-21).
    """
    bell = doorbell_at(dq.doorbell)
    if bell.kick == 0:
        return 0
    bell.kick = 0
    dq.kicks += 1
    if dq.notification_data != 0:
        dq.odd_kicks += _is_odd(dq, bell.data)
    return 1


__all__ = [
    "AVAIL_TOO_FAR",
    "BAD_ADDRESS",
    "BAD_INDIRECT",
    "BAD_ORDER",
    "BROKEN_REASONS",
    "CHAIN_MAX",
    "CHAIN_SIZE",
    "CHAIN_TOO_LONG",
    "HEAD_OUT_OF_RANGE",
    "NEXT_OUT_OF_RANGE",
    "SEGMENTS_MAX",
    "SEGMENT_SIZE",
    "Chain",
    "DeviceQueue",
    "Segment",
    "available",
    "call",
    "call_due",
    "chain_at",
    "device_queue_at",
    "disable_kicks",
    "enable_kicks",
    "flush",
    "flush_batch",
    "notify",
    "pop_chain",
    "segment_at",
    "take_kick",
    "unpop",
    "used_slot",
]
