"""Kernels and entry points as Python objects; what compiles them, and what loads them, is imported when it is needed.

Theory of operation
-------------------
A `Kernel` is a function that was marked for compilation. Called from Python it runs as what it is. An `Entry` is
one whose first call finds machine code: in the cache folder, from where `netemu.jit.loader` takes it without ever
importing Numba, or by having `netemu.jit.compiled` compile it together with all kernels it calls, which takes
seconds.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
from collections.abc import Callable
from typing import Any

from netemu.jit.structs import Struct


class Kernel:
    """A function of integers and structs that other kernels call; ``py_func`` is the function itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.py_func = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        """Run the plain function."""
        return self.py_func(*args)


class Entry(Kernel):
    """A function of integers that Python calls: machine code, which runs without the GIL."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.arguments = len(inspect.signature(function).parameters)
        self._code: Callable[..., int] | None = None
        # Numba's calling convention: where the result goes, where an exception would, then the arguments.
        self._prototype = ctypes.CFUNCTYPE(
            ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *([ctypes.c_int64] * self.arguments)
        )

    def __call__(self, *args: int) -> int:
        """Run the machine code; the value is the kernel's, 0 for one that returns nothing."""
        if self._code is None:
            self.load()
            assert self._code is not None
        result = ctypes.c_int64()
        error = ctypes.c_void_p()
        status = self._code(ctypes.addressof(result), ctypes.addressof(error), *args)
        if status not in (0, _RETURNS_NONE):
            raise AssertionError(f"{self.py_func.__name__} failed with status {status}")
        return result.value

    def load(self) -> None:
        """Find the machine code, compiling it if need be."""
        from netemu.jit import loader  # noqa: PLC0415 - loads LLVM

        self._code = self._prototype(loader.address_of(self))


_RETURNS_NONE = -2

POINTERS: list[tuple[Callable[[int], Struct], type[Struct]]] = []
"""Every function that `netemu.jit.pointer` made, for the compiler to learn."""
