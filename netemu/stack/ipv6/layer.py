"""`Ip6Layer`: IPv6 of one host for Python: switched on by interface, its addresses, its routers, what it advertises."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from netemu.chance import next_random
from netemu.errors import ConfigError
from netemu.jit import StructArray, allocate, array_of
from netemu.stack.addresses import from_halves, halves, parse_address
from netemu.stack.host import Host, Interface
from netemu.stack.icmpv6.error import icmp6_send, ip6_problem
from netemu.stack.icmpv6.input import icmp6_input
from netemu.stack.icmpv6.mld import TO_EXCLUDE, report_groups
from netemu.stack.icmpv6.ndp import solicit6
from netemu.stack.icmpv6.ndp_failure import unreachable6
from netemu.stack.icmpv6.ndp_routers import BETWEEN_ADVERTISEMENTS, interface_id, router_timer
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.ipv6.addresses import (
    LINK_LOCAL_HI,
    free_address6,
    join_group6,
    leave_group6,
    link_local6,
    own_address6,
)
from netemu.stack.ipv6.cut import ip6_cut
from netemu.stack.ipv6.detection import INITIAL_ADVERTISEMENTS, address_timer, start_detection
from netemu.stack.ipv6.fragments import ip6_expire, ip6_fragment
from netemu.stack.ipv6.input import ip6_input
from netemu.stack.ipv6.output import ip6_output
from netemu.stack.ipv6.routes import ip6_route
from netemu.stack.ipv6.state import (
    ADDRESSES_MAX,
    DEPRECATED,
    DUPLICATE,
    FREE,
    GROUPS_MAX,
    MIN_MTU,
    PREFERRED,
    PREFIXES_MAX,
    ROUTERS_MAX,
    SCRATCH_SIZE,
    SECOND,
    TENTATIVE,
    Ip6,
    Ip6Address,
    Ip6Group,
    Ip6Interface,
    Ip6Prefix,
    Ip6Router,
)
from netemu.stack.neighbours import Neighbours
from netemu.stack.packet import PacketBuffer
from netemu.stack.reassembly import pool_at
from netemu.stack.state import Stack
from netemu.timers import NEVER, STOPPED, TIMER_SIZE, Timer, timer_start, timers_at

STATE_NAMES = {
    TENTATIVE: "tentative",
    PREFERRED: "preferred",
    DEPRECATED: "deprecated",
    DUPLICATE: "dadfailed",
}
LINK_LOCAL_PREFIX = 64
ENTRIES6 = (
    icmp6_input, ip6_output, ip6_input, ip6_fragment, router_timer, address_timer, ip6_cut, ip6_expire, icmp6_send,
    ip6_problem, solicit6, unreachable6, ip6_route,
)  # fmt: skip
"""What IPv6 has to compile, that which takes longest first (`netemu.jit.load_together`)."""
RETRANSMIT = SECOND
"""RetransTimer, ns (RFC 4861 section 10)."""
VALID_LIFETIME = 86_400
PREFERRED_LIFETIME = 14_400
"""Seconds that an advertised prefix is good for: radvd's defaults, which most routers have."""
ADVERTISE_MIN, ADVERTISE_MAX = 200, 600
"""Seconds between advertisements (MinRtrAdvInterval, MaxRtrAdvInterval)."""
MIN_ADVERTISE, MAX_ADVERTISE = 3, 1800
"""Bounds of those (RFC 4861 section 6.2.1), seconds."""


@dataclass(frozen=True)
class Ip6AddressEntry:
    """An address and its state; lifetimes as moments, ns, None for one that does not end."""

    address: ipaddress.IPv6Interface
    interface: int
    """Address of the `netemu.stack.host.Interface`."""
    state: str
    preferred_until: int | None
    valid_until: int | None
    learned: bool

    def __str__(self) -> str:
        """The address in one line, much as ``ip address`` prints it."""
        state = "" if self.state == "preferred" else f" {self.state}"
        return f"{self.address}{' dynamic' if self.learned else ''}{state}"


