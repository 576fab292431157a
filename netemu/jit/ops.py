"""What kernels may do with memory, as plain Python functions that check every access.

These run when Python calls a kernel: under a debugger, in tests, and everywhere with ``NETEMU_JIT=0``. In compiled
code each is an instruction or two; `netemu.jit.compiled` says which.
"""

from __future__ import annotations

import ctypes

from netemu.jit.memory import LEDGER


def _load(address: int, size: int, order: str) -> int:
    LEDGER.check_bytes(address, size)
    return int.from_bytes(ctypes.string_at(address, size), order, signed=size == 8)  # type: ignore[arg-type]


def _store(address: int, value: int, size: int, order: str) -> None:
    LEDGER.check_bytes(address, size)
    data = (value & ((1 << 8 * size) - 1)).to_bytes(size, order)  # type: ignore[arg-type]
    ctypes.memmove(address, data, size)


def load8(address: int) -> int:
    """The byte at ``address``."""
    return _load(address, 1, "little")


def load16(address: int) -> int:
    """The little-endian 16-bit number at ``address``."""
    return _load(address, 2, "little")


def load32(address: int) -> int:
    """The little-endian 32-bit number at ``address``."""
    return _load(address, 4, "little")


def load64(address: int) -> int:
    """The little-endian 64-bit number at ``address``, as a signed value."""
    return _load(address, 8, "little")


def load16be(address: int) -> int:
    """The big-endian 16-bit number at ``address``."""
    return _load(address, 2, "big")


def load32be(address: int) -> int:
    """The big-endian 32-bit number at ``address``."""
    return _load(address, 4, "big")


def load16_acquire(address: int) -> int:
    """`load16`, before which nothing that follows is read."""
    return _load(address, 2, "little")


def load32_acquire(address: int) -> int:
    """`load32`, before which nothing that follows is read."""
    return _load(address, 4, "little")


def store8(address: int, value: int) -> None:
    """Store the low byte of ``value``."""
    _store(address, value, 1, "little")


def store16(address: int, value: int) -> None:
    """Store the low 16 bits of ``value``, little-endian."""
    _store(address, value, 2, "little")


def store32(address: int, value: int) -> None:
    """Store the low 32 bits of ``value``, little-endian."""
    _store(address, value, 4, "little")


def store64(address: int, value: int) -> None:
    """Store ``value``, little-endian."""
    _store(address, value, 8, "little")


def load64_any(address: int) -> int:
    """`load64` of anything: of a struct's field, too."""
    LEDGER.check(address, 8)
    return ctypes.c_int64.from_address(address).value


def add64_any(address: int, value: int) -> None:
    """Add ``value`` to the 64-bit number at ``address``, which may be a field of a struct."""
    LEDGER.check(address, 8)
    number = ctypes.c_int64.from_address(address)
    number.value += value


def store16be(address: int, value: int) -> None:
    """Store the low 16 bits of ``value``, big-endian."""
    _store(address, value, 2, "big")


def store32be(address: int, value: int) -> None:
    """Store the low 32 bits of ``value``, big-endian."""
    _store(address, value, 4, "big")


def store16_release(address: int, value: int) -> None:
    """`store16`, after which nothing that stands before is written."""
    _store(address, value, 2, "little")


def fence() -> None:
    """A full barrier; plain Python needs none."""


def memcpy(target: int, source: int, size: int) -> None:
    """Copy ``size`` bytes between addresses that do not overlap."""
    LEDGER.check_span(target, size)
    LEDGER.check_span(source, size)
    if size:
        ctypes.memmove(target, source, size)


def memset(target: int, value: int, size: int) -> None:
    """Set ``size`` bytes to ``value``."""
    LEDGER.check_span(target, size)
    if size:
        ctypes.memset(target, value, size)
