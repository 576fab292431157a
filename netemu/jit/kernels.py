"""Kernels as Python objects: what is marked for compilation."""

from __future__ import annotations

import functools
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


POINTERS: list[tuple[Callable[[int], Struct], type[Struct]]] = []
"""Every function that `netemu.jit.pointer` made, for the compiler to learn."""
