"""Segmentation in software: one long TCP or UDP packet cut as a device would (TSO, USO), where the interface cannot.

After Linux's inet_gso_segment, tcp_gso_segment and __udp_gso_segment. Both IP versions.
"""

from __future__ import annotations

from netemu.checksum import pseudo_v4, pseudo_v6
from netemu.jit import entry, i64, kernel, load8, load16be, load32be, memcpy, store8, store16be, store32be
from netemu.stack.host import SEND_DROPPED, SENT, host_at, interface_at
from netemu.stack.ipv4.cut import ip_fragment, set_header_sum
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.link_output import link_output, set_checksum
from netemu.stack.packet import Packet, packet_at, take_way

GSO_TCPV4 = 1
GSO_UDP = 3
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80
GSO_KIND = 0x7F

_UDP_LENGTH = 4
_TCP_SEQUENCE = 4
_TCP_FLAGS = 13
_FIN_PSH = 0x09
_CWR = 0x80
_HEADER_V6 = 40


@kernel
def _slice(part: Packet, whole: Packet, start: i64, size: i64) -> None:
    """Make ``size`` bytes of the payload, from ``start`` on, that of ``part``."""
    first = max(min(whole.payload_len - start, size), 0)
    part.payload = whole.payload + start
    part.payload_len = first
    part.more = whole.more + max(start - whole.payload_len, 0)
    part.more_len = size - first


@kernel
def _transport(part: Packet, whole: Packet, start: i64, size: i64, last: i64) -> None:
    """The transport header of the segment with ``size`` bytes of payload from ``start`` on."""
    at = part.transport
    if whole.gso_type & GSO_KIND == GSO_UDP_L4:
        store16be(at + _UDP_LENGTH, part.transport_len + size)
        return
    store32be(at + _TCP_SEQUENCE, load32be(at + _TCP_SEQUENCE) + start)
    flags = load8(at + _TCP_FLAGS)
    if last == 0:
        flags &= ~_FIN_PSH
    if start > 0:
        flags &= ~_CWR
    store8(at + _TCP_FLAGS, flags)


@kernel
def segment_packet(host: i64, packet: i64) -> i64:
    """Send a packet, complete from its IP header on, as segments of ``gso_size`` bytes; SENT or SEND_DROPPED.

    IPv4 segments are numbered from the packet's identification on; one over the path's MTU becomes fragments.
    """
    whole = packet_at(packet)
    address = ip_state_at(host_at(host).ip).segment
    part = packet_at(address)
    network = whole.transport - whole.data
    v6 = 1 if load8(whole.data) >> 4 == 6 else 0
    payload = whole.payload_len + whole.more_len
    number = 0
    start = 0
    while start < payload:
        size = min(whole.gso_size, payload - start)
        last = 1 if start + size == payload else 0
        part.data = part.transport - network
        memcpy(part.data, whole.data, network + whole.transport_len)
        part.transport_len = whole.transport_len
        _slice(part, whole, start, size)
        _transport(part, whole, start, size, last)
        length = network + part.transport_len + size
        if v6 != 0:
            store16be(part.data + 4, length - _HEADER_V6)
            pseudo = pseudo_v6(part.data, whole.protocol)
        else:
            store16be(part.data + 2, length)
            store16be(part.data + 4, load16be(part.data + 4) + number)
            set_header_sum(part.data, network)
            pseudo = pseudo_v4(part.data, whole.protocol)
        part.kind = whole.kind
        part.protocol = whole.protocol
        part.check = whole.check
        part.gso_size = 0
        part.gso_type = 0
        take_way(part, whole)
        over = 1 if v6 == 0 and length > whole.path_mtu else 0
        set_checksum(part, interface_at(part.interface), pseudo, over)
        result = ip_fragment(host, address, whole.path_mtu) if over != 0 else link_output(host, address)
        if result != SENT:
            return SEND_DROPPED
        start += size
        number += 1
    return SENT


@entry
def ip_cut(host: i64, packet: i64) -> i64:
    """Hook `IpState.cut`: send a packet that is complete from its IP header on in segments, or else in IPv4 fragments.

    SENT or SEND_DROPPED.
    """
    p = packet_at(packet)
    return segment_packet(host, packet) if p.gso_size != 0 else ip_fragment(host, packet, p.path_mtu)
