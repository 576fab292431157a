"""A router: a host with several plain cards that sends on what is not for it."""

from __future__ import annotations

from collections.abc import Iterable

from netemu.aio.host import AsyncHost
from netemu.aio.names import Names
from netemu.jit import hook
from netemu.net.host_port import HostPort, host_port_receive, host_port_xmit
from netemu.net.port import Port
from netemu.net.world import World
from netemu.skb import Skb
from netemu.stack.host import OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_TSO6
from netemu.stack.host_stack import HostStack
from netemu.stack.tcp.sockets import TcpSockets

EVERYTHING = OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6


class Router(AsyncHost):
    """A router of a lab; ``stack`` has its addresses, routes and counters, ``ports`` one port per address it got."""

    def __init__(self, name: str, world: World, names: Names, *, seed: int) -> None:
        """A router without ports."""
        stack = HostStack(world.timers.struct, world.ready, seed=seed, forwarding=True)
        super().__init__(name, stack, names, tcp=TcpSockets(stack))
        self.ports: list[Port] = []
        self._world = world
        self._cards: list[tuple[HostPort, Skb]] = []

    def add_port(self, mac: bytes, addresses: Iterable[str] = (), *, mtu: int = 1500) -> Port:
        """One more card, with addresses like "10.0.0.254/24"; its port, to plug a link into."""
        world = self._world
        skb = Skb()
        card = HostPort(
            deliver=self.stack.deliver,
            skb=skb.address,
            timers=world.timers.struct.address,
            pool=world.wires.pool.address,
        )
        port = Port(node=card.address, number=len(self.ports), receive=hook(host_port_receive))
        card.port = port.address
        interface = self.stack.add_interface(mac, hook(host_port_xmit), card.address, mtu=mtu, offloads=EVERYTHING)
        card.interface = interface.address
        for address in addresses:
            self.stack.add_address(interface, address, detect=0)
        self.ports.append(port)
        self._cards.append((card, skb))
        return port
