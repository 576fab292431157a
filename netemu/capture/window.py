"""A fixed window onto a stream of bytes, in memory that kernels can read.

Theory of operation
-------------------
``memory[start:end]`` holds the bytes that were read and not taken yet. `Window.refill` moves them to the front and
reads behind them, once; so memory does not grow with the file, and nothing is copied but the few bytes of a record that
the previous read cut. Whoever takes bytes moves ``start`` on; they stay in place until the next refill.
"""

from __future__ import annotations

from netemu.capture.source import Source
from netemu.jit import allocate

WINDOW_SIZE = 1 << 20
"""Bytes: four of the longest frames, and little enough to stay in a CPU's second-level cache."""


class Window:
    """``WINDOW_SIZE`` bytes of ``source`` that move along it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.size = WINDOW_SIZE
        self._buffer = allocate(self.size)
        self.address = self._buffer.address
        """Host address of ``memory[0]``."""
        self.memory = self._buffer.array.data
        self.start = 0
        self.end = 0
        self._moved = 0

    @property
    def left(self) -> int:
        """Bytes that were read and not taken yet."""
        return self.end - self.start

    @property
    def offset(self) -> int:
        """Where ``start`` is in the (unpacked) file."""
        return self._moved + self.start

    def refill(self) -> bool:
        """Read once, as much as comes and fits; False at the end of the file. Raises `CaptureError`."""
        if self.start:
            left = self.left
            self._buffer.array[:left] = self._buffer.array[self.start : self.end]
            self._moved += self.start
            self.start, self.end = 0, left
        count = self.source.readinto(self.memory[self.end :])
        self.end += count
        return count > 0

    def need(self, count: int) -> bool:
        """Have at least ``count`` bytes (no more than ``size``) to take; False if the file ends before."""
        while self.left < count:
            if not self.refill():
                return False
        return True

    def discard(self, count: int) -> bool:
        """Take ``count`` bytes, any number, and forget them; False if the file ends before."""
        while count > self.left:
            count -= self.left
            self.start = self.end
            if not self.refill():
                return False
        self.start += count
        return True
