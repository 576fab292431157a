"""Guest-physical memory: regions of bytes, translation from guest to host addresses, and the one bounds check.

Theory of operation
-------------------
Guest memory is a short list of regions, each a stretch of guest-physical addresses backed by a stretch of host
memory, anywhere in either: a real peer shares several mappings, at addresses of its own. Both halves of netemu name
memory by guest-physical address (gpa); a kernel turns it into a host address with `translate`, which is also the only
bounds check: whatever the other side of a ring wrote into a descriptor goes through it, so a wrong address or length
ends as 0 and never as an access. The check subtracts before it compares, so no length can overflow it. It looks first
at the region that held the last address; the others are searched when that one does not hold this.

The region table is an array of `Region` behind one `Memory` struct. `GuestMemory` owns both, and the bytes or a
reference to them. The emulated guest has zeroed memory, which `GuestMemory.reserve` deals out from the bottom; any
object with the buffer protocol, an ``mmap`` say, can stand in its place, and nothing is copied. Regions can be
replaced while nobody holds addresses that were translated: a device holds them as long as it has a queue.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netemu.errors import ConfigError, NetemuError
from netemu.jit import Buffer, Struct, StructArray, allocate, array_of, borrow, i64, kernel, pointer, struct

DEFAULT_BASE = 0x4000_0000
"""Where the emulated guest's memory starts: not 0, so that a missed translation does not go unnoticed."""

_TOP = 1 << 64
_HALF = 1 << 63


@struct
class Region(Struct):
    """``size`` bytes at guest-physical ``gpa``, backed by host memory at ``host``.

    Addresses are 64-bit numbers without a sign, which kernels see as signed ones; no region lies on both sides of 2^63.
    """

    gpa: i64
    size: i64
    host: i64


@struct
class Memory(Struct):
    """The region table that kernels translate with."""

    regions: i64
    """Address of ``count`` `Region` structs, at least one: an empty one where there is no memory."""
    count: i64
    last: i64
    """Bytes from the first of them to the one that held the last address."""


region_at = pointer(Region)
memory_at = pointer(Memory)
_REGION_SIZE = Region.dtype.itemsize


@kernel
def region_of(memory: Memory, gpa: i64, size: i64) -> i64:
    """Address of the `Region` that holds all ``size`` bytes at ``gpa``, or 0; the table is searched."""
    at = memory.regions
    for _ in range(memory.count):
        region = region_at(at)
        offset = gpa - region.gpa
        if 0 <= offset and 0 <= size <= region.size - offset:
            return at
        at += _REGION_SIZE
    return 0


@kernel
def _translate_anew(memory: Memory, gpa: i64, size: i64) -> i64:
    """`translate`, where the region of the last address does not hold this one."""
    at = region_of(memory, gpa, size)
    if at == 0:
        return 0
    memory.last = at - memory.regions
    region = region_at(at)
    return region.host + (gpa - region.gpa)


@kernel
def translate(memory: Memory, gpa: i64, size: i64) -> i64:
    """Return the host address of guest-physical ``gpa``, or 0 unless all ``size`` bytes lie in one region."""
    region = region_at(memory.regions + memory.last)
    offset = gpa - region.gpa
    if 0 <= offset and 0 <= size <= region.size - offset:
        return region.host + offset
    return 0 if memory.count <= 1 else _translate_anew(memory, gpa, size)


def signed(gpa: int) -> int:
    """A 64-bit address as kernels see it."""
    return gpa - _TOP if gpa >= _HALF else gpa


