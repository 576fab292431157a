"""IPv4 (RFC 791), after Linux's ip_rcv_core, ip_rcv_finish and ip_local_deliver.

In a replay every destination is taken as the host's own: there is no routing, so addresses are not judged, and a
fragment is counted (``ReasmReqds``) and goes no further. A host that talks judges them (`Stack.ip_input`), sends on
what is not for it, and puts fragments together (`Stack.ip_defrag`).
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial, pseudo_v4
from netemu.jit import call3, call4, i64, kernel, load8, load16be, load32, load32be
from netemu.skb import Skb, skb_at, skb_header_pointer
from netemu.stack.icmp.receive import icmp_rcv
from netemu.stack.ipv4.options import OPTIONS_BAD, OPTIONS_GOOD, ip_options_check
from netemu.stack.mib import IP_EXT_ECN, count_at, ip_ext_mib_at, ip_mib_at
from netemu.stack.reasons import (
    DELIVERED,
    FRAGMENT,
    HDR_TRUNC,
    IP_CSUM,
    IP_INADDRERRORS,
    IP_INHDR,
    IP_NOPROTO,
    PKT_TOO_SMALL,
)
from netemu.stack.state import BROADCAST, IP_SCRATCH, MULTICAST, UNICAST, Stack
from netemu.stack.tcp import tcp_rcv
from netemu.stack.udp.receive import udp_rcv

IPPROTO_ICMP = 1
IPPROTO_IGMP = 2
IPPROTO_TCP = 6
IPPROTO_UDP = 17

_DEST_UNREACH = 3
_PROTOCOL_UNREACHABLE = 2
_HEADER = 20
_FRAGMENT_BITS = 0x3FFF
"""More-fragments flag and fragment offset."""
_GSO_ECN = 0x80
_GSO_TCPV4 = 1
_GSO_TCPV6 = 4


@kernel
def _header_sum(iph: i64, ihl: i64) -> i64:
    """The header's bytes, summed and folded: 0xFFFF when its checksum is right."""
    total = load32(iph) + load32(iph + 4) + load32(iph + 8) + load32(iph + 12) + load32(iph + 16)
    if ihl > _HEADER:
        total = csum_partial(iph + _HEADER, ihl - _HEADER, total)
    return csum_fold(total)


@kernel
def _total_length(skb: Skb, iph: i64, size: i64) -> i64:
    """Total length in bytes; all ``size`` bytes where the field is 0 and the frame is TCP GSO (iph_totlen, BIG TCP)."""
    length = load16be(iph + 2)
    if length == 0:
        gso = skb.gso_type & ~_GSO_ECN
        if gso in (_GSO_TCPV4, _GSO_TCPV6):
            return size
    return length


@kernel
def _destination(iph: i64) -> i64:
    """Whether a datagram is for one, some (224.0.0.0/4) or all (255.255.255.255)."""
    address = load32be(iph + 16)
    if address == 0xFFFFFFFF:
        return BROADCAST
    return MULTICAST if address >> 28 == 0xE else UNICAST


@kernel
def _ip_local_deliver(stack: Stack, skb: Skb, iph: i64, offset: i64, size: i64, cast: i64) -> i64:
    """Hand ``size`` bytes of payload at ``offset`` to their protocol, which counts what it drops itself."""
    mib = ip_mib_at(stack.ip)
    if load16be(iph + 6) & _FRAGMENT_BITS:
        mib.ReasmReqds += 1
        whole = 0
        if stack.ip_defrag != 0:
            whole = call3(stack.ip_defrag, stack.host, skb.network_header, size + offset - skb.network_header)
        if whole <= 0:
            return -whole if whole != 0 else FRAGMENT
        skb = skb_at(whole)
        iph = skb.data + skb.network_header
        offset = skb.network_header + (load8(iph) & 15) * 4
        size = skb.len - offset
    skb.transport_header = offset
    protocol = load8(iph + 9)
    if protocol == IPPROTO_UDP:
        mib.InDelivers += 1
        return udp_rcv(stack, skb, offset, size, pseudo_v4(iph, protocol), cast, 0)
    if protocol == IPPROTO_TCP:
        mib.InDelivers += 1
        return tcp_rcv(stack, skb, offset, size, pseudo_v4(iph, protocol))
    if protocol == IPPROTO_ICMP:
        mib.InDelivers += 1
        return icmp_rcv(stack, skb, offset, size, cast)
    if protocol == IPPROTO_IGMP:
        mib.InDelivers += 1
        return DELIVERED
    mib.InUnknownProtos += 1
    if stack.icmp_send != 0:
        call4(stack.icmp_send, stack.host, _DEST_UNREACH, _PROTOCOL_UNREACHABLE, 0)
    return IP_NOPROTO


@kernel
def ip_rcv(stack: Stack, skb: Skb, offset: i64) -> i64:
    """Take the datagram at ``offset``; return the verdict."""
    size = skb.len - offset
    mib = ip_mib_at(stack.ip)
    ext = ip_ext_mib_at(stack.ip_ext)
    mib.InReceives += 1
    ext.InOctets += size
    scratch = stack.scratch + IP_SCRATCH
    iph = skb_header_pointer(skb, offset, _HEADER, scratch) if size >= _HEADER else 0
    if iph == 0:
        mib.InHdrErrors += 1
        return HDR_TRUNC
    first = load8(iph)
    ihl = (first & 15) * 4
    if first >> 4 != 4 or ihl < _HEADER:
        mib.InHdrErrors += 1
        return IP_INHDR
    count_at(stack.ip_ext + IP_EXT_ECN, load8(iph + 1) & 3)
    if ihl > _HEADER:
        iph = skb_header_pointer(skb, offset, ihl, scratch)
        if iph == 0:
            mib.InHdrErrors += 1
            return HDR_TRUNC
    if _header_sum(iph, ihl) != 0xFFFF:
        ext.InCsumErrors += 1
        mib.InHdrErrors += 1
        return IP_CSUM
    length = _total_length(skb, iph, size)
    if size < length:
        ext.InTruncatedPkts += 1
        return PKT_TOO_SMALL
    if length < ihl:
        mib.InHdrErrors += 1
        return IP_INHDR
    if ihl > _HEADER:
        options = ip_options_check(iph + _HEADER, ihl - _HEADER)
        if options == OPTIONS_BAD:
            mib.InHdrErrors += 1
            return IP_INHDR
        if options != OPTIONS_GOOD:
            return IP_INADDRERRORS
    cast = _destination(iph)
    if stack.ip_input != 0:
        verdict = call4(stack.ip_input, stack.host, offset, length, cast)
        if verdict >= 0:
            return verdict
        cast = -1 - verdict
    if cast == MULTICAST:
        ext.InMcastPkts += 1
        ext.InMcastOctets += length
    elif cast == BROADCAST:
        ext.InBcastPkts += 1
        ext.InBcastOctets += length
    return _ip_local_deliver(stack, skb, iph, offset + ihl, length - ihl, cast)
