"""ICMP messages that this host sends (RFC 792, RFC 1122 section 3.2.2): answers, and complaints within limits.

After Linux's icmp_reply, icmp_push_reply and __icmp_send. A complaint is never about an ICMP error, a packet to several
hosts, a fragment other than the first, or one whose sender cannot be answered. All but redirects and "fragmentation
needed" are limited (`netemu.stack.icmp.limits`).
"""

from __future__ import annotations

from netemu.checksum import csum_fold
from netemu.jit import call2, entry, i64, kernel, load8, load16be, load32be, store8, store16, store32be
from netemu.skb import skb_at, skb_copy_bits, skb_header_pointer
from netemu.stack.host import SEND_DROPPED, SENT, host_at, mapped
from netemu.stack.icmp.limits import host_allows, peer_allows
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.link_output import ipv4_at, payload_sum
from netemu.stack.mib import count_at, icmp_mib_at
from netemu.stack.packet import packet_at, start_packet
from netemu.stack.routes import BROADCAST_ROUTE, ON_LINK, is_local, route_at, route_lookup, routes_at
from netemu.stack.state import IP_SCRATCH, PACKET_HOST, stack_at
from netemu.timers import timers_at

IPPROTO_ICMP = 1
ICMP_HEADER = 8
ECHO_REPLY = 0
DEST_UNREACH = 3
SOURCE_QUENCH = 4
REDIRECT = 5
ECHO = 8
TIME_EXCEEDED = 11
TIMESTAMP = 13
TIMESTAMP_REPLY = 14
PARAMETER_PROBLEM = 12
HIGHEST_TYPE = 18
NET_UNREACH = 0
HOST_UNREACH = 1
FRAG_NEEDED = 4
FRAGMENT_TIME = 1
REDIRECT_HOST = 1

QUOTE_SIZE = 576
"""Bytes of an error at most (RFC 1812 section 4.3.2.3), its IP header included."""
_IP_HEADER = 20
_SPARE = IP_SCRATCH + 60
"""Room behind the longest IP header, for one byte."""
_SERVICE = 0x1E
"""Bits of a packet's type of service that an error about it has, too (Linux's RT_TOS)."""
_CONTROL = 0xC0
"""Precedence of an error: internetwork control (RFC 1812 section 4.3.2.5)."""


@kernel
def icmp_push(host: i64, packet: i64) -> i64:
    """Make the checksum of an ICMP message, send and count it; what `Host.send` gives."""
    p = packet_at(packet)
    kind = load8(p.transport)
    store16(p.transport + 2, 0)
    store16(p.transport + 2, csum_fold(payload_sum(p, 0)) ^ 0xFFFF)
    mib = icmp_mib_at(stack_at(host_at(host).stack).icmp)
    result = call2(host_at(host).send, host, packet)
    if result == SENT:
        mib.OutMsgs += 1
        count_at(mib.out_types, kind)
    else:
        mib.OutErrors += 1
    return result


@kernel
def _may_be_complained_of(host: i64, iph: i64, kind: i64) -> i64:
    """1 if an error may be sent about the packet at hand, whose IP header is at ``iph`` (RFC 1122 section 3.2.2)."""
    h = host_at(host)
    skb = skb_at(h.skb)
    source = load32be(iph + 12)
    target = load32be(iph + 16)
    if skb.pkt_type != PACKET_HOST or target == 0xFFFFFFFF or target >> 28 == 0xE or load16be(iph + 6) & 0x1FFF:
        return 0
    if source >> 28 >= 0xE or source == 0:
        return 0
    to = route_lookup(routes_at(h.routes), 0, mapped(target))
    if to != 0 and route_at(to).kind == BROADCAST_ROUTE:
        return 0
    if load8(iph + 9) == IPPROTO_ICMP and kind != REDIRECT:
        spare = stack_at(h.stack).scratch + _SPARE
        inner = skb_header_pointer(skb, skb.network_header + (load8(iph) & 15) * 4, 1, spare)
        if inner == 0:
            return 0
        inner_kind = load8(inner)
        if inner_kind > HIGHEST_TYPE or inner_kind in (
            DEST_UNREACH,
            SOURCE_QUENCH,
            REDIRECT,
            TIME_EXCEEDED,
            PARAMETER_PROBLEM,
        ):
            return 0
    return 1


