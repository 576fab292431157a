"""Kernels as plain Python: what `netemu.jit` offers with ``NETEMU_JIT=0``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from netemu.jit.structs import Struct

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Leave ``function`` as it is."""
    return function


def entry(function: F) -> F:
    """Leave ``function`` as it is."""
    return function


def lower_pointer(_struct_at: Callable[[int], Struct], _cls: type[Struct]) -> None:
    """Nothing is to be said to a compiler."""
