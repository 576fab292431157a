"""ICMP messages for this host (RFC 792, RFC 1122 section 3.2.2): echoes answered, errors taken to who caused them.

After Linux's icmp_echo, icmp_timestamp and icmp_unreach. An error that says "fragmentation needed" is believed if it
quotes a packet from an own address; it limits the path's MTU (RFC 1191), and whoever sent the packet is told.
"""

from __future__ import annotations

from netemu.jit import call3, call5, entry, i64, kernel, load8, load16be, memcpy, store32be
from netemu.skb import skb_at
from netemu.stack.host import (
    ERROR_HOST_UNREACHABLE,
    ERROR_NET_UNREACHABLE,
    ERROR_PARAMETER,
    ERROR_PORT_UNREACHABLE,
    ERROR_PROHIBITED,
    ERROR_PROTOCOL_UNREACHABLE,
    ERROR_TIME_EXCEEDED,
    ERROR_TOO_BIG,
    host_at,
)
from netemu.stack.icmp.output import (
    DEST_UNREACH,
    ECHO,
    ECHO_REPLY,
    FRAG_NEEDED,
    ICMP_HEADER,
    PARAMETER_PROBLEM,
    REDIRECT,
    TIME_EXCEEDED,
    TIMESTAMP,
    TIMESTAMP_REPLY,
    icmp_answer,
    skb_bytes,
)
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.link_output import ipv4_at
from netemu.stack.routes import (
    MIN_PMTU,
    ON_LINK,
    is_local,
    learn_mtu,
    learn_redirect,
    next_hop4,
    route_at,
    route_lookup,
    routes_at,
)
from netemu.timers import timers_at

_QUOTED_MIN = 20
_QUOTED_MAX = 60 + 8
_DAY = 86_400_000
_CODE_PROTOCOL = 2
_CODE_PORT = 3
_NET_CODES = (0, 6, 11)
_PROHIBITED_CODES = (9, 10, 13)


@kernel
def _error_of(kind: i64, code: i64) -> i64:
    """ERROR_... of an error message's type and code; 0: nobody is told (icmp_err_convert)."""
    if kind == TIME_EXCEEDED:
        return ERROR_TIME_EXCEEDED
    if kind == PARAMETER_PROBLEM:
        return ERROR_PARAMETER
    if kind != DEST_UNREACH:
        return 0
    if code == FRAG_NEEDED:
        return ERROR_TOO_BIG
    if code == _CODE_PROTOCOL:
        return ERROR_PROTOCOL_UNREACHABLE
    if code == _CODE_PORT:
        return ERROR_PORT_UNREACHABLE
    if code in _PROHIBITED_CODES:
        return ERROR_PROHIBITED
    return ERROR_NET_UNREACHABLE if code in _NET_CODES else ERROR_HOST_UNREACHABLE


@kernel
def _take_error(host: i64, offset: i64, size: i64, kind: i64, code: i64) -> i64:
    """An error message with a whole quoted IP header and 8 bytes; 0 if nobody here sent what it quotes."""
    h = host_at(host)
    message = skb_bytes(host, offset, min(size, ICMP_HEADER + _QUOTED_MAX))
    quoted = message + ICMP_HEADER
    error = _error_of(kind, code)
    if error == 0:
        return 1
    source = ipv4_at(quoted + 12)
    target = ipv4_at(quoted + 16)
    protocol = load8(quoted + 9)
    header_size = (load8(quoted) & 15) * 4
    info = 0
    if error == ERROR_TOO_BIG:
        if is_local(routes_at(h.routes), 0, source) == 0:
            return 0
        info = learn_mtu(routes_at(h.routes), 0, target, load16be(message + 6), MIN_PMTU, timers_at(h.timers).now)
    h.error_source_hi = 0
    h.error_source_lo = source
    h.error_target_hi = 0
    h.error_target_lo = target
    if h.transport_error == 0:
        return 0
    return call5(h.transport_error, host, protocol, offset + ICMP_HEADER + header_size, error, info)


@kernel
def _take_redirect(host: i64, offset: i64) -> None:
    """A router tells of a better next hop (RFC 1122 section 3.2.2.2). After Linux's __ip_do_redirect.

    It is believed if it comes from the present next hop, and the better one is on the same link. Routers heed none.
    """
    h = host_at(host)
    if h.forwarding != 0:
        return
    skb = skb_at(h.skb)
    routes = routes_at(h.routes)
    now = timers_at(h.timers).now
    message = skb_bytes(host, offset, ICMP_HEADER + _QUOTED_MIN)
    gateway = ipv4_at(message + 4)
    target = ipv4_at(message + ICMP_HEADER + 16)
    teller = ipv4_at(skb_bytes(host, skb.network_header, _QUOTED_MIN) + 12)
    found = route_lookup(routes, 0, target)
    link = route_lookup(routes, 0, gateway)
    if found == 0 or link == 0 or route_at(found).kind != ON_LINK or route_at(link).kind != ON_LINK:
        return
    if route_at(link).gateway_lo != 0 or route_at(link).interface != h.input or route_at(found).interface != h.input:
        return
    if next_hop4(routes, route_at(found).gateway_lo, target, now) == teller and gateway != teller:
        learn_redirect(routes, target, gateway, now)


@kernel
def _answer_timestamp(host: i64, offset: i64) -> None:
    """Answer with the time of day of the emulated world, ms, as received and sent (Linux's icmp_timestamp)."""
    h = host_at(host)
    ip = ip_state_at(h.ip)
    message = skb_bytes(host, offset, ICMP_HEADER + 4)
    now = timers_at(h.timers).now // 1_000_000 % _DAY
    memcpy(ip.quote, message, ICMP_HEADER + 4)
    store32be(ip.quote + ICMP_HEADER + 4, now)
    store32be(ip.quote + ICMP_HEADER + 8, now)
    icmp_answer(host, ip.quote, ICMP_HEADER + 12, TIMESTAMP_REPLY)


@entry
def icmp_input(host: i64, offset: i64, size: i64) -> i64:
    """Hook `Stack.icmp_input`: what follows from a message in order; 0 for an error that nobody here caused."""
    h = host_at(host)
    head = skb_bytes(host, offset, ICMP_HEADER)
    kind = load8(head)
    code = load8(head + 1)
    if kind == ECHO:
        icmp_answer(host, skb_bytes(host, offset, size), size, ECHO_REPLY)
    elif kind == ECHO_REPLY:
        if h.ping_input != 0:
            call3(h.ping_input, host, offset, size)
    elif kind == REDIRECT:
        _take_redirect(host, offset)
    elif kind == TIMESTAMP:
        _answer_timestamp(host, offset)
    elif kind in (DEST_UNREACH, TIME_EXCEEDED, PARAMETER_PROBLEM):
        return _take_error(host, offset, size, kind, code)
    return 1
