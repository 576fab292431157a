"""The small services of old, over TCP and UDP: echo, discard, chargen, daytime (RFC 862, 863, 864, 867).

Over UDP echo, discard and chargen are kernels (`netemu.traffic.udp_apps`), which no datagram wakes Python for.
"""

from __future__ import annotations

import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from netemu.aio import AsyncHost
from netemu.aio.datagram import Datagram
from netemu.aio.endpoint import running_loop
from netemu.aio.tcp_server import TcpServer
from netemu.jit import Buffer, allocate, hook
from netemu.traffic.udp_apps import CHARGEN_SIZE, ECHO_ROOM, udp_chargen_app, udp_discard_app, udp_echo_app

ECHO, DISCARD, DAYTIME, CHARGEN = 7, 9, 13, 19
"""Their ports."""

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""When the emulated time was 0, as far as daytime tells."""
_PIECE = 1 << 16
_FIRST, _COUNT, _WIDTH = 32, 95, 72
"""The printing characters of ASCII, and how many are in a line."""


def chargen_lines() -> bytes:
    """All lines of the pattern (RFC 864): each begins a character further on than the one before."""
    ring = bytes(range(_FIRST, _FIRST + _COUNT)) * 2
    return b"".join(ring[start : start + _WIDTH] + b"\r\n" for start in range(_COUNT))


class Service:
    """A service that runs: its listener and its socket."""

    def __init__(self, server: TcpServer, datagram: Datagram) -> None:
        """What `close` closes."""
        self.server, self.datagram = server, datagram

    @property
    def datagrams(self) -> int:
        """Datagrams that came."""
        return self.datagram.socket.struct.received

    def close(self) -> None:
        """Take no more connections and datagrams."""
        self.server.close()
        self.datagram.close()


Handler = Callable[[StreamReader, StreamWriter], Awaitable[None]]


def _guarded(handler: Handler) -> Handler:
    """A handler that ends when the peer goes away."""

    async def guarded(reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await handler(reader, writer)
        writer.close()

    return guarded


async def _start(host: AsyncHost, port: int, handler: Handler, app: Any, room: Buffer | None = None) -> Service:
    server = await host.start_server(_guarded(handler), port)
    try:
        datagram = await host.datagram(server.port)
    except BaseException:
        server.close()
        raise
    datagram.socket.set_app(hook(app), room.address if room is not None else 0, room)
    return Service(server, datagram)


async def echo(host: AsyncHost, port: int = ECHO) -> Service:
    """Send back whatever comes."""

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()

    return await _start(host, port, answer, udp_echo_app, allocate(ECHO_ROOM))


async def discard(host: AsyncHost, port: int = DISCARD) -> Service:
    """Take whatever comes."""

    async def swallow(reader: StreamReader, _writer: StreamWriter) -> None:
        while await reader.read(_PIECE):
            pass

    return await _start(host, port, swallow, udp_discard_app)


async def chargen(host: AsyncHost, port: int = CHARGEN) -> Service:
    """Send characters for as long as somebody listens; a line of them for each datagram."""
    lines = chargen_lines()
    room = allocate(CHARGEN_SIZE)
    room.array[:] = bytearray(lines[:CHARGEN_SIZE])

    async def generate(_reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            writer.write(lines)
            await writer.drain()

    return await _start(host, port, generate, udp_chargen_app, room)


async def daytime(host: AsyncHost, port: int = DAYTIME, epoch: datetime = EPOCH) -> TcpServer:
    """Tell the emulated time to who connects; ``epoch`` is when it was 0."""

    async def tell(_reader: StreamReader, writer: StreamWriter) -> None:
        now = datetime.fromtimestamp(epoch.timestamp() + running_loop().time(), UTC)
        writer.write(now.strftime("%A, %B %d, %Y %H:%M:%S-UTC\r\n").encode())

    return await host.start_server(_guarded(tell), port)
