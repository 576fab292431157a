"""A device held by hand at a packed ring, for tests of the driver half alone.

Descriptors and event areas are read and written with `struct` at the offsets the specification gives (VIRTIO 1.4,
section 2.8). The wrap counters are kept as the specification tells it (PACK-B-01), not as the driver does.
"""

from __future__ import annotations

import struct

from netemu.driver.eras import era
from netemu.driver.virtio_ring import Scatter, virtqueue_add, virtqueue_get_buf_ctx
from netemu.driver.vring_create import Vring
from netemu.jit import array_of
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.notify import Doorbell
from tests.driver_kit import V7_0

NEXT, WRITE, INDIRECT, AVAIL, USED = 1, 2, 4, 1 << 7, 1 << 15
ENABLE, DISABLE, DESC = 0, 1, 2

Segment = tuple[int, int, int]
"""Address, length, flags without NEXT and the availability bits."""


class HandPackedRing:
    """The device's view of a packed ring, byte by byte."""

    def __init__(self, memory: GuestMemory, num: int, desc: int, driver: int, device: int) -> None:
        self.memory = memory
        self.num = num
        self.desc = desc
        self.driver = driver
        self.device = device
        self.avail_at, self.avail_wrap = 0, 1
        """Where the device looks for the next available descriptor, and under which wrap counter."""
        self.used_at, self.used_wrap = 0, 1
        """Where it writes the next used one."""

    def descriptor(self, slot: int) -> tuple[int, int, int, int]:
        """addr, len, id, flags (PACK-B-11)."""
        addr, length, buffer_id, flags = struct.unpack("<QIHH", self.memory.read(self.desc + 16 * slot, 16))
        return addr, length, buffer_id, flags

    def flags(self, slot: int) -> int:
        return self.descriptor(slot)[3]

    def is_available(self) -> bool:
        """Whether the next descriptor is: AVAIL equals the wrap counter, USED does not (PACK-V-01, PACK-B-02)."""
        flags = self.flags(self.avail_at)
        return bool(flags & AVAIL) == bool(self.avail_wrap) and bool(flags & USED) != bool(self.avail_wrap)

    def take(self) -> tuple[int, int, list[Segment]]:
        """The next available buffer: its id, the slots it takes, its segments; every slot is checked."""
        segments = []
        slots = 0
        while True:
            assert slots < self.num, "PACK-V-11: a list longer than the ring"
            assert self.is_available(), "the driver has made nothing available here"
            addr, length, buffer_id, flags = self.descriptor(self.avail_at)
            slots += 1
            self.avail_at += 1
            if self.avail_at == self.num:
                self.avail_at, self.avail_wrap = 0, 1 - self.avail_wrap
            if flags & INDIRECT:
                assert slots == 1, "PACK-V-19: INDIRECT inside a list"
                assert not flags & NEXT, "PACK-V-19"
                assert length % 16 == 0
                return buffer_id, 1, self._table(addr, length)
            segments.append((addr, length, flags & WRITE))
            if not flags & NEXT:
                # PACK-V-02: the id is that of the last descriptor.
                return buffer_id, slots, segments

    def _table(self, addr: int, length: int) -> list[Segment]:
        entries = [struct.unpack("<QIHH", self.memory.read(addr + at, 16)) for at in range(0, length, 16)]
        for entry in entries:
            assert entry[3] & ~WRITE == 0, "PACK-V-17: a flag other than WRITE"
        return [(entry[0], entry[1], entry[3]) for entry in entries]

    def use(self, buffer_id: int, length: int, slots: int, flags: int = WRITE) -> None:
        """Write a used descriptor into the next slot and go on by those that the buffer or batch took (PACK-D-04)."""
        bits = AVAIL | USED if self.used_wrap else 0
        at = self.desc + 16 * self.used_at
        self.memory.write(at + 8, struct.pack("<IHH", length, buffer_id, flags | bits))
        self.used_at += slots
        if self.used_at >= self.num:
            self.used_at, self.used_wrap = self.used_at - self.num, 1 - self.used_wrap

    @property
    def driver_event(self) -> tuple[int, int, int]:
        """The driver's wishes: offset, wrap, flags (PACK-B-06)."""
        off_wrap, flags = struct.unpack("<HH", self.memory.read(self.driver, 4))
        return off_wrap & 0x7FFF, off_wrap >> 15, flags

    def set_device_event(self, offset: int, wrap: int, flags: int) -> None:
        self.memory.write(self.device, struct.pack("<HH", offset | wrap << 15, flags))


class PackedRig:
    """A driver's packed ring alone, with the device's view of the same bytes."""

    def __init__(
        self,
        num: int = 8,
        kernel: str = V7_0,
        *,
        event: bool = False,
        indirect: bool = False,
        in_order: bool = False,
        notification_data: bool = False,
        table_entries: int = 24,
        memory: GuestMemory | None = None,
    ) -> None:
        self.memory = memory or GuestMemory(1 << 22)
        self.bell = Doorbell()
        self.era = era(kernel).struct()
        chosen = {
            f.RING_PACKED: True,
            f.EVENT_IDX: event,
            f.INDIRECT_DESC: indirect,
            f.IN_ORDER: in_order,
            f.NOTIFICATION_DATA: notification_data,
        }
        features = FeatureSet.of(*(bit for bit, on in chosen.items() if on))
        self.ring = Vring(self.memory, 1, num, features, self.era.address, keeps_ctx=False, table_entries=table_entries)
        self.vq = self.ring.struct
        self.vq.doorbell = self.bell.address
        places = self.ring.addresses
        self.device = HandPackedRing(self.memory, num, places.desc, places.avail, places.used)
        self._sg = array_of(Scatter, 2048)

    def add(self, out: list[tuple[int, int]], into: list[tuple[int, int]], token: int, ctx: int = 0) -> int:
        """virtqueue_add of segments (address, length); its result."""
        for at, (gpa, length) in enumerate(out + into):
            self._sg[at].gpa = gpa
            self._sg[at].length = length
        return virtqueue_add(self.vq, self._sg.address, len(out), len(into), token, ctx)

    def add_many(self, token: int, segments: int) -> int:
        """A buffer of so many writable segments, at addresses that tell token and place."""
        return self.add([], [(0x10000 * token + 0x100 * n, 0x40 + n) for n in range(segments)], token)

    def cycle(self, token: int, segments: int) -> None:
        """A buffer goes to the device and comes back: ring positions move on by its slots."""
        assert self.add_many(token, segments) == 0
        buffer_id, slots, _ = self.device.take()
        self.device.use(buffer_id, 0, slots)
        assert virtqueue_get_buf_ctx(self.vq)[0] == token
