"""Frames on their way out of a capture file: in batches for kernels, one by one for Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netemu.capture.window import Window
from netemu.jit import Struct, allocate, i64, pointer, struct

BATCH_FRAMES = 8192
"""Most frames of one batch."""


@struct
class Frame(Struct):
    """One frame of a batch. Lengths in bytes."""

    address: i64
    """Host address of its first byte."""
    len: i64
    """Bytes that were captured."""
    wire_len: i64
    """Bytes it had on the wire: more than ``len`` where the capture was snapped."""
    tstamp: i64
    """ns since 1970; 0 where the format records none (simple packet blocks)."""
    interface: i64
    """Which interface of the file it came from, from 0, counted over all sections."""
    id: i64
    """Its number in the file, from 1."""


frame_at = pointer(Frame)
FRAME_SIZE = Frame.dtype.itemsize


class CapturedFrame(NamedTuple):
    """One frame for Python; the fields are those of `Frame`, with the bytes themselves as ``data``."""

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
        for address, size, wire_len, tstamp, interface, number in self._fields[: self.count].tolist():
            start = address - base
            yield CapturedFrame(bytes(memory[start : start + size]), tstamp, wire_len, interface, number)

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """One field of the `Frame` structs, for all frames of the batch."""
        return self._fields[name][: self.count]

    def put(self, frame: tuple[int, int, int, int, int, int]) -> None:
        """Make this a batch of one frame, whose fields are those of `Frame`."""
        self._fields[0] = frame
        self.count = 1
