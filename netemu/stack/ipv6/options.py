"""Options of IPv6's hop-by-hop and destination headers (RFC 8200 section 4.2), after Linux's ip6_parse_tlv."""

from __future__ import annotations

from netemu.jit import i64, kernel, load8, load32be

OPTIONS_BAD = -1
OPTIONS_TRUNCATED = -2
"""A jumbo payload option that promises more bytes than there are."""

_PAD1 = 0
_PADN = 1
_ROUTER_ALERT = 5
_JUMBO = 0xC2

_PADDING_MAX = 7
"""Bytes of padding in a row; more serve nobody (RFC 4942 section 2.1.9.5)."""
_OPTIONS_MAX = 8
"""Options in one header, padding aside: Linux's max_hbh_opts_number and max_dst_opts_number."""
_JUMBO_MIN = 65536


@kernel
def _only_zeros(at: i64, size: i64) -> i64:
    """1 if ``size`` bytes at ``at`` are all 0."""
    for n in range(size):
        if load8(at + n) != 0:
            return 0
    return 1


@kernel
def _jumbo(header: i64, option: i64, payload_len: i64, room: i64) -> i64:
    """The payload's length by a jumbo payload option (RFC 2675), or one of the codes above."""
    if load8(option + 1) != 4 or (option - header) & 3 != 2 or payload_len != 0:
        return OPTIONS_BAD
    length = load32be(option + 2)
    if length < _JUMBO_MIN:
        return OPTIONS_BAD
    return length if length <= room else OPTIONS_TRUNCATED


@kernel
def walk_options(header: i64, size: i64, hop_by_hop: i64, payload_len: i64, room: i64) -> i64:
    """Judge the ``size`` bytes of an options header at host address ``header``.

    Returns how many bytes of payload the packet has: ``room``, those that are there by what is known so far, or what a
    jumbo payload option says (hop-by-hop only, where ``payload_len``, the IPv6 header's field, must be 0). Or
    OPTIONS_BAD, OPTIONS_TRUNCATED.
    """
    at = header + 2
    end = header + size
    padding = 0
    options = 0
    while at < end:
        kind = load8(at)
        if kind == _PAD1:
            at += 1
            padding += 1
            if padding > _PADDING_MAX:
                return OPTIONS_BAD
            continue
        if end - at < 2:
            return OPTIONS_BAD
        length = load8(at + 1) + 2
        if length > end - at:
            return OPTIONS_BAD
        if kind == _PADN:
            padding += length
            if padding > _PADDING_MAX or _only_zeros(at + 2, length - 2) == 0:
                return OPTIONS_BAD
        else:
            padding = 0
            options += 1
            if options > _OPTIONS_MAX:
                return OPTIONS_BAD
            if hop_by_hop != 0 and kind == _JUMBO:
                room = _jumbo(header, at, payload_len, room)
                if room < 0:
                    return room
            elif hop_by_hop != 0 and kind == _ROUTER_ALERT:
                if length != 4:
                    return OPTIONS_BAD
            elif kind & 0xC0:
                # The two top bits of an unknown option tell what to do with the packet: 0 is to go on.
                return OPTIONS_BAD
        at += length
    return room
