"""Sending on: what a router does with an IPv4 packet for somebody else. After Linux's ip_forward and ip_error.

The packet's bytes stay where they are: its IP header is copied, with a TTL of one less and its checksum mended (RFC
1624), the rest is the payload of a `Packet`. What its sender left undone, a checksum or segmentation, is left to the
next interface if that does it. Options go on as they came: no route or time is recorded.
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial, length_sum, pseudo_v4
from netemu.jit import call2, call4, i64, kernel, load8, load16, load16be, memcpy, store8, store16
from netemu.skb import CHECKSUM_PARTIAL, Skb, skb_copy_bits, skb_header_pointer
from netemu.stack.host import OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_USO, SENT, Host, Interface, interface_at
from netemu.stack.icmp.output import (
    DEST_UNREACH,
    FRAG_NEEDED,
    HOST_UNREACH,
    NET_UNREACH,
    REDIRECT,
    REDIRECT_HOST,
    TIME_EXCEEDED,
    redirect_allowed,
)
from netemu.stack.ipv4.output import ETH_P_IP, IP_DF
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.link_output import count_out, finish_checksum, ipv4_at, ipv4_of, link_output
from netemu.stack.mib import ip_ext_mib_at, ip_mib_at
from netemu.stack.packet import Packet, packet_at
from netemu.stack.reasons import (
    FORWARDED,
    IP_INHDR,
    IP_INNOROUTES,
    IP_OUTDISCARDS,
    IP_TTL,
    OTHERHOST,
    PKT_TOO_BIG,
)
from netemu.stack.routes import BLACKHOLE, ON_LINK, UNREACHABLE_ROUTE, route_at, route_lookup, routes_at
from netemu.stack.segment import GSO_KIND, GSO_TCPV4, GSO_UDP, GSO_UDP_L4
from netemu.stack.state import L4_SCRATCH, PACKET_HOST, UNICAST, stack_at

_TCP_HEADER = 20
_UDP_HEADER = 8
_DATA_OFFSET = 12
_TCP = 6
_TCP_CHECK = 16
_UDP_CHECK = 6
_CHECK_MAX = 60


@kernel
def _no_route(host: i64, h: Host, kind: i64) -> i64:
    """There is no route, or one that refuses."""
    if kind == BLACKHOLE:
        return IP_INNOROUTES
    if kind == UNREACHABLE_ROUTE:
        call4(stack_at(h.stack).icmp_send, host, DEST_UNREACH, HOST_UNREACH, 0)
    else:
        ip_ext_mib_at(stack_at(h.stack).ip_ext).InNoRoutes += 1
        call4(stack_at(h.stack).icmp_send, host, DEST_UNREACH, NET_UNREACH, 0)
    return IP_INNOROUTES


@kernel
def _transport_len(skb: Skb, at: i64, size: i64, scratch: i64) -> i64:
    """Bytes of the transport header of a GSO packet, whose payload is ``size`` bytes at ``at``; 0: it is not whole."""
    kind = skb.gso_type & GSO_KIND
    if kind in (GSO_UDP, GSO_UDP_L4):
        return _UDP_HEADER if size >= _UDP_HEADER else 0
    if kind != GSO_TCPV4 or size < _TCP_HEADER:
        return 0
    length = (load8(skb_header_pointer(skb, at, _TCP_HEADER, scratch) + _DATA_OFFSET) >> 4) * 4
    return length if _TCP_HEADER <= length <= size else 0


@kernel
def _take_payload(skb: Skb, p: Packet, at: i64, size: i64, head: i64, room: i64) -> None:
    """Make ``size`` bytes at offset ``at`` what follows the IP header; ``head`` of them are a copied transport header.

    The others stay where they are, unless they lie in pieces: then they are put together in ``room``.
    """
    skb_copy_bits(skb, at, p.transport, head)
    p.transport_len = head
    p.payload = skb_header_pointer(skb, at + head, size - head, room)
    p.payload_len = size - head
    p.more = 0
    p.more_len = 0


@kernel
def _take_undone(room: i64, skb: Skb, p: Packet, iph: i64, at: i64, size: i64, head: i64) -> i64:
    """`_take_payload` of a packet with an unfinished checksum, and maybe GSO; 0: what is said of it does not fit it.

    ``head`` is the length of the transport header of a GSO packet.
    """
    if skb.gso_size != 0:
        _take_payload(skb, p, at, size, head, room)
        p.check = _TCP_CHECK if p.protocol == _TCP else _UDP_CHECK
        store16(p.transport + p.check, csum_fold(pseudo_v4(iph, p.protocol) + length_sum(size)))
        p.partial = 1
        return 1
    start = skb.csum_start - at
    if start < 0 or skb.csum_offset < 0 or start + skb.csum_offset + 2 > size:
        return 0
    if start == 0 and skb.csum_offset <= _CHECK_MAX and skb.csum_offset & 1 == 0:
        _take_payload(skb, p, at, size, skb.csum_offset + 2, room)
        p.check = skb.csum_offset
        p.partial = 1
        return 1
    # It belongs to a header further in, of which the next interface could not be told.
    skb_copy_bits(skb, at, room, size)
    p.transport_len = 0
    p.payload = room
    p.payload_len = size
    p.more = 0
    p.more_len = 0
    store16(room + start + skb.csum_offset, csum_fold(csum_partial(room + start, size - start, 0)) ^ 0xFFFF)
    return 1


@kernel
def _take_header(p: Packet, iph: i64, ihl: i64) -> None:
    """Copy an IP header of ``ihl`` bytes in front of the transport's, with a TTL of one less."""
    p.data = p.transport - ihl
    memcpy(p.data, iph, ihl)
    # The TTL is the low byte of its word in memory; the sum's complement grows by what the word shrinks (RFC 1624).
    store8(p.data + 8, load8(iph + 8) - 1)
    check = load16(iph + 10) + 1
    store16(p.data + 10, check + 1 if check >= 0xFFFF else check)


