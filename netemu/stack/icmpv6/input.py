"""ICMPv6 messages for this host (RFC 4443): echoes answered, errors taken to who caused them, discovery to its module.

After Linux's icmpv6_echo_reply, icmpv6_notify and ndisc_rcv. An error that says "packet too big" is believed if it
quotes a packet from an own address; it limits the path's MTU (RFC 8201), and whoever sent the packet is told.
"""

from __future__ import annotations

from netemu.jit import call3, call5, entry, i64, kernel, load8, load16be, load32be
from netemu.skb import Skb, skb_at, skb_copy_bits, skb_header_pointer
from netemu.stack.host import (
    ERROR_HOST_UNREACHABLE,
    ERROR_NET_UNREACHABLE,
    ERROR_PARAMETER,
    ERROR_PORT_UNREACHABLE,
    ERROR_PROHIBITED,
    ERROR_PROTOCOL_UNREACHABLE,
    ERROR_TIME_EXCEEDED,
    ERROR_TOO_BIG,
    Host,
    host_at,
    load64be,
)
from netemu.stack.icmpv6.mld import IS_EXCLUDE, report_groups
from netemu.stack.icmpv6.ndp import take_advertisement, take_solicitation
from netemu.stack.icmpv6.ndp_routers import take_router_advertisement, take_router_solicitation
from netemu.stack.icmpv6.output import (
    DEST_UNREACH,
    ECHO_REPLY,
    ECHO_REQUEST,
    HEADER,
    INFORMATIONAL,
    MLD_QUERY,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICIT,
    PACKET_TOO_BIG,
    PARAMETER_PROBLEM,
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICIT,
    TIME_EXCEEDED,
    send_message,
    start_message,
)
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.ipv6.addresses import is_assigned6, is_link_local6, own_address6
from netemu.stack.ipv6.header import HEADER6
from netemu.stack.ipv6.state import MIN_MTU, RECEIVED, RECEIVED_MAX, ip6_at
from netemu.stack.mib import icmp_mib_at
from netemu.stack.packet import packet_at
from netemu.stack.pieces import payload_of_skb
from netemu.stack.reasons import DELIVERED, ICMP_INVALID
from netemu.stack.routes import learn_mtu, routes_at
from netemu.stack.state import L4_SCRATCH, stack_at
from netemu.timers import timers_at

_CODE_NO_ROUTE = 0
_CODE_PROHIBITED = 1
_CODE_PORT = 4
_PROHIBITED_CODES = (1, 5, 6)
_UNKNOWN_NEXT_HEADER = 1
_SOURCE, _TARGET = 8, 24
_HOP, _ROUTING, _FRAGMENT, _DEST = 0, 43, 44, 60
_EXTENSIONS_MAX = 16
_QUOTED_TRANSPORT = 8
"""Bytes of a quoted transport header that whoever sent it wants to see."""


@kernel
def _echo(host: i64, h: Host, hdr: i64, offset: i64, size: i64) -> i64:
    """Answer an echo request of ``size`` bytes at ``offset`` (section 4.2)."""
    skb = skb_at(h.skb)
    head = skb_header_pointer(skb, offset, HEADER, stack_at(h.stack).scratch + L4_SCRATCH)
    ip = ip_state_at(h.ip)
    start_message(ip.answer, ECHO_REPLY, 0, load32be(head + 4), HEADER)
    p = packet_at(ip.answer)
    p.target_hi, p.target_lo = load64be(hdr + _SOURCE), load64be(hdr + _SOURCE + 8)
    if p.target_hi == 0 and p.target_lo == 0:
        return DELIVERED  # there is nobody to answer to
    hi, lo = load64be(hdr + _TARGET), load64be(hdr + _TARGET + 8)
    if is_assigned6(own_address6(h, h.input, hi, lo)) != 0:
        p.source_hi, p.source_lo = hi, lo
    if (is_link_local6(p.target_hi) != 0 or load8(hdr + _TARGET) == 0xFF) and h.input != h.loopback:
        p.interface = h.input
    p.traffic_class = (load8(hdr) & 15) << 4 | load8(hdr + 1) >> 4
    payload_of_skb(p, skb, offset + HEADER, size - HEADER, ip.room)
    send_message(host, h, ip.answer)
    return DELIVERED


@kernel
def _error_of(kind: i64, code: i64) -> i64:
    """ERROR_... of an error message's type and code (icmpv6_err_convert); 0: nobody is told."""
    if kind == DEST_UNREACH:
        if code == _CODE_NO_ROUTE:
            return ERROR_NET_UNREACHABLE
        if code == _CODE_PORT:
            return ERROR_PORT_UNREACHABLE
        return ERROR_PROHIBITED if code in _PROHIBITED_CODES else ERROR_HOST_UNREACHABLE
    if kind == PACKET_TOO_BIG:
        return ERROR_TOO_BIG
    if kind == TIME_EXCEEDED:
        return ERROR_TIME_EXCEEDED
    if kind == PARAMETER_PROBLEM:
        return ERROR_PROTOCOL_UNREACHABLE if code == _UNKNOWN_NEXT_HEADER else ERROR_PARAMETER
    return 0


