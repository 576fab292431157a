"""Where an IPv6 packet goes: interface, next hop, source and path MTU (RFC 4861 section 5.2, RFC 8201).

Theory of operation
-------------------
What a packet is for is judged in the order of what is surest: a group, one of the host's own addresses, a neighbour by
its link-local address, then the longest prefix: of the routes that came with addresses or that a user set
(`netemu.stack.routes`, which also has what is known of path MTUs), or of those that routers told to be on the link.
What none of them has goes to a default router that was heard of, the first one that is not known to be unreachable.

A link-local target, or a group, has to be told with its interface (``p.interface``), unless there is just one.
"""

from __future__ import annotations

from netemu.jit import entry, i64, kernel
from netemu.stack.host import SEND_UNREACHABLE, SENT, Host, host_at, interface_at
from netemu.stack.ipv6.addresses import (
    LOOPBACK_LO,
    common_prefix6,
    is_assigned6,
    is_link_local6,
    is_multicast6,
    own_address6,
    select_source6,
)
from netemu.stack.ipv6.state import (
    IP6_INTERFACE_SIZE,
    IP6_PREFIX_SIZE,
    IP6_ROUTER_SIZE,
    MIN_MTU,
    PREFIXES_MAX,
    ROUTERS_MAX,
    interface_ip6,
    ip6_address_at,
    ip6_at,
    ip6_interface_at,
    ip6_prefix_at,
    ip6_router_at,
)
from netemu.stack.neighbours import NUD_FAILED, neighbour_at, neighbour_lookup, neighbours_at
from netemu.stack.packet import Packet, packet_at
from netemu.stack.routes import ON_LINK, learned_mtu, route_at, route_lookup_by, routes_at
from netemu.stack.state import MULTICAST, UNICAST
from netemu.timers import timers_at

_ONES = -1


@kernel
def _only_interface(host: Host) -> i64:
    """The `Interface` (its address) that IPv6 runs on, if there is just one; else 0."""
    ip6 = ip6_at(host.ip6)
    found = 0
    for n in range(host.interface_count):
        own = ip6_interface_at(ip6.interfaces + (n + 1) * IP6_INTERFACE_SIZE)
        if own.enabled != 0:
            if found != 0:
                return 0
            found = own.interface
    return found


@kernel
def on_link6(host: Host, hi: i64, lo: i64, interface: i64) -> i64:
    """Address of the `Ip6Prefix`, the longest that routers told of, which puts a target on a link, or 0.

    ``interface`` 0: on any.
    """
    ip6 = ip6_at(host.ip6)
    now = timers_at(host.timers).now
    best = 0
    best_bits = -1
    at = ip6.prefixes
    for _ in range(PREFIXES_MAX):
        prefix = ip6_prefix_at(at)
        if prefix.interface != 0 and prefix.until > now and prefix.bits > best_bits:
            if interface in (0, prefix.interface) and common_prefix6(prefix.hi, prefix.lo, hi, lo) >= prefix.bits:
                best = at
                best_bits = prefix.bits
        at += IP6_PREFIX_SIZE
    return best


@kernel
def default_router6(host: Host, interface: i64) -> i64:
    """Address of the `Ip6Router` that what no prefix has is sent to, or 0; ``interface`` 0: any."""
    ip6 = ip6_at(host.ip6)
    now = timers_at(host.timers).now
    table = neighbours_at(host.neighbours)
    fallback = 0
    at = ip6.routers
    for _ in range(ROUTERS_MAX):
        router = ip6_router_at(at)
        if router.interface != 0 and router.until > now and interface in (0, router.interface):
            neighbour = neighbour_lookup(table, router.interface, router.hi, router.lo)
            if neighbour == 0 or neighbour_at(neighbour).state != NUD_FAILED:
                return at
            fallback = at
        at += IP6_ROUTER_SIZE
    return fallback


