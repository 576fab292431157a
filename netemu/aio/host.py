"""`AsyncHost`: the sockets of one emulated host, in asyncio's manner."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any, TypeVar

from netemu.aio.datagram import Datagram, DatagramTransport
from netemu.aio.endpoint import running_loop
from netemu.aio.names import Names, Resolver, Target, resolve
from netemu.aio.ping import Pinger, PingStats
from netemu.aio.raw import Raw
from netemu.aio.tcp_server import TcpServer, stream_protocol
from netemu.aio.tcp_transport import TcpTransport
from netemu.errors import ConfigError, NetemuError
from netemu.net.units import parse_time
from netemu.stack.addresses import ANY, Halves, halves_of, halves_text
from netemu.stack.host import MAPPED_IPV4, Interface
from netemu.stack.host_stack import HostStack
from netemu.stack.messages.datagram import RCVBUF
from netemu.stack.tcp.sockets import TcpSocket, TcpSockets

SECOND = 1_000_000_000

STREAM_LIMIT = 1 << 18
"""Bytes that a stream's reader holds (twice) before the connection's own buffer fills."""

P = TypeVar("P", bound=asyncio.DatagramProtocol)
Q = TypeVar("Q", bound=asyncio.BaseProtocol)


def duration(value: str | float) -> int:
    """A duration in ns: a text as tc has it ("10ms"), or a number of seconds, as everywhere in asyncio."""
    return parse_time(value if isinstance(value, str) else value * SECOND)


class AsyncHost:
    """A host whose sockets coroutines use. They run on the lab's `netemu.aio.loop.EmulatedLoop`."""

    def __init__(self, name: str, stack: HostStack, names: Names, *, tcp: TcpSockets | None = None) -> None:
        """The sockets of ``stack``; ``names`` are the hosts that it knows by name.

        Without ``tcp`` the host speaks TCP from the first use of it on, and drops segments before.
        """
        self.name = name
        self._tcp = tcp
        self.stack = stack
        self.names = names
        self.resolver: Resolver | None = None
        """Asked for names that ``names`` does not have; see `netemu.services.dns_client`."""

    def __repr__(self) -> str:
        """What it is, its name and its addresses."""
        of = " ".join(halves_text(*address) for address in self.addresses)
        return f"<{type(self).__name__.lower()} {self.name}{of and ' '}{of}>"

    @property
    def tcp(self) -> TcpSockets:
        """Its connections."""
        if self._tcp is None:
            self._tcp = TcpSockets(self.stack)
        return self._tcp

    @property
    def addresses(self) -> list[Halves]:
        """The addresses of its interfaces, IPv4 first; those of the link alone are left out."""
        interfaces = self.stack.interfaces
        four = [(0, MAPPED_IPV4 | one.ipv4) for one in interfaces if one.ipv4]
        six = [(one.ipv6_hi, one.ipv6_lo) for one in interfaces]
        return four + [address for address in six if address != ANY] + self.stack.learned_addresses()

    async def resolve(self, target: Target, version: int = 0) -> Halves:
        """The address of a host: by its name, as it is written, or of the host itself (IPv4 first unless told).

        Raises `ConfigError` for a name that nobody has, `OSError` if the resolver finds none.
        """
        return await resolve(target, self.names, self.resolver, version)

    async def lookup(self, target: Target, version: int = 0) -> str:
        """`resolve`, as it is written."""
        return halves_text(*await self.resolve(target, version))

    # Streams.

    async def connect(
        self, target: Target, port: int, *, version: int = 0, limit: int = STREAM_LIMIT, local_port: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection, as asyncio's streams; ``limit`` is their reader's.

        Raises `ConnectionRefusedError`, `TimeoutError` and other `OSError`, as a connection comes to.
        """
        loop = running_loop()
        reader, protocol = stream_protocol(loop, None, limit)
        transport, _ = await self.create_connection(
            lambda: protocol, target, port, version=version, local_port=local_port
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def create_connection(
        self, protocol_factory: Callable[[], Q], target: Target, port: int, *, version: int = 0, local_port: int = 0
    ) -> tuple[TcpTransport, Q]:
        """As asyncio's loop has it, for protocols that others wrote."""
        loop = running_loop()
        address = await self.resolve(target, version)
        try:
            connection = self.tcp.connect(address, port, local_port=local_port)
        except ConfigError:
            raise
        except NetemuError as error:
            raise OSError(errno.EHOSTUNREACH, f"{self.name} to {halves_text(*address)} port {port}: {error}") from None
        transport = TcpTransport(loop, self.name, connection)
        await transport.connected()
        protocol = protocol_factory()
        transport.begin(protocol)
        return transport, protocol

    async def start_server(
        self,
        connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
        port: int = 0,
        address: str | None = None,
        *,
        backlog: int = 128,
        limit: int = STREAM_LIMIT,
    ) -> TcpServer:
        """Take connections at ``port`` (0: a free one); ``connected(reader, writer)`` runs for each, as asyncio has it.

        Raises `NetemuError` if somebody listens there already.
        """
        loop = running_loop()
        return await self.create_server(
            lambda: stream_protocol(loop, connected, limit)[1], port, address, backlog=backlog
        )

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        port: int = 0,
        address: str | None = None,
        *,
        backlog: int = 128,
    ) -> TcpServer:
        """As asyncio's loop has it, for protocols that others wrote."""
        at = ANY if address is None else halves_of(address)

        def listen(handle: int) -> TcpSocket:
            return self.tcp.listen(port, at, backlog=backlog, handle=handle)

        return TcpServer(running_loop(), self.name, listen, protocol_factory)

    # Messages.

    def _interface(self, index: int) -> Interface:
        """The interface with an index, from 1. Raises `ConfigError` if there is none."""
        interfaces = self.stack.interfaces
        if not 1 <= index <= len(interfaces):
            raise ConfigError(f"{self.name} has {len(interfaces)} interfaces, from 1 on: {index} is none of them")
        return interfaces[index - 1]

    async def datagram(
        self,
        port: int = 0,
        address: str | None = None,
        *,
        remote: tuple[Target, int] | None = None,
        family: int = 0,
        interface: int | None = None,
        broadcast: bool = False,
        rcvbuf: int = RCVBUF,
    ) -> Datagram:
        """A UDP socket bound to ``port`` (0: a free one) of ``address`` (None: all), connected to ``remote`` if given.

        ``family`` 4 or 6 restricts one bound to all addresses to a version of IP, ``interface`` to one, by its index.
        ``broadcast`` lets it send to everybody. Raises `ConfigError` if the port is in use, `OSError` if there is no
        way to ``remote``.
        """
        at = ANY if address is None else halves_of(address)
        link = 0 if interface is None else self._interface(interface).address

        def opened(handle: int) -> Any:
            return self.stack.udp.open(at, port, family=family, interface=link, handle=handle, rcvbuf=rcvbuf)

        datagram = Datagram(self.name, self.resolve, opened, broadcast)
        if remote is not None:
            try:
                await datagram.connect(*remote)
            except BaseException:
                datagram.close()
                raise
        return datagram

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], P],
        local_addr: tuple[str, int] | None = None,
        remote_addr: tuple[Target, int] | None = None,
    ) -> tuple[DatagramTransport, P]:
        """As asyncio's loop has it, for protocols that others wrote."""
        address, port = local_addr or (None, 0)
        datagram = await self.datagram(port, address, remote=remote_addr)
        protocol = protocol_factory()
        transport = DatagramTransport(datagram, protocol)
        protocol.connection_made(transport)
        return transport, protocol

    async def ping(
        self,
        target: Target,
        count: int = 4,
        interval: str | float = 1.0,
        size: int = 56,
        timeout: str | float = 1.0,  # noqa: ASYNC109 - of each answer, as ping's -W
        *,
        version: int = 0,
        hop_limit: int = 0,
        dont_fragment: bool = False,
    ) -> PingStats:
        """Send ``count`` echo requests with ``size`` bytes each and see what comes back.

        Times are texts ("200ms") or seconds; ``timeout`` is how long the last answer may take. Raises `OSError` if
        there is no way to send the first.
        """
        if count < 0 or size < 0:
            raise ConfigError("a ping has a count and a size that are not negative")
        if not 0 <= hop_limit <= 255:
            raise ConfigError(f"a hop limit is from 1 to 255, or 0 for the host's own, not {hop_limit}")
        address = await self.resolve(target, version)

        def opened(handle: int) -> Any:
            return self.stack.ping.open(handle=handle)

        with Pinger(self.name, opened, address, size) as pinger:
            pinger.socket.struct.hop_limit = hop_limit
            pinger.socket.struct.dont_fragment = int(dont_fragment)
            return await pinger.run(count, duration(interval), duration(timeout))

    async def raw(self, interface: int = 1, *, rcvbuf: int = 1 << 20) -> Raw:
        """A raw socket on an interface (by its index): whole frames out and in."""
        one = self._interface(interface)

        def sender() -> tuple[bytes, list[str]]:
            return one.mac.to_bytes(6, "big"), [halves_text(*address) for address in self.addresses]

        return Raw(self.name, lambda handle: self.stack.raw.open(one, handle=handle, rcvbuf=rcvbuf), sender)
