"""Entry points: the kernels that Python calls, as machine code.

A process that finds an entry point's code in the cache folder takes it from there with LLVM (`netemu.jit.loader`) and
never imports Numba; else `netemu.jit.compiled` compiles it, together with all kernels it calls.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netemu.jit.fingerprint import fingerprint
from netemu.jit.kernels import Kernel

_RETURNS_NONE = -2
"""The status Numba's code gives back where a function returns None."""


class Entry(Kernel):
    """A function of integers that Python calls: machine code, which runs without the GIL."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.arguments = len(inspect.signature(function).parameters)
        self._code: Callable[..., int] | None = None
        self._address = 0
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
        """Find the machine code: in the cache folder, or by compiling, which takes seconds."""
        from netemu.jit import loader  # noqa: PLC0415 - loads LLVM

        if self._code is None:
            self._address = loader.address_of(self._path, self._compile)
            self._code = self._prototype(self._address)

    def is_kept(self) -> bool:
        """Whether its code is in the cache folder."""
        return self._path is not None and self._path.exists()

    def make(self) -> None:
        """See to it that its code is in the cache folder, or about to be put there by another process."""
        from netemu.jit import loader  # noqa: PLC0415 - loads LLVM

        if self._path is not None:
            loader.make(self._path, self._compile)

    @functools.cached_property
    def _path(self) -> Path | None:
        """Its file in the cache folder, if it is to be kept there."""
        from netemu.jit import loader  # noqa: PLC0415 - loads LLVM

        name = f"{self.py_func.__module__}.{self.py_func.__qualname__}"
        # What a user wrote (an XDP program) changes often, and its name may be that of many.
        return loader.path_of(name, fingerprint(self.py_func)) if name.startswith("netemu.") else None

    @property
    def address(self) -> int:
        """Where its machine code begins, for `netemu.jit.hooks`."""
        if self._code is None:
            self.load()
        return self._address

    def _compile(self) -> tuple[str, bytes]:
        from netemu.jit.compiled import compile_entry  # noqa: PLC0415 - loads Numba

        return compile_entry(self)