@kernel
def _quoted_transport(skb: Skb, offset: i64, end: i64, scratch: i64) -> i64:
    """``protocol << 32 | offset`` of the transport header in the packet quoted at ``offset``; 0: it is not there."""
    protocol = load8(skb_header_pointer(skb, offset + 6, 1, scratch))
    at = offset + HEADER6
    for _ in range(_EXTENSIONS_MAX):
        if protocol not in (_HOP, _ROUTING, _FRAGMENT, _DEST):
            break
        if at + 8 > end:
            return 0
        header = skb_header_pointer(skb, at, 8, scratch)
        if protocol == _FRAGMENT:
            if load16be(header + 2) & 0xFFF8:
                return 0
            at += 8
        else:
            at += (load8(header + 1) + 1) * 8
        protocol = load8(header)
    return protocol << 32 | at if at + _QUOTED_TRANSPORT <= end else 0


@kernel
def _take_error(host: i64, h: Host, kind: i64, code: i64, offset: i64, size: i64) -> i64:
    """An error message (section 2.4 (d)); 0 if nobody here sent what it quotes."""
    error = _error_of(kind, code)
    if size < HEADER + HEADER6 + _QUOTED_TRANSPORT:
        return 0
    if error == 0:
        return 1
    skb = skb_at(h.skb)
    scratch = ip6_at(h.ip6).scratch
    head = skb_header_pointer(skb, offset, HEADER + HEADER6, scratch)
    quoted = head + HEADER
    source_hi, source_lo = load64be(quoted + _SOURCE), load64be(quoted + _SOURCE + 8)
    target_hi, target_lo = load64be(quoted + _TARGET), load64be(quoted + _TARGET + 8)
    info = load32be(head + 4)
    if is_assigned6(own_address6(h, h.input, source_hi, source_lo)) == 0:
        return 0
    if error == ERROR_TOO_BIG:
        info = learn_mtu(routes_at(h.routes), target_hi, target_lo, info, MIN_MTU, timers_at(h.timers).now)
    h.error_source_hi, h.error_source_lo = source_hi, source_lo
    h.error_target_hi, h.error_target_lo = target_hi, target_lo
    found = _quoted_transport(skb, offset + HEADER, offset + size, scratch)
    if found == 0 or h.transport_error == 0:
        return 1 if error == ERROR_TOO_BIG else 0
    return call5(h.transport_error, host, found >> 32, found & 0xFFFFFFFF, error, info)


@kernel
def _discovery(host: i64, h: Host, kind: i64, offset: i64, size: i64) -> i64:
    """A message of neighbour discovery, copied to the host's room first; a verdict."""
    hdr = ip6_at(h.ip6).scratch
    at = hdr + RECEIVED
    if size > RECEIVED_MAX:
        return ICMP_INVALID
    skb_copy_bits(skb_at(h.skb), offset, at, size)
    if kind == NEIGHBOUR_SOLICIT:
        return take_solicitation(host, h, hdr, at, size)
    if kind == NEIGHBOUR_ADVERTISEMENT:
        return take_advertisement(host, h, hdr, at, size)
    if kind == ROUTER_ADVERTISEMENT:
        return take_router_advertisement(host, h, hdr, at, size)
    if kind == ROUTER_SOLICIT:
        return take_router_solicitation(host, h, hdr, at, size)
    return DELIVERED  # a redirect: not believed, as by a Linux that forwards or was told not to


@entry
def icmp6_input(host: i64, offset: i64, size: i64) -> i64:
    """The hook `netemu.stack.state.Stack.icmp6_input`: what follows from a message in order; a verdict."""
    h = host_at(host)
    stack = stack_at(h.stack)
    skb = skb_at(h.skb)
    head = skb_header_pointer(skb, offset, HEADER, stack.scratch + L4_SCRATCH)
    kind, code = load8(head), load8(head + 1)
    hdr = ip6_at(h.ip6).scratch
    skb_copy_bits(skb, skb.network_header, hdr, HEADER6)
    if kind == ECHO_REQUEST:
        return _echo(host, h, hdr, offset, size)
    if kind == ECHO_REPLY:
        if h.ping_input != 0:
            call3(h.ping_input, host, offset, size)
        return DELIVERED
    if kind < INFORMATIONAL:
        if _take_error(host, h, kind, code, offset, size) == 0:
            icmp_mib_at(stack.icmp6).InErrors += 1
            return ICMP_INVALID
        return DELIVERED
    if ROUTER_SOLICIT <= kind <= NEIGHBOUR_ADVERTISEMENT:
        return _discovery(host, h, kind, offset, size)
    if kind == MLD_QUERY and is_link_local6(load64be(hdr + _SOURCE)) != 0 and load8(hdr + 7) == 1:
        report_groups(host, h, h.input, IS_EXCLUDE)
    return DELIVERED