@kernel
def _put_out(host: i64, h: Host, packet: i64, p: Packet, interface: Interface, size: i64, longest: i64) -> i64:
    """Send a packet on, cut as the interface and its MTU need it; SENT or SEND_DROPPED."""
    kind = p.gso_type & GSO_KIND
    if p.gso_size != 0 and kind == GSO_UDP:
        p.gso_size = 0
        p.gso_type = 0
    if p.gso_size == 0:
        if size > p.path_mtu:
            return call2(ip_state_at(h.ip).cut, host, packet)
        if p.partial != 0 and interface.offloads & OFFLOAD_CSUM == 0:
            finish_checksum(p)
    count_out(host, UNICAST, size)
    if p.gso_size != 0:
        offload = OFFLOAD_TSO4 if kind == GSO_TCPV4 else OFFLOAD_USO
        if longest > p.path_mtu or size > interface.gso_max or interface.offloads & offload == 0:
            return call2(ip_state_at(h.ip).cut, host, packet)
    return link_output(host, packet)


@kernel
def ip_forward(host: i64, h: Host, skb: Skb, iph: i64, offset: i64, size: i64) -> i64:
    """Send on the datagram of ``size`` bytes at ``offset``, whose header is at ``iph``; the verdict."""
    stack = stack_at(h.stack)
    mib = ip_mib_at(stack.ip)
    if skb.pkt_type != PACKET_HOST:
        return OTHERHOST
    target = ipv4_at(iph + 16)
    found = route_lookup(routes_at(h.routes), 0, target)
    if found == 0 or route_at(found).kind != ON_LINK:
        return _no_route(host, h, route_at(found).kind if found != 0 else 0)
    if load8(iph + 8) <= 1:
        mib.InHdrErrors += 1
        call4(stack_at(h.stack).icmp_send, host, TIME_EXCEEDED, 0, 0)
        return IP_TTL
    mib.ForwDatagrams += 1
    route = route_at(found)
    interface = interface_at(route.interface)
    ihl = (load8(iph) & 15) * 4
    mtu = route.mtu if route.mtu != 0 else interface.mtu
    at = offset + ihl
    head = 0
    longest = size
    if skb.gso_size != 0:
        head = _transport_len(skb, at, size - ihl, stack.scratch + L4_SCRATCH)
        if head == 0:
            mib.InHdrErrors += 1
            return IP_INHDR
        if skb.gso_type & GSO_KIND != GSO_UDP:
            longest = min(size, ihl + head + skb.gso_size)
    dont_fragment = load16be(iph + 6) & IP_DF
    if longest > mtu and dont_fragment != 0:
        mib.FragFails += 1
        call4(stack_at(h.stack).icmp_send, host, DEST_UNREACH, FRAG_NEEDED, mtu)
        return PKT_TOO_BIG
    next_hop = route.gateway_lo if route.gateway_lo != 0 else target
    if route.interface == h.input and redirect_allowed(host, iph, next_hop) != 0:
        call4(stack_at(h.stack).icmp_send, host, REDIRECT, REDIRECT_HOST, ipv4_of(next_hop))
    ip = ip_state_at(h.ip)
    p = packet_at(ip.forward)
    p.check = -1
    p.partial = 0
    p.gso_size = skb.gso_size
    p.gso_type = skb.gso_type
    p.protocol = load8(iph + 9)
    if skb.ip_summed == CHECKSUM_PARTIAL or skb.gso_size != 0:
        if _take_undone(ip.room, skb, p, iph, at, size - ihl, head) == 0:
            mib.InHdrErrors += 1
            return IP_INHDR
    else:
        _take_payload(skb, p, at, size - ihl, 0, ip.room)
    _take_header(p, iph, ihl)
    p.kind = ETH_P_IP
    p.cast = UNICAST
    p.confirm = 0
    p.interface = route.interface
    p.target_hi = 0
    p.target_lo = target
    p.next_hop_hi = 0
    p.next_hop_lo = next_hop
    p.path_mtu = mtu
    if _put_out(host, h, ip.forward, p, interface, size, longest) != SENT:
        mib.OutDiscards += 1
        return IP_OUTDISCARDS
    return FORWARDED
