"""`HostStack`: a host's protocols for Python, with interfaces, addresses and the tables behind its sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netemu.chance import seeded
from netemu.errors import ConfigError
from netemu.jit import Buffer, StructArray, allocate, array_of, hook, load_together
from netemu.jit.kernels import Kernel
from netemu.stack.addresses import (
    Address,
    InterfaceAddress,
    Network,
    from_halves,
    halves,
    parse_address,
    parse_interface,
)
from netemu.stack.deliver import host_deliver
from netemu.stack.host import Host, Interface, Ready
from netemu.stack.ipv4.layer import ENTRIES, IpLayer
from netemu.stack.ipv6.layer import ENTRIES6, Ip6Layer
from netemu.stack.messages.ping_and_raw import PingSockets, RawSockets
from netemu.stack.packet import PacketBuffer
from netemu.stack.protocols import ProtocolStack
from netemu.stack.udp.sockets import UdpSockets
from netemu.timers import Timers

INTERFACES_MAX = 64


class ReadyList:
    """A `Ready` list with its memory."""

    def __init__(self, capacity: int = 1 << 16) -> None:
        """Room for ``capacity`` sockets."""
        self._handles: Buffer = allocate(8 * capacity)
        self.struct = Ready(handles=self._handles.address, capacity=capacity)
        self.growers: list[Callable[[], None]] = []
        """Called between events when a host's table runs short."""

    def take(self) -> list[int]:
        """The handles on the list, which is empty afterwards."""
        count = self.struct.count
        self.struct.count = 0
        handles: list[int] = self._handles.array.view("<i8")[:count].tolist()
        return handles

    def make_room(self) -> None:
        """Have tables grow that run short."""
        if self.struct.short:
            self.struct.short = 0
            for grow in self.growers:
                grow()


class HostStack(ProtocolStack):
    """The protocols of a host that answers; `deliver` is the hook that frames come in by."""

    def __init__(
        self, timers: Timers, ready: ReadyList, *, seed: int = 1, forwarding: bool = False, plain: bool = False
    ) -> None:
        """A host without interfaces, whose time is that of ``timers``.

        ``plain``: everything runs as plain Python, with every access checked, for kernels that are called so.
        """
        super().__init__(promiscuous=False, any_port=False)
        self.plain = plain
        """Whether its kernels run as plain Python."""
        self._timers, self._ready = timers, ready
        self._interfaces: StructArray[Interface] = array_of(Interface, INTERFACES_MAX)
        self._packet = PacketBuffer()
        self.host = Host(
            stack=self.address,
            timers=timers.address,
            ready=ready.struct.address,
            interfaces=self._interfaces.address,
            forwarding=int(forwarding),
            random=seeded(seed),
            packet=self._packet.address,
        )
        self.struct.host = self.host.address
        if not plain:
            load_together(host_deliver, *ENTRIES)
        self.deliver = self.host.deliver = self.hook_of(host_deliver)
        self.ip = IpLayer(self.host, self.struct, self.hook_of)
        self._ip6_layer: Ip6Layer | None = None
        self.udp = UdpSockets(self.host, self.struct, self.hook_of)
        self.ping = PingSockets(self.host, self.hook_of)
        self.raw = RawSockets(self.host, self.hook_of)

    def hook_of(self, function: Callable[..., Any]) -> int:
        """The address under which this host calls an entry point: of its machine code, unless it is a plain one."""
        if self.plain and isinstance(function, Kernel):
            return hook(function.py_func)
        return hook(function)

    def when_short(self, grow: Callable[[], None]) -> None:
        """Have ``grow`` called, between events, when a table of this host runs short (`Ready.short`)."""
        self._ready.growers.append(grow)

    @property
    def interfaces(self) -> list[Interface]:
        """The interfaces there are, in the order in which they were added."""
        return self._interfaces[: self.host.interface_count]

    def add_interface(
        self,
        mac: bytes,
        xmit: int | Callable[..., Any],
        device: int,
        *,
        mtu: int = 1500,
        offloads: int = 0,
        gso_max: int = 65535,
        name: str | None = None,
    ) -> Interface:
        """One more interface, which sends with the hook ``xmit`` of ``(device, packet)``; eth0 unless named.

        Raises `ConfigError` if there are too many.
        """
        if self.host.interface_count == INTERFACES_MAX:
            raise ConfigError(f"a host has at most {INTERFACES_MAX} interfaces: use another router, or a switch")
        interface = self._interfaces[self.host.interface_count]
        self.host.interface_count += 1
        interface.host = self.host.address
        interface.index = self.host.interface_count
        interface.mac = int.from_bytes(mac, "big")
        interface.mtu, interface.offloads, interface.gso_max = mtu, offloads, gso_max
        interface.xmit = xmit if isinstance(xmit, int) else hook(xmit)
        interface.device = device
        interface.up = 1
        self.ip.name(interface, name or f"eth{interface.index - 1}")
        return interface

    @property
    def ip6(self) -> Ip6Layer:
        """The host's IPv6, which is made, and compiled, when somebody first asks for it."""
        if self._ip6_layer is None:
            if not self.plain:
                load_together(*ENTRIES6)
            self._ip6_layer = Ip6Layer(self.host, self.struct, self.ip.neighbours, self.hook_of, INTERFACES_MAX)
        return self._ip6_layer

    def learned_addresses(self) -> list[tuple[int, int]]:
        """The IPv6 addresses (hi and lo) that nobody set: those that routers' advertisements led to."""
        return [] if self._ip6_layer is None else self._ip6_layer.learned()

    def enable_ipv6(self, interface: Interface, **how: Any) -> None:
        """Switch IPv6 on on an interface, with a link-local address; see `Ip6Layer.enable`. Raises `ConfigError`."""
        self.ip6.enable(interface, **how)

    def add_address(self, interface: Interface, address: str | InterfaceAddress, *, detect: int = 1) -> None:
        """Give an interface an address: 10.0.0.1/24, or 2001:db8::1/64, for which IPv6 is switched on if need be.

        ``detect``: how often a new IPv6 interface looks for a duplicate of each of its addresses.
        See `IpLayer.add_address`, `Ip6Layer.add_address`. Raises `ConfigError`.
        """
        parsed = parse_interface(address)
        if parsed.version == 6:
            if not self.ip6.enabled(interface):
                self.ip6.enable(interface, detect=detect)
            self.ip6.add_address(interface, parsed)
        self.ip.add_address(interface, parsed)

    def scoped(self, text: str | Address) -> tuple[Address, Interface | None]:
        """An address without its scope, and the interface which that names: ``fe80::1%eth0``, or ``%1`` by index.

        None where no scope is given. Raises `ConfigError`.
        """
        address = parse_address(text)
        scope = getattr(address, "scope_id", None)
        if scope is None:
            return address, None
        for interface in self.interfaces:
            if scope in (self.ip.name_of(interface), str(interface.index)):
                return from_halves(*halves(address)), interface
        names = ", ".join(self.ip.name_of(interface) for interface in self.interfaces)
        raise ConfigError(f"{text}: no interface of this host is called {scope}, there is {names or 'none'}")

    def add_route(self, destination: str | Network, **how: Any) -> None:
        """Add a route, ``via`` a gateway or out of an ``interface``; see `IpLayer.add_route`. Raises `ConfigError`.

        A gateway may have its interface in it, as `scoped` has it.
        """
        if how.get("via") is not None:
            how["via"], interface = self.scoped(how["via"])
            if interface is not None:
                how["interface"] = interface
        self.ip.add_route(destination, **how)
