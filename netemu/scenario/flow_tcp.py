"""A TCP transfer as it runs: connections of its own, one side sends, the other counts."""

from __future__ import annotations

import asyncio
from fractions import Fraction

from netemu.aio.endpoint import running_loop
from netemu.aio.host import SECOND, AsyncHost
from netemu.expect.measured import Value
from netemu.samples import Samples

_PIECE = bytes(1 << 16)
_READ = 1 << 18


class TcpFlow:
    """``streams`` connections at the same time, each with ``size`` bytes, or for ``time`` ns.

    Data go to the target, or with ``download`` come from it. A stream is complete when its receiver has read all, and
    both sides have closed.
    """

    def __init__(
        self,
        source: AsyncHost,
        target: AsyncHost,
        *,
        size: int | None,
        time: int | None,
        download: bool,
        streams: int,
        port: int,
    ) -> None:
        """From a guest, which connects, to another, which listens on ``port`` (0: a free one)."""
        self._source, self._target = source, target
        self._size, self._time, self._download = size, time, download
        self._streams, self._port = streams, port
        self._start = self._last = self._end = 0
        self._bytes = 0
        self._connects = Samples()
        self._completed = self._errors = 0
        self._senders: list[asyncio.StreamWriter] = []
        self._retransmits = 0

    async def run(self) -> None:
        """Send all of it. Raises `OSError` if no stream came to its end."""
        loop = running_loop()
        self._start = self._last = self._end = loop.now
        serving: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.add(loop.create_task(self._serve(reader, writer)))

        self._target.tcp.reserve(2 * self._streams)  # all of them may begin within one event
        server = await self._target.start_server(accept, self._port)
        try:
            ends = await asyncio.gather(
                *(self._stream(server.port) for _ in range(self._streams)), return_exceptions=True
            )
        finally:
            server.close()
            for task in serving:
                task.cancel()
            self._end = loop.now
            self._retransmits = self._count_retransmits()
            self._senders.clear()
        failed = [end for end in ends if isinstance(end, BaseException)]
        self._errors = len(failed)
        for error in failed:
            if not isinstance(error, OSError) or self._completed == 0:
                raise error

    async def _stream(self, port: int) -> None:
        """One connection, as its client sees it."""
        loop = running_loop()
        began = loop.now
        reader, writer = await self._source.connect(self._target, port)
        self._connects.add(loop.now - began)
        try:
            if self._download:
                await self._take(reader)
            else:
                await self._send(writer)
                await reader.read()
            self._completed += 1
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The same as the target sees it."""
        try:
            if self._download:
                await self._send(writer)
                await reader.read()
            else:
                await self._take(reader)
        except OSError:
            pass  # the client is told, and tells
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        self._senders.append(writer)
        loop = running_loop()
        end = None if self._time is None else loop.now + self._time
        left = self._size
        while (left is None or left > 0) and (end is None or loop.now < end):
            piece = _PIECE if left is None else _PIECE[:left]
            writer.write(piece)
            left = None if left is None else left - len(piece)
            await writer.drain()
        writer.write_eof()

    async def _take(self, reader: asyncio.StreamReader) -> None:
        loop = running_loop()
        while data := await reader.read(_READ):
            self._bytes += len(data)
            self._last = loop.now

    def _count_retransmits(self) -> int:
        infos = [writer.get_extra_info("tcp_info") for writer in self._senders]
        return sum(info["retrans"] for info in infos)

    def metrics(self) -> dict[str, Value]:
        """Of payload that arrived; goodput is from the start, handshake included, to the last byte."""
        took = self._last - self._start
        return {
            "bytes": self._bytes,
            "goodput": Fraction(8 * SECOND * self._bytes, took) if took else None,
            "duration": max(self._end, self._last) - self._start,
            "connect": self._connects,
            "retransmits": self._count_retransmits() if self._senders else self._retransmits,
            "completed": self._completed,
            "errors": self._errors,
        }
