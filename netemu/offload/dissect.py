"""Where the headers of a frame lie: Ethernet, VLAN tags, IPv4, IPv6, TCP, UDP, and the UDP tunnels VXLAN and Geneve.

Everything is checked against the frame's length, and the lengths of the headers against each other. What does not fit
is MALFORMED; what fits and is not for offloads has a reason of its own.

Lengths that are zero for a reason are understood: IPv4's total length in a frame that the sender leaves to hardware to
segment, or that is longer than 65,535 bytes (BIG TCP), and IPv6's payload length in a jumbogram (RFC 2675), whose
length stands in a hop-by-hop option, or in newer kernels nowhere. Such a packet ends where the frame does.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load8, load16be, load32be, pointer, struct
from netemu.offload.reasons import FRAGMENT, MALFORMED, NOT_IP, OTHER_PROTOCOL, ROUTED, TOO_LONG, WHOLE

ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_TEB = 0x6558
"""Ethernet inside of a tunnel."""
TCP = 6
UDP = 17

ETHERNET_HEADER = 14
VXLAN_PORT = 4789
VXLAN_PORT_LINUX = 8472
"""Linux's default, older than the assigned one."""
GENEVE_PORT = 6081
_HOP_BY_HOP = 0
_ROUTING = 43
_FRAGMENT_HEADER = 44
_DESTINATION = 60
_JUMBO_OPTION = 0xC2
_LOOSE_ROUTE = 131
_STRICT_ROUTE = 137
_MOST_EXTENSIONS = 16
_VXLAN_HAS_ID = 0x08


@struct
class Layers(Struct):
    """Offsets in a frame, in bytes: with a tunnel those of the inner packet, and ``outer_`` those of the outer."""

    network: i64
    """The IP header; for what is not IP, the end of the Ethernet header."""
    version: i64
    """4 or 6; 0 for what is not IP."""
    transport: i64
    protocol: i64
    """TCP or UDP."""
    payload: i64
    end: i64
    """Behind the packet's last byte; padding of the frame may follow."""
    jumbo: i64
    """The hop-by-hop header that holds nothing but the length of a jumbogram; 0: there is none."""
    fragmentable: i64
    """IPv6: where a fragment header belongs."""
    fragmentable_next: i64
    """IPv6: the next-header field in front of that place."""
    outer_network: i64
    """0: there is no tunnel, and neither of the next two."""
    outer_version: i64
    outer_transport: i64
    inner_type: i64
    """What `find_tunnel` saw: the EtherType of the inner packet."""


layers_at = pointer(Layers)


@kernel
def outermost(d: Layers) -> i64:
    """The offset of the first IP header, from which the MTU counts."""
    return d.outer_network if d.outer_network != 0 else d.network


@kernel
def _source_routed(frame: i64, at: i64, end: i64) -> i64:
    """Whether the IPv4 options between ``at`` and ``end`` lead the packet over other addresses."""
    while at < end:
        kind = load8(frame + at)
        if kind in (_LOOSE_ROUTE, _STRICT_ROUTE):
            return 1
        if kind == 0:
            return 0
        size = load8(frame + at + 1) if kind > 1 and at + 1 < end else 1
        at += max(1, size)
    return 0


@kernel
def _ipv4(frame: i64, at: i64, limit: i64, d: Layers) -> i64:
    if at + 20 > limit:
        return MALFORMED
    first = load8(frame + at)
    header = 4 * (first & 0xF)
    total = load16be(frame + at + 2)
    if first >> 4 != 4 or header < 20 or at + header > limit:
        return MALFORMED
    if total != 0 and (total < header or at + total > limit):
        return MALFORMED
    d.end = at + total if total != 0 else limit
    d.transport = at + header
    d.protocol = load8(frame + at + 9)
    if load16be(frame + at + 6) & 0x3FFF:
        return FRAGMENT
    return ROUTED if header > 20 and _source_routed(frame, at + 20, at + header) else WHOLE


@kernel
def _jumbo_length(frame: i64, at: i64, size: i64) -> i64:
    """The length in the jumbo option of a hop-by-hop header of ``size`` bytes; 0 where there is none."""
    end = at + size
    at += 2
    while at + 2 <= end:
        kind = load8(frame + at)
        if kind == _JUMBO_OPTION and at + 6 <= end:
            return load32be(frame + at + 2)
        at += 1 if kind == 0 else 2 + load8(frame + at + 1)
    return 0


