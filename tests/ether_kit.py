"""Whole hosts on one Ethernet, all of it plain Python: frames take some time, and what a test likes happens to them.

For tests with `plain_entries`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from netemu.aio import AsyncHost, Names
from netemu.jit import call2, hook
from netemu.stack.host_stack import HostStack
from netemu.stack.packet import packet_at, packet_len
from netemu.stack.tcp.sockets import TcpSockets
from tests.aio_kit import TimerWorld
from tests.message_kit import bytes_at
from tests.skb_kit import SkbKit

DELAY = 10_000_000
"""ns that a frame takes."""


class NetHost(AsyncHost):
    """One host on a `Net`."""

    def __init__(self, net: Net, number: int, addresses: Iterable[str], buffers: int) -> None:
        stack = HostStack(net.world.timers.struct, net.world.ready, seed=number, plain=True)
        super().__init__(
            f"host{number}", stack, net.names, tcp=TcpSockets(stack, send_buffer=buffers, receive_buffer=buffers)
        )
        self.mac = bytes([2, 0, 0, 0, 0, number])
        self._skbs = SkbKit()
        self._net = net
        self.interface = stack.add_interface(self.mac, hook(self._xmit), number)
        for address in addresses:
            stack.add_address(self.interface, address)
        net.names.add(self.name, lambda: self.addresses)

    def _xmit(self, _device: int, packet: int) -> int:
        p = packet_at(packet)
        frame = bytes_at(p.data, p.transport + p.transport_len - p.data) + bytes_at(p.payload, p.payload_len)
        if p.more_len:
            frame += bytes_at(p.more, p.more_len)
        assert len(frame) == packet_len(packet)
        self._net.carry(self, frame)
        return 1

    def take(self, frame: bytes) -> None:
        """A frame arrives."""
        skb = self._skbs.build(frame)
        if not frame[0] & 1 and frame[:6] != self.mac:
            return

        call2(self.stack.deliver, self.interface.address, skb.address)


class Net:
    """The hosts, and what joins them."""

    def __init__(self, *addresses: str | Iterable[str], buffers: int = 1 << 16) -> None:
        """A host for each of ``addresses``, which may be several of one host, or none."""
        self.world = TimerWorld()
        self.names = Names()
        self.hosts = [
            NetHost(self, number, [each] if isinstance(each, str) else each, buffers)
            for number, each in enumerate(addresses, start=1)
        ]
        self.spoil: Callable[[int, bytes], list[bytes]] = lambda _number, frame: [frame]
        """What becomes of a frame by its number, from 1: the frames that arrive in its place."""
        self.frames: list[bytes] = []
        """All that was sent."""

    def carry(self, sender: NetHost, frame: bytes) -> None:
        """A frame goes out to everybody."""
        self.frames.append(frame)
        for each in self.spoil(len(self.frames), frame):
            for host in self.hosts:
                if host is not sender:
                    self.world.at(self.world.now + DELAY, functools.partial(host.take, each))
