"""Messages of neighbour discovery on their way out: they go to neighbours only, past all routing (RFC 4861)."""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.host import Host
from netemu.stack.icmpv6.output import HEADER, NEIGHBOUR_SOLICIT, send_message, start_message
from netemu.stack.ipv6.addresses import ALL_NODES_HI, SOLICITED_LO, is_multicast6
from netemu.stack.ipv6.header import store64be
from netemu.stack.ipv6.routes import link_mtu6
from netemu.stack.packet import packet_at
from netemu.stack.state import MULTICAST, UNICAST

HOP_LIMIT = 255
"""Of all these messages: so nobody beyond the link can have sent one (RFC 4861 section 3.1)."""
TARGET_SIZE = HEADER + 16
"""Bytes of a solicitation or advertisement up to its options."""
_LOW_24 = 0xFFFFFF


@kernel
def send_near(host: i64, h: Host, packet: i64, interface: i64, source_hi: i64, source_lo: i64, hi: i64, lo: i64) -> i64:
    """Send a message by an interface to a neighbour, or a group; the source may be the unspecified address (0, 0)."""
    p = packet_at(packet)
    p.source_hi, p.source_lo = source_hi, source_lo
    p.target_hi, p.target_lo = hi, lo
    p.next_hop_hi, p.next_hop_lo = hi, lo
    p.interface = interface
    p.cast = MULTICAST if is_multicast6(hi) != 0 else UNICAST
    p.hop_limit = HOP_LIMIT
    p.path_mtu = link_mtu6(h, interface)
    p.routed = 1
    return send_message(host, h, packet)


@kernel
def solicited_node(lo: i64) -> i64:
    """Lower half of the solicited-node group of an address (RFC 4291 section 2.7.1); the upper one is ALL_NODES_HI."""
    return SOLICITED_LO | lo & _LOW_24


@kernel
def start_solicitation(packet: i64, hi: i64, lo: i64, options: i64) -> i64:
    """Begin a solicitation for a target with ``options`` bytes of options; host address of these."""
    at = start_message(packet, NEIGHBOUR_SOLICIT, 0, 0, TARGET_SIZE + options)
    store64be(at, hi)
    store64be(at + 8, lo)
    return at + 16


@kernel
def ask_all(host: i64, h: Host, packet: i64, interface: i64, source_hi: i64, source_lo: i64, lo: i64) -> i64:
    """Send a solicitation to the solicited-node group of the target whose lower half is ``lo``."""
    return send_near(host, h, packet, interface, source_hi, source_lo, ALL_NODES_HI, solicited_node(lo))
