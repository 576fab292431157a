"""What a frame says of its flow: addresses and ports, for receive hashing (section 5.1.6.4.3).

`dissect_ethernet` and `dissect_ip` fill in a `Headers` and read nothing outside of ``[at, end)``, whatever the frame
claims about itself. They are strict where guessing would put a flow's frames on several queues: a fragment has no
ports, not even the first one; nor has a frame whose own length field ends before them.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load8, load16be, pointer, struct

ETH_HLEN = 14
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_TEB = 0x6558
"""Transparent Ethernet bridging: a whole Ethernet frame inside."""
ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8
_VLAN_HLEN = 4

IPPROTO_HOPOPTS = 0
IPPROTO_IPIP = 4
IPPROTO_TCP = 6
IPPROTO_UDP = 17
IPPROTO_ROUTING = 43
IPPROTO_FRAGMENT = 44
IPPROTO_GRE = 47
IPPROTO_AH = 51
IPPROTO_NONE = 59
IPPROTO_DSTOPTS = 60
IPPROTO_MH = 135

_IPV4_MIN = 20
_IPV6_LEN = 40
_EXTENSION_UNIT = 8
EXTENSIONS_MAX = 16
"""Extension headers that are walked: a frame of nothing else should not keep the device busy."""

_OPTION_PAD1 = 0
_OPTION_HOME_ADDRESS = 201
_ADDRESS_LEN = 16
_ROUTING_TYPE_2 = 2
_ROUTING_2_SIZE = 24
_PORTS_LEN = 4


@struct
class Headers(Struct):
    """Where a frame's flow is written; host addresses."""

    version: i64
    """4 or 6; 0: not IP, or not whole."""
    source: i64
    target: i64
    """The addresses of the IP header, 4 or 16 bytes."""
    home_source: i64
    home_target: i64
    """IPv6: the home address option and the type-2 routing header's address; without them as above."""
    extended: i64
    """There are IPv6 extension headers."""
    protocol: i64
    """What follows the IP header and its extensions; IPPROTO_NONE where that cannot be said."""
    transport: i64
    """Where that begins; 0 in fragments."""
    end: i64
    """Behind the packet's last byte."""


headers_at = pointer(Headers)


@kernel
def _ipv4(h: Headers, at: i64, end: i64) -> None:
    if end - at < _IPV4_MIN:
        return
    size = 4 * (load8(at) & 0xF)
    if load8(at) >> 4 != 4 or size < _IPV4_MIN or size > end - at:
        return
    h.version = 4
    h.source = at + 12
    h.target = at + 16
    h.protocol = load8(at + 9)
    total = load16be(at + 2)
    # 0 stands for more than 16 bits can say (BIG TCP), or for a length left to the hardware.
    h.end = end if total == 0 else min(end, at + total)
    if load16be(at + 6) & 0x3FFF == 0:
        h.transport = at + size


@kernel
def _home_address(at: i64, size: i64) -> i64:
    """Where the home address option of a destination options header of ``size`` bytes has its address, or 0."""
    end = at + size
    at += 2
    while end - at >= 2:
        if load8(at) == _OPTION_PAD1:
            at += 1
            continue
        length = load8(at + 1)
        if load8(at) == _OPTION_HOME_ADDRESS and length == _ADDRESS_LEN and end - at >= 2 + _ADDRESS_LEN:
            return at + 2
        at += 2 + length
    return 0


@kernel
def _is_extension(kind: i64) -> i64:
    if kind in (IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT):
        return 1
    return 1 if kind in (IPPROTO_AH, IPPROTO_DSTOPTS, IPPROTO_MH) else 0


@kernel
def _extension_size(kind: i64, at: i64) -> i64:
    if kind == IPPROTO_FRAGMENT:
        return _EXTENSION_UNIT
    if kind == IPPROTO_AH:
        return 4 * (load8(at + 1) + 2)
    return _EXTENSION_UNIT * (load8(at + 1) + 1)


@kernel
def _ipv6(h: Headers, at: i64, end: i64) -> None:
    if end - at < _IPV6_LEN or load8(at) >> 4 != 6:
        return
    h.version = 6
    h.source = h.home_source = at + 8
    h.target = h.home_target = at + 24
    payload = load16be(at + 4)
    h.end = end if payload == 0 else min(end, at + _IPV6_LEN + payload)
    kind = load8(at + 6)
    at += _IPV6_LEN
    h.protocol = IPPROTO_NONE
    steps = 0
    while _is_extension(kind) != 0:
        h.extended = 1
        steps += 1
        if steps > EXTENSIONS_MAX or h.end - at < _EXTENSION_UNIT:
            return
        size = _extension_size(kind, at)
        if size > h.end - at:
            return
        if kind == IPPROTO_FRAGMENT and load16be(at + 2) & 0xFFF9 != 0:
            return
        if kind == IPPROTO_DSTOPTS:
            home = _home_address(at, size)
            if home != 0:
                h.home_source = home
        elif kind == IPPROTO_ROUTING and load8(at + 2) == _ROUTING_TYPE_2:
            if size == _ROUTING_2_SIZE and load8(at + 3) == 1:
                h.home_target = at + 8
        kind = load8(at)
        at += size
    h.protocol = kind
    h.transport = at


@kernel
def dissect_ip(h: Headers, kind: i64, at: i64, end: i64) -> None:
    """Look at a packet of EtherType ``kind`` that lies in ``[at, end)``."""
    h.version = h.source = h.target = h.home_source = h.home_target = h.extended = h.transport = 0
    h.protocol = IPPROTO_NONE
    h.end = end
    if kind == ETH_P_IP:
        _ipv4(h, at, end)
    elif kind == ETH_P_IPV6:
        _ipv6(h, at, end)


@kernel
def dissect_ethernet(h: Headers, at: i64, end: i64) -> None:
    """Look at an Ethernet frame that lies in ``[at, end)``, with any number of VLAN tags."""
    kind = 0
    if end - at >= ETH_HLEN:
        at += 12
        kind = load16be(at)
        while kind in (ETH_P_8021Q, ETH_P_8021AD) and end - at >= 2 + _VLAN_HLEN:
            at += _VLAN_HLEN
            kind = load16be(at)
        at += 2
    dissect_ip(h, kind, at, end)


@kernel
def ports_of(h: Headers, protocol: i64) -> i64:
    """Where the two ports stand, for a packet of ``protocol`` (TCP or UDP) that has them; else 0."""
    if h.protocol != protocol or h.transport == 0 or h.end - h.transport < _PORTS_LEN:
        return 0
    return h.transport
