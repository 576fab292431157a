"""Host memory that kernels may touch, and the book of it that plain Python checks every access against."""

from __future__ import annotations

import bisect
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

i64 = int
"""A field or value of a kernel: a signed 64-bit integer."""


class WildAccessError(AssertionError):
    """A kernel touched memory that nobody allocated: a bug in netemu, seen only where kernels run as plain Python."""


class Ledger:
    """The ranges of host memory that were handed out, kept sorted by start.

    Compiled kernels do not consult it; a kernel that Python calls does, at every access. Owners may die in a garbage
    collection at any moment, also while another one is being entered: those wait until it is.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._structs: list[bool] = []
        self._adding = False
        self._died: list[int] = []

    def add(self, owner: Any, address: int, size: int, *, struct: bool = False) -> None:
        """Enter ``size`` bytes at ``address`` for as long as ``owner`` lives; ``struct``: of fields."""
        if size == 0:
            return
        self._adding = True
        at = bisect.bisect_left(self._starts, address)
        self._starts.insert(at, address)
        self._ends.insert(at, address + size)
        self._structs.insert(at, struct)
        self._adding = False
        while self._died:
            self._remove(self._died.pop())
        weakref.finalize(owner, self._remove, address)

    def _remove(self, address: int) -> None:
        if self._adding:
            self._died.append(address)
            return
        at = bisect.bisect_left(self._starts, address)
        if at < len(self._starts) and self._starts[at] == address:
            del self._starts[at], self._ends[at], self._structs[at]

    def check(self, address: int, size: int) -> int:
        """Raise `WildAccessError` unless all of ``[address, address + size)`` lies in one range; that range's place."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0 or address + size > self._ends[at]:
            raise WildAccessError(f"{size} bytes at {address:#x} belong to no allocation")
        return at

    def check_bytes(self, address: int, size: int) -> None:
        """`check` for a load or store by address: the fields of structs are not reached that way.

        Compiled code counts on it: behind a store to shared memory it does not read a field anew.
        """
        if self._structs[self.check(address, size)]:
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


def allocate(size: int, align: int = 64) -> Buffer:
    """Return a zeroed `Buffer` of ``size`` bytes whose address is a multiple of ``align``."""
    block = np.zeros(size + align, dtype=np.uint8)
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
