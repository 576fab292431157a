"""`IpLayer`: what a host's IP works with, for Python: addresses, routes, neighbours, and the memory behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from netemu.errors import ConfigError
from netemu.jit import Buffer, StructArray, allocate, array_of
from netemu.skb import MAX_SKB_FRAGS, Frag, Skb
from netemu.stack.addresses import (
    Address,
    InterfaceAddress,
    Network,
    from_halves,
    halves,
    mac_text,
    parse_address,
    parse_interface,
    parse_network,
)
from netemu.stack.held import HeldPackets
from netemu.stack.host import OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_TSO6, Host, Interface
from netemu.stack.icmp.input import icmp_input
from netemu.stack.icmp.limits import BURST
from netemu.stack.icmp.output import QUOTE_SIZE, icmp_send_hook
from netemu.stack.ipv4.arp_process import arp_announce, arp_input, arp_solicit, arp_unreachable
from netemu.stack.ipv4.fragments import ip_defrag, ip_expire
from netemu.stack.ipv4.input import ip_input
from netemu.stack.ipv4.output import host_route, host_send
from netemu.stack.ipv4.state import PEER_COUNT, ROOM_SIZE, IpState, Peer
from netemu.stack.loopback import loopback_deliver, loopback_xmit
from netemu.stack.neighbours import (
    ADMIN,
    BUCKETS,
    NEIGHBOUR_COUNT,
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    OVERRIDE,
    Bucket,
    Neighbour,
    Neighbours,
    neighbour_ask,
    neighbour_create,
    neighbour_forget,
    neighbour_lookup,
    neighbour_timer,
    neighbour_update,
)
from netemu.stack.packet import PacketBuffer
from netemu.stack.reassembly import Reassembly
from netemu.stack.route_table import RouteEntry, RouteTable
from netemu.stack.segment import ip_cut
from netemu.stack.state import Stack
from netemu.stack.transport_error import transport_error
from netemu.timers import TIMER_SIZE, Timer

ENTRIES = (
    ip_input,
    host_send,
    neighbour_ask,
    ip_cut,
    ip_defrag,
    arp_input,
    icmp_input,
    neighbour_timer,
    icmp_send_hook,
    host_route,
    arp_solicit,
    arp_unreachable,
    ip_expire,
    loopback_xmit,
    loopback_deliver,
    transport_error,
)
"""What is compiled for it, the largest first."""

LOOPBACK_MTU = 65535
"""The longest IP packet. Linux's is 1 more, which no packet makes use of."""
POINT_TO_POINT = 31
"""From this length of an IPv4 prefix on there is no broadcast address (RFC 3021)."""

STATE_NAMES = {
    NUD_NONE: "none",
    NUD_INCOMPLETE: "incomplete",
    NUD_REACHABLE: "reachable",
    NUD_STALE: "stale",
    NUD_DELAY: "delay",
    NUD_PROBE: "probe",
    NUD_FAILED: "failed",
    NUD_PERMANENT: "permanent",
}


@dataclass(frozen=True)
class NeighbourEntry:
    """One neighbour; ``str`` gives its line as ``ip neigh`` prints it."""

    address: Address
    device: str
    mac: str | None
    state: str
    is_router: bool = False

    def __str__(self) -> str:
        """The neighbour in one line."""
        lladdr = f" lladdr {self.mac}" if self.mac is not None else ""
        return f"{self.address} dev {self.device}{lladdr}{' router' if self.is_router else ''} {self.state.upper()}"


