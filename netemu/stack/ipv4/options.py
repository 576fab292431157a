"""IPv4 options (RFC 791 section 3.1): whether Linux's ip_options_compile accepts them."""

from __future__ import annotations

from netemu.jit import i64, kernel, load8

OPTIONS_GOOD = 0
OPTIONS_BAD = 1
OPTIONS_SOURCE_ROUTE = 2
"""Good, but a source route, which a host does not follow (accept_source_route is 0)."""

_END = 0
_NOP = 1
_RECORD_ROUTE = 7
_TIMESTAMP = 68
_LOOSE_ROUTE = 131
_CIPSO = 134
_STRICT_ROUTE = 137
_ROUTER_ALERT = 148

_TIMESTAMP_AND_ADDRESS = 1
_TIMESTAMP_PRESPECIFIED = 3
_OVERFLOW_FULL = 15


@kernel
def _route_good(at: i64, length: i64) -> i64:
    """A route being recorded: pointer from 4 on, and room for a whole address where it points inside."""
    if length < 3 or load8(at + 2) < 4:
        return 0
    pointer = load8(at + 2)
    return 0 if pointer <= length < pointer + 3 else 1


@kernel
def _timestamp_good(at: i64, length: i64) -> i64:
    """A timestamp: pointer from 5 on, and room for what its flag asks for; once full, room to count what is missed."""
    if length < 4 or load8(at + 2) < 5:
        return 0
    pointer = load8(at + 2)
    flag = load8(at + 3) & 15
    if pointer > length:
        return 0 if flag != _TIMESTAMP_PRESPECIFIED and load8(at + 3) >> 4 == _OVERFLOW_FULL else 1
    needed = 7 if flag in (_TIMESTAMP_AND_ADDRESS, _TIMESTAMP_PRESPECIFIED) else 3
    return 1 if pointer + needed <= length else 0


@kernel
def ip_options_check(at: i64, size: i64) -> i64:
    """Judge ``size`` bytes of options at host address ``at``: OPTIONS_GOOD, OPTIONS_BAD or OPTIONS_SOURCE_ROUTE."""
    verdict = OPTIONS_GOOD
    end = at + size
    recorded = 0
    stamped = 0
    while at < end:
        kind = load8(at)
        if kind == _END:
            return verdict
        if kind == _NOP:
            at += 1
            continue
        if end - at < 2:
            return OPTIONS_BAD
        length = load8(at + 1)
        if not 2 <= length <= end - at:
            return OPTIONS_BAD
        good = 1
        if kind in (_LOOSE_ROUTE, _STRICT_ROUTE):
            good = 1 if verdict == OPTIONS_GOOD and length >= 3 and load8(at + 2) >= 4 else 0
            verdict = OPTIONS_SOURCE_ROUTE
        elif kind == _RECORD_ROUTE:
            good = _route_good(at, length) if recorded == 0 else 0
            recorded = 1
        elif kind == _TIMESTAMP:
            good = _timestamp_good(at, length) if stamped == 0 else 0
            stamped = 1
        elif kind == _ROUTER_ALERT:
            good = 1 if length >= 4 else 0
        elif kind == _CIPSO:
            # A security label of a domain that the host was not told of.
            good = 0
        if good == 0:
            return OPTIONS_BAD
        at += length
    return verdict
