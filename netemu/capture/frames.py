"""Frames on their way out of a capture file: in batches for kernels, one by one for Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netemu.capture.window import Window
from netemu.frame import FRAME_SIZE, Frame
from netemu.jit import allocate

BATCH_FRAMES = 8192
"""Most frames of one batch."""


class CapturedFrame(NamedTuple):
    """One frame for Python; the fields are those of `netemu.frame.Frame`, with the bytes themselves as ``data``."""

    data: bytes
    tstamp: int
    wire_len: int
    interface: int = 0
    id: int = 0


class FrameBatch:
    """Frames side by side: ``count`` `Frame` structs at host ``address``.

    The structs and the bytes they point at are valid until the reader that gave the batch is asked for the next one, or
    is closed.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._structs = allocate(BATCH_FRAMES * FRAME_SIZE)
        self._fields: npt.NDArray[np.void] = self._structs.array.view(Frame.dtype)
        self.address = self._structs.address
        self.count = 0

    def frames(self) -> Iterator[CapturedFrame]:
        """The frames as Python objects with copies of their bytes."""
        memory, base = self._window.memory, self._window.address
        for address, size, wire_len, tstamp, interface, number, _ in self._fields[: self.count].tolist():
            start = address - base
            yield CapturedFrame(bytes(memory[start : start + size]), tstamp, wire_len, interface, number)

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """One field of the `Frame` structs, for all frames of the batch."""
        return self._fields[name][: self.count]

    def put(self, frame: tuple[int, int, int, int, int, int]) -> None:
        """Make this a batch of one frame, whose fields are those of `Frame` but the last."""
        self._fields[0] = (*frame, 0)
        self.count = 1
