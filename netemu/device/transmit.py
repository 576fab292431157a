"""Frames from the guest: take what the driver sent, judge it, and give the buffers back.

Theory of operation
-------------------
`take_frame` takes one chain, copies what is readable of it into the *arena* of the `TransmitSide` and adds a `Frame` to
its list, if the frame may pass; what may not is counted by outcome. The chains stay taken until `give_back` publishes
them together, with length 0, since a device writes nothing into what it sends.

The frames are the *egress*: bytes that have left the guest, each with the template of its virtio header where something
is left to do. They are there until `empty` is called, by whoever passes them on.
"""

from __future__ import annotations

from netemu.device.queue import (
    CHAIN_SIZE,
    SEGMENT_SIZE,
    Chain,
    DeviceQueue,
    chain_at,
    flush_batch,
    notify,
    pop_chain,
    segment_at,
)
from netemu.device.stats import QUEUE_STATS_SIZE, queue_stats_at
from netemu.device.transmit_header import ACCEPTED, TOO_LONG, TOO_SHORT, accept_header, transmit_features_at
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import (
    Buffer,
    Struct,
    StructArray,
    allocate,
    array_of,
    call3,
    i64,
    kernel,
    load16,
    load64,
    memcpy,
    pointer,
    store64,
    struct,
)
from netemu.virtio.net import HDR_FLAGS, HDR_LEN_MAX

# What take_frame says.
NOTHING = 0
"""No chain waits, or its segments find no room behind those taken before: give back, and ask again."""
TAKEN = 1
NO_ROOM = 2
"""The egress is full: it has to be emptied first."""
BROKEN = -1

ETHERNET_HEADER = 14
FRAME_MAX = 65535 + ETHERNET_HEADER + 2 * 4
"""The longest frame taken: an IP packet of the largest size in an Ethernet frame with two tags."""
EGRESS_FRAMES = 4096
EGRESS_BYTES = 4 << 20


@struct
class TransmitSide(Struct):
    """What the transmit queues of a device have in common."""

    features: i64
    """Address of the `TransmitFeatures`."""
    frames: i64
    """Address of ``capacity`` `Frame` structs, of which ``count`` are there."""
    capacity: i64
    count: i64
    arena: i64
    arena_size: i64
    arena_used: i64
    outcomes: i64
    """Address of one counter per outcome (`netemu.device.transmit_header`)."""
    outcome: i64
    """What became of the frame taken last."""
    raw: i64
    raw_len: i64
    """That frame as it lay in the chain, header first: where its copy is and how many bytes, until the next one."""
    stats: i64
    """Address of the queues' `netemu.device.stats.QueueStats`; 0 where nobody asks for statistics."""
    count_frame: i64
    """Hook that counts an accepted frame there."""


transmit_side_at = pointer(TransmitSide)


@kernel
def gather(dq: DeviceQueue, chain: Chain, target: i64, room: i64) -> i64:
    """Copy the readable bytes of a chain to host ``target``; how many, or -1 if they exceed ``room``."""
    size = 0
    at = dq.segments + chain.first * SEGMENT_SIZE
    for _ in range(chain.count):
        segment = segment_at(at)
        at += SEGMENT_SIZE
        if segment.writable != 0:
            break
        if segment.length > room - size:
            return -1
        memcpy(target + size, segment.address, segment.length)
        size += segment.length
    return size


@kernel
def _judge(side: TransmitSide, template: i64, hdr_len: i64, size: i64) -> i64:
    """What becomes of ``size`` bytes behind the template's place: header and frame; -1: they were too many."""
    if size < 0:
        return TOO_LONG
    if size < hdr_len + ETHERNET_HEADER:
        return TOO_SHORT
    features = transmit_features_at(side.features)
    return accept_header(features, template + HDR_LEN_MAX, size - hdr_len, template)


@kernel
def take_frame(dq: DeviceQueue, side: TransmitSide) -> i64:
    """Take the next frame the driver sent: TAKEN, whatever its ``outcome``, or NOTHING, NO_ROOM, BROKEN.

    An accepted frame is the last of the egress, where the caller may add what it knows of time and number; its
    ``interface`` is the queue pair.
    """
    if dq.num == 0:
        return NOTHING
    hdr_len = transmit_features_at(side.features).hdr_len
    need = 2 * HDR_LEN_MAX + FRAME_MAX
    if side.count == side.capacity or side.arena_used + need > side.arena_size:
        return NO_ROOM
    got = pop_chain(dq)
    if got <= 0:
        return BROKEN if dq.broken != 0 else NOTHING
    template = side.arena + side.arena_used
    size = gather(dq, chain_at(dq.chains + (dq.taken - 1) * CHAIN_SIZE), template + HDR_LEN_MAX, hdr_len + FRAME_MAX)
    outcome = _judge(side, template, hdr_len, size)
    side.outcome = outcome
    side.raw = template + HDR_LEN_MAX
    side.raw_len = max(size, 0)
    counter = side.outcomes + outcome * 8
    store64(counter, load64(counter) + 1)
    stats = side.stats + dq.index * QUEUE_STATS_SIZE
    if outcome != ACCEPTED:
        if side.stats != 0:
            counts = queue_stats_at(stats)
            counts.drops += 1
            counts.drop_malformed += 1
        return TAKEN
    if side.stats != 0:
        call3(side.count_frame, stats, template, size - hdr_len)
    frame = frame_at(side.frames + side.count * FRAME_SIZE)
    side.count += 1
    side.arena_used += (HDR_LEN_MAX + size + 7) & ~7
    frame.address = side.raw + hdr_len
    frame.len = size - hdr_len
    frame.wire_len = frame.len
    frame.tstamp = 0
    frame.interface = dq.index // 2
    frame.id = 0
    # Flags and GSO type: without either there is nothing to do.
    frame.vnet = template if load16(template + HDR_FLAGS) != 0 else 0
    return TAKEN


@kernel
def give_back(dq: DeviceQueue) -> i64:
    """Publish the chains taken, with length 0 (SPLIT-B-06), under IN_ORDER all in one; 1 if the driver was called."""
    if dq.taken == 0:
        return 0
    flush_batch(dq)
    return notify(dq)


class Egress:
    """A `TransmitSide` together with the memory of its list and arena; ``frames`` is the list."""

    def __init__(self, features: int, outcomes: int, capacity: int = EGRESS_FRAMES, size: int = EGRESS_BYTES) -> None:
        """Room for ``capacity`` frames and ``size`` bytes; the addresses are those of features and counters."""
        self.frames: StructArray[Frame] = array_of(Frame, capacity)
        self._arena: Buffer = allocate(size)
        self.struct = TransmitSide(
            features=features,
            frames=self.frames.address,
            capacity=capacity,
            arena=self._arena.address,
            arena_size=size,
            outcomes=outcomes,
        )

    def empty(self) -> None:
        """The frames are gone: there is room for others."""
        self.struct.count = self.struct.arena_used = 0

    def bytes_of(self, frame: Frame) -> bytes:
        """A frame's bytes."""
        start = frame.address - self._arena.address
        return self._arena.array[start : start + frame.len].tobytes()
