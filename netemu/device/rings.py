"""Setting a ring up: what the driver said about it is checked, and its addresses are translated, once."""

from __future__ import annotations

from netemu.device.chain import SEGMENT_SIZE, SEGMENTS_MAX, Chain, DeviceQueue
from netemu.errors import ConfigError
from netemu.jit import allocate, array_of, store16
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio import packed, split
from netemu.virtio.features import FeatureSet
from netemu.virtio.split import RingAddresses


def check_queue_size_max(features: FeatureSet, size: int) -> None:
    """Raise `ConfigError` unless rings of up to ``size`` entries can be offered together with ``features``."""
    if f.RING_PACKED in features:
        packed.check_queue_size(size)
    else:
        split.check_queue_size(size)


def largest_size(features: FeatureSet, size: int) -> int:
    """The largest ring of up to ``size`` entries under negotiated ``features``: a split one is a power of two."""
    return size if f.RING_PACKED in features else 1 << (size.bit_length() - 1)


def set_up_ring(
    dq: DeviceQueue, memory: GuestMemory, features: FeatureSet, ring: RingAddresses, *, polls: bool
) -> tuple[object, ...]:
    """Fill in all of ``dq`` that follows from a ring's addresses, but for its ``num``; what has to live as long.

    ``polls`` is for a queue whose buffers the device looks for when it needs them: it asks for no kicks until it runs
    dry. Raises `ConfigError` for a size the ring cannot have and a part that is not aligned (SPLIT-V-01, PACK-V-05),
    `NetemuError` for one that lies outside memory.
    """
    is_packed = f.RING_PACKED in features
    if is_packed:
        packed.check_queue_size(ring.num)
        sizes = packed.desc_bytes(ring.num), packed.EVENT_SIZE, packed.EVENT_SIZE
        aligned = packed.DESC_ALIGN, packed.EVENT_ALIGN, packed.EVENT_ALIGN
    else:
        split.check_queue_size(ring.num)
        sizes = split.desc_bytes(ring.num), split.avail_bytes(ring.num), split.used_bytes(ring.num)
        aligned = split.DESC_ALIGN, split.AVAIL_ALIGN, split.USED_ALIGN
    parts = ring.desc, ring.avail, ring.used
    if any(gpa % align for gpa, align in zip(parts, aligned, strict=True)):
        raise ConfigError(f"the ring is not aligned: {ring}")
    dq.desc, dq.avail, dq.used = (memory.host_address(gpa, size) for gpa, size in zip(parts, sizes, strict=True))
    # Memory that is never touched costs nothing.
    segments = allocate(SEGMENTS_MAX * SEGMENT_SIZE)
    chains = array_of(Chain, ring.num)
    dq.memory = memory.struct.address
    dq.segments = segments.address
    dq.chains = chains.address
    dq.packed = int(is_packed)
    dq.event = int(f.EVENT_IDX in features)
    dq.indirect = int(f.INDIRECT_DESC in features)
    dq.in_order = int(f.IN_ORDER in features)
    dq.notification_data = int(f.NOTIFICATION_DATA in features)
    dq.mask = 0xFFFF if is_packed else ring.num - 1
    dq.avail_wrap = dq.used_wrap = int(is_packed)
    if polls:
        _ask_for_no_kicks(dq)
    return segments, chains


def _ask_for_no_kicks(dq: DeviceQueue) -> None:
    """Before the first chain: a split ring under EVENT_IDX says so with an avail_event that has been passed."""
    if dq.packed:
        store16(dq.used + packed.EVENT_FLAGS, packed.EVENT_DISABLE)
    elif not dq.event:
        store16(dq.used + split.USED_FLAGS, split.NO_NOTIFY)
