"""Structs: flat records of int64 fields that Python and kernels share."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt

from netemu.jit.memory import LEDGER, zeroed


class Struct(ctypes.Structure):
    """A record of int64 fields at a fixed address; declare one with `struct`.

    It can be printed, copied, compared and saved: ``to_dict`` gives its numbers, ``bytes(s)`` its memory.
    """

    dtype: ClassVar[np.dtype[Any]]
    """The same layout for NumPy."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a zeroed struct, or one with the given fields."""
        self = super().__new__(cls, *args, **kwargs)
        LEDGER.add(self, ctypes.addressof(self), ctypes.sizeof(cls), struct=True)
        return self

    @property
    def address(self) -> int:
        """Host address of the struct, for a kernel; valid while the object lives.

        A struct with a field of this name (`Frame`, `Frag`, `Page`, `Segment`: where something lies) hides it; these
        are made in arrays, whose ``address`` is that of the first.
        """
        return ctypes.addressof(self)

    def to_dict(self) -> dict[str, int]:
        """All fields by name, in order."""
        return {name: getattr(self, name) for name in self.dtype.names or ()}

    def __repr__(self) -> str:
        """All fields with their values."""
        fields = ", ".join(f"{name}={value}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({fields})"


S = TypeVar("S", bound=Struct)


def struct(cls: type[S]) -> type[S]:
    """Class decorator: turn the annotations of a `Struct` into int64 fields, in order.

    Example: ``@struct class Ring(Struct): num: i64; last_used_idx: i64``.
    """
    names = list(cls.__annotations__)
    cls._fields_ = [(name, ctypes.c_int64) for name in names]
    cls.dtype = np.dtype([(name, "<i8") for name in names], align=True)
    return cls


class StructArray(Sequence[S]):
    """Structs side by side in memory; ``address`` is that of the first, ``view`` the same bytes for NumPy."""

    def __init__(self, cls: type[S], count: int) -> None:
        memory = zeroed(max(1, count * ctypes.sizeof(cls)))
        self._block = (cls * count).from_buffer(memory.data)
        self.address = ctypes.addressof(self._block)
        self.view: npt.NDArray[Any] = np.frombuffer(memoryview(self._block), dtype=cls.dtype, count=count)
        LEDGER.add(self._block, self.address, ctypes.sizeof(self._block), struct=True)

    def __len__(self) -> int:
        """How many structs there are."""
        return len(self._block)

    @overload
    def __getitem__(self, index: int) -> S: ...
    @overload
    def __getitem__(self, index: slice) -> list[S]: ...
    def __getitem__(self, index: int | slice) -> S | list[S]:
        """The struct at an index; it stays in place, so changing it changes the array."""
        return self._block[index]


def array_of(cls: type[S], count: int) -> StructArray[S]:
    """Return ``count`` zeroed structs of kind ``cls``, contiguous in memory."""
    return StructArray(cls, count)