@kernel
def redirect_allowed(host: i64, iph: i64, next_hop: i64) -> i64:
    """1 if the sender of a packet, that leaves as it came in, may hear of its next hop (Linux's ip_rt_send_redirect).

    It has to be on the same link itself, and hears of it as often as of errors.
    """
    h = host_at(host)
    source = ipv4_at(iph + 12)
    found = route_lookup(routes_at(h.routes), 0, source)
    if found == 0 or next_hop == source:
        return 0
    route = route_at(found)
    if route.kind != ON_LINK or route.gateway_lo != 0 or route.interface != h.input:
        return 0
    return peer_allows(h, 0, source, timers_at(h.timers).now)


@kernel
def icmp_send(host: i64, kind: i64, code: i64, info: i64) -> i64:
    """Tell the sender of the IPv4 packet at hand (`Host.skb`) what became of it; SENT, or SEND_... if nothing was said.

    ``kind`` and ``code`` are ICMP's, ``info`` the 32 bits behind the checksum (the MTU, a pointer, a gateway).
    """
    h = host_at(host)
    skb = skb_at(h.skb)
    stack = stack_at(h.stack)
    offset = skb.network_header
    iph = skb_header_pointer(skb, offset, _IP_HEADER, stack.scratch + IP_SCRATCH)
    if iph == 0 or _may_be_complained_of(host, iph, kind) == 0:
        return SEND_DROPPED
    source = ipv4_at(iph + 12)
    target = ipv4_at(iph + 16)
    service = load8(iph + 1)
    routes = routes_at(h.routes)
    ip = ip_state_at(h.ip)
    at = start_packet(ip.answer, IPPROTO_ICMP, ICMP_HEADER)
    p = packet_at(ip.answer)
    p.target_hi = 0
    p.target_lo = source
    if is_local(routes, 0, target) != 0:
        p.source_lo = target
    if call2(h.route, host, ip.answer) != SENT:
        return SEND_DROPPED
    now = timers_at(h.timers).now
    mib = icmp_mib_at(stack.icmp)
    if kind in (DEST_UNREACH, SOURCE_QUENCH, TIME_EXCEEDED, PARAMETER_PROBLEM) and not (
        kind == DEST_UNREACH and code == FRAG_NEEDED
    ):
        if p.interface != h.loopback and peer_allows(h, 0, source, now) == 0:
            mib.OutRateLimitHost += 1
            return SEND_DROPPED
        if host_allows(h, now) == 0:
            mib.OutRateLimitGlobal += 1
            return SEND_DROPPED
    store8(at, kind)
    store8(at + 1, code)
    store32be(at + 4, info)
    room = min(p.path_mtu, QUOTE_SIZE) - _IP_HEADER - ICMP_HEADER
    size = min(skb.len - offset, room)
    skb_copy_bits(skb, offset, ip.quote, size)
    p.payload = ip.quote
    p.payload_len = size
    p.traffic_class = (service & _SERVICE) | _CONTROL
    return icmp_push(host, ip.answer)


@entry
def icmp_send_hook(host: i64, kind: i64, code: i64, info: i64) -> i64:
    """`icmp_send` as the hook `Stack.icmp_send`."""
    return icmp_send(host, kind, code, info)


@kernel
def skb_bytes(host: i64, offset: i64, size: i64) -> i64:
    """Host address of ``size`` bytes of the skb at hand, side by side; copied to the host's room if they are not."""
    h = host_at(host)
    return skb_header_pointer(skb_at(h.skb), offset, size, ip_state_at(h.ip).room)


@kernel
def icmp_answer(host: i64, message: i64, size: i64, kind: i64) -> i64:
    """Answer the sender of the message at hand with the ``size`` bytes at ``message``, as type ``kind``."""
    h = host_at(host)
    skb = skb_at(h.skb)
    stack = stack_at(h.stack)
    ip = ip_state_at(h.ip)
    iph = skb_header_pointer(skb, skb.network_header, _IP_HEADER, stack.scratch + IP_SCRATCH)
    at = start_packet(ip.answer, IPPROTO_ICMP, ICMP_HEADER)
    p = packet_at(ip.answer)
    store8(at, kind)
    store8(at + 1, 0)
    store32be(at + 4, load32be(message + 4))
    p.payload = message + ICMP_HEADER
    p.payload_len = size - ICMP_HEADER
    p.traffic_class = load8(iph + 1)
    p.source_lo = ipv4_at(iph + 16)
    p.target_hi = 0
    p.target_lo = ipv4_at(iph + 12)
    return icmp_push(host, ip.answer)