class Ip6Layer:
    """The IPv6 of one host: the structs that kernels see, and their settings."""

    def __init__(
        self, host: Host, stack: Stack, neighbours: Neighbours, hook_of: Callable[[Callable[..., Any]], int], room: int
    ) -> None:
        """Give ``host``, ``stack`` and ``neighbours`` what they need, for up to ``room`` interfaces."""
        self._host, self._stack = host, stack
        self._memory: list[Any] = []
        self._addresses: StructArray[Ip6Address] = array_of(Ip6Address, ADDRESSES_MAX)
        self._interfaces: StructArray[Ip6Interface] = array_of(Ip6Interface, room + 1)
        self._routers: StructArray[Ip6Router] = array_of(Ip6Router, ROUTERS_MAX)
        self._prefixes: StructArray[Ip6Prefix] = array_of(Ip6Prefix, PREFIXES_MAX)
        self._add_timers(self._addresses, hook_of(address_timer))
        self._add_timers(self._interfaces, hook_of(router_timer))
        self._message = PacketBuffer()
        host.random = next_random(host.random)
        self.state = Ip6(
            addresses=self._addresses.address,
            interfaces=self._interfaces.address,
            routers=self._routers.address,
            prefixes=self._prefixes.address,
            groups=self._array(Ip6Group, GROUPS_MAX),
            flow_secret=host.random,
            output=hook_of(ip6_output),
            cut=hook_of(ip6_cut),
            message=self._message.address,
            scratch=self._bytes(SCRATCH_SIZE),
        )
        host.ip6 = self.state.address
        host.route6, host.send6 = hook_of(ip6_route), self.state.output
        neighbours.solicit6, neighbours.unreachable6 = hook_of(solicit6), hook_of(unreachable6)
        stack.icmp6_input, stack.icmp6_send = hook_of(icmp6_input), hook_of(icmp6_send)
        stack.ip6_fragment, stack.ip6_problem = hook_of(ip6_fragment), hook_of(ip6_problem)
        stack.ip6_input = hook_of(ip6_input)
        pool_at(ip_state_at(host.ip).reassembly).expire6 = hook_of(ip6_expire)

    def _array(self, cls: type[Any], count: int) -> int:
        array: StructArray[Any] = array_of(cls, count)
        self._memory.append(array)
        return array.address

    def _bytes(self, size: int) -> int:
        block = allocate(size)
        self._memory.append(block)
        return block.address

    def _add_timers(self, structs: StructArray[Any], hooked: int) -> None:
        """A timer for each of the structs, which is the first argument of its hook."""
        timers: StructArray[Timer] = array_of(Timer, len(structs))
        self._memory.append(timers)
        size = structs.view.dtype.itemsize
        for number, timer in enumerate(timers):
            timer.due = timer.queued = STOPPED
            timer.hook, timer.a = hooked, structs.address + number * size
            structs[number].timer = timers.address + number * TIMER_SIZE

    def _of(self, interface: Interface) -> Ip6Interface:
        """What IPv6 knows of an interface; raises `ConfigError` if it is not switched on there."""
        own = self._interfaces[interface.index]
        if not own.enabled:
            raise ConfigError(f"IPv6 is not switched on on interface {interface.index}")
        return own

    def enabled(self, interface: Interface) -> bool:
        """Whether IPv6 is switched on on an interface."""
        return bool(self._interfaces[interface.index].enabled)

    def enable(
        self,
        interface: Interface,
        *,
        link_local: bool = True,
        detect: int = 1,
        accept_advertisements: bool | None = None,
        report: bool = True,
    ) -> None:
        """Switch IPv6 on on an interface, with a link-local address made of its MAC.

        ``detect``: probes for a duplicate of each address; 0: addresses are good at once. Advertisements of routers
        are believed unless the host is a router itself. ``report`` sends reports of MLDv2 as Linux does.
        Raises `ConfigError` for an MTU that is too small for IPv6, or if it is on already.
        """
        if interface.mtu < MIN_MTU:
            raise ConfigError(f"IPv6 needs an MTU of {MIN_MTU} or more, not {interface.mtu}")
        own = self._interfaces[interface.index]
        if own.enabled:
            raise ConfigError(f"IPv6 is switched on on interface {interface.index} already")
        own.interface, own.enabled = interface.address, 1
        own.detect, own.retransmit, own.report = detect, RETRANSMIT, int(report)
        accept = accept_advertisements if accept_advertisements is not None else not self._host.forwarding
        own.accept = int(accept)
        if link_local:
            address = from_halves(LINK_LOCAL_HI, interface_id(interface.mac))
            self.add_address(interface, ipaddress.IPv6Interface(f"{address}/{LINK_LOCAL_PREFIX}"))

    def add_address(
        self,
        interface: Interface,
        address: ipaddress.IPv6Interface,
        *,
        valid: int | None = None,
        preferred: int | None = None,
    ) -> None:
        """One more address, with its lifetimes in seconds (None: for good); raises `ConfigError`."""
        self._of(interface)
        hi, lo = halves(address.ip)
        if address.ip.is_multicast or address.ip.is_unspecified:
            raise ConfigError(f"{address.ip} cannot be an address of a host")
        if own_address6(self._host, interface.address, hi, lo):
            raise ConfigError(f"{address.ip} is an address of this host already")
        at = free_address6(self._host)
        if at == 0:
            raise ConfigError(f"a host has no more than {ADDRESSES_MAX} addresses")
        slot = next(one for one in self._addresses if one.address == at)
        slot.interface, slot.hi, slot.lo = interface.address, hi, lo
        slot.prefix, slot.learned = address.network.prefixlen, 0
        now = self._now()
        slot.valid_until = NEVER if valid is None else now + valid * SECOND
        slot.preferred_until = NEVER if preferred is None else now + preferred * SECOND
        start_detection(self._host.address, self._host, at)
        if address.ip.is_link_local:
            interface.ipv6_link_local_hi, interface.ipv6_link_local_lo = hi, lo
        elif interface.ipv6_hi == 0 and interface.ipv6_lo == 0:
            interface.ipv6_hi, interface.ipv6_lo, interface.ipv6_prefix = hi, lo, slot.prefix

    def _now(self) -> int:
        return timers_at(self._host.timers).now

    def addresses(self, interface: Interface | None = None) -> list[Ip6AddressEntry]:
        """The addresses there are, of one interface or of all."""
        wanted = interface.address if interface is not None else 0
        return [
            Ip6AddressEntry(
                ipaddress.IPv6Interface((int(from_halves(own.hi, own.lo)), own.prefix)),
                own.interface,
                STATE_NAMES[own.state],
                None if own.preferred_until == NEVER else own.preferred_until,
                None if own.valid_until == NEVER else own.valid_until,
                bool(own.learned),
            )
            for own in self._addresses[: self.state.address_count]
            if own.state != FREE and wanted in (0, own.interface)
        ]

    def learned(self) -> list[tuple[int, int]]:
        """The addresses (hi and lo) that were made of prefixes that routers advertise."""
        own = self._addresses[: self.state.address_count]
        return [(one.hi, one.lo) for one in own if one.learned and one.state not in (FREE, DUPLICATE)]

    def routers(self) -> list[ipaddress.IPv6Address]:
        """The default routers that were heard of and are still good."""
        now = self._now()
        return [
            ipaddress.IPv6Address(int(from_halves(router.hi, router.lo)))
            for router in self._routers
            if router.interface and router.until > now
        ]

    def prefixes(self) -> list[ipaddress.IPv6Network]:
        """The prefixes that routers told to be on the link, and still are."""
        now = self._now()
        return [
            ipaddress.IPv6Network((int(from_halves(prefix.hi, prefix.lo)), prefix.bits))
            for prefix in self._prefixes
            if prefix.interface and prefix.until > now
        ]

    def advertise(
        self,
        interface: Interface,
        *,
        lifetime: int = 1800,
        mtu: int = 0,
        valid: int = VALID_LIFETIME,
        preferred: int = PREFERRED_LIFETIME,
        interval: tuple[int, int] = (ADVERTISE_MIN, ADVERTISE_MAX),
    ) -> None:
        """Have a router advertise itself, and the prefixes of its addresses, on an interface; times in seconds.

        ``lifetime`` 0: it is no default router. ``interval``: the shortest and longest time between advertisements that
        nobody asked for. Raises `ConfigError` for a host that is no router.
        """
        own = self._of(interface)
        if not self._host.forwarding:
            raise ConfigError("only a router advertises: the host does not forward")
        least, most = interval
        if not MIN_ADVERTISE <= least <= most <= MAX_ADVERTISE:
            raise ConfigError(f"advertisements come every {MIN_ADVERTISE} to {MAX_ADVERTISE} seconds, not {interval}")
        own.advertise_lifetime, own.advertise_mtu = lifetime, mtu
        own.advertise_valid, own.advertise_preferred = valid, preferred
        own.advertise_min, own.advertise_max = least * SECOND, most * SECOND
        own.advertise_last = self._now() - BETWEEN_ADVERTISEMENTS
        own.advertise_initial = INITIAL_ADVERTISEMENTS
        own.advertise = 1
        if link_local6(self._host, interface.address):
            timers = timers_at(self._host.timers)
            timer_start(timers, own.timer, timers.now)

    def join(self, interface: Interface, group: str | ipaddress.IPv6Address) -> None:
        """Listen to a multicast group on an interface, and report it; raises `ConfigError`."""
        self._of(interface)
        address = parse_address(group)
        if address.version != 6 or not address.is_multicast:
            raise ConfigError(f"{address} is no IPv6 multicast group")
        joined = join_group6(self._host, interface.address, *halves(address))
        if joined < 0:
            raise ConfigError(f"a host listens to no more than {GROUPS_MAX} groups")
        if joined:
            report_groups(self._host.address, self._host, interface.address, TO_EXCLUDE)

    def leave(self, interface: Interface, group: str | ipaddress.IPv6Address) -> None:
        """Undo one `join`. Routers find out when nobody answers their next query for the group."""
        leave_group6(self._host, interface.address, *halves(parse_address(group)))
