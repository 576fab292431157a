"""The Toeplitz hash (HASH-D-11): for every input bit that is set, the 32 bits of the key from there on, all xored.

What a byte adds depends on its value and its place alone. So a key is unfolded once into a table with a row of 256
numbers for each place, and a hash is one load per byte. Because xor does not mind the order, an input that does not lie
in one piece (addresses here, ports there) is hashed piece by piece, each with the rows of its place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netemu.jit import Buffer, allocate, i64, kernel, load8, load32

INPUT_MAX = 36
"""Bytes of the longest input: two IPv6 addresses and two ports."""
ROW_SIZE = 256 * 4
_WINDOW = 32


@kernel
def toeplitz(rows: i64, source: i64, size: i64) -> i64:
    """What ``size`` bytes at host ``source`` add to a hash, by the rows that begin at host ``rows``; 32 bits."""
    value = 0
    for n in range(size):
        value ^= load32(rows + 4 * load8(source + n))
        rows += ROW_SIZE
    return value


def _windows(key: bytes) -> npt.NDArray[np.uint32]:
    """For each bit of an input the 32 bits of the key from there on; a key that is too short ends in zeros."""
    needed = 8 * INPUT_MAX + _WINDOW
    bits = np.unpackbits(np.frombuffer(key[: needed // 8].ljust(needed // 8, b"\0"), np.uint8)).astype(np.uint32)
    places = np.arange(8 * INPUT_MAX)[:, None] + np.arange(_WINDOW)
    weights = np.uint32(1) << np.arange(_WINDOW - 1, -1, -1, dtype=np.uint32)
    return np.asarray((bits[places] * weights).sum(axis=1), dtype=np.uint32)


class KeyTable:
    """A key, unfolded for `toeplitz`: `address` is where the row of the first byte begins."""

    def __init__(self) -> None:
        """A table of zeros: every hash is 0."""
        self._buffer: Buffer = allocate(INPUT_MAX * ROW_SIZE)
        self.address = self._buffer.address

    def load(self, key: bytes) -> None:
        """Unfold ``key`` in place."""
        windows = _windows(key).reshape(INPUT_MAX, 8, 1)
        values = np.arange(256, dtype=np.uint8)
        is_set = np.unpackbits(values[:, None], axis=1).T.astype(bool)[None]
        rows = np.bitwise_xor.reduce(np.where(is_set, windows, np.uint32(0)), axis=1)
        self._buffer.array[:] = rows.astype("<u4").reshape(-1).view(np.uint8)