@kernel
def link_mtu6(host: Host, interface: i64) -> i64:
    """Bytes of the longest IPv6 packet that goes out of the `Interface` at an address."""
    mtu = interface_at(interface).mtu
    told = interface_ip6(host, interface).mtu
    return min(told, mtu) if told != 0 else mtu


@kernel
def next_hop6(host: Host, p: Packet) -> i64:
    """Find interface and next hop of a packet to a unicast address that is not the host's own; SENT or why not."""
    hi, lo = p.target_hi, p.target_lo
    p.next_hop_hi, p.next_hop_lo = hi, lo
    if is_link_local6(hi) != 0:
        p.interface = p.interface if p.interface != 0 else _only_interface(host)
        return SENT if p.interface != 0 else SEND_UNREACHABLE
    near = on_link6(host, hi, lo, p.interface)
    bits = ip6_prefix_at(near).bits if near != 0 else -1
    found = route_lookup_by(routes_at(host.routes), hi, lo, p.interface)
    if found != 0:
        route = route_at(found)
        if common_prefix6(route.mask_hi, route.mask_lo, _ONES, _ONES) > bits:
            if route.kind != ON_LINK:
                return SEND_UNREACHABLE
            p.interface = route.interface
            if route.gateway_hi != 0 or route.gateway_lo != 0:
                p.next_hop_hi, p.next_hop_lo = route.gateway_hi, route.gateway_lo
                if p.source_hi == 0 and p.source_lo == 0:
                    p.source_hi, p.source_lo = route.source_hi, route.source_lo
            return SENT
    if near != 0:
        p.interface = ip6_prefix_at(near).interface
        return SENT
    found = default_router6(host, p.interface)
    if found == 0:
        return SEND_UNREACHABLE
    router = ip6_router_at(found)
    p.interface = router.interface
    p.next_hop_hi, p.next_hop_lo = router.hi, router.lo
    return SENT


@kernel
def _own_target(host: Host, p: Packet) -> i64:
    """1 if a packet's target is the host itself."""
    if p.target_hi == 0 and p.target_lo == LOOPBACK_LO:
        return 1
    interface = p.interface
    if interface == 0 and is_link_local6(p.target_hi) != 0:
        interface = _only_interface(host)
    return is_assigned6(own_address6(host, interface, p.target_hi, p.target_lo))


@kernel
def route_packet6(host: Host, p: Packet) -> i64:
    """Find a packet's way (`netemu.stack.host.Host.route6`)."""
    p.cast = UNICAST
    if is_multicast6(p.target_hi) != 0:
        p.cast = MULTICAST
        p.interface = p.interface if p.interface != 0 else _only_interface(host)
        p.next_hop_hi, p.next_hop_lo = p.target_hi, p.target_lo
        if p.interface == 0:
            return SEND_UNREACHABLE
    elif _own_target(host, p) != 0:
        if p.source_hi == 0 and p.source_lo == 0:
            p.source_hi, p.source_lo = p.target_hi, p.target_lo
        p.interface = host.loopback
        p.next_hop_hi, p.next_hop_lo = p.target_hi, p.target_lo
    elif next_hop6(host, p) != SENT:
        return SEND_UNREACHABLE
    if p.source_hi == 0 and p.source_lo == 0:
        source = select_source6(host, p.interface, p.target_hi, p.target_lo)
        if source == 0:
            return SEND_UNREACHABLE
        own = ip6_address_at(source)
        p.source_hi, p.source_lo = own.hi, own.lo
    mtu = link_mtu6(host, p.interface)
    learned = learned_mtu(routes_at(host.routes), p.target_hi, p.target_lo, timers_at(host.timers).now)
    p.path_mtu = mtu if learned == 0 else min(mtu, max(learned, MIN_MTU))
    p.routed = 1
    return SENT


@entry
def ip6_route(host: i64, packet: i64) -> i64:
    """The hook `netemu.stack.host.Host.route6`: source, interface, next hop and path MTU of a packet."""
    return route_packet6(host_at(host), packet_at(packet))
