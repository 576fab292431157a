"""`PingSockets` and `RawSockets`: the ping and raw sockets of a host, for Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from netemu.chance import next_random
from netemu.errors import ConfigError
from netemu.jit import Buffer, allocate, hook
from netemu.stack.addresses import ANY, Halves
from netemu.stack.host import Host, Interface
from netemu.stack.messages.datagram import RCVBUF, Message
from netemu.stack.messages.ping import PingTable, ping_error, ping_input, ping_send
from netemu.stack.messages.raw import ETH_HLEN, RawTable, raw_input, raw_send
from netemu.stack.messages.socket import MessageSocket

S = TypeVar("S", bound=MessageSocket)


class _List(Generic[S]):
    """Open sockets as a list that kernels walk: ``table.first`` is the one that was opened last."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.open: list[S] = []

    def add(self, socket: S) -> None:
        socket.struct.next = self.table.first
        self.table.first = socket.address
        self.open.insert(0, socket)

    def remove(self, socket: S) -> None:
        if socket in self.open:
            self.open.remove(socket)
            self.table.first = 0
            for one in reversed(self.open):
                one.struct.next = self.table.first
                self.table.first = one.address


def _filled(buffer: Buffer, data: bytes) -> Buffer:
    """A buffer with ``data`` at its start: the one given, or a larger one."""
    if len(data) > buffer.size:
        buffer = allocate(max(len(data), 2 * buffer.size))
    buffer.array[: len(data)] = bytearray(data)
    return buffer


class PingSocket(MessageSocket):
    """A socket that sends echo requests, and gets the replies to them."""

    def __init__(self, sockets: PingSockets, message: int, *, handle: int, rcvbuf: int) -> None:
        """For `PingSockets.open`."""
        super().__init__(message, handle=handle, rcvbuf=rcvbuf)
        self._sockets = sockets
        self._out = allocate(2048)

    @property
    def identifier(self) -> int:
        """What its echoes are told from others' by."""
        return self.struct.local_port

    def send(self, address: Halves, sequence: int, payload: bytes) -> int:
        """Send an echo request; SENT or SEND_... of `netemu.stack.host`."""
        self._out = _filled(self._out, payload)
        host = self._sockets.host.address
        return ping_send(host, self.address, *address, sequence, self._out.address, len(payload))

    def close(self) -> None:
        """Let go of the identifier."""
        self._sockets.sockets.remove(self)


class PingSockets:
    """The table of a host's ping sockets."""

    def __init__(self, host: Host, hook_of: Callable[[Callable[..., int]], int] = hook) -> None:
        """Put an empty table into ``host``; the hooks come, by ``hook_of``, with the first socket."""
        self.host, self._hook_of = host, hook_of
        self._message = Message()
        self._table = PingTable(message=self._message.address)
        self.sockets: _List[PingSocket] = _List(self._table)
        host.ping = self._table.address

    def open(self, source: Halves = ANY, *, handle: int = 0, rcvbuf: int = RCVBUF) -> PingSocket:
        """A socket with an identifier of its own, which sends from ``source`` (ANY: as routes say)."""
        self.host.ping_input, self.host.ping_error = self._hook_of(ping_input), self._hook_of(ping_error)
        taken = {socket.identifier for socket in self.sockets.open}
        identifier = 0
        while identifier == 0 or identifier in taken:
            self.host.random = next_random(self.host.random)
            identifier = self.host.random & 0xFFFF
        socket = PingSocket(self, self._message.address, handle=handle, rcvbuf=rcvbuf)
        socket.struct.local_port = identifier
        socket.struct.local_hi, socket.struct.local_lo = source
        self.sockets.add(socket)
        return socket


class RawSocket(MessageSocket):
    """A socket that gets the frames that come in at an interface, and sends frames out of it."""

    def __init__(self, sockets: RawSockets, interface: Interface, message: int, *, handle: int, rcvbuf: int) -> None:
        """For `RawSockets.open`."""
        super().__init__(message, handle=handle, rcvbuf=rcvbuf)
        self._sockets, self._interface = sockets, interface
        self._out = allocate(2048)

    def send(self, frame: bytes) -> int:
        """Send a frame from its Ethernet header on: SENT, SEND_DROPPED or SEND_TOO_BIG.

        Raises `ConfigError` for one that is shorter than an Ethernet header.
        """
        if len(frame) < ETH_HLEN:
            raise ConfigError(f"a frame of {len(frame)} bytes has no Ethernet header, which takes {ETH_HLEN}")
        self._out = _filled(self._out, frame)
        return raw_send(self._interface.address, self.address, self._out.address, len(frame))

    def close(self) -> None:
        """Get no more frames."""
        self._sockets.remove(self)


class RawSockets:
    """The table of a host's raw sockets."""

    def __init__(self, host: Host, hook_of: Callable[[Callable[..., int]], int] = hook) -> None:
        """Put an empty table into ``host``; the hook comes, by ``hook_of``, with the first socket."""
        self.host, self._hook_of = host, hook_of
        self._message = Message()
        self._table = RawTable(message=self._message.address)
        self.sockets: _List[RawSocket] = _List(self._table)
        host.raw = self._table.address

    def open(self, interface: Interface, *, handle: int = 0, rcvbuf: int = RCVBUF) -> RawSocket:
        """A socket on ``interface``; while one is open, frames that come in are copied to it."""
        socket = RawSocket(self, interface, self._message.address, handle=handle, rcvbuf=rcvbuf)
        socket.struct.local_port = interface.index
        self.sockets.add(socket)
        self.host.raw_input = self._hook_of(raw_input)
        return socket

    def remove(self, socket: RawSocket) -> None:
        """Take a socket out of the table, if it is there still."""
        self.sockets.remove(socket)
        if not self.sockets.open:
            self.host.raw_input = 0
