"""Packets of IPv6 that are too long as they are: fragments at their source, segments that no device cuts.

After Linux's ip6_fragment and skb_gso_segment. Apart from `netemu.stack.ipv6.output` because few packets need it.
"""

from __future__ import annotations

from netemu.chance import next_random
from netemu.jit import entry, i64, kernel, store8, store16be, store32be
from netemu.stack.host import SENT, Host, host_at
from netemu.stack.ipv4.cut import take_piece
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.ipv6.header import HEADER6, flow_label, put_header6
from netemu.stack.ipv6.output import ETH_P_IPV6, count_out6, transmit6
from netemu.stack.ipv6.state import ip6_at
from netemu.stack.mib import ip6_mib_at
from netemu.stack.packet import Packet, packet_at, start_packet, take_way
from netemu.stack.segment import segment_packet
from netemu.stack.state import stack_at

FRAGMENT_HEADER = 8
_NEXTHDR_FRAGMENT = 44


@kernel
def _in_fragments(host: i64, h: Host, p: Packet) -> i64:
    """Send a packet, whose checksum is made, in fragments that fit the path (RFC 8200 section 4.5)."""
    mib = ip6_mib_at(stack_at(h.stack).ip6)
    label = flow_label(p, ip6_at(h.ip6).flow_secret)
    address = ip_state_at(h.ip).fragment
    h.random = next_random(h.random)
    identification = h.random
    total = p.transport_len + p.payload_len + p.more_len
    most = (p.path_mtu - HEADER6 - FRAGMENT_HEADER) & ~7
    start = 0
    while start < total:
        size = min(total - start, most)
        start_packet(address, _NEXTHDR_FRAGMENT, 0)
        piece = packet_at(address)
        take_piece(piece, p, start, size)
        piece.data = piece.transport - FRAGMENT_HEADER
        store8(piece.data, p.protocol)
        store8(piece.data + 1, 0)
        store16be(piece.data + 2, start | (1 if start + size < total else 0))
        store32be(piece.data + 4, identification)
        piece.source_hi, piece.source_lo = p.source_hi, p.source_lo
        take_way(piece, p)
        piece.hop_limit, piece.traffic_class = p.hop_limit, p.traffic_class
        sent = transmit6(host, address, label)
        if sent != SENT:
            mib.FragFails += 1
            return sent
        mib.FragCreates += 1
        start += size
    mib.FragOKs += 1
    return SENT


@entry
def ip6_cut(host: i64, packet: i64) -> i64:
    """The hook `netemu.stack.ipv6.state.Ip6.cut`: send a routed packet in pieces; SENT or SEND_....

    One with a ``gso_size`` in segments, another, whose checksum is made, in fragments.
    """
    h = host_at(host)
    p = packet_at(packet)
    if p.gso_size == 0:
        return _in_fragments(host, h, p)
    put_header6(p, flow_label(p, ip6_at(h.ip6).flow_secret))
    p.kind = ETH_P_IPV6
    count_out6(h, p)
    sent = segment_packet(host, packet)
    if sent != SENT:
        ip6_mib_at(stack_at(h.stack).ip6).OutDiscards += 1
    return sent