@kernel
def _ipv6(frame: i64, at: i64, limit: i64, d: Layers) -> i64:
    if at + 40 > limit or load8(frame + at) >> 4 != 6:
        return MALFORMED
    length = load16be(frame + at + 4)
    kind = load8(frame + at + 6)
    d.fragmentable_next = at + 6
    here = at + 40
    d.fragmentable = here
    jumbo = 0
    for _ in range(_MOST_EXTENSIONS):
        if kind == _FRAGMENT_HEADER:
            return FRAGMENT
        if kind not in (_HOP_BY_HOP, _ROUTING, _DESTINATION):
            break
        if here + 8 > limit:
            return MALFORMED
        size = 8 * (1 + load8(frame + here + 1))
        if here + size > limit:
            return MALFORMED
        if kind == _HOP_BY_HOP and length == 0 and jumbo == 0:
            jumbo = _jumbo_length(frame, here, size)
            if jumbo != 0 and size != 8:
                return TOO_LONG  # other options stand beside it, so that the header could not go
            if jumbo != 0:
                d.jumbo = here
        if kind == _ROUTING and load8(frame + here + 3) != 0:
            return ROUTED
        if kind != _DESTINATION:
            d.fragmentable_next = here
            d.fragmentable = here + size
        kind = load8(frame + here)
        here += size
    d.transport = here
    d.protocol = kind
    if length == 0 and jumbo == 0:
        d.end = limit
    else:
        d.end = at + 40 + (length if length != 0 else jumbo)
    return MALFORMED if d.end > limit or here > d.end else WHOLE


@kernel
def _packet(frame: i64, at: i64, limit: i64, kind: i64, d: Layers) -> i64:
    """The IP packet at ``at``, whose EtherType is ``kind``, down to the payload of TCP or UDP."""
    d.network = at
    d.jumbo = 0
    if kind == ETH_P_IP:
        d.version = 4
        why = _ipv4(frame, at, limit, d)
    elif kind == ETH_P_IPV6:
        d.version = 6
        why = _ipv6(frame, at, limit, d)
    else:
        return NOT_IP
    if why != WHOLE:
        return why
    there = d.end - d.transport
    if d.protocol == TCP:
        if there < 20:
            return MALFORMED
        header = 4 * (load8(frame + d.transport + 12) >> 4)
        d.payload = d.transport + header
        return MALFORMED if header < 20 or header > there else WHOLE
    if d.protocol == UDP:
        if there < 8:
            return MALFORMED
        length = load16be(frame + d.transport + 4)
        d.payload = d.transport + 8
        return WHOLE if length == there or (length == 0 and there > 0xFFFF) else MALFORMED
    return OTHER_PROTOCOL


@kernel
def dissect(frame: i64, length: i64, d: Layers) -> i64:
    """Find the headers of the frame at ``frame``, as of one without a tunnel; WHOLE, or why there is nothing to do.

    ``d.network`` and ``d.end`` hold something sensible in any case.
    """
    d.outer_network = 0
    d.outer_version = 0
    d.outer_transport = 0
    d.network = min(length, ETHERNET_HEADER)
    d.version = 0
    d.end = length
    if length < ETHERNET_HEADER:
        return NOT_IP
    at = ETHERNET_HEADER
    kind = load16be(frame + 12)
    while kind in (0x8100, 0x88A8) and at + 4 <= length:
        kind = load16be(frame + at + 2)
        at += 4
    return _packet(frame, at, length, kind, d)


@kernel
def find_tunnel(frame: i64, d: Layers) -> i64:
    """The offset of the inner IP header of a VXLAN or Geneve packet, going by the port; 0 for anything else.

    Sets ``d.inner_type``.
    """
    if d.protocol != UDP:
        return 0
    port = load16be(frame + d.transport + 2)
    at = d.payload
    if port in (VXLAN_PORT, VXLAN_PORT_LINUX):
        if at + 8 > d.end or load8(frame + at) & _VXLAN_HAS_ID == 0:
            return 0
        kind = ETH_P_TEB
        at += 8
    elif port == GENEVE_PORT:
        if at + 8 > d.end or load8(frame + at) >> 6 != 0:
            return 0
        kind = load16be(frame + at + 2)
        at += 8 + 4 * (load8(frame + at) & 0x3F)
    else:
        return 0
    if kind == ETH_P_TEB:
        if at + ETHERNET_HEADER > d.end:
            return 0
        kind = load16be(frame + at + 12)
        at += ETHERNET_HEADER
        while kind in (0x8100, 0x88A8) and at + 4 <= d.end:
            kind = load16be(frame + at + 2)
            at += 4
    d.inner_type = kind
    return at if at < d.end else 0


@kernel
def enter_tunnel(frame: i64, at: i64, kind: i64, d: Layers) -> i64:
    """Go on to the inner packet at ``at`` of what `dissect` found to be UDP; WHOLE, or why not.

    After any other result ``d`` has to be made anew.
    """
    d.outer_network = d.network
    d.outer_version = d.version
    d.outer_transport = d.transport
    if d.jumbo != 0:
        return MALFORMED
    return _packet(frame, at, d.end, kind, d)
