"""Frames on their way out of a capture file: in batches for kernels, one by one for Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netemu.capture.formats import (
    BLOCK_ENHANCED_PACKET,
    BLOCK_PACKET,
    ENHANCED_HEADER,
    EPB_DROPCOUNT,
    EPB_FLAGS,
    EPB_HASH,
    EPB_PACKETID,
    EPB_QUEUE,
    EPB_VERDICT,
    OPT_COMMENT,
)
from netemu.capture.options import unpack_options
from netemu.capture.window import Window
from netemu.frame import FRAME_SIZE, Frame
from netemu.jit import allocate

BATCH_FRAMES = 8192
"""Most frames of one batch."""
_NUMBERS = {EPB_FLAGS, EPB_DROPCOUNT, EPB_PACKETID, EPB_QUEUE}
_BYTES = {OPT_COMMENT, EPB_HASH, EPB_VERDICT}


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
        self.order = ""
        """Byte order of the pcapng section that the frames are from, "<" or ">"; "" for pcap."""

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

    def options(self) -> dict[int, list[tuple[int, bytes]]]:
        """The pcapng options of those frames that have any, as code and value by the frame's number.

        Numbers are little-endian, as a file of ours has them. Of a big-endian section the options of unknown meaning
        are left out, and so are damaged ones of any.
        """
        if not self.order or self.count == 0:
            return {}
        memory = np.frombuffer(self._window.memory, np.uint8)
        start = self.column("address") - self._window.address - ENHANCED_HEADER
        caplen = self.column("len")
        there = np.nonzero(start >= 0)[0]
        words = memory[start[there, None] + np.arange(ENHANCED_HEADER)].view(self.order + "u4")
        kind, size = words[:, 0], words[:, 1].astype(np.int64)
        end = start[there] + size
        bare = ENHANCED_HEADER + ((caplen[there] + 3) & ~3) + 4
        packets = (kind == BLOCK_ENHANCED_PACKET) | (kind == BLOCK_PACKET)
        # A simple packet block has no options; what stands in front of its frame only looks like a header by chance.
        has = packets & (words[:, 5] == caplen[there]) & (size > bare) & (end <= len(memory))
        found = {}
        for n in np.nonzero(has)[0].tolist():
            packed = memory[start[there[n]] + bare[n] - 4 : end[n] - 4].tobytes()
            try:
                options = unpack_options(packed, self.order)
            except ValueError:
                continue
            found[int(self._fields["id"][there[n]])] = options if self.order == "<" else _turned(options)
        return found


def _turned(options: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Options of a big-endian section, as little-endian ones."""
    return [(code, value[::-1] if code in _NUMBERS else value) for code, value in options if code in _NUMBERS | _BYTES]
