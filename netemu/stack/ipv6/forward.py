"""Packets of IPv6 for somebody else, sent on by a host that is a router; after Linux's ip6_forward."""

from __future__ import annotations

from netemu.jit import i64, kernel, load8, store8
from netemu.skb import CHECKSUM_PARTIAL, Skb, skb_at, skb_copy_bits, skb_header_pointer
from netemu.stack.host import OFFLOAD_CSUM, OFFLOAD_TSO6, OFFLOAD_USO, SENT, Host, host_at, interface_at, load64be
from netemu.stack.icmpv6.error import send_error6
from netemu.stack.icmpv6.output import DEST_UNREACH, PACKET_TOO_BIG, TIME_EXCEEDED
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.ipv6.addresses import is_link_local6, is_multicast6
from netemu.stack.ipv6.header import HEADER6, IPPROTO_TCP, IPPROTO_UDP
from netemu.stack.ipv6.output import ETH_P_IPV6, count_out6, to_link6
from netemu.stack.ipv6.routes import link_mtu6, next_hop6
from netemu.stack.link_output import finish_checksum
from netemu.stack.mib import ip6_mib_at
from netemu.stack.packet import HEADROOM, Packet, packet_at, packet_len, start_packet
from netemu.stack.pieces import payload_of_skb
from netemu.stack.reasons import (
    FORWARDED,
    IP_INADDRERRORS,
    IP_INNOROUTES,
    IP_OUTDISCARDS,
    IP_TTL,
    PKT_TOO_BIG,
)
from netemu.stack.segment import GSO_KIND, GSO_TCPV6, segment_packet
from netemu.stack.state import L4_SCRATCH, PACKET_HOST, UNICAST, stack_at

_HOP_LIMIT = 7
_NO_ROUTE = 0
_BEYOND_SCOPE = 2
"""Codes of DEST_UNREACH."""
_UDP_CHECK = 6
_TCP_CHECK = 16


@kernel
def _take_over(p: Packet, skb: Skb, offset: i64, end: i64, room: i64) -> i64:
    """Make a packet of a received one, as it is; 0 if its headers are longer than a packet has room for.

    What its sender left to hardware stays undone: then the transport's header is where the packet wants it.
    """
    head = HEADER6
    transport_len = 0
    if skb.ip_summed == CHECKSUM_PARTIAL:
        head = skb.csum_start - offset
        transport_len = 8
    if head < HEADER6 or head > HEADROOM - 32 or offset + head + transport_len > end:
        return 0
    if skb.ip_summed == CHECKSUM_PARTIAL and skb.csum_offset == _TCP_CHECK:
        skb_copy_bits(skb, offset + head, p.transport, min(20, end - offset - head))
        transport_len = (load8(p.transport + 12) >> 4) * 4
        if transport_len < 20 or offset + head + transport_len > end:
            return 0
    p.data = p.transport - head
    p.transport_len = transport_len
    skb_copy_bits(skb, offset, p.data, head + transport_len)
    p.protocol = 0
    if skb.ip_summed == CHECKSUM_PARTIAL:
        p.check = skb.csum_offset
        p.partial = 1
        p.gso_size = skb.gso_size
        p.gso_type = skb.gso_type & 0xFF
        p.protocol = IPPROTO_TCP if skb.csum_offset == _TCP_CHECK else IPPROTO_UDP
        if skb.csum_offset not in (_TCP_CHECK, _UDP_CHECK) or p.check + 2 > transport_len:
            return 0
    start = offset + head + transport_len
    payload_of_skb(p, skb, start, end - start, room)
    return 1


@kernel
def _may_go(hdr: i64) -> i64:
    """1 for addresses of a packet that a router sends on (RFC 4291 section 2.5.2, 2.7)."""
    source_hi, source_lo = load64be(hdr + 8), load64be(hdr + 16)
    if (source_hi == 0 and source_lo == 0) or is_multicast6(source_hi) != 0 or is_multicast6(load64be(hdr + 24)) != 0:
        return 0
    return 1


@kernel
def _longest(skb: Skb, offset: i64, end: i64, scratch: i64) -> i64:
    """Bytes of a packet, or of the longest of the packets that are to be cut of it (skb_gso_network_seglen)."""
    if skb.gso_size == 0:
        return end - offset
    if skb.csum_offset != _TCP_CHECK:
        return skb.csum_start - offset + 8 + skb.gso_size
    header = skb_header_pointer(skb, skb.csum_start, 20, scratch)
    if header == 0:
        return end - offset
    return skb.csum_start - offset + (load8(header + 12) >> 4) * 4 + skb.gso_size


@kernel
def _put_out(host: i64, packet: i64, p: Packet) -> i64:
    """Send a packet on; what the interface does not do for it is done here. SENT or SEND_...."""
    interface = interface_at(p.interface)
    if p.gso_size != 0:
        kind = p.gso_type & GSO_KIND
        wanted = OFFLOAD_TSO6 if kind == GSO_TCPV6 else OFFLOAD_USO
        if interface.offloads & wanted == 0 or packet_len(packet) > interface.gso_max:
            count_out6(host_at(host), p)
            return segment_packet(host, packet)
    elif p.partial != 0 and interface.offloads & OFFLOAD_CSUM == 0:
        finish_checksum(p)
    return to_link6(host, packet)


@kernel
def forward6(host: i64, h: Host, hdr: i64, offset: i64, end: i64) -> i64:
    """Send on the packet of the skb at hand, from ``offset`` to ``end``, whose header is at ``hdr``; a verdict."""
    mib = ip6_mib_at(stack_at(h.stack).ip6)
    skb = skb_at(h.skb)
    if h.forwarding == 0 or skb.pkt_type != PACKET_HOST or _may_go(hdr) == 0:
        mib.InAddrErrors += 1
        return IP_INADDRERRORS
    if load8(hdr + _HOP_LIMIT) <= 1:
        send_error6(host, TIME_EXCEEDED, 0, 0)
        mib.InHdrErrors += 1
        return IP_TTL
    packet = ip_state_at(h.ip).forward
    start_packet(packet, 0, 0)
    p = packet_at(packet)
    p.target_hi, p.target_lo = load64be(hdr + 24), load64be(hdr + 32)
    if is_link_local6(load64be(hdr + 8)) != 0 or is_link_local6(p.target_hi) != 0:
        send_error6(host, DEST_UNREACH, _BEYOND_SCOPE, 0)
        mib.InAddrErrors += 1
        return IP_INADDRERRORS
    if next_hop6(h, p) != SENT:
        mib.InNoRoutes += 1
        send_error6(host, DEST_UNREACH, _NO_ROUTE, 0)
        return IP_INNOROUTES
    mtu = link_mtu6(h, p.interface)
    if _longest(skb, offset, end, stack_at(h.stack).scratch + L4_SCRATCH) > mtu:
        send_error6(host, PACKET_TOO_BIG, 0, mtu)
        mib.InTooBigErrors += 1
        mib.FragFails += 1
        return PKT_TOO_BIG
    if _take_over(p, skb, offset, end, ip_state_at(h.ip).room) == 0:
        mib.OutDiscards += 1
        return IP_OUTDISCARDS
    store8(p.data + _HOP_LIMIT, load8(hdr + _HOP_LIMIT) - 1)
    p.kind = ETH_P_IPV6
    p.cast = UNICAST
    p.path_mtu = mtu
    mib.OutForwDatagrams += 1
    return FORWARDED if _put_out(host, packet, p) == SENT else IP_OUTDISCARDS
