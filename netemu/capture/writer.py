"""Writing capture files: the Python half of `netemu.capture.sink`.

Theory of operation
-------------------
Records collect in the buffer of a `Sink`, put there by kernels or by `CaptureWriter.write`, and `flush` hands the whole
buffer to the file. So the file ends with a whole record after every flush, also when a run is interrupted or the disk
fills up. With gzip each flush makes a gzip member of its own, for the same reason; readers take members one after
the other.

Nothing that differs from machine to machine is written: the same frames give the same bytes everywhere.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from netemu.capture.formats import (
    BLOCK_ENHANCED_PACKET,
    BLOCK_INTERFACE,
    BLOCK_OVERHEAD,
    BLOCK_SECTION,
    BLOCK_STATISTICS,
    BYTE_ORDER_MAGIC,
    EPB_DROPCOUNT,
    EPB_FLAGS,
    EPB_HASH,
    EPB_PACKETID,
    EPB_QUEUE,
    HASH_TOEPLITZ,
    IF_DESCRIPTION,
    IF_FILTER,
    IF_HARDWARE,
    IF_NAME,
    IF_OS,
    IF_TSRESOL,
    ISB_ENDTIME,
    ISB_FILTERACCEPT,
    ISB_IFDROP,
    ISB_IFRECV,
    ISB_OSDROP,
    ISB_STARTTIME,
    ISB_USRDELIV,
    LINKTYPE_ETHERNET,
    MAX_FRAME,
    NSEC_PER_SEC,
    OPT_COMMENT,
    PCAP_MAGIC_NSEC,
    SHB_USERAPPL,
)
from netemu.capture.options import MAX_VALUE, pack_options, packed_text
from netemu.capture.sink import LAST_NANOSECOND, PCAP_LAST_SECOND, SINK_PCAP, SINK_PCAPNG, Sink
from netemu.errors import CaptureError, ConfigError
from netemu.jit import allocate

SINK_SIZE = 1 << 20
"""Bytes of a sink's buffer: more than three of the longest records."""
STDOUT_NAME = "standard output"
_KINDS = {"pcap": SINK_PCAP, "pcapng": SINK_PCAPNG}
_GZIP_LEVEL = 1
"""Frames come faster than any level can pack them; level 1 is the least in the way."""
_COMMENT_ROOM = SINK_SIZE - 2 * MAX_FRAME
_OPTIONS_ROOM = MAX_FRAME // 2
_NANOSECONDS = b"\x09"
_FILTER_IS_TEXT = b"\0"
_LAST_TIMESTAMP = (1 << 64) - 1
_SECTION_LENGTH_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class InterfaceInfo:
    """What an interface description says; empty texts are left out. pcap has no place for any of it."""

    name: str = ""
    description: str = ""
    hardware: str = ""
    os: str = ""
    filter: str = ""
    comments: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class InterfaceStatistics:
    """What is known of an interface at the end; None is left out. Times in ns since 1970, the others count frames."""

    starttime: int | None = None
    endtime: int | None = None
    ifrecv: int | None = None
    ifdrop: int | None = None
    filteraccept: int | None = None
    osdrop: int | None = None
    usrdeliv: int | None = None
    comments: Sequence[str] = field(default_factory=tuple)


def kind_of_path(path: str) -> str:
    """The format, "pcap" or "pcapng", that the suffix of ``path`` asks for; raises `ConfigError` for any other."""
    if path == "-":
        return "pcapng"
    name = os.path.basename(path).lower().removesuffix(".gz")  # noqa: PTH119
    for kind in _KINDS:
        if name.endswith("." + kind):
            return kind
    raise ConfigError(f"{path}: the name of a capture to write ends in .pcap or .pcapng (and .gz behind, if wanted)")


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether both paths are the same regular file, so that writing one would destroy the other.

    "-" for ``one`` is standard input, for ``other`` standard output. A path that leads nowhere is no file.
    """
    try:
        first = os.fstat(0) if os.fspath(one) == "-" else Path(one).stat()
        second = os.fstat(1) if os.fspath(other) == "-" else Path(other).stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(first.st_mode) and os.path.samestat(first, second)


def _write_error_in_words(error: Exception) -> str:
    """Say for a user why a file could not be made or written."""
    if isinstance(error, FileNotFoundError):
        return "cannot be made: its folder does not exist"
    if isinstance(error, IsADirectoryError):
        return "cannot be written: it is a folder"
    if isinstance(error, PermissionError):
        return "no permission to write it"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be written: {reason}"


def _block(kind: int, body: bytes) -> bytes:
    """A pcapng block around ``body``, whose length is a multiple of four."""
    size = len(body) + BLOCK_OVERHEAD
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _texts(pairs: Sequence[tuple[int, str]]) -> list[tuple[int, bytes]]:
    return [(code, packed_text(value)) for code, value in pairs if value]


def _comments(comments: Sequence[str]) -> list[tuple[int, bytes]]:
    """Comment options, as many as surely fit into a record of the buffer (and into a reader's window)."""
    return _fitting(_texts([(OPT_COMMENT, comment) for comment in comments]), _COMMENT_ROOM)


def _fitting(options: Sequence[tuple[int, bytes]], room: int) -> list[tuple[int, bytes]]:
    """The first of the options, as many as fit into ``room`` bytes."""
    fitting = []
    for option in options:
        room -= len(option[1]) + 8
        if room < 0:
            break
        fitting.append(option)
    return fitting


def _section_block() -> bytes:
    try:
        release = version("virtio-netemu")
    except PackageNotFoundError:
        release = "from a source folder"
    body = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, _SECTION_LENGTH_UNKNOWN)
    return _block(BLOCK_SECTION, body + pack_options(_texts([(SHB_USERAPPL, f"netemu {release}")])))


