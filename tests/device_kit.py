"""A driver by hand: rings written and read as bytes in guest memory, as the specification lays them out.

Nothing of `netemu.driver` is used, and no offset of `netemu.virtio.split`: numbers here come from section 2.7 of
VIRTIO 1.4 (SPLIT-B-01 to SPLIT-B-06), so that the device is tested against the specification and not against its own
other half.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from netemu.device.net import NetDevice
from netemu.device.queue import CHAIN_SIZE, SEGMENT_SIZE, DeviceQueue, chain_at, pop_chain, segment_at
from netemu.device.receive import ReceiveSide
from netemu.jit import allocate
from netemu.memory import DEFAULT_BASE, GuestMemory
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.notify import Doorbell
from netemu.virtio.split import RingAddresses

NEXT, WRITE, INDIRECT = 1, 2, 4

INDIRECT_DESC, EVENT_IDX, VERSION_1 = 28, 29, 32
MRG_RXBUF, MQ, CTRL_VQ, HASH_REPORT, OUT_NET_HEADER = 15, 22, 17, 57, 69
TUNNEL = (1, 7, 8, 54, 55, 65)
"""GUEST_UDP_TUNNEL_GSO with all it requires (NETF-B-07)."""

RING_PACKED, IN_ORDER, NOTIFICATION_DATA = 34, 35, 38

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8


class Part(NamedTuple):
    """What one descriptor says: ``size`` bytes at guest-physical ``gpa``, for the device to write or to read."""

    gpa: int
    size: int
    writable: bool = True


class AnyRing(Protocol):
    """What the rings of both kinds can do, so that a test can run over either."""

    def __init__(self, memory: GuestMemory, num: int) -> None: ...

    @property
    def addresses(self) -> RingAddresses: ...

    @property
    def used_range(self) -> tuple[int, int]: ...

    def start_at(self, index: int, dq: DeviceQueue) -> None: ...

    def post(self, *parts: Part) -> int: ...

    def post_indirect(self, *parts: Part) -> int: ...

    def take_used(self) -> list[tuple[int, int]]: ...


class Ring(AnyRing):
    """One split virtqueue, from the driver's side."""

    def __init__(self, memory: GuestMemory, num: int) -> None:
        """Reserve the three parts of a ring of ``num`` entries."""
        self.memory = memory
        self.num = num
        self.desc = memory.reserve(16 * num, 16)
        self.avail = memory.reserve(6 + 2 * num, 2)
        self.used = memory.reserve(6 + 8 * num, 4)
        self.avail_idx = 0
        self.seen_idx = 0
        self._free = 0
        self.posted: list[int] = []
        """Address of the first part of every chain that `post` made, in order."""

    def start_at(self, index: int, dq: DeviceQueue) -> None:
        """Have all indices stand at ``index``."""
        self.set_avail_idx(index)
        self.write16(self.used + 2, index)
        self.seen_idx = index
        dq.last_avail_idx = dq.used_idx = dq.signalled_used = index

    @property
    def addresses(self) -> RingAddresses:
        """What the driver tells the device."""
        return RingAddresses(self.num, self.desc, self.avail, self.used)

    @property
    def used_range(self) -> tuple[int, int]:
        """First byte and end of the used ring: all that a device may write of a ring."""
        return self.used, self.used + 6 + 8 * self.num

    def write16(self, gpa: int, value: int) -> None:
        """Store a le16."""
        self.memory.write(gpa, struct.pack("<H", value & 0xFFFF))

    def read16(self, gpa: int) -> int:
        """Load a le16."""
        return int.from_bytes(self.memory.read(gpa, 2), "little")

    def describe(self, slot: int, gpa: int, length: int, flags: int = 0, following: int = 0) -> None:
        """Write descriptor ``slot``: addr le64, len le32, flags le16, next le16."""
        self.memory.write(self.desc + 16 * slot, descriptor(gpa, length, flags, following))

    def chain(self, parts: Sequence[Part], slots: Sequence[int]) -> int:
        """Describe ``parts`` in ``slots``, each naming the next; the head."""
        for n, (part, slot) in enumerate(zip(parts, slots, strict=True)):
            more = n + 1 < len(parts)
            flags = (WRITE if part.writable else 0) | (NEXT if more else 0)
            self.describe(slot, part.gpa, part.size, flags, slots[n + 1] if more else 0)
        return slots[0]

    def table(self, parts: Sequence[Part]) -> tuple[int, int]:
        """Lay out an indirect table of ``parts``; its address and length in bytes (SPLIT-B-04)."""
        entries = []
        for n, part in enumerate(parts):
            more = n + 1 < len(parts)
            flags = (WRITE if part.writable else 0) | (NEXT if more else 0)
            entries.append(descriptor(part.gpa, part.size, flags, n + 1 if more else 0))
        gpa = self.memory.reserve(16 * len(parts), 16)
        self.memory.write(gpa, b"".join(entries))
        return gpa, 16 * len(parts)

    def post(self, *parts: Part) -> int:
        """Make a chain of ``parts`` available in fresh descriptors; its head."""
        slots = [(self._free + n) % self.num for n in range(len(parts))]
        self._free += len(parts)
        self.posted.append(parts[0].gpa)
        head = self.chain(parts, slots)
        self.expose(head)
        return head

    def post_indirect(self, *parts: Part, flags: int = 0) -> int:
        """Make a chain available through an indirect table; its head."""
        gpa, size = self.table(parts)
        head = self._free % self.num
        self._free += 1
        self.describe(head, gpa, size, INDIRECT | flags)
        self.expose(head)
        return head

    def expose(self, *heads: int) -> None:
        """Write heads to the available ring, then its idx."""
        for n, head in enumerate(heads):
            self.write16(self.avail + 4 + 2 * ((self.avail_idx + n) % self.num), head)
        self.set_avail_idx(self.avail_idx + len(heads))

    def set_avail_idx(self, value: int) -> None:
        """Write the available ring's idx, whatever it says."""
        self.avail_idx = value & 0xFFFF
        self.write16(self.avail + 2, value)

    def set_no_interrupt(self, value: int) -> None:
        """Write the available ring's flags."""
        self.write16(self.avail, value)

    def set_used_event(self, value: int) -> None:
        """Write used_event, the le16 behind the available ring's heads."""
        self.write16(self.avail + 4 + 2 * self.num, value)

    @property
    def no_notify(self) -> int:
        """The used ring's flags."""
        return self.read16(self.used)

    @property
    def used_idx(self) -> int:
        """The used ring's idx."""
        return self.read16(self.used + 2)

    @property
    def avail_event(self) -> int:
        """The le16 behind the used ring's elements."""
        return self.read16(self.used + 4 + 8 * self.num)

    def take_used(self) -> list[tuple[int, int]]:
        """The used elements since the last look: (id, len) each."""
        elements = []
        while self.seen_idx != self.used_idx:
            at = self.used + 4 + 8 * (self.seen_idx % self.num)
            elements.append(struct.unpack("<II", self.memory.read(at, 8)))
            self.seen_idx = (self.seen_idx + 1) & 0xFFFF
        return elements


