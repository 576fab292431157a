"""Packets of IPv6 on their way out (RFC 8200), after Linux's ip6_xmit and ip6_output.

A packet is routed, unless it was, gets what its sender left open (hop limit, flow label, checksum), its header, and
goes to the link. One that is longer than its path takes is cut first (`netemu.stack.ipv6.cut`).
"""

from __future__ import annotations

from netemu.jit import call2, entry, i64, kernel, load8
from netemu.stack.host import OFFLOAD_TSO6, SEND_DROPPED, SEND_TOO_BIG, SENT, Host, host_at, interface_at
from netemu.stack.ipv6.header import HEADER6, IPPROTO_TCP, IPPROTO_UDP, flow_label, pseudo_sum6, put_header6
from netemu.stack.ipv6.routes import route_packet6
from netemu.stack.ipv6.state import DEFAULT_HOP_LIMIT, interface_ip6, ip6_at
from netemu.stack.link_output import link_output, set_checksum
from netemu.stack.mib import ip6_mib_at
from netemu.stack.packet import Packet, packet_at
from netemu.stack.segment import GSO_ECN, GSO_TCPV6
from netemu.stack.state import MULTICAST, stack_at

ETH_P_IPV6 = 0x86DD
_TCP_FLAGS = 13
_CWR = 0x80
_LONGEST = HEADER6 + 65535
"""Bytes of a packet whose length field has room for its payload."""


@kernel
def count_out6(h: Host, p: Packet) -> None:
    """Count a packet, complete from its IPv6 header on, that leaves; each of the segments it stands for."""
    mib = ip6_mib_at(stack_at(h.stack).ip6)
    size = p.transport + p.transport_len - p.data + p.payload_len + p.more_len
    count = (p.payload_len + p.more_len + p.gso_size - 1) // p.gso_size if p.gso_size != 0 else 1
    if p.cast == MULTICAST:
        mib.OutMcastPkts += count
        mib.OutMcastOctets += size
    mib.OutTransmits += count
    mib.OutOctets += size


@kernel
def to_link6(host: i64, packet: i64) -> i64:
    """Count a packet that is complete from its IPv6 header on, and hand it to the link; SENT or SEND_...."""
    h = host_at(host)
    count_out6(h, packet_at(packet))
    sent = link_output(host, packet)
    if sent != SENT:
        ip6_mib_at(stack_at(h.stack).ip6).OutDiscards += 1
    return sent


@kernel
def transmit6(host: i64, packet: i64, label: i64) -> i64:
    """Put the header on a packet that is routed, and send it; SENT or SEND_...."""
    p = packet_at(packet)
    put_header6(p, label)
    p.kind = ETH_P_IPV6
    return to_link6(host, packet)


@kernel
def _too_big(p: Packet, size: i64) -> i64:
    """1 if a packet, or each segment that the device is to cut of it, is longer than its path takes."""
    if p.gso_size != 0:
        return 1 if HEADER6 + p.transport_len + p.gso_size > p.path_mtu else 0
    return 1 if size > p.path_mtu else 0


@kernel
def _set_gso(p: Packet, size: i64) -> i64:
    """Say what a packet of ``size`` bytes is to be cut into; 0: the device does not do that, or not to one so long."""
    if p.gso_size == 0 or p.payload_len + p.more_len <= p.gso_size:
        p.gso_size = 0
        p.gso_type = 0
        return 1
    p.gso_type = GSO_TCPV6 | (GSO_ECN if load8(p.transport + _TCP_FLAGS) & _CWR else 0)
    interface = interface_at(p.interface)
    return 1 if interface.offloads & OFFLOAD_TSO6 and size <= interface.gso_max else 0


@kernel
def _send(host: i64, packet: i64) -> i64:
    h = host_at(host)
    p = packet_at(packet)
    mib = ip6_mib_at(stack_at(h.stack).ip6)
    if p.routed == 0:
        found = route_packet6(h, p)
        if found != SENT:
            mib.OutNoRoutes += 1
            return found
    if p.hop_limit == 0:
        told = interface_ip6(h, p.interface).hop_limit
        p.hop_limit = 1 if p.cast == MULTICAST else told if told != 0 else DEFAULT_HOP_LIMIT
    size = HEADER6 + p.transport_len + p.payload_len + p.more_len
    if size > _LONGEST:
        mib.OutDiscards += 1
        return SEND_DROPPED
    device_cuts = _set_gso(p, size)
    too_big = _too_big(p, size)
    if too_big != 0 and (p.dont_fragment != 0 or p.gso_size != 0):
        mib.FragFails += 1
        return SEND_TOO_BIG
    mib.OutRequests += 1
    # Linux leaves only TCP's and UDP's checksums to a device.
    finished = 1 if too_big != 0 or p.protocol not in (IPPROTO_TCP, IPPROTO_UDP) else 0
    set_checksum(p, interface_at(p.interface), pseudo_sum6(p), finished)
    if too_big != 0 or device_cuts == 0:
        return call2(ip6_at(h.ip6).cut, host, packet)
    return transmit6(host, packet, flow_label(p, ip6_at(h.ip6).flow_secret))


@entry
def ip6_output(host: i64, packet: i64) -> i64:
    """The hook `netemu.stack.host.Host.send6`: route a packet, put headers on it and send it; SENT or SEND_...."""
    return _send(host, packet)
