"""Host memory that kernels may touch, and the book of it that plain Python checks every access against."""

from __future__ import annotations

import bisect
import mmap
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

i64 = int
"""A field or value of a kernel: a signed 64-bit integer."""

_PAGED = 1 << 15
_HUGE = 1 << 22
"""Blocks of so many bytes, and fewer, are the system's pages."""


class WildAccessError(AssertionError):
    """A kernel touched memory that nobody allocated: a bug in netemu, seen only where kernels run as plain Python."""


class Ledger:
    """The ranges of host memory that were handed out.

    Compiled kernels do not consult it; a kernel that Python calls does, at every access. So to enter a range and to
    forget it costs little, and ranges are sorted by start when somebody looks. Owners may die in a garbage collection
    at any moment, also while that is done.
    """

    def __init__(self) -> None:
        self._ranges: dict[int, tuple[int, bool, weakref.ref[Any]]] = {}
        self._starts: list[int] = []
        self._new: set[int] = set()
        """Starts that are to be entered in the sorted list, and those to be taken out of it before that."""
        self._gone: set[int] = set()

    def add(self, owner: Any, address: int, size: int, *, struct: bool = False) -> None:
        """Enter ``size`` bytes at ``address`` for as long as ``owner`` lives; ``struct``: of fields."""
        if size == 0:
            return

        def forget(_owner: object) -> None:
            del self._ranges[address]
            if address in self._new:
                self._new.remove(address)
            else:
                self._gone.add(address)

        self._ranges[address] = address + size, struct, weakref.ref(owner, forget)
        self._new.add(address)

    def _sort(self) -> None:
        while self._gone or self._new:
            if self._gone:
                at = bisect.bisect_left(self._starts, self._gone.pop())
                del self._starts[at]
            else:
                bisect.insort(self._starts, self._new.pop())

    def _range(self, address: int, size: int) -> tuple[int, bool, weakref.ref[Any]]:
        """The range that all of ``[address, address + size)`` lies in; WildAccessError if there is none."""
        if self._new or self._gone:
            self._sort()
        at = bisect.bisect_right(self._starts, address) - 1
        if at >= 0:
            found = self._ranges[self._starts[at]]
            if address + size <= found[0]:
                return found
        raise WildAccessError(f"{size} bytes at {address:#x} belong to no allocation")

    def check(self, address: int, size: int) -> None:
        """Raise `WildAccessError` unless all of ``[address, address + size)`` lies in one range."""
        self._range(address, size)

    def check_bytes(self, address: int, size: int) -> None:
        """`check` for a load or store by address: the fields of structs are not reached that way.

        Compiled code counts on it: behind a store to shared memory it does not read a field anew.
        """
        if self._range(address, size)[1]:
            raise WildAccessError(f"{size} bytes at {address:#x} are fields of a struct")

    def check_span(self, address: int, size: int) -> None:
        """`check` for a size that may be 0, which touches nothing, and must not be negative."""
        if size < 0:
            raise WildAccessError(f"{size} bytes at {address:#x}")
        if size > 0:
            self.check(address, size)


LEDGER = Ledger()


class Buffer:
    """A fixed block of host memory: ``array`` (uint8) is the same bytes that ``address`` names to a kernel."""

    __slots__ = ("__weakref__", "address", "array", "size")

    def __init__(self, array: npt.NDArray[np.uint8]) -> None:
        self.array = array
        self.size: int = array.nbytes
        self.address: int = array.ctypes.data
        LEDGER.add(self, self.address, self.size)

    def __len__(self) -> int:
        """Its bytes."""
        return self.size


def zeroed(size: int) -> npt.NDArray[np.uint8]:
    """Zeros, whose pages take memory when they are first touched.

    NumPy's come from the C library's heap, which writes zeros over what was left of it. For large blocks that asks the
    system, as this does, and NumPy for huge pages.
    """
    if not _PAGED <= size < _HUGE:
        return np.zeros(size, dtype=np.uint8)
    return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)


def allocate(size: int, align: int = 64) -> Buffer:
    """Return a zeroed `Buffer` of ``size`` bytes whose address is a multiple of ``align``."""
    block = zeroed(size + align)
    skip = -block.ctypes.data % align
    return Buffer(block[skip : skip + size])


def borrow(owner: Any) -> Buffer:
    """A `Buffer` over the bytes of an object with the buffer protocol (an mmap, say), which stays their owner.

    Raises `TypeError` for an object that has none, `ValueError` for bytes that cannot be written.
    """
    array = np.frombuffer(owner, dtype=np.uint8)
    if not array.flags.writeable:
        raise ValueError("its bytes cannot be written")
    return Buffer(array)
