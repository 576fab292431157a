"""A packed virtqueue from the driver's side, by hand: section 2.8 of VIRTIO 1.4 and `struct`, nothing else.

It has the verbs of `tests.device_kit.Ring`, so that a test can run over both kinds of ring. Buffer ids are dealt out
from the highest down, so that they are never the slots by chance (trap T8).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from netemu.device.chain import DeviceQueue
from netemu.memory import GuestMemory
from netemu.virtio.split import RingAddresses
from tests.device_kit import RING_PACKED, AnyRing, HandOf, Part

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 0x80, 0x8000
ENABLE, DISABLE, DESC = 0, 1, 2


def packed_descriptor(gpa: int, length: int, buffer: int, flags: int) -> bytes:
    """The 16 bytes of a descriptor: addr le64, len le32, id le16, flags le16 (PACK-B-11)."""
    return struct.pack("<QIHH", gpa & (1 << 64) - 1, length, buffer, flags)


class PackedRing(AnyRing):
    """One packed virtqueue, from the driver's side."""

    def __init__(self, memory: GuestMemory, num: int) -> None:
        """Reserve the three parts of a ring of ``num`` descriptors (PACK-B-10, PACK-V-05)."""
        self.memory = memory
        self.num = num
        self.desc = memory.reserve(16 * num, 16)
        self.driver_event = memory.reserve(4, 4)
        self.device_event = memory.reserve(4, 4)
        self.at, self.wrap = 0, 1
        """Where the next descriptor goes, and the driver's wrap counter (PACK-B-01)."""
        self.used_at, self.used_wrap = 0, 1
        self.free_ids = list(range(num))
        self.slots: dict[int, int] = {}
        """Slots of each buffer that the device has (PACK-V-04)."""
        self.posted: list[int] = []

    def start_at(self, index: int, dq: DeviceQueue) -> None:
        """Have all positions stand where ``index`` descriptors lead; the ring looks as it then does."""
        self.at, laps = index % self.num, index // self.num
        self.wrap = 1 ^ (laps & 1)
        self.used_at, self.used_wrap = self.at, self.wrap
        for slot in range(self.num):
            wrap = self.wrap if slot < self.at else self.wrap ^ 1
            self.memory.write(self.desc + 16 * slot + 14, struct.pack("<H", AVAIL | USED if wrap else 0))
        dq.last_avail_idx = dq.used_idx = self.at
        dq.avail_wrap = dq.used_wrap = self.wrap

    @property
    def addresses(self) -> RingAddresses:
        """What the driver tells the device."""
        return RingAddresses(self.num, self.desc, self.driver_event, self.device_event)

    @property
    def used_range(self) -> tuple[int, int]:
        """First byte and end of what a device may write of a ring; these parts are neighbours."""
        return self.desc, self.device_event + 4

    def write(self, slot: int, gpa: int, length: int, buffer: int, flags: int) -> None:
        """Write the descriptor in ``slot``, whatever it says."""
        self.memory.write(self.desc + 16 * slot, packed_descriptor(gpa, length, buffer, flags))

    def step(self, slots: int = 1) -> None:
        """Move the available position."""
        self.at += slots
        if self.at >= self.num:
            self.at -= self.num
            self.wrap ^= 1

    def _expose(self, descriptors: Sequence[tuple[int, int, int]]) -> int:
        """Write a chain of (gpa, length, flags), the first one's flags last (PACK-V-01 to V-03, V-15); its id."""
        buffer = self.free_ids.pop()
        start = self.desc + 16 * self.at
        first = b""
        for n, (gpa, length, flags) in enumerate(descriptors):
            more = NEXT if n + 1 < len(descriptors) else 0
            marks = AVAIL if self.wrap else USED
            # Only the last descriptor has to carry the id (PACK-V-02): the others say something else.
            name = 0xDEAD if more else buffer
            raw = packed_descriptor(gpa, length, name, flags | more | marks)
            if n == 0:
                first = raw[14:]
                raw = raw[:14] + self.memory.read(start + 14, 2)
            self.memory.write(self.desc + 16 * self.at, raw)
            self.step()
        self.memory.write(start + 14, first)
        self.slots[buffer] = len(descriptors)
        return buffer

    def post(self, *parts: Part) -> int:
        """Make a chain of ``parts`` available; its id."""
        self.posted.append(parts[0].gpa)
        return self._expose([(part.gpa, part.size, WRITE if part.writable else 0) for part in parts])

    def table(self, parts: Sequence[Part], junk: int = 0) -> tuple[int, int]:
        """Lay out an indirect table; its address and length. ``junk`` goes into all fields that mean nothing there."""
        raw = b"".join(
            packed_descriptor(part.gpa, part.size, junk, (WRITE if part.writable else 0) | junk & ~(WRITE | INDIRECT))
            for part in parts
        )
        gpa = self.memory.reserve(len(raw), 16)
        self.memory.write(gpa, raw)
        return gpa, len(raw)

    def post_indirect(self, *parts: Part, flags: int = 0, junk: int = 0) -> int:
        """Make a chain available through an indirect table (PACK-B-04); its id."""
        gpa, size = self.table(parts, junk)
        self.posted.append(parts[0].gpa)
        return self._expose([(gpa, size, INDIRECT | flags)])

    def used_descriptor(self, slot: int) -> tuple[int, int, int]:
        """Length, id and flags of the descriptor in a slot."""
        length, buffer, flags = struct.unpack("<IHH", self.memory.read(self.desc + 16 * slot + 8, 8))
        return length, buffer, flags

    def take_used(self) -> list[tuple[int, int]]:
        """The used buffers since the last look: (id, len) each (PACK-D-01, PACK-D-03, PACK-D-04)."""
        taken: list[tuple[int, int]] = []
        while True:
            length, buffer, flags = self.used_descriptor(self.used_at)
            marks = AVAIL | USED if self.used_wrap else 0
            if not self.slots or flags & (AVAIL | USED) != marks:
                return taken
            self.used_at += self.slots.pop(buffer)
            if self.used_at >= self.num:
                self.used_at -= self.num
                self.used_wrap ^= 1
            self.free_ids.append(buffer)
            taken.append((buffer, length if flags & WRITE else 0))

    def set_event(self, flags: int, offset: int = 0, wrap: int = 0) -> None:
        """Write the driver event area: off_wrap le16, flags le16 (PACK-B-06)."""
        self.memory.write(self.driver_event, struct.pack("<HH", offset | wrap << 15, flags))

    @property
    def kicks(self) -> tuple[int, int, int]:
        """What the device event area says: flags, offset, wrap bit."""
        off_wrap, flags = struct.unpack("<HH", self.memory.read(self.device_event, 4))
        return flags, off_wrap & 0x7FFF, off_wrap >> 15


class PackedHand(HandOf[PackedRing]):
    """With packed rings; ``first_idx`` counts descriptors."""

    kind = PackedRing
    needs = (RING_PACKED,)
