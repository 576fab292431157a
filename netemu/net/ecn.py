"""Marking instead of dropping: Congestion Experienced in an IP header (RFC 3168, section 5)."""

from __future__ import annotations

from netemu.frame import Frame
from netemu.jit import i64, kernel, load8, load16be, store8, store16be
from netemu.net.direction import l3_offset

_ETH_P_IP = 0x0800
_ETH_P_IPV6 = 0x86DD
_CE = 3


@kernel
def mark_ce(frame: Frame) -> i64:
    """Set CE in a frame that nobody else uses; 0 if it carries no packet of a transport that understands the mark.

    The checksum of an IPv4 header follows (RFC 1624); transport checksums do not cover the field.
    """
    l3 = l3_offset(frame)
    if l3 + 20 > frame.len:
        return 0
    kind = load16be(frame.address + l3 - 2)
    at = frame.address + l3
    if kind == _ETH_P_IP and load8(at) >> 4 == 4:
        word = load16be(at)
        if word & _CE == 0:
            return 0
        total = (load16be(at + 10) ^ 0xFFFF) + (word ^ 0xFFFF) + (word | _CE)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        store8(at + 1, word | _CE)
        store16be(at + 10, total ^ 0xFFFF)
        return 1
    if kind == _ETH_P_IPV6 and load8(at) >> 4 == 6:
        octet = load8(at + 1)
        if (octet >> 4) & _CE == 0:
            return 0
        store8(at + 1, octet | (_CE << 4))
        return 1
    return 0