class IpLayer:
    """The IP of one host: the structs that kernels see, and their settings."""

    def __init__(self, host: Host, stack: Stack, hook_of: Callable[[Callable[..., Any]], int]) -> None:
        """Give ``host`` and ``stack`` what they need; ``hook_of`` gives the address of an entry point."""
        self._host = host
        self._memory: list[Any] = []
        self._held, self._reassembly = HeldPackets(), Reassembly()
        self.held, self.reassembly = self._held.struct, self._reassembly.struct
        self._reassembly.struct.expire4 = hook_of(ip_expire)
        self.routes = RouteTable()
        self._names: dict[int, str] = {}
        self._addresses: dict[int, list[InterfaceAddress]] = {}
        self._make_neighbours(hook_of)
        self.state = IpState(
            **{name: self._packet() for name in ("forward", "fragment", "segment", "control", "answer", "released")},
            room=self._bytes(ROOM_SIZE),
            held_room=self._bytes(ROOM_SIZE),
            quote=self._bytes(QUOTE_SIZE),
            whole=self._skb(),
            inner=self._skb(),
            held=self._held.struct.address,
            reassembly=self._reassembly.struct.address,
            peers=self._array(Peer, PEER_COUNT),
            loopback_deliver=hook_of(loopback_deliver),
            cut=hook_of(ip_cut),
            icmp_tokens=BURST,
        )
        host.ip = self.state.address
        host.routes = self.routes.struct.address
        host.neighbours = self.neighbours.address
        host.ip_identification = host.random & 0xFFFF
        host.route, host.send = hook_of(host_route), hook_of(host_send)
        host.transport_error = hook_of(transport_error)
        stack.arp_input, stack.ip_input, stack.icmp_input = hook_of(arp_input), hook_of(ip_input), hook_of(icmp_input)
        stack.icmp_send, stack.ip_defrag = hook_of(icmp_send_hook), hook_of(ip_defrag)
        self._loopback = Interface(
            host=host.address,
            mtu=LOOPBACK_MTU,
            offloads=OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6,
            gso_max=LOOPBACK_MTU,
            up=1,
            xmit=hook_of(loopback_xmit),
            device=host.address,
            ipv4=0x7F000001,
            ipv4_prefix=8,
        )
        host.loopback = self._loopback.address
        self._names[self._loopback.address] = "lo"
        self.add_address(self._loopback, "127.0.0.1/8")

    def _make_neighbours(self, hook_of: Callable[[Callable[..., Any]], int]) -> None:
        """The table of neighbours, each with its timer."""
        self._neighbours: StructArray[Neighbour] = array_of(Neighbour, NEIGHBOUR_COUNT)
        timers: StructArray[Timer] = array_of(Timer, NEIGHBOUR_COUNT)
        self._memory.append(timers)
        self._neighbours.view["timer"] = timers.address + np.arange(NEIGHBOUR_COUNT) * TIMER_SIZE
        self.neighbours = Neighbours(
            buckets=self._array(Bucket, BUCKETS),
            first=self._neighbours.address,
            solicit4=hook_of(arp_solicit),
            unreachable4=hook_of(arp_unreachable),
            timer=hook_of(neighbour_timer),
            ask=hook_of(neighbour_ask),
        )

    def _packet(self) -> int:
        packet = PacketBuffer()
        self._memory.append(packet)
        return packet.address

    def _bytes(self, size: int) -> int:
        block: Buffer = allocate(size)
        self._memory.append(block)
        return block.address

    def _array(self, cls: type[Any], count: int) -> int:
        array: StructArray[Any] = array_of(cls, count)
        self._memory.append(array)
        return array.address

    def _skb(self) -> int:
        skb = Skb(frags=self._array(Frag, MAX_SKB_FRAGS), queue_mapping=-1)
        self._memory.append(skb)
        return skb.address

    # Addresses.

    def name(self, interface: Interface, name: str) -> None:
        """Call an interface so in listings."""
        self._names[interface.address] = name

    def name_of(self, interface: Interface) -> str:
        """What an interface is called."""
        return self._names[interface.address]

    def addresses(self, interface: Interface) -> list[InterfaceAddress]:
        """The addresses of an interface, in the order in which they were added."""
        return list(self._addresses.get(interface.address, []))

    def add_address(self, interface: Interface, text: str | InterfaceAddress) -> InterfaceAddress:
        """One more address, such as 10.0.0.1/24; with it come the routes to itself, its subnet and its broadcast.

        The first IPv4 address of an interface is the source of what has none. Raises `ConfigError`.
        """
        address = parse_interface(text)
        known = self._addresses.setdefault(interface.address, [])
        if address in known:
            raise ConfigError(f"{address} is an address of {self._names[interface.address]} already")
        if address.version == 4 and not any(other.version == 4 for other in known):
            interface.ipv4, interface.ipv4_prefix = int(address.ip), address.network.prefixlen
        for entry in self._routes_of(interface, address):
            # A second address in a subnet shares its routes.
            if entry.kind == "local" or entry not in self.routes:
                self.routes.add(entry)
        known.append(address)
        return address

    def remove_address(self, interface: Interface, text: str | InterfaceAddress) -> None:
        """Take an address away, with its routes; raises `ConfigError` if it is not there."""
        address = parse_interface(text)
        known = self._addresses.get(interface.address, [])
        if address not in known:
            raise ConfigError(f"{address} is no address of {self._names[interface.address]}")
        known.remove(address)
        kept = {entry.network for other in known for entry in self._routes_of(interface, other)}
        for entry in self._routes_of(interface, address):
            if entry.network not in kept:
                self.routes.remove(entry.network, entry.kind, interface.address)
        if interface.ipv4 == int(address.ip):
            first = next((other for other in known if other.version == 4), None)
            interface.ipv4 = int(first.ip) if first is not None else 0
            interface.ipv4_prefix = first.network.prefixlen if first is not None else 0

    def _routes_of(self, interface: Interface, address: InterfaceAddress) -> list[RouteEntry]:
        """The routes that come with an address."""
        device, network = self._names[interface.address], address.network
        host = parse_network(str(address.ip))
        entries = [RouteEntry(host, "local", interface.address, device, source=address.ip)]
        if network.prefixlen == network.max_prefixlen:
            return entries
        kind = "local" if device == "lo" else "unicast"
        entries.append(RouteEntry(network, kind, interface.address, device, source=address.ip))
        if network.version == 4 and network.prefixlen < POINT_TO_POINT and device != "lo":
            everybody = parse_network(str(network.broadcast_address))
            entries.append(RouteEntry(everybody, "broadcast", interface.address, device, source=address.ip))
        return entries

    # Routes.

    def add_route(
        self,
        destination: str | Network,
        *,
        via: str | Address | None = None,
        interface: Interface | None = None,
        source: str | Address | None = None,
        metric: int = 0,
        mtu: int = 0,
        kind: str = "unicast",
    ) -> RouteEntry:
        """Add a route to a prefix: ``via`` a gateway on one of the host's links, or out of an ``interface``.

        ``kind`` may be unreachable or blackhole, too. Raises `ConfigError`.
        """
        network = parse_network(destination)
        gateway = parse_address(via) if via is not None else None
        if gateway is not None and gateway.version != network.version:
            raise ConfigError(f"{gateway} and {network} are of different IP versions")
        address = interface.address if interface is not None else 0
        if kind == "unicast" and address == 0:
            if gateway is None:
                raise ConfigError(f"a route to {network} needs a gateway or an interface")
            address = self._link_of(gateway)
        entry = RouteEntry(
            network,
            kind,
            address,
            self._names.get(address, ""),
            gateway,
            parse_address(source) if source is not None else None,
            metric,
            mtu,
        )
        self.routes.add(entry)
        return entry

    def remove_route(self, destination: str | Network, kind: str = "unicast") -> None:
        """Remove the routes to a prefix; raises `ConfigError` if there is none."""
        self.routes.remove(parse_network(destination), kind)

    def _link_of(self, gateway: Address) -> int:
        """The interface on whose link an address is; raises `ConfigError`."""
        for entry in self.routes:
            if gateway in entry.network and entry.kind == "unicast" and entry.via is None:
                return entry.interface
        raise ConfigError(f"the gateway {gateway} is on no link of this host")

    # Neighbours.

    def neighbour_list(self) -> list[NeighbourEntry]:
        """The neighbours there are."""
        return [
            NeighbourEntry(
                from_halves(n.hi, n.lo),
                self._names[n.interface],
                mac_text(n.mac) if n.mac else None,
                STATE_NAMES[n.state],
                bool(n.is_router),
            )
            for n in self._neighbours[: self.neighbours.made]
            if n.state != NUD_NONE
        ]

    def add_neighbour(self, interface: Interface, address: str | Address, mac: bytes) -> None:
        """A neighbour for good: nobody asks for it, nothing changes it."""
        hi, lo = halves(parse_address(address))
        host = self._host.address
        found = neighbour_lookup(self.neighbours, interface.address, hi, lo)
        found = found or neighbour_create(host, interface.address, hi, lo)
        neighbour_update(host, found, int.from_bytes(mac, "big"), NUD_PERMANENT, OVERRIDE | ADMIN)

    def announce(self, interface: Interface) -> None:
        """Tell the link of the interface's IPv4 address (gratuitous ARP)."""
        arp_announce(self._host.address, interface.address)

    def flush_neighbours(self) -> None:
        """Forget all neighbours but those for good."""
        for n in self._neighbours[: self.neighbours.made]:
            if n.state not in (NUD_NONE, NUD_PERMANENT):
                neighbour_forget(self._host.address, n.address)