def _interface_block(interface: InterfaceInfo, link_type: int) -> bytes:
    options = _comments(interface.comments)
    options += _texts([(IF_NAME, interface.name), (IF_DESCRIPTION, interface.description)])
    options.append((IF_TSRESOL, _NANOSECONDS))
    if interface.filter:
        options.append((IF_FILTER, _FILTER_IS_TEXT + packed_text(interface.filter, MAX_VALUE - 1)))
    options += _texts([(IF_OS, interface.os), (IF_HARDWARE, interface.hardware)])
    return _block(BLOCK_INTERFACE, struct.pack("<HHI", link_type, 0, MAX_FRAME) + pack_options(options))


def _timestamp(tstamp: int) -> bytes:
    """A pcapng timestamp: the upper half first, whatever the byte order."""
    tstamp = max(0, min(_LAST_TIMESTAMP, tstamp))
    return struct.pack("<II", tstamp >> 32, tstamp & 0xFFFFFFFF)


def _statistics_block(index: int, statistics: InterfaceStatistics) -> bytes:
    options = _comments(statistics.comments)
    for code, time in ((ISB_STARTTIME, statistics.starttime), (ISB_ENDTIME, statistics.endtime)):
        if time is not None:
            options.append((code, _timestamp(time)))
    for code, count in (
        (ISB_IFRECV, statistics.ifrecv),
        (ISB_IFDROP, statistics.ifdrop),
        (ISB_FILTERACCEPT, statistics.filteraccept),
        (ISB_OSDROP, statistics.osdrop),
        (ISB_USRDELIV, statistics.usrdeliv),
    ):
        if count is not None:
            options.append((code, struct.pack("<Q", count)))
    when = statistics.endtime or 0
    return _block(BLOCK_STATISTICS, struct.pack("<I", index) + _timestamp(when) + pack_options(options))


