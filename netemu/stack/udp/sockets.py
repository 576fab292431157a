"""`UdpSockets`: the UDP sockets of a host, for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from netemu.chance import next_random
from netemu.errors import ConfigError
from netemu.jit import Buffer, allocate, hook
from netemu.stack.addresses import ANY, Halves, check_port, halves_are_ipv4
from netemu.stack.host import Host
from netemu.stack.messages.datagram import RCVBUF, Message
from netemu.stack.messages.socket import MessageSocket
from netemu.stack.state import Stack
from netemu.stack.udp.input import udp_error, udp_input
from netemu.stack.udp.output import udp_connect, udp_send
from netemu.stack.udp.table import BUCKETS, UdpTable

EPHEMERAL = range(32_768, 61_000)
"""Ports for sockets that ask for none: Linux's net.ipv4.ip_local_port_range."""


def free_port(host: Host, taken: Iterable[int]) -> int:
    """An ephemeral port that is not among ``taken``, the first free one from a random one on.

    Raises `ConfigError` if there is none.
    """
    host.random = next_random(host.random)
    start = host.random % len(EPHEMERAL)
    used = set(taken)
    for step in range(len(EPHEMERAL)):
        port = EPHEMERAL[(start + step) % len(EPHEMERAL)]
        if port not in used:
            return port
    raise ConfigError(f"all {len(EPHEMERAL)} ports for sockets that ask for none are in use: close some")


class UdpSocket(MessageSocket):
    """A bound UDP socket."""

    def __init__(self, sockets: UdpSockets, message: int, *, handle: int, rcvbuf: int) -> None:
        """For `UdpSockets.open`."""
        super().__init__(message, handle=handle, rcvbuf=rcvbuf)
        self._sockets = sockets
        self._out: Buffer = allocate(2048)

    @property
    def local(self) -> tuple[Halves, int]:
        """The address and port it is bound to."""
        return (self.struct.local_hi, self.struct.local_lo), self.struct.local_port

    @property
    def remote(self) -> tuple[Halves, int] | None:
        """The address and port it is connected to."""
        s = self.struct
        return ((s.remote_hi, s.remote_lo), s.remote_port) if s.remote_port else None

    def connect(self, address: Halves, port: int) -> int:
        """Hear and address nobody but ``port`` of ``address``: SENT, or SEND_UNREACHABLE without a route to it."""
        check_port(port, "UDP")
        return udp_connect(self._sockets.host.address, self.address, *address, port)

    def send(self, data: bytes | bytearray | memoryview, address: Halves, port: int) -> int:
        """Send a datagram; SENT or SEND_... of `netemu.stack.host`."""
        check_port(port, "UDP")
        size = len(data)
        if size > self._out.size:
            self._out = allocate(max(size, 2 * self._out.size))
        self._out.array[:size] = bytearray(data)
        return udp_send(self._sockets.host.address, self.address, *address, port, self._out.address, size)

    def close(self) -> None:
        """Let go of the port. What waits in the queue can still be received."""
        self._sockets.remove(self)


class UdpSockets:
    """The table of a host's UDP sockets."""

    def __init__(self, host: Host, stack: Stack, hook_of: Callable[[Callable[..., int]], int] = hook) -> None:
        """Put an empty table into ``host``, and the hooks of UDP, by ``hook_of``, where they belong."""
        self.host = host
        self._buckets = allocate(BUCKETS * 8)
        self._heads = self._buckets.array.view("<i8")
        self._message = Message()
        self._table = UdpTable(buckets=self._buckets.address, message=self._message.address)
        self._kept: list[tuple[object, ...]] = []
        self._open: dict[int, list[UdpSocket]] = {}
        host.udp = self._table.address
        host.udp_error = hook_of(udp_error)
        stack.udp_input = hook_of(udp_input)

    def open(
        self,
        address: Halves = ANY,
        port: int = 0,
        *,
        family: int = 0,
        interface: int = 0,
        handle: int = 0,
        rcvbuf: int = RCVBUF,
    ) -> UdpSocket:
        """A socket bound to ``port`` (0: a free one) of ``address``; with ANY of ``family`` 4, 6, or both (0).

        ``interface`` is the address of the only one that it uses, or 0. Raises `ConfigError` if the port is in use.
        """
        if address != ANY:
            family = 4 if halves_are_ipv4(address) else 6
        check_port(port, "UDP")
        if port == 0:
            port = free_port(self.host, (number for number, sockets in self._open.items() if sockets))
        for other in self._open.get(port, ()):
            (other_address, _), other_family = other.local, other.struct.family
            same_family = 0 in (family, other_family) or family == other_family
            same_link = 0 in (interface, other.struct.interface) or interface == other.struct.interface
            if same_family and same_link and (ANY in (address, other_address) or address == other_address):
                raise ConfigError(f"UDP port {port} is in use on this host: choose another, or 0 for a free one")
        socket = UdpSocket(self, self._message.address, handle=handle, rcvbuf=rcvbuf)
        s = socket.struct
        s.family, s.local_port, s.interface = family, port, interface
        s.local_hi, s.local_lo = address
        self._open.setdefault(port, []).insert(0, socket)
        self._link(port)
        return socket

    def keep(self, *memory: object) -> None:
        """Keep what kernels may still look at although its user is done with it."""
        self._kept.append(memory)

    def remove(self, socket: UdpSocket) -> None:
        """Take a socket out of the table, if it is there still."""
        port = socket.struct.local_port
        if socket in self._open.get(port, ()):
            self._open[port].remove(socket)
            self._link(port)

    def _link(self, port: int) -> None:
        """Make the list of the port's bucket anew: ports side by side, and of one port the last socket first."""
        bucket = port % BUCKETS
        following = 0
        ports = range(bucket, 1 << 16, BUCKETS)
        for socket in reversed([socket for number in ports for socket in self._open.get(number, ())]):
            socket.struct.next = following
            following = socket.address
        self._heads[bucket] = following
