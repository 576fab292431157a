"""The only place that knows Numba: kernels, structs of numbers, and raw memory.

What runs once per packet is written as *kernels*: small functions over integers and structs, in the part of Python that
Numba compiles. There is one source for both ways of running it. Kernels that an entry point calls are machine code; a
kernel that Python calls is the plain function it was written as, with every load and store checked against the memory
that was handed out, which is how tests look at single kernels. With ``NETEMU_JIT=0`` in the environment everything runs
the second way, under a debugger if you like.

Theory of operation
-------------------
* **Values are int64.** Fields, arguments and what loads return are signed 64-bit integers. A ring index that wraps at
  65536 is masked where it is written (``& 0xFFFF``), so that it wraps alike in both ways of running.
* **Memory is addresses.** A kernel reads and writes through host addresses (``load16(addr)``), never through arrays:
  guest memory may be several mappings that another process owns, and a compiled access is then a single instruction.
  An address that came from the other side of a ring passes `netemu.memory.translate` first.
* **State is structs.** A `Struct` is a flat record of int64 fields, at a fixed address. Python holds the object and
  reads its fields like any other; a kernel receives its address and looks at the same bytes through `pointer`.
* **Entry points** (`entry`) are the few kernels that Python calls in earnest. They take integers only, release the GIL
  and their machine code is kept on disk, under a hash of all the kernels they reach. A process that finds
  it there never imports Numba, which takes longer than to replay a million frames. Everything they call is a `kernel`.
* **Hooks** (`netemu.jit.hooks`) are entry points that other kernels call through an address, chosen at set-up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar, cast

from netemu.jit.entries import Entry
from netemu.jit.hooks import call1, call2, call3, call4, call5, hook
from netemu.jit.kernels import POINTERS, Kernel
from netemu.jit.memory import LEDGER, Buffer, WildAccessError, allocate, borrow, i64
from netemu.jit.mode import JIT
from netemu.jit.ops import (
    add64_any,
    fence,
    load8,
    load16,
    load16_acquire,
    load16be,
    load32,
    load32_acquire,
    load32be,
    load64,
    load64_any,
    memcpy,
    memset,
    store8,
    store16,
    store16_release,
    store16be,
    store32,
    store32be,
    store64,
)
from netemu.jit.structs import Struct, StructArray, array_of, struct
from netemu.jit.together import load_together

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Struct)


def kernel(function: F) -> F:
    """Mark ``function`` for compilation with the entry points that call it; called from Python it runs as it is."""
    return cast("F", Kernel(function)) if JIT else function


def entry(function: F) -> F:
    """Make ``function``, which takes integers only, an entry point: machine code from its first call on.

    The code is kept in a cache folder; where none can be written it is compiled anew in every process.
    """
    return cast("F", Entry(function)) if JIT else function


def is_kept(function: Callable[..., Any]) -> bool:
    """Whether nobody has to wait for an entry point to be compiled: its code is in the cache folder."""
    return not isinstance(function, Entry) or function.is_kept()


def pointer(cls: type[S]) -> Callable[[int], S]:
    """Return the function, for kernels and for Python, that sees the bytes at an address as a ``cls``."""
    size = ctypes.sizeof(cls)

    def struct_at(address: int) -> S:
        LEDGER.check(address, size)
        return cls.from_address(address)

    POINTERS.append((struct_at, cls))
    return struct_at


__all__ = [
    "JIT",
    "Buffer",
    "Struct",
    "StructArray",
    "WildAccessError",
    "allocate",
    "array_of",
    "borrow",
    "call1",
    "call2",
    "call3",
    "call4",
    "call5",
    "entry",
    "hook",
    "i64",
    "is_kept",
    "kernel",
    "load_together",
    "pointer",
    "struct",
    "add64_any",
    "fence",
    "load8",
    "load16",
    "load16_acquire",
    "load16be",
    "load32",
    "load32_acquire",
    "load32be",
    "load64",
    "load64_any",
    "memcpy",
    "memset",
    "store8",
    "store16",
    "store16_release",
    "store16be",
    "store32",
    "store32be",
    "store64",
]