class CaptureWriter:
    """A capture file to write; a context manager that flushes and closes it.

    Kernels record into ``sink`` (a `Sink`), and their caller calls `flush` when it has no room; Python calls `write`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        link_type: int = LINKTYPE_ETHERNET,
        interface: InterfaceInfo | None = None,
        kind: str | None = None,
        *,
        room: int = SINK_SIZE,
    ) -> None:
        """Make the file ``path`` ("-" is standard output), whose frames have ``link_type``.

        Its suffix chooses "pcap" or "pcapng", unless ``kind`` does; standard output is pcapng. A suffix .gz packs it.
        The sink has ``room`` bytes, for records that nobody can wait with.
        Raises `ConfigError` for another suffix or kind, and `CaptureError` if the file cannot be made.
        """
        self.path = os.fspath(path)
        self.kind = kind_of_path(self.path) if kind is None else kind
        if self.kind not in _KINDS:
            raise ConfigError(f"a capture is written as pcap or pcapng, not as {self.kind}")
        self._packed = self.path.lower().endswith(".gz")
        self._owned = self.path != "-"
        self._failure: Exception | None = None
        self._whole = 0
        self._stream: Any
        if self._owned:
            try:
                self._stream = open(self.path, "wb", buffering=0)  # noqa: PTH123, SIM115
            except (OSError, ValueError) as error:
                raise CaptureError(self.path, _write_error_in_words(error)) from error
        else:
            self.path = STDOUT_NAME
            if sys.stdout is None:
                raise CaptureError(STDOUT_NAME, "is closed")
            self._stream = sys.stdout.buffer
        self._buffer = allocate(room)
        self._memory = self._buffer.array.data
        self.sink = Sink(kind=_KINDS[self.kind], buffer=self._buffer.address, size=room)
        self._interfaces = 0
        if self.kind == "pcap":
            self._append(struct.pack("<IHHiIII", PCAP_MAGIC_NSEC, 2, 4, 0, 0, MAX_FRAME, link_type))
        else:
            self._append(_section_block())
            self.add_interface(interface or InterfaceInfo(), link_type)
        try:
            self.flush()  # so that the file is one from the start, and whoever reads along knows what comes
        except BaseException:
            self.close()
            raise

    def add_interface(self, interface: InterfaceInfo, link_type: int = LINKTYPE_ETHERNET) -> int:
        """Declare one more interface; return its index, for ``sink.interface``. Raises `ConfigError` for pcap."""
        if self.kind == "pcap":
            raise ConfigError(f"{self.path}: a pcap file has one interface; write pcapng to have several")
        self._append(_interface_block(interface, link_type))
        self._interfaces += 1
        return self._interfaces - 1

    def write(
        self,
        data: bytes,
        tstamp: int,
        wire_len: int | None = None,
        *,
        queue: int = -1,
        frame_id: int = 0,
        flags: int = 0,
        comments: Sequence[str] = (),
        drops: int = 0,
        flow_hash: int = 0,
        options: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Record one frame from Python, as `sink_record` does from a kernel; frames over MAX_FRAME are snapped.

        ``comments`` are for people (half a MiB at most, the rest is left out), ``options`` are others, as code and
        value, ``drops`` frames were lost in front of it, and ``flow_hash`` is its receive hash (0: none); only pcapng
        keeps any of these. ``wire_len`` is at least, and by default, the length of ``data``. Raises as `flush` does.
        """
        sink = self.sink
        wire_len = max(len(data), wire_len or 0)
        data = data[:MAX_FRAME]
        if self.kind == "pcap":
            second, fraction = divmod(max(0, tstamp), NSEC_PER_SEC)
            if second > PCAP_LAST_SECOND:
                second, fraction = PCAP_LAST_SECOND, LAST_NANOSECOND
            self._append(struct.pack("<IIII", second, fraction, len(data), wire_len) + data)
        else:
            drops += sink.pending_drops
            sink.pending_drops = 0
            packed = [*_fitting(options, _OPTIONS_ROOM), *_comments(comments)]
            if flags:
                packed.append((EPB_FLAGS, struct.pack("<I", flags)))
            if flow_hash:
                packed.append((EPB_HASH, struct.pack(">BI", HASH_TOEPLITZ, flow_hash)))
            if drops > 0:
                packed.append((EPB_DROPCOUNT, struct.pack("<Q", drops)))
            if frame_id > 0:
                packed.append((EPB_PACKETID, struct.pack("<Q", frame_id)))
            if queue >= 0:
                packed.append((EPB_QUEUE, struct.pack("<I", queue)))
            head = struct.pack("<I", sink.interface) + _timestamp(tstamp) + struct.pack("<II", len(data), wire_len)
            body = head + data + bytes(-len(data) & 3) + pack_options(packed)
            self._append(_block(BLOCK_ENHANCED_PACKET, body))
        sink.frames += 1
        sink.bytes += len(data)

    def _append(self, record: bytes) -> None:
        """Put a whole record behind those in the buffer."""
        if self.sink.used + len(record) > self.sink.size:
            self.flush()
        self._memory[self.sink.used : self.sink.used + len(record)] = record
        self.sink.used += len(record)

    def flush(self) -> None:
        """Write the buffer, which holds whole records only, to the file.

        Raises `CaptureError` if that fails, but BrokenPipeError where the reader of standard output has gone.
        """
        if self.sink.used:
            records = self._memory[: self.sink.used]
            self.sink.used = 0
            self._write_out(records)

    def _write_out(self, records: memoryview) -> None:
        if self._failure is not None:
            raise self._failure
        rest = memoryview(gzip.compress(records, _GZIP_LEVEL, mtime=0)) if self._packed else records
        size = len(rest)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failure = error
            if isinstance(error, BrokenPipeError) and not self._owned:
                raise
            if self._owned:
                with contextlib.suppress(OSError):  # what is no regular file cannot be cut back to whole records
                    os.ftruncate(self._stream.fileno(), self._whole)
            self._failure = CaptureError(self.path, _write_error_in_words(error))
            raise self._failure from error
        self._whole += size

    def close(self, statistics: InterfaceStatistics | Sequence[InterfaceStatistics] | None = None) -> None:
        """Write what is left, then ``statistics`` (pcapng only; one for each interface, in order), and close the file.

        Raises as `flush` does; the file is closed then as well. A second call, or one after a failed flush, writes
        nothing.
        """
        if self._stream is None:
            return
        if isinstance(statistics, InterfaceStatistics):
            statistics = (statistics,)
        try:
            if self._failure is None:
                if self.kind == "pcapng":
                    for index, each in zip(range(self._interfaces), statistics or (), strict=False):
                        self._append(_statistics_block(index, each))
                self.flush()
        finally:
            stream, self._stream = self._stream, None
            if self._owned:
                stream.close()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left and close the file."""
        self.close()
