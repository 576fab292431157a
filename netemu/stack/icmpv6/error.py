"""Errors that a host sends about packets it received (RFC 4443 section 2.4), after Linux's icmp6_send."""

from __future__ import annotations

from netemu.jit import entry, i64, kernel, load8
from netemu.skb import Skb, skb_at, skb_header_pointer
from netemu.stack.host import Host, host_at, load64be
from netemu.stack.icmp.limits import host_allows, peer_allows
from netemu.stack.icmpv6.output import (
    HEADER,
    INFORMATIONAL,
    IPPROTO_ICMPV6,
    PACKET_TOO_BIG,
    PARAMETER_PROBLEM,
    REDIRECT,
    send_message,
    start_message,
)
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.ipv6.addresses import is_assigned6, is_link_local6, is_multicast6, own_address6
from netemu.stack.ipv6.header import HEADER6
from netemu.stack.ipv6.receive import PROBLEM_OPTION
from netemu.stack.ipv6.state import MIN_MTU, OUTGOING, ip6_at
from netemu.stack.mib import icmp_mib_at
from netemu.stack.packet import packet_at
from netemu.stack.pieces import payload_of_skb
from netemu.stack.state import EXT_SCRATCH, PACKET_HOST, stack_at
from netemu.timers import timers_at

QUOTE_MAX = MIN_MTU - HEADER6 - HEADER
"""Bytes of the packet at fault that a message quotes at most: the message is to fit every link."""

CODE_REASSEMBLY = 1
"""Of TIME_EXCEEDED."""

_HOP, _ROUTING, _FRAGMENT, _DEST = 0, 43, 44, 60
_EXTENSIONS_MAX = 16
_PAD1 = 0
_PADN = 1
_SKIP, _DISCARD, _SEND, _SEND_UNICAST = 0, 1, 2, 3
"""What the two highest bits of an option that is not known say (RFC 8200 section 4.2)."""


@kernel
def _is_error(host: Host, skb: Skb, offset: i64) -> i64:
    """1 if the packet at ``offset`` is an ICMPv6 error or a redirect, or what can be seen of it may be one."""
    scratch = stack_at(host.stack).scratch + EXT_SCRATCH
    protocol = load8(skb_header_pointer(skb, offset + 6, 1, scratch))
    at = offset + HEADER6
    for _ in range(_EXTENSIONS_MAX):
        if protocol not in (_HOP, _ROUTING, _FRAGMENT, _DEST):
            break
        header = skb_header_pointer(skb, at, 8, scratch)
        if header == 0:
            return 1
        if protocol == _FRAGMENT:
            if load8(header + 2) != 0 or load8(header + 3) & 0xF8 != 0:
                return 1 if load8(header) == IPPROTO_ICMPV6 else 0
            at += 8
        else:
            at += (load8(header + 1) + 1) * 8
        protocol = load8(header)
    if protocol != IPPROTO_ICMPV6:
        return 0
    header = skb_header_pointer(skb, at, 1, scratch)
    if header == 0:
        return 1
    kind = load8(header)
    return 1 if kind < INFORMATIONAL or kind == REDIRECT else 0


@kernel
def _allowed(h: Host, hi: i64, lo: i64) -> i64:
    """1 if one more error may go to a target now; "packet too big" is not limited, as in Linux (ratemask)."""
    now = timers_at(h.timers).now
    mib = icmp_mib_at(stack_at(h.stack).icmp6)
    if peer_allows(h, hi, lo, now) == 0:
        mib.OutRateLimitHost += 1
        return 0
    return host_allows(h, now)


@kernel
def _may_answer(host: Host, skb: Skb, offset: i64, to_group: i64, kind: i64, code: i64) -> i64:
    """1 if the packet at ``offset`` is one that an error may be sent about (RFC 4443 section 2.4 (e))."""
    if to_group != 0 or skb.pkt_type != PACKET_HOST:
        about_groups = kind == PACKET_TOO_BIG or (kind == PARAMETER_PROBLEM and code == PROBLEM_OPTION)
        if not about_groups:
            return 0
    return 1 if _is_error(host, skb, offset) == 0 else 0


@kernel
def send_error6(host: i64, kind: i64, code: i64, info: i64) -> i64:
    """Complain of the packet in the skb at hand, which begins at its ``network_header``, to its sender.

    ``info`` is the MTU (PACKET_TOO_BIG) or a pointer into the packet (PARAMETER_PROBLEM). Gives SENT, SEND_..., or 1:
    nothing is to be said, or too much was said lately.
    """
    h = host_at(host)
    skb = skb_at(h.skb)
    offset = skb.network_header
    hdr = skb_header_pointer(skb, offset, HEADER6, ip6_at(h.ip6).scratch)
    if hdr == 0:
        return 1
    source_hi, source_lo = load64be(hdr + 8), load64be(hdr + 16)
    target_hi, target_lo = load64be(hdr + 24), load64be(hdr + 32)
    if (source_hi == 0 and source_lo == 0) or is_multicast6(source_hi) != 0:
        return 1
    if _may_answer(h, skb, offset, is_multicast6(target_hi), kind, code) == 0:
        return 1
    if kind != PACKET_TOO_BIG and _allowed(h, source_hi, source_lo) == 0:
        return 1
    packet = ip_state_at(h.ip).answer
    start_message(packet, kind, code, info, HEADER)
    p = packet_at(packet)
    p.target_hi, p.target_lo = source_hi, source_lo
    if is_assigned6(own_address6(h, h.input, target_hi, target_lo)) != 0:
        p.source_hi, p.source_lo = target_hi, target_lo
    if is_link_local6(source_hi) != 0 and h.input != h.loopback:
        p.interface = h.input
    payload_of_skb(p, skb, offset, min(skb.len - offset, QUOTE_MAX), ip6_at(h.ip6).scratch + OUTGOING)
    return send_message(host, h, packet)


@entry
def icmp6_send(host: i64, kind: i64, code: i64, info: i64) -> i64:
    """`send_error6` as the hook `netemu.stack.state.Stack.icmp6_send`."""
    return send_error6(host, kind, code, info)


@kernel
def _unknown_option(header: i64, size: i64) -> i64:
    """Offset of the first option, in an options header of ``size`` bytes, that forbids to go on; 0: there is none.

    A header that is broken otherwise has none either: nobody is told of it, as in Linux.
    """
    at = 2
    while at + 1 < size:
        kind = load8(header + at)
        if kind == _PAD1:
            at += 1
            continue
        length = load8(header + at + 1) + 2
        if at + length > size:
            return 0
        if kind != _PADN and kind >> 6 != _SKIP:
            return at
        at += length
    return 0


@entry
def ip6_problem(host: i64, offset: i64, at: i64, size: i64, code: i64) -> i64:
    """The hook `netemu.stack.state.Stack.ip6_problem`: tell the sender, if its packet lets us."""
    h = host_at(host)
    skb = skb_at(h.skb)
    stack = stack_at(h.stack)
    pointer = at - offset
    if code == PROBLEM_OPTION:
        header = skb_header_pointer(skb, at, size, stack.scratch + EXT_SCRATCH)
        found = _unknown_option(header, size)
        if found == 0:
            return 0
        wish = load8(header + found) >> 6
        target = load8(skb_header_pointer(skb, offset + 24, 1, stack.scratch))
        if wish == _DISCARD or (wish == _SEND_UNICAST and target == 0xFF):
            return 0
        pointer += found
    return send_error6(host, PARAMETER_PROBLEM, code, pointer)
