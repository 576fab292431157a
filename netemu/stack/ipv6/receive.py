"""IPv6 (RFC 8200), after Linux's ip6_rcv_core, ip6_protocol_deliver_rcu and the handlers of extension headers.

In a replay every destination is taken as the host's own, and a fragment is counted (``ReasmReqds``) and goes no
further; an atomic one (RFC 6946) is whole. A host that talks is asked by hooks: whether a packet is for it
(``ip6_input``), what a fragment completes (``ip6_fragment``), whom to tell of a header that is wrong (``ip6_problem``).

Extension headers are walked as long as they fit in the payload. Each is 8 bytes or longer, so the walk ends.
Their options are in `netemu.stack.ipv6.options`.
"""

from __future__ import annotations

from netemu.checksum import pseudo_v6
from netemu.jit import call3, call5, i64, kernel, load8, load16be, load32be, load64
from netemu.skb import Skb, skb_at, skb_header_pointer
from netemu.stack.host import host_at
from netemu.stack.icmpv6.receive import icmpv6_rcv
from netemu.stack.ipv6.options import OPTIONS_TRUNCATED, walk_options
from netemu.stack.mib import IP6_ECN, count_at, ip6_mib_at
from netemu.stack.reasons import (
    DELIVERED,
    FRAGMENT,
    HDR_TRUNC,
    IP_INADDRERRORS,
    IP_INHDR,
    IP_NOPROTO,
    IPV6_BAD_EXTHDR,
    PKT_TOO_SMALL,
)
from netemu.stack.state import (
    EXT_SCRATCH,
    IP_SCRATCH,
    MULTICAST,
    PACKET_BROADCAST,
    PACKET_MULTICAST,
    UNICAST,
    Stack,
)
from netemu.stack.tcp import tcp_rcv
from netemu.stack.udp.receive import udp_rcv

NEXTHDR_HOP = 0
NEXTHDR_TCP = 6
NEXTHDR_UDP = 17
NEXTHDR_ROUTING = 43
NEXTHDR_FRAGMENT = 44
NEXTHDR_ICMPV6 = 58
NEXTHDR_NONE = 59
NEXTHDR_DEST = 60

_HEADER = 40
_LENGTH = 4
_NEXT_HEADER = 6
_UNIT = 8
"""Extension headers are as long as a multiple of this."""
_FRAGMENT_OFFSET = 0xFFF8
_MORE_FRAGMENTS = 1
_PAYLOAD_MAX = 65535

_ROUTING_RPL = 3
_ROUTING_SEGMENT = 4

_GO_ON = -1
"""An extension header is good; what comes next decides."""
LOCAL = -1
"""A packet is for this host (`netemu.stack.state.Stack.ip6_input`)."""

# Codes of a parameter problem (RFC 4443 section 3.4): what is wrong.
PROBLEM_FIELD = 0
PROBLEM_NEXT_HEADER = 1
PROBLEM_OPTION = 2


@kernel
def _is_loopback(at: i64) -> i64:
    """1 for ::1."""
    return 1 if load64(at) == 0 and load32be(at + 8) == 0 and load32be(at + 12) == 1 else 0


@kernel
def _comes_from_itself(stack: Stack) -> i64:
    """1 if the packet at hand is a host's to itself."""
    if stack.host == 0:
        return 0
    host = host_at(stack.host)
    return 1 if host.input == host.loopback else 0


@kernel
def _addresses_allowed(stack: Stack, hdr: i64) -> i64:
    """0 for addresses that no link brings: loopback, multicast source, multicast of scope 0 or 1 (RFC 4291)."""
    if load8(hdr + 8) == 0xFF:
        return 0
    if (_is_loopback(hdr + 8) != 0 or _is_loopback(hdr + 24) != 0) and _comes_from_itself(stack) == 0:
        return 0
    if load8(hdr + 24) == 0xFF and load8(hdr + 25) & 15 < 2:
        return 0
    return 1


@kernel
def _extension_size(header: i64) -> i64:
    """Bytes of an extension header by its length field, in front of which ``header`` points; 0 for no header."""
    return (load8(header + 1) + 1) * _UNIT if header != 0 else 0


@kernel
def _extension(stack: Stack, skb: Skb, at: i64, end: i64) -> i64:
    """Host address of the extension header at offset ``at``, all of it, or 0 if it does not fit before ``end``."""
    if at + _UNIT > end:
        return 0
    scratch = stack.scratch + EXT_SCRATCH
    size = _extension_size(skb_header_pointer(skb, at, _UNIT, scratch))
    return skb_header_pointer(skb, at, size, scratch) if at + size <= end else 0


