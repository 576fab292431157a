"""IPv4 on its way down: route, header, checksum, fragments; the hooks `Host.route` and `Host.send`.

After Linux's ip_route_output_flow, ip_queue_xmit and ip_output. Packets to IPv6 addresses go on to `Host.route6` and
`Host.send6`. Counted as there: OutRequests for what the host's own protocols send, OutTransmits for what leaves, each
fragment, but a packet that is cut by the device or in its place once.
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial, pseudo_v4
from netemu.jit import call2, entry, i64, kernel, load8, store8, store16, store16be, store32be
from netemu.stack.host import (
    OFFLOAD_TSO4,
    SEND_DROPPED,
    SEND_TOO_BIG,
    SEND_UNREACHABLE,
    SENT,
    host_at,
    interface_at,
    is_ipv4,
    mapped,
)
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.link_output import count_out, ipv4_of, link_output, set_checksum
from netemu.stack.mib import ip_mib_at
from netemu.stack.packet import Packet, packet_at
from netemu.stack.routes import (
    BROADCAST_ROUTE,
    LOCAL,
    ON_LINK,
    learned_mtu,
    mtu_locked,
    next_hop4,
    route_at,
    route_lookup_by,
    routes_at,
)
from netemu.stack.segment import GSO_ECN, GSO_TCPV4
from netemu.stack.state import BROADCAST, MULTICAST, UNICAST, stack_at
from netemu.timers import timers_at

ETH_P_IP = 0x0800
IP_HEADER = 20
IP_DF = 0x4000
DEFAULT_TTL = 64
_TCP_FLAGS = 13
_CWR = 0x80
_LIMITED_BROADCAST = 0xFFFFFFFF


@kernel
def _no_route(host: i64) -> i64:
    ip_mib_at(stack_at(host_at(host).stack).ip).OutNoRoutes += 1
    return SEND_UNREACHABLE


@kernel
def ip_route(host: i64, packet: i64) -> i64:
    """`Host.route` for an IPv4 target; SENT, or SEND_UNREACHABLE and ``OutNoRoutes``."""
    h = host_at(host)
    p = packet_at(packet)
    target = ipv4_of(p.target_lo)
    p.kind = ETH_P_IP
    p.cast = UNICAST
    if target == _LIMITED_BROADCAST:
        p.cast = BROADCAST
    elif target >> 28 == 0xE:
        p.cast = MULTICAST
    p.next_hop_hi = 0
    p.next_hop_lo = p.target_lo
    has_source = ipv4_of(p.source_lo) != 0
    routes = routes_at(h.routes)
    now = timers_at(h.timers).now
    found = route_lookup_by(routes, 0, p.target_lo, p.interface)
    mtu = 0
    if found != 0:
        route = route_at(found)
        mtu = route.mtu
        if route.kind == LOCAL:
            p.interface = h.loopback
            if not has_source:
                p.source_lo = p.target_lo
        elif route.kind in (ON_LINK, BROADCAST_ROUTE):
            p.interface = route.interface
            if route.kind == BROADCAST_ROUTE:
                p.cast = BROADCAST
            elif p.cast == UNICAST:
                p.next_hop_lo = next_hop4(routes, route.gateway_lo, p.target_lo, now)
            if not has_source:
                p.source_lo = route.source_lo
        else:
            return _no_route(host)
    elif p.interface == 0:
        if p.cast == UNICAST or h.interface_count == 0:
            return _no_route(host)
        p.interface = h.interfaces  # to a group or everybody, and nobody said where: the first
    # Out of an interface that was asked for, what no route leads to is taken to be on its link, as in Linux.
    interface = interface_at(p.interface)
    p.source_hi = 0
    if ipv4_of(p.source_lo) == 0:
        p.source_lo = mapped(interface.ipv4)
    p.path_mtu = min(mtu, interface.mtu) if mtu != 0 else interface.mtu
    learned = learned_mtu(routes, 0, p.target_lo, now)
    if learned != 0:
        p.path_mtu = min(p.path_mtu, learned)
    p.routed = 1
    return SENT


@kernel
def take_identification(host: i64, count: i64) -> i64:
    """The identification of a packet that becomes ``count``; each gets one more than the one before."""
    h = host_at(host)
    taken = h.ip_identification
    h.ip_identification = (taken + count) & 0xFFFF
    return taken


@kernel
def push_ipv4(host: i64, p: Packet, segments: i64, dont_fragment: i64) -> None:
    """Put an IPv4 header (RFC 791) in front of a packet, without options."""
    length = p.transport_len + p.payload_len + p.more_len + IP_HEADER
    iph = p.data - IP_HEADER
    p.data = iph
    store8(iph, 0x45)
    store8(iph + 1, p.traffic_class)
    store16be(iph + 2, length)
    store16be(iph + 4, take_identification(host, segments))
    store16be(iph + 6, IP_DF if dont_fragment != 0 else 0)
    store8(iph + 8, p.hop_limit if p.hop_limit != 0 else DEFAULT_TTL)
    store8(iph + 9, p.protocol)
    store16(iph + 10, 0)
    store32be(iph + 12, p.source_lo)
    store32be(iph + 16, p.target_lo)
    store16(iph + 10, csum_fold(csum_partial(iph, IP_HEADER, 0)) ^ 0xFFFF)


@kernel
def _segments(p: Packet) -> i64:
    """Packets that this one becomes; negative: the device does not cut it. Sets ``gso_type``."""
    payload = p.payload_len + p.more_len
    if p.gso_size == 0 or payload <= p.gso_size:
        p.gso_size = 0
        p.gso_type = 0
        return 1
    p.gso_type = GSO_TCPV4
    if load8(p.transport + _TCP_FLAGS) & _CWR:
        p.gso_type |= GSO_ECN
    interface = interface_at(p.interface)
    count = (payload + p.gso_size - 1) // p.gso_size
    if interface.offloads & OFFLOAD_TSO4 == 0 or IP_HEADER + p.transport_len + payload > interface.gso_max:
        return -count
    return count


@kernel
def ip_send(host: i64, packet: i64) -> i64:
    """`Host.send` for an IPv4 target; SENT or SEND_.... After Linux's ip_queue_xmit, __ip_local_out and ip_output."""
    h = host_at(host)
    p = packet_at(packet)
    if p.routed == 0 and ip_route(host, packet) != SENT:
        return SEND_UNREACHABLE
    mib = ip_mib_at(stack_at(h.stack).ip)
    interface = interface_at(p.interface)
    size = IP_HEADER + p.transport_len + p.payload_len + p.more_len
    dont_fragment = p.dont_fragment
    if dont_fragment != 0 and mtu_locked(routes_at(h.routes), 0, p.target_lo, timers_at(h.timers).now) != 0:
        dont_fragment = 0
    segments = _segments(p)
    if size > 0xFFFF:
        mib.OutDiscards += 1
        return SEND_DROPPED
    cut = 1 if p.gso_size == 0 and size > p.path_mtu else 0
    if cut != 0 and dont_fragment != 0:
        mib.FragFails += 1
        return SEND_TOO_BIG
    mib.OutRequests += 1
    push_ipv4(host, p, abs(segments), dont_fragment)
    if cut == 0:
        count_out(host, p.cast, size)
    if segments > 0:
        set_checksum(p, interface, pseudo_v4(p.data, p.protocol), cut)
    too_long = cut != 0 or segments < 0
    result = call2(ip_state_at(h.ip).cut, host, packet) if too_long else link_output(host, packet)
    if result == SEND_DROPPED:
        mib.OutDiscards += 1
    return result


@entry
def host_route(host: i64, packet: i64) -> i64:
    """The hook `Host.route`, for both versions."""
    p = packet_at(packet)
    if is_ipv4(p.target_hi, p.target_lo) != 0:
        return ip_route(host, packet)
    h = host_at(host)
    return call2(h.route6, host, packet) if h.route6 != 0 else SEND_UNREACHABLE


@entry
def host_send(host: i64, packet: i64) -> i64:
    """The hook `Host.send`, for both versions."""
    p = packet_at(packet)
    if is_ipv4(p.target_hi, p.target_lo) != 0:
        return ip_send(host, packet)
    h = host_at(host)
    return call2(h.send6, host, packet) if h.send6 != 0 else SEND_UNREACHABLE
