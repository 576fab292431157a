"""Tunnels whose inner header is hashed (feature HASH_TUNNEL, section 5.1.6.4.4): one step inwards, if its type is on.

Which packets belong to a type is said by the documents the specification names; where several apply, any that is
enabled will do:

* GRE_2784: GRE over IPv4 with neither key nor sequence number (RFC 2784). GRE_2890: with one of them (RFC 2890).
* GRE_7676: GRE with IPv6 outside or inside (RFC 7676), with or without these fields.
* NVGRE: GRE with a key, no checksum or sequence number, and an Ethernet frame inside (RFC 7637).
* GRE_UDP: any such GRE behind UDP port 4754 (RFC 8086; its DTLS port is sealed).
* VXLAN: UDP port 4789 (RFC 7348). VXLAN_GPE: 4790. GENEVE: 6081, data packets (RFC 8926).
* IPIP: IPv4 in IPv4 (RFC 2003).

A fragment of an outer packet matches nothing: only the first one has the inner header, and all go where it goes.
"""

from __future__ import annotations

from netemu.device.dissect import (
    ETH_P_IP,
    ETH_P_IPV6,
    ETH_P_TEB,
    IPPROTO_GRE,
    IPPROTO_IPIP,
    IPPROTO_UDP,
    Headers,
    dissect_ethernet,
    dissect_ip,
)
from netemu.jit import i64, kernel, load8, load16be
from netemu.virtio.rss import (
    HASH_TUNNEL_GENEVE,
    HASH_TUNNEL_GRE_2784,
    HASH_TUNNEL_GRE_2890,
    HASH_TUNNEL_GRE_7676,
    HASH_TUNNEL_GRE_UDP,
    HASH_TUNNEL_IPIP,
    HASH_TUNNEL_NVGRE,
    HASH_TUNNEL_VXLAN,
    HASH_TUNNEL_VXLAN_GPE,
)

PORT_GRE_UDP = 4754
PORT_VXLAN = 4789
PORT_VXLAN_GPE = 4790
PORT_GENEVE = 6081

_UDP_LEN = 8
_GRE_LEN = 4
_GRE_CHECKSUM = 0x8000
_GRE_KEY = 0x2000
_GRE_SEQUENCE = 0x1000
_GRE_OPTIONS = _GRE_CHECKSUM | _GRE_KEY | _GRE_SEQUENCE
_GRE_UNKNOWN = 0x4C07
"""Routing and other bits of RFC 1701 that must be zero, and the version."""

_VXLAN_LEN = 8
_VXLAN_VNI = 0x08
_GPE_VERSION = 0x30
_GPE_NEXT = 0x04
_GPE_OAM = 0x01
_GPE_IPV4 = 1
_GPE_IPV6 = 2
_GPE_ETHERNET = 3

_GENEVE_LEN = 8
_GENEVE_CONTROL = 0x80


@kernel
def _inside(h: Headers, kind: i64, at: i64) -> i64:
    """Look at what is encapsulated; always 1, as the outer header has matched."""
    if kind == ETH_P_TEB:
        dissect_ethernet(h, at, h.end)
    else:
        dissect_ip(h, kind, at, h.end)
    return 1


@kernel
def _gre_types(h: Headers, flags: i64, kind: i64) -> i64:
    """The tunnel types that a GRE header right behind IP belongs to."""
    types = 0
    if h.version == 6 or kind == ETH_P_IPV6:
        types |= HASH_TUNNEL_GRE_7676
    if h.version == 4:
        types |= HASH_TUNNEL_GRE_2890 if flags & (_GRE_KEY | _GRE_SEQUENCE) else HASH_TUNNEL_GRE_2784
    if flags & _GRE_OPTIONS == _GRE_KEY and kind == ETH_P_TEB:
        types |= HASH_TUNNEL_NVGRE
    return types


@kernel
def _gre(h: Headers, tunnels: i64, at: i64) -> i64:
    """Step into GRE at host ``at``; behind UDP the type is known."""
    if h.end - at < _GRE_LEN:
        return 0
    flags = load16be(at)
    kind = load16be(at + 2)
    size = _GRE_LEN
    if flags & _GRE_CHECKSUM:
        size += 4
    if flags & _GRE_KEY:
        size += 4
    if flags & _GRE_SEQUENCE:
        size += 4
    if flags & _GRE_UNKNOWN or h.end - at < size:
        return 0
    if h.protocol == IPPROTO_GRE and _gre_types(h, flags, kind) & tunnels == 0:
        return 0
    return _inside(h, kind, at + size)


@kernel
def _vxlan(h: Headers, at: i64) -> i64:
    if h.end - at < _VXLAN_LEN or load8(at) & _VXLAN_VNI == 0:
        return 0
    return _inside(h, ETH_P_TEB, at + _VXLAN_LEN)


@kernel
def _vxlan_gpe(h: Headers, at: i64) -> i64:
    if h.end - at < _VXLAN_LEN:
        return 0
    flags = load8(at)
    if flags & _VXLAN_VNI == 0 or flags & (_GPE_VERSION | _GPE_OAM) != 0:
        return 0
    following = load8(at + 3) if flags & _GPE_NEXT else _GPE_ETHERNET
    kind = 0
    if following == _GPE_IPV4:
        kind = ETH_P_IP
    elif following == _GPE_IPV6:
        kind = ETH_P_IPV6
    elif following == _GPE_ETHERNET:
        kind = ETH_P_TEB
    return _inside(h, kind, at + _VXLAN_LEN)


@kernel
def _geneve(h: Headers, at: i64) -> i64:
    if h.end - at < _GENEVE_LEN or load8(at) >> 6 != 0 or load8(at + 1) & _GENEVE_CONTROL:
        return 0
    size = _GENEVE_LEN + 4 * (load8(at) & 0x3F)
    if h.end - at < size:
        return 0
    return _inside(h, load16be(at + 2), at + size)


@kernel
def _in_udp(h: Headers, tunnels: i64) -> i64:
    if h.end - h.transport < _UDP_LEN:
        return 0
    port = load16be(h.transport + 2)
    at = h.transport + _UDP_LEN
    if port == PORT_VXLAN and tunnels & HASH_TUNNEL_VXLAN:
        return _vxlan(h, at)
    if port == PORT_GENEVE and tunnels & HASH_TUNNEL_GENEVE:
        return _geneve(h, at)
    if port == PORT_VXLAN_GPE and tunnels & HASH_TUNNEL_VXLAN_GPE:
        return _vxlan_gpe(h, at)
    if port == PORT_GRE_UDP and tunnels & HASH_TUNNEL_GRE_UDP:
        return _gre(h, tunnels, at)
    return 0


@kernel
def step_inside(h: Headers, tunnels: i64) -> i64:
    """If the packet is of one of the ``tunnels`` (a mask), look at the packet inside, and return 1 (HTUN-D-04).

    Otherwise ``h`` stays as it is (HTUN-D-01). A packet inside that is not IP leaves a ``h`` of version 0.
    """
    if h.transport == 0:
        return 0
    if h.protocol == IPPROTO_UDP:
        return _in_udp(h, tunnels)
    if h.protocol == IPPROTO_GRE:
        return _gre(h, tunnels, h.transport)
    if h.protocol == IPPROTO_IPIP and h.version == 4 and tunnels & HASH_TUNNEL_IPIP:
        return _inside(h, ETH_P_IP, h.transport)
    return 0
