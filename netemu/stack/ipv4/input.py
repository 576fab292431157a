"""Whose is an IPv4 packet: this host's, a group's, or somebody else's; the hook `Stack.ip_input`.

After Linux's ip_route_input_slow and ip_error: addresses that no link brings (martians), own addresses by the routing
table, groups that the host is in (224.0.0.1 always), and for routers what is to be sent on
(`netemu.stack.ipv4.forward`).
"""

from __future__ import annotations

from netemu.jit import entry, i64, kernel, load8, load32be
from netemu.skb import skb_at, skb_header_pointer
from netemu.stack.host import host_at, mapped
from netemu.stack.ipv4.forward import ip_forward
from netemu.stack.mib import ip_mib_at
from netemu.stack.reasons import IP_INADDRERRORS, IP_MARTIAN
from netemu.stack.routes import BROADCAST_ROUTE, LOCAL, is_local, route_at, route_lookup, routes_at
from netemu.stack.state import BROADCAST, IP_SCRATCH, MULTICAST, UNICAST, stack_at

_ALL_HOSTS = 0xE0000001


@kernel
def _martian(source: i64, target: i64) -> i64:
    """1 for addresses that no link brings (RFC 1122 section 3.2.1.3): of 127/8, groups and everybody as source."""
    if source >> 28 == 0xE or source == 0xFFFFFFFF or source >> 24 == 127 or target >> 24 == 127:
        return 1
    # Nobody has an address yet who sends from 0.0.0.0, which is for everybody.
    return 1 if target == 0 or (source == 0 and target != 0xFFFFFFFF) else 0


@entry
def ip_input(host: i64, offset: i64, size: i64, cast: i64) -> i64:
    """Judge the addresses of a datagram: ``-1 - cast`` for the host's own protocols, else a verdict."""
    h = host_at(host)
    stack = stack_at(h.stack)
    skb = skb_at(h.skb)
    scratch = stack.scratch + IP_SCRATCH
    iph = skb_header_pointer(skb, offset, (load8(skb_header_pointer(skb, offset, 1, scratch)) & 15) * 4, scratch)
    source = load32be(iph + 12)
    target = load32be(iph + 16)
    if h.input == h.loopback:
        return -1 - cast
    routes = routes_at(h.routes)
    if _martian(source, target) != 0 or is_local(routes, 0, mapped(source)) != 0:
        return IP_MARTIAN
    if cast == MULTICAST:
        return -1 - MULTICAST if target == _ALL_HOSTS else IP_INADDRERRORS
    if cast == BROADCAST:
        return -1 - BROADCAST
    found = route_lookup(routes, 0, mapped(target))
    kind = route_at(found).kind if found != 0 else 0
    if kind == LOCAL:
        return -1 - UNICAST
    if kind == BROADCAST_ROUTE:
        return -1 - BROADCAST
    if h.forwarding != 0:
        return ip_forward(host, h, skb, iph, offset, size)
    ip_mib_at(stack.ip).InAddrErrors += 1
    return IP_INADDRERRORS