@kernel
def _problem(stack: Stack, offset: i64, at: i64, size: i64, code: i64) -> None:
    """Tell the sender of the packet at ``offset`` what is wrong with ``size`` bytes at ``at``, if the host talks."""
    if stack.ip6_problem != 0:
        call5(stack.ip6_problem, stack.host, offset, at, size, code)


@kernel
def _routing_or_options(stack: Stack, skb: Skb, hdr: i64, protocol: i64, header: i64, size: i64, at: i64) -> i64:
    """A routing header or one of destination options (RFC 8200 sections 4.4, 4.6) of ``size`` bytes (0: cut off).

    A routing header is passed over when no segment is left to visit; else it is refused, as by default in Linux.
    It lies at offset ``at``.
    """
    mib = ip6_mib_at(stack.ip6)
    if size == 0:
        mib.InHdrErrors += 1
        return HDR_TRUNC
    if protocol == NEXTHDR_DEST:
        if walk_options(header, size, 0, 0, 0) < 0:
            mib.InHdrErrors += 1
            _problem(stack, skb.network_header, at, size, PROBLEM_OPTION)
            return IPV6_BAD_EXTHDR
        return _GO_ON
    if load8(hdr + 24) == 0xFF or skb.pkt_type in (PACKET_BROADCAST, PACKET_MULTICAST):
        mib.InAddrErrors += 1
        return IP_INADDRERRORS
    if load8(header + 2) in (_ROUTING_RPL, _ROUTING_SEGMENT):
        # Not switched on (rpl_seg_enabled, seg6_enabled), and dropped without a counter.
        return IPV6_BAD_EXTHDR
    if load8(header + 3) != 0:
        mib.InHdrErrors += 1
        _problem(stack, skb.network_header, at + 2, 1, PROBLEM_FIELD)
        return IPV6_BAD_EXTHDR
    return _GO_ON


@kernel
def _fragment(stack: Stack, skb: Skb, hdr: i64, header: i64, at: i64, size: i64, again: i64) -> i64:
    """A fragment header (0: cut off) at offset ``at`` with ``size`` bytes behind it; ``again`` when one went before."""
    mib = ip6_mib_at(stack.ip6)
    if again != 0:
        mib.InHdrErrors += 1
        return IPV6_BAD_EXTHDR
    mib.ReasmReqds += 1
    if header == 0 or load16be(hdr + 4) == 0:
        mib.InHdrErrors += 1
        return IPV6_BAD_EXTHDR
    offset = load16be(header + 2) & _FRAGMENT_OFFSET
    more = load16be(header + 2) & _MORE_FRAGMENTS
    if offset == 0 and more == 0:
        mib.ReasmOKs += 1
        return _GO_ON
    # All but the last are as long as a multiple of 8, and together they are no longer than a packet can be.
    uneven = 1 if more != 0 and size % _UNIT != 0 else 0
    if uneven != 0 or offset + size > _PAYLOAD_MAX:
        mib.InHdrErrors += 1
        where = skb.network_header + _LENGTH if uneven != 0 else at + 2
        _problem(stack, skb.network_header, where, 2, PROBLEM_FIELD)
        return IPV6_BAD_EXTHDR
    return FRAGMENT


@kernel
def _upper(stack: Stack, skb: Skb, hdr: i64, protocol: i64, at: i64, size: i64, named: i64) -> i64:
    """Hand ``size`` bytes of payload at ``at`` to their protocol, which counts what it drops itself.

    The header that names the protocol does so at offset ``named``.
    """
    mib = ip6_mib_at(stack.ip6)
    skb.transport_header = at
    if protocol == NEXTHDR_TCP:
        mib.InDelivers += 1
        return tcp_rcv(stack, skb, at, size, pseudo_v6(hdr, protocol))
    if protocol == NEXTHDR_UDP:
        mib.InDelivers += 1
        cast = MULTICAST if load8(hdr + 24) == 0xFF else UNICAST
        return udp_rcv(stack, skb, at, size, pseudo_v6(hdr, protocol), cast, 1)
    if protocol == NEXTHDR_ICMPV6:
        mib.InDelivers += 1
        return icmpv6_rcv(stack, skb, at, size, pseudo_v6(hdr, protocol), load8(hdr + 7))
    if protocol == NEXTHDR_NONE:
        mib.InDelivers += 1
        return DELIVERED
    mib.InUnknownProtos += 1
    _problem(stack, skb.network_header, named, 1, PROBLEM_NEXT_HEADER)
    return IP_NOPROTO


