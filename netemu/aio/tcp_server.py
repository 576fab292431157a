"""A listener for coroutines and protocols, as asyncio's `Server`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from netemu.aio.loop import EmulatedLoop
from netemu.aio.tcp_transport import TcpTransport, endpoints
from netemu.stack.tcp.sockets import TcpSocket


class TcpServer:
    """Takes connections at a port until it is closed. For use in ``async with``, or to be closed."""

    def __init__(
        self,
        loop: EmulatedLoop,
        name: str,
        open_listener: Callable[[int], TcpSocket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        """``open_listener`` gets the handle and gives the listener; each connection gets a protocol of its own."""
        self._loop, self._name, self._factory = loop, name, protocol_factory
        self._handle = loop.attach(self._ready, self.__str__)
        try:
            self._listener = open_listener(self._handle)
        except BaseException:
            loop.detach(self._handle)
            raise
        self._local = endpoints(self._listener)[0]
        self._closed: asyncio.Future[None] = loop.create_future()
        self.accepted = 0
        """Connections so far."""

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self._local[1]

    @property
    def local(self) -> tuple[str, int]:
        """The address and port it listens at; ``::`` is any address."""
        return self._local

    def _ready(self) -> None:
        self._listener.events()
        while self.is_serving() and (connection := self._listener.accept()) is not None:
            self.accepted += 1
            TcpTransport(self._loop, self._name, connection).begin(self._factory())

    def is_serving(self) -> bool:
        """Whether it takes connections."""
        return not self._closed.done()

    def close(self) -> None:
        """Take no more connections; those there are stay."""
        if self.is_serving():
            self._closed.set_result(None)
            self._loop.detach(self._handle)
            self._listener.close()

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        await asyncio.shield(self._closed)

    async def serve_forever(self) -> None:
        """Take connections until the caller is cancelled, or it is closed."""
        try:
            await self.wait_closed()
        finally:
            self.close()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __str__(self) -> str:
        """Whose it is, and where it listens."""
        return f"{self._name}: TCP {self._local[0]} port {self._local[1]}, LISTEN"


def stream_protocol(
    loop: EmulatedLoop, connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any] | None, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamReaderProtocol]:
    """Asyncio's own reader, and the protocol that fills it."""
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    return reader, asyncio.StreamReaderProtocol(reader, connected, loop=loop)