R = TypeVar("R", bound=AnyRing)


class HandOf(Generic[R]):
    """A device with a driver of plain Python in front of it, negotiated and live; see `Hand`.

    ``rx`` and ``tx`` are the rings of the first pair, ``rx_queue`` and ``tx_queue`` what the device keeps of them.
    """

    kind: type[R]
    needs: tuple[int, ...] = ()

    def __init__(
        self,
        *bits: int,
        num: int = 8,
        size: int = 1 << 16,
        pairs: int = 1,
        first_idx: int = 0,
        config: NetConfig | None = None,
        memory: GuestMemory | None = None,
        quirks: Sequence[str] = (),
    ) -> None:
        """Bring a device with the feature ``bits`` up over ``size`` bytes of guest memory (INIT-V-01 to INIT-V-11).

        ``first_idx`` is where the indices of all rings stand at the beginning, as after many rounds; ``memory`` takes
        the place of a single region. ``quirks`` are rules for what the device does wrong.
        """
        self.memory = memory or GuestMemory(size)
        features = FeatureSet.of(*bits, *self.needs)
        config = config or NetConfig(max_virtqueue_pairs=pairs)
        self.device = NetDevice(self.memory, features, config, queue_size=num)
        self.device.misbehave(quirks)
        negotiate(self.device, features)
        self.rings: list[R] = [self.kind(self.memory, num) for _ in range(2 * pairs)]
        self.bells: list[Doorbell] = []
        for index, ring in enumerate(self.rings):
            self.bells.append(self.device.setup_queue(index, ring.addresses))
        self.device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
        if first_idx:
            for ring, dq in zip(self.rings, self.device.queues, strict=True):
                ring.start_at(first_idx, dq)
        self.rx, self.tx = self.rings[0], self.rings[1]
        self.bell = self.bells[0]

    @property
    def rx_queue(self) -> DeviceQueue:
        return self.device.queues[0]

    @property
    def tx_queue(self) -> DeviceQueue:
        return self.device.queues[1]

    @property
    def side(self) -> ReceiveSide:
        return self.device.side

    def buffer(self, size: int, *, writable: bool = True, fill: int = 0xAA) -> Part:
        """A buffer of its own in guest memory, filled with a byte that shows what was not written."""
        gpa = self.memory.reserve(size, 1)
        self.memory.write(gpa, bytes([fill]) * size)
        return Part(gpa, size, writable)

    def pop(self) -> int:
        """Have the device take the next chain of the receive queue: what `pop_chain` says."""
        return int(pop_chain(self.rx_queue))

    def taken(self, nth: int = 0) -> tuple[int, list[Part]]:
        """Head and parts of the nth chain that the receive queue has taken."""
        dq = self.rx_queue
        chain = chain_at(dq.chains + nth * CHAIN_SIZE)
        segments = [segment_at(dq.segments + (chain.first + n) * SEGMENT_SIZE) for n in range(chain.count)]
        return chain.head, [Part(segment.gpa, segment.length, bool(segment.writable)) for segment in segments]

    def content(self, parts: Iterable[Part], size: int) -> bytes:
        """The first ``size`` writable bytes of a chain."""
        return b"".join(self.memory.read(part.gpa, part.size) for part in parts if part.writable)[:size]


