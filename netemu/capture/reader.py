"""Reading a capture file of any kind, a batch of frames at a time.

The format is found by the first bytes, never by the name. See `netemu.capture.parsing` for the way records take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from netemu.capture.formats import BLOCK_SECTION, LINKTYPE_ETHERNET
from netemu.capture.frames import BATCH_FRAMES, CapturedFrame, FrameBatch
from netemu.capture.parsing import PARSE_MORE, Format, Interface, fail
from netemu.capture.pcap import MAGICS, PcapFormat
from netemu.capture.pcapng import PcapngFormat
from netemu.capture.source import GZIP_MAGIC, open_source
from netemu.capture.window import Window

ETHERNET_ONLY = frozenset({LINKTYPE_ETHERNET})

_OTHER_MAGICS = {
    b"\x28\xb5\x2f\xfd": "is it compressed with zstd?",
    b"\xfd7zXZ": "is it compressed with xz?",
    b"\x04\x22\x4d\x18": "is it compressed with lz4?",
    b"BZh": "is it compressed with bzip2?",
    b"PK\x03\x04": "is it a zip archive?",
    GZIP_MAGIC: "is it compressed twice?",
    b"snoop\0": "is it a capture in snoop format?",
}
_SHOWN = 8


class CaptureReader:
    """An open capture file; make one with `open_capture`. A context manager that closes the file.

    ``interfaces`` is the list of `Interface` descriptions met so far; pcap files have exactly one.
    """

    def __init__(self, path: str, link_types: frozenset[int] | None) -> None:
        self._source = open_source(path)
        self.path = self._source.name
        try:
            self._format = find_format(Window(self._source), link_types)
        except BaseException:
            self._source.close()
            raise
        self._batch = FrameBatch(self._format.window)
        self._format.state.frames = self._batch.address
        self._format.state.capacity = BATCH_FRAMES

    @property
    def interfaces(self) -> list[Interface]:
        """The interfaces met so far, in the order of `Frame.interface`."""
        return self._format.interfaces

    def progress(self) -> tuple[int, int | None]:
        """Bytes of the file read so far, and its size in bytes, None where it is a pipe."""
        return self._source.progress()

    def read_batch(self) -> FrameBatch | None:
        """The next frames, at least one, valid until the next call; None at the end of the file.

        Waits for input only when it has no whole frame. Raises `CaptureError` where the file is at fault, after all
        frames in front of the fault were returned.
        """
        form, window, batch = self._format, self._format.window, self._batch
        state = form.state
        while True:
            state.data = window.address + window.start
            state.end = window.address + window.end
            result = form.kernel(state.address)
            window.start = state.data - window.address
            batch.order = form.order
            if state.count:
                batch.count = state.count
                return batch
            if result == PARSE_MORE and window.refill():
                continue
            if window.left == 0:
                return None
            packet = form.step()
            if packet is not None:
                where = window.address + packet.at
                batch.put((where, packet.caplen, packet.wire_len, packet.tstamp, packet.interface, packet.id))
                return batch

    def close(self) -> None:
        """Close the file. Standard input stays open."""
        self._source.close()

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def find_format(window: Window, link_types: frozenset[int] | None) -> Format:
    """Look at the first bytes and take the file header; raises `CaptureError` if it is not that of a capture file."""
    if not window.need(4):
        if window.left == 0:
            fail(window, "the file is empty")
        fail(window, f"not a capture file: it has only {window.left} bytes")
    first = bytes(window.memory[window.start : window.start + 4])
    if first in MAGICS:
        return PcapFormat(window, link_types)
    if first == BLOCK_SECTION.to_bytes(4, "little"):
        return PcapngFormat(window, link_types)
    return _refuse(window)


def _refuse(window: Window) -> Format:
    """Raise the `CaptureError` for a file that is no capture, with a guess at what it is."""
    window.need(_SHOWN)
    head = bytes(window.memory[window.start : window.end][:64])
    cause = f"not a pcap or pcapng file: it starts with {head[:_SHOWN].hex(' ')}"
    for magic, guess in _OTHER_MAGICS.items():
        if head.startswith(magic):
            fail(window, f"{cause}; {guess}")
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        cause += "; is it a text file?"
    fail(window, cause)


def open_capture(path: str | os.PathLike[str], link_types: frozenset[int] | None = ETHERNET_ONLY) -> CaptureReader:
    """Open a pcap or pcapng file, gzip of one, or standard input ("-"), for reading in batches.

    ``link_types`` are the LINKTYPE numbers that the caller can handle (None: all); a frame of another kind is an error.
    Raises `CaptureError`.
    """
    return CaptureReader(os.fspath(path), link_types)


def read_capture(
    path: str | os.PathLike[str], link_types: frozenset[int] | None = ETHERNET_ONLY
) -> Iterator[CapturedFrame]:
    """The frames of a capture file, one by one, read as they are asked for; raises `CaptureError` at a fault."""
    with open_capture(path, link_types) as reader:
        while (batch := reader.read_batch()) is not None:
            yield from batch.frames()