class GuestMemory:
    """The memory of one guest, as regions; the owner of the bytes, or of a reference to them."""

    def __init__(self, size: int, base: int = DEFAULT_BASE) -> None:
        """Allocate one region of ``size`` zeroed bytes at guest-physical address ``base``."""
        self.struct = Memory()
        self.spread = False
        """Reservations come from each region in turn, and not from the first that has room."""
        self._holders: list[object] = []
        self.replace_regions([(base, size)])

    @classmethod
    def of_regions(cls, regions: Iterable[tuple[int, Any]], *, spread: bool = False) -> GuestMemory:
        """Memory of several regions; see `replace_regions` and `spread`."""
        memory = cls(0)
        memory.replace_regions(regions)
        memory.spread = spread
        return memory

    def replace_regions(self, regions: Iterable[tuple[int, Any]]) -> None:
        """Have these regions and no others: ``(gpa, bytes)`` each, in the order in which they are searched.

        ``bytes`` is a writable object with the buffer protocol, or a number of zeroed bytes to allocate. Raises
        `ConfigError` for regions that overlap, leave the address space or lie on both sides of 2^63, and for bytes
        that cannot be written; `NetemuError` while a device holds addresses.
        """
        if self._holders:
            raise NetemuError("guest memory is in use: its regions can be replaced when the device has been reset")
        blocks = [(gpa, _backing(gpa, backing)) for gpa, backing in regions]
        _check_layout([(gpa, block.size) for gpa, block in blocks])
        table: StructArray[Region] = array_of(Region, max(1, len(blocks)))
        for row, (gpa, block) in zip(table, blocks, strict=False):
            row.gpa, row.size, row.host = signed(gpa), block.size, block.address
        self._blocks = blocks
        self._table = table
        self._next = [gpa for gpa, _ in blocks]
        self._turn = 0
        self.struct.regions = table.address
        self.struct.count = len(blocks)
        self.struct.last = 0

    def hold(self, owner: object) -> None:
        """``owner`` keeps translated addresses until it calls `release`."""
        if owner not in self._holders:
            self._holders.append(owner)

    def release(self, owner: object) -> None:
        """``owner`` has no translated addresses any more."""
        if owner in self._holders:
            self._holders.remove(owner)

    @property
    def regions(self) -> list[tuple[int, int]]:
        """``(gpa, size)`` of each region, in bytes."""
        return [(gpa, block.size) for gpa, block in self._blocks]

    def reserve(self, size: int, align: int = 64) -> int:
        """Deal out ``size`` bytes of one region, once and for all; return their guest-physical address.

        Raises `NetemuError` when the guest's memory is used up.
        """
        left = 0
        count = len(self._blocks)
        for n in range(self._turn, self._turn + count):
            gpa, block = self._blocks[n % count]
            end = gpa + block.size
            start = -(-self._next[n % count] // align) * align
            if start + size <= end:
                self._next[n % count] = start + size
                self._turn = (n + 1) % count if self.spread else 0
                return start
            left = max(left, end - start)
        raise NetemuError(f"guest memory is too small: {size} bytes wanted, {left} left")

    def host_address(self, gpa: int, size: int) -> int:
        """Host address of ``size`` bytes at ``gpa``; raises `NetemuError` where no region holds them."""
        start, block = self._find(gpa, size)
        return block.address + start

    def read(self, gpa: int, size: int) -> bytes:
        """Copy ``size`` bytes out."""
        start, block = self._find(gpa, size)
        return block.array[start : start + size].tobytes()

    def write(self, gpa: int, data: bytes) -> None:
        """Copy ``data`` in."""
        start, block = self._find(gpa, len(data))
        block.array[start : start + len(data)] = bytearray(data)

    def _find(self, gpa: int, size: int) -> tuple[int, Buffer]:
        """The block that holds ``size`` bytes at ``gpa``, and where in it they begin."""
        for start, block in self._blocks:
            if size >= 0 and start <= gpa and gpa + size <= start + block.size:
                return gpa - start, block
        raise NetemuError(f"no region of guest memory holds {size} bytes at {gpa:#x}")

    def snapshot(self) -> bytes:
        """All bytes of all regions, to compare two runs."""
        return b"".join(block.array.tobytes() for _, block in self._blocks)


def _backing(gpa: int, backing: Any) -> Buffer:
    """The bytes of a region: allocated, or somebody else's."""
    if isinstance(backing, int):
        return allocate(backing, align=4096)
    try:
        return borrow(backing)
    except (TypeError, ValueError, BufferError) as error:
        raise ConfigError(f"the region at {gpa:#x} cannot be memory: {error}") from None


def _check_layout(regions: list[tuple[int, int]]) -> None:
    """Raise `ConfigError` unless regions, (gpa, size) each, lie side by side in the 64-bit address space."""
    end = 0
    for gpa, size in sorted(regions):
        if gpa < 0 or gpa + size > _TOP:
            raise ConfigError(f"the region at {gpa:#x} leaves the 64-bit address space")
        if gpa < _HALF < gpa + size:
            raise ConfigError(f"the region at {gpa:#x} lies on both sides of 2^63: make it two")
        if gpa < end:
            raise ConfigError(f"the region at {gpa:#x} overlaps another")
        end = gpa + size
