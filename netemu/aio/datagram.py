"""UDP sockets for coroutines, and for asyncio's datagram protocols."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Any, cast

from netemu.aio.endpoint import MessageEndpoint, running_loop
from netemu.aio.failures import failure, icmp_failure, send_failure
from netemu.stack.addresses import Halves, halves_of, halves_text
from netemu.stack.host import MAPPED_IPV4
from netemu.stack.udp.sockets import UdpSocket

Endpoint = tuple[str, int]
"""An address as it is written, and a port."""

_BROADCAST: Halves = (0, MAPPED_IPV4 | 0xFFFFFFFF)


class Datagram(MessageEndpoint):
    """A UDP socket: ``await sock.send(b"x", (b, 53))``, ``data, source = await sock.receive()``."""

    socket: UdpSocket

    def __init__(self, name: str, find: Callable[[Any], Awaitable[Halves]], open_socket: Any, broadcast: bool) -> None:
        """For `netemu.aio.host.AsyncHost.datagram`; ``open_socket`` gets the handle and gives the socket."""
        self._name, self._find = name, find
        super().__init__(open_socket)
        self.socket.struct.broadcast = int(broadcast)

    @property
    def port(self) -> int:
        """The port it is bound to."""
        return self.socket.local[1]

    @property
    def local(self) -> Endpoint:
        """The address and port it is bound to; ``::`` is any address."""
        address, port = self.socket.local
        return halves_text(*address), port

    @property
    def remote(self) -> Endpoint | None:
        """The address and port it is connected to."""
        remote = self.socket.remote
        return None if remote is None else (halves_text(*remote[0]), remote[1])

    async def connect(self, target: Any, port: int) -> None:
        """Send to nobody else from now on, hear nobody else, and learn of ICMP errors.

        Raises `OSError` without a route.
        """
        address = await self._find(target)
        problem = send_failure(self.socket.connect(address, port), f"{self} to {halves_text(*address)}")
        if problem is not None:
            raise problem

    async def send(self, data: bytes | bytearray | memoryview, target: tuple[Any, int] | None = None) -> None:
        """Send a datagram to a host and port, or, of a connected socket, to its peer.

        Raises `OSError`: there is no route, it is too long, ICMP told of an earlier one (connected sockets only). What
        the interface has no room for is lost without a word.
        """
        if target is not None:
            self.send_now(data, await self._find(target[0]), target[1])
        else:
            self.send_now(data)

    def send_now(
        self, data: bytes | bytearray | memoryview, address: Halves | None = None, port: int | None = None
    ) -> None:
        """`send` to an address that is known."""
        self._refuse_closed()
        error, _ = self.socket.take_error()
        if error:
            raise icmp_failure(error, str(self))
        if address is None or port is None:
            remote = self.socket.remote
            if remote is None:
                raise failure(errno.EDESTADDRREQ, str(self))
            address, port = remote
        if address == _BROADCAST and not self.socket.struct.broadcast:
            raise failure(errno.EACCES, f"{self} was not opened with broadcast=True")
        problem = send_failure(self.socket.send(data, address, port), f"{self} to {halves_text(*address)}")
        if problem is not None:
            raise problem

    async def receive(self) -> tuple[bytes, Endpoint]:
        """The next datagram, and where it came from. Raises `OSError` for what ICMP told a connected socket of."""
        message = await self.take()
        return message.data, (halves_text(*message.source), message.port)

    def __str__(self) -> str:
        """Whose socket, and where it is bound and connected."""
        remote = self.remote
        to = f" to {remote[0]} port {remote[1]}" if remote else ""
        return f"{self._name}: UDP {self.local[0]} port {self.port}{to}"


class DatagramTransport(asyncio.DatagramTransport):
    """asyncio's transport over a `Datagram`, for protocols that others wrote."""

    def __init__(self, datagram: Datagram, protocol: asyncio.DatagramProtocol) -> None:
        """Begin to hand up what comes."""
        super().__init__({"sockname": datagram.local, "peername": datagram.remote})
        self._datagram, self._protocol = datagram, protocol
        self._reading = running_loop().create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                try:
                    data, source = await self._datagram.receive()
                except OSError as error:
                    if self._datagram.is_closed:
                        return
                    self._protocol.error_received(error)
                else:
                    self._protocol.datagram_received(data, source)
        finally:
            self._datagram.close()
            self._protocol.connection_lost(None)

    def sendto(self, data: Any, addr: Any | None = None) -> None:
        """Send a datagram; what goes wrong is for the protocol's ``error_received``."""
        try:
            if addr is None:
                self._datagram.send_now(data)
            else:
                self._datagram.send_now(data, halves_of(addr[0]), addr[1])
        except OSError as error:
            self._protocol.error_received(error)

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._datagram.is_closed

    def close(self) -> None:
        """Close it; the protocol's ``connection_lost`` follows."""
        self._datagram.close()

    abort = close

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol."""
        self._protocol = cast("asyncio.DatagramProtocol", protocol)