@kernel
def _walk(stack: Stack, skb: Skb, hdr: i64, protocol: i64, at: i64, end: i64, named: i64) -> i64:
    """Walk extension headers from offset ``at`` on, then hand up what they lead to, which ends at ``end``.

    ``named`` is where the one at ``at`` got its protocol.
    """
    fragments = 0
    while protocol in (NEXTHDR_DEST, NEXTHDR_ROUTING, NEXTHDR_FRAGMENT):
        if protocol == NEXTHDR_FRAGMENT:
            size = _UNIT
            header = skb_header_pointer(skb, at, size, stack.scratch + EXT_SCRATCH) if at + size <= end else 0
            verdict = _fragment(stack, skb, hdr, header, at, end - at - size, fragments)
            fragments += 1
            if verdict == FRAGMENT and stack.ip6_fragment != 0:
                whole = call5(stack.ip6_fragment, stack.host, skb.network_header, at, end, named)
                if whole <= 0:
                    return -whole if whole != 0 else verdict
                # The walk begins anew in the whole packet, from which the fragment header is gone.
                skb = skb_at(whole)
                start = skb.network_header
                hdr = skb.data + start
                end = skb.len
                named = start + _NEXT_HEADER
                at = start + _HEADER
                if load8(skb.data + named) == NEXTHDR_HOP:
                    named = at
                    at += _extension_size(skb.data + named)
                protocol = load8(skb.data + named)
                continue
        else:
            header = _extension(stack, skb, at, end)
            size = _extension_size(header)
            verdict = _routing_or_options(stack, skb, hdr, protocol, header, size, at)
        if verdict != _GO_ON:
            return verdict
        protocol = load8(header)
        named = at
        at += size
    return _upper(stack, skb, hdr, protocol, at, end - at, named)


@kernel
def ipv6_rcv(stack: Stack, skb: Skb, offset: i64) -> i64:
    """Take the packet at ``offset``, the skb's ``network_header``; return the verdict."""
    size = skb.len - offset
    mib = ip6_mib_at(stack.ip6)
    mib.InReceives += 1
    mib.InOctets += size
    hdr = skb_header_pointer(skb, offset, _HEADER, stack.scratch + IP_SCRATCH)
    if hdr == 0:
        mib.InHdrErrors += 1
        return HDR_TRUNC
    if load8(hdr) >> 4 != 6:
        mib.InHdrErrors += 1
        return IP_INHDR
    count_at(stack.ip6 + IP6_ECN, (load8(hdr + 1) >> 4) & 3)
    if _addresses_allowed(stack, hdr) == 0:
        mib.InHdrErrors += 1
        return IP_INADDRERRORS
    payload_len = load16be(hdr + _LENGTH)
    protocol = load8(hdr + _NEXT_HEADER)
    at = offset + _HEADER
    named = offset + _NEXT_HEADER
    room = size - _HEADER
    if payload_len != 0 or protocol != NEXTHDR_HOP:
        if payload_len > room:
            mib.InTruncatedPkts += 1
            return PKT_TOO_SMALL
        room = payload_len
    if protocol == NEXTHDR_HOP:
        header = _extension(stack, skb, at, at + room)
        if header == 0:
            mib.InHdrErrors += 1
            return HDR_TRUNC
        header_size = _extension_size(header)
        room = walk_options(header, header_size, 1, payload_len, room)
        if room < 0:
            mib.InHdrErrors += 1
            _problem(stack, offset, at, header_size, PROBLEM_OPTION)
            return PKT_TOO_SMALL if room == OPTIONS_TRUNCATED else IPV6_BAD_EXTHDR
        protocol = load8(header)
        named = at
        at += header_size
    if load8(hdr + 24) == 0xFF:
        mib.InMcastPkts += 1
        mib.InMcastOctets += _HEADER + room
    end = offset + _HEADER + room
    if stack.ip6_input != 0:
        verdict = call3(stack.ip6_input, stack.host, offset, end)
        if verdict != LOCAL:
            return verdict
    return _walk(stack, skb, hdr, protocol, at, end, named)
