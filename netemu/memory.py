"""Guest-physical memory: regions of bytes, translation from guest to host addresses, and the one bounds check.

Theory of operation
-------------------
Guest memory is a short list of regions, each a stretch of guest-physical addresses backed by a stretch of host
memory. Both halves of netemu name memory by guest-physical address (gpa); a kernel turns it into a host address
with `translate`, which is also the only bounds check: whatever the other side of a ring wrote into a descriptor
goes through it, so a wrong address or length ends as 0 and never as an access. The check subtracts before it
compares, so no length can overflow it.

The region table is an array of `Region` behind one `Memory` struct. A real peer sends such tables (vhost-user); the
emulated guest makes one with a single region, whose pages `GuestMemory.reserve` deals out from the bottom.
"""

from __future__ import annotations

from netemu.errors import NetemuError
from netemu.jit import Buffer, Struct, StructArray, allocate, array_of, i64, kernel, pointer, struct

DEFAULT_BASE = 0x4000_0000
"""Where the emulated guest's memory starts: not 0, so that a missed translation does not go unnoticed."""


@struct
class Region(Struct):
    """``size`` bytes at guest-physical ``gpa``, backed by host memory at ``host``."""

    gpa: i64
    size: i64
    host: i64


@struct
class Memory(Struct):
    """The region table that kernels translate with."""

    regions: i64
    """Address of ``count`` `Region` structs."""
    count: i64


region_at = pointer(Region)
memory_at = pointer(Memory)
_REGION_SIZE = Region.dtype.itemsize


@kernel
def translate(memory: Memory, gpa: i64, size: i64) -> i64:
    """Return the host address of guest-physical ``gpa``, or 0 unless all ``size`` bytes lie in one region.

    Addresses with the top bit set arrive here negative and fail like any other that no region holds.
    """
    if size < 0:
        return 0
    at = memory.regions
    for _ in range(memory.count):
        region = region_at(at)
        offset = gpa - region.gpa
        if 0 <= offset and size <= region.size - offset and gpa >= 0:
            return region.host + offset
        at += _REGION_SIZE
    return 0


class GuestMemory:
    """The memory of one guest, as regions; the owner of the bytes."""

    def __init__(self, size: int, base: int = DEFAULT_BASE) -> None:
        """Allocate one region of ``size`` zeroed bytes at guest-physical address ``base``."""
        self._blocks: list[Buffer] = [allocate(size, align=4096)]
        self._regions: StructArray[Region] = array_of(Region, 1)
        self._regions[0].gpa = base
        self._regions[0].size = size
        self._regions[0].host = self._blocks[0].address
        self.struct = Memory(regions=self._regions.address, count=1)
        self._next = base
        self._end = base + size

    @property
    def regions(self) -> list[tuple[int, int]]:
        """``(gpa, size)`` of each region, in bytes."""
        return [(region.gpa, region.size) for region in self._regions]

    def reserve(self, size: int, align: int = 64) -> int:
        """Deal out ``size`` bytes once and for all; return their guest-physical address.

        Raises `NetemuError` when the guest's memory is used up.
        """
        start = -(-self._next // align) * align
        if start + size > self._end:
            raise NetemuError(f"guest memory is too small: {size} bytes wanted, {max(0, self._end - start)} left")
        self._next = start + size
        return start

    def host_address(self, gpa: int, size: int) -> int:
        """Host address of ``size`` bytes at ``gpa``; raises `NetemuError` where no region holds them."""
        for region in self._regions:
            if size >= 0 and region.gpa <= gpa and gpa + size <= region.gpa + region.size:
                return int(region.host + gpa - region.gpa)
        raise NetemuError(f"no region of guest memory holds {size} bytes at {gpa:#x}")

    def read(self, gpa: int, size: int) -> bytes:
        """Copy ``size`` bytes out."""
        start, block = self._find(gpa, size)
        return block.array[start : start + size].tobytes()

    def write(self, gpa: int, data: bytes) -> None:
        """Copy ``data`` in."""
        start, block = self._find(gpa, len(data))
        block.array[start : start + len(data)] = bytearray(data)

    def _find(self, gpa: int, size: int) -> tuple[int, Buffer]:
        host = self.host_address(gpa, size)
        for block in self._blocks:
            if block.address <= host and host + size <= block.address + block.size:
                return host - block.address, block
        raise NetemuError(f"{size} bytes at {gpa:#x} are not memory of this process")

    def snapshot(self) -> bytes:
        """All bytes of all regions, to compare two runs."""
        return b"".join(self.read(gpa, size) for gpa, size in self.regions)
