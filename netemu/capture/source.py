"""The bytes of a capture file in order: from a file, a pipe or standard input, and through gzip.

Theory of operation
-------------------
`open_source` looks at the first two bytes and returns a `PlainSource`, or a `GzipSource` on top of one. Both fill the
caller's memory with `readinto`, as many bytes as come at once (so that frames of a live pipe are not held back), and
return 0 at the end. Whatever fails on the way is a `CaptureError`.

zlib throws away what it unpacked in the call that fails. So the state before each call is kept, and after a failure the
same input is fed again byte by byte: every byte in front of the damage is delivered before the error is raised.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import zlib
from typing import Any, Protocol

from netemu.errors import CaptureError

STDIN_NAME = "standard input"
GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31
"""zlib's way to say: a gzip header and trailer, the largest window."""
_CHUNK = 65536


class Source(Protocol):
    """A stream of bytes that remembers its name."""

    name: str
    """The file's path, or "standard input": what error messages call it."""

    def readinto(self, target: memoryview) -> int:
        """Fill the front of ``target`` (not empty) with what comes next; return how many bytes, 0 at the end.

        Raises `CaptureError` when the file cannot be read on.
        """
        ...

    def progress(self) -> tuple[int, int | None]:
        """Bytes of the file consumed so far (compressed ones, where it is), and its size where that is known."""
        ...

    def close(self) -> None:
        """Close the file, unless it is standard input."""
        ...


def read_error_in_words(error: Exception) -> str:
    """Say for a user why a file could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a capture file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be read: {reason}"


class PlainSource:
    """The bytes as they lie in the file."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._stream: Any
        self._owned = path != "-"
        self._consumed = 0
        self._size: int | None = None
        self._head = b""
        if self._owned:
            try:
                self._stream = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115
                status = os.fstat(self._stream.fileno())
            except (OSError, ValueError) as error:
                raise CaptureError(path, read_error_in_words(error)) from error
            if stat.S_ISREG(status.st_mode):
                self._size = status.st_size
        else:
            self.name = STDIN_NAME
            if sys.stdin is None:
                raise CaptureError(STDIN_NAME, "is closed")
            self._stream = sys.stdin.buffer

    def peek(self, count: int) -> bytes:
        """The first ``count`` bytes, fewer only where the file has fewer; they remain to be read."""
        block = bytearray(_CHUNK)
        while len(self._head) < count:
            got = self._read(memoryview(block))
            if got == 0:
                break
            self._head += block[:got]
        return self._head[:count]

    def readinto(self, target: memoryview) -> int:
        """See `Source.readinto`."""
        if self._head:
            count = min(len(self._head), len(target))
            target[:count] = self._head[:count]
            self._head = self._head[count:]
        else:
            count = self._read(target)
        self._consumed += count
        return count

    def _read(self, target: memoryview) -> int:
        read = self._stream.readinto if self._owned else self._stream.readinto1
        try:
            count: int | None = read(target)
            while count is None:  # a pipe that somebody made non-blocking
                select.select([self._stream], [], [])
                count = read(target)
        except (OSError, ValueError) as error:
            raise CaptureError(self.name, read_error_in_words(error), self._consumed + len(self._head)) from error
        return count

    def progress(self) -> tuple[int, int | None]:
        """See `Source.progress`."""
        return self._consumed, self._size

    def close(self) -> None:
        """See `Source.close`."""
        if self._owned:
            self._stream.close()


class GzipSource:
    """What a gzip file holds: all its members one after the other."""

    def __init__(self, packed: PlainSource) -> None:
        self.name = packed.name
        self._packed = packed
        self._member: Any = None
        """The zlib decompressor of the current member, None between members."""
        self._members = 0
        self._input = b""
        self._output_waits = False
        """zlib stopped because it had filled what it was given; more may come without further input."""
        self._delivered = 0
        self._fault: CaptureError | None = None

    def readinto(self, target: memoryview) -> int:
        """See `Source.readinto`. Offsets in errors count unpacked bytes."""
        while True:
            if self._fault is not None:
                raise self._fault
            if not self._input and not self._output_waits and not self._feed():
                if self._member is not None:
                    raise self._error("the gzip data is cut off")
                return 0
            if self._member is None and not self._start_member():
                continue
            output = self._unpack(len(target))
            if output:
                target[: len(output)] = output
                self._delivered += len(output)
                return len(output)

    def _feed(self) -> bool:
        """Read more packed bytes; return whether there were any."""
        block = bytearray(_CHUNK)
        self._input = bytes(block[: self._packed.readinto(memoryview(block))])
        return bool(self._input)

    def _start_member(self) -> bool:
        """Between members: skip padding of zeros, as gzip does; return whether another member starts."""
        self._input = self._input.lstrip(b"\0")
        if not self._input:
            return False
        if self._members and self._input[0] != GZIP_MAGIC[0]:
            raise self._error("something that is not gzip follows the gzip data")
        self._member = zlib.decompressobj(_GZIP_WBITS)
        self._members += 1
        return True

    def _unpack(self, room: int) -> bytes:
        """Unpack up to ``room`` bytes; a failure is kept for the next call when some bytes precede it."""
        before = self._member.copy()
        try:
            output: bytes = self._member.decompress(self._input, room)
        except zlib.error as error:
            self._fault = self._error(f"the gzip data is damaged: {str(error).rpartition(': ')[2]}")
            return self._salvage(before, room)
        self._output_waits = len(output) == room
        self._input = self._member.unconsumed_tail
        if self._member.eof:
            self._input = self._member.unused_data
            self._output_waits = False
            self._member = None
        return output

    def _salvage(self, member: Any, room: int) -> bytes:
        """Feed again what failed as a whole, byte by byte: all that comes out in front of the damage."""
        output = bytearray()
        try:
            for byte in self._input:
                output += member.decompress(bytes((byte,)), room - len(output))
        except zlib.error:
            pass  # expected: it is the fault that is reported after these bytes
        if self._fault is not None:
            self._fault = CaptureError(self.name, self._fault.cause, self._delivered + len(output))
        return bytes(output)

    def _error(self, cause: str) -> CaptureError:
        return CaptureError(self.name, cause, self._delivered)

    def progress(self) -> tuple[int, int | None]:
        """See `Source.progress`."""
        return self._packed.progress()

    def close(self) -> None:
        """See `Source.close`."""
        self._packed.close()


def open_source(path: str) -> Source:
    """Open ``path`` ("-" is standard input), looking through gzip; raises `CaptureError`."""
    packed = PlainSource(path)
    try:
        is_gzip = packed.peek(len(GZIP_MAGIC)) == GZIP_MAGIC
    except CaptureError:
        packed.close()
        raise
    return GzipSource(packed) if is_gzip else packed
