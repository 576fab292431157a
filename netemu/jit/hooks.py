"""Hooks: entry points that kernels call through an address, which is chosen when a queue or a loop is set up.

What only some set-ups need (a user's XDP program, GRO, quirks, the protocol stack) is not compiled into every kernel
that might want it: it is an `netemu.jit.entry` of its own, `hook` gives its address, a struct keeps that in a field (0:
none), and a kernel calls it with `call1` to `call5`. A call costs nanoseconds; one that is not there, a comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netemu.jit.entries import Entry
from netemu.jit.kernels import Kernel

HOOKS: dict[int, Callable[..., Any]] = {}
"""The plain function behind each address that was given out, for kernels that run as plain Python."""

_HANDLES: dict[Callable[..., Any], int] = {}
"""The number that was given out for each function without machine code."""

FAILED = -1
"""What a call gives where the function raised an exception."""

_FIRST_HANDLE = 1 << 62
"""Numbers that stand for functions which have no machine code; no address is as large."""


def hook(function: Callable[..., Any]) -> int:
    """The address under which kernels call ``function``, an entry point of up to five integers that returns one.

    Compiles it if need be. A plain function can be called by kernels that run as plain Python, and by no others.
    """
    if isinstance(function, Entry):
        address = function.address
        HOOKS[address] = function.py_func
        return address
    plain = function.py_func if isinstance(function, Kernel) else function
    handle = _HANDLES.setdefault(plain, _FIRST_HANDLE + len(_HANDLES))
    HOOKS[handle] = plain
    return handle


def call1(address: int, a: int) -> int:
    """Call the hook at ``address``; its value."""
    return int(HOOKS[address](a))


def call2(address: int, a: int, b: int) -> int:
    """Call the hook at ``address``; its value."""
    return int(HOOKS[address](a, b))


def call3(address: int, a: int, b: int, c: int) -> int:
    """Call the hook at ``address``; its value."""
    return int(HOOKS[address](a, b, c))


def call4(address: int, a: int, b: int, c: int, d: int) -> int:
    """Call the hook at ``address``; its value."""
    return int(HOOKS[address](a, b, c, d))


def call5(address: int, a: int, b: int, c: int, d: int, e: int) -> int:
    """Call the hook at ``address``; its value."""
    return int(HOOKS[address](a, b, c, d, e))