class Hand(HandOf[Ring]):
    """With split rings."""

    kind = Ring


AnyHand = HandOf[Any]


def negotiate(device: NetDevice, features: FeatureSet) -> None:
    """Steps 1 to 6 of the initialisation (INIT-V-01 to INIT-V-09)."""
    device.set_status(0)
    device.set_status(ACKNOWLEDGE)
    device.set_status(ACKNOWLEDGE | DRIVER)
    device.set_features(features)
    device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    assert device.get_status() & FEATURES_OK


def descriptor(gpa: int, length: int, flags: int, following: int = 0) -> bytes:
    """The 16 bytes of a descriptor (SPLIT-B-03)."""
    return struct.pack("<QIHH", gpa & (1 << 64) - 1, length, flags, following)


class HostFrame:
    """Bytes of a frame in host memory, where kernels find them."""

    def __init__(self, data: bytes) -> None:
        self._block = allocate(max(1, len(data)))
        self._block.array[: len(data)] = bytearray(data)
        self.address = self._block.address
        self.size = len(data)


def pattern(size: int) -> bytes:
    """Bytes that differ from their neighbours and from the fill of buffers; no two stretches of 251 look alike."""
    return bytes((n * 7 + n // 251) % 167 for n in range(size))


def differs_outside(before: bytes, after: bytes, ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether a byte changed outside of ``ranges``: guest-physical first byte and end of each; they may overlap."""
    patched = bytearray(after)
    for start, end in ranges:
        inside = slice(start - DEFAULT_BASE, end - DEFAULT_BASE)
        patched[inside] = before[inside]
    return patched != before


def walk_by_the_book(memory: GuestMemory, ring: Ring, head: int, *, indirect: bool) -> list[Part] | None:
    """The parts of a chain as section 2.7.5 reads, or None if the driver broke a rule that a device can see.

    Written for tests only: plain lists, Python's own integers, no thought for speed.
    """
    regions = memory.regions

    def inside(gpa: int, size: int) -> bool:
        return any(start <= gpa and gpa + size <= start + length for start, length in regions)

    table, entries, slot, nested = ring.desc, ring.num, head, False
    parts: list[Part] = []
    while True:
        if slot >= entries or len(parts) >= 1024:
            return None
        gpa, length, flags, following = struct.unpack("<QIHH", memory.read(table + 16 * slot, 16))
        if not inside(gpa, length):
            return None
        if flags & INDIRECT:
            if nested or not indirect or flags & NEXT or length == 0 or length % 16:
                return None
            table, entries, slot, nested = gpa, length // 16, 0, True
            continue
        writable = bool(flags & WRITE)
        if not writable and any(part.writable for part in parts):
            return None
        parts.append(Part(gpa, length, writable))
        if not flags & NEXT:
            return parts
        slot = following
