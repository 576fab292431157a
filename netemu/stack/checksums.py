"""When a received checksum is trusted, and the pseudo-headers it covers.

Sums are unfolded and little-endian, as `netemu.checksum` keeps them.
"""

from __future__ import annotations

from netemu.jit import i64, kernel, load32
from netemu.skb import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, Skb, skb_checksum_ok


@kernel
def _swapped(value: i64) -> i64:
    """A 32-bit number as the sum of its two big-endian 16-bit words, each read little-endian."""
    low = ((value & 0xFF) << 8) | ((value >> 8) & 0xFF)
    return low + (((value >> 16) & 0xFF) << 8) + ((value >> 24) & 0xFF)


@kernel
def pseudo_v4(iph: i64, protocol: i64) -> i64:
    """Sum of the IPv4 pseudo-header (RFC 9293 section 3.1) but for its length."""
    return load32(iph + 12) + load32(iph + 16) + (protocol << 8)


@kernel
def pseudo_v6(hdr: i64, protocol: i64) -> i64:
    """Sum of the IPv6 pseudo-header (RFC 8200 section 8.1) but for its length."""
    total = protocol << 8
    for at in range(hdr + 8, hdr + 40, 4):
        total += load32(at)
    return total


@kernel
def checksum_good(skb: Skb, offset: i64, length: i64, pseudo: i64) -> i64:
    """1 if the checksum over ``length`` bytes from ``offset`` on (a transport header) is good or need not be looked at.

    After skb_csum_unnecessary: a device that vouches for it is believed; so is a checksum that the sender has yet to
    finish (CHECKSUM_PARTIAL), unless it belongs to a header further out.
    """
    if skb.ip_summed == CHECKSUM_UNNECESSARY or (skb.ip_summed == CHECKSUM_PARTIAL and skb.csum_start >= offset):
        return 1
    return skb_checksum_ok(skb, offset, length, pseudo + _swapped(length))


@kernel
def plain_checksum_good(skb: Skb, offset: i64, length: i64) -> i64:
    """`checksum_good` for ICMP, which has no pseudo-header."""
    if skb.ip_summed == CHECKSUM_UNNECESSARY or (skb.ip_summed == CHECKSUM_PARTIAL and skb.csum_start >= offset):
        return 1
    return skb_checksum_ok(skb, offset, length, 0)
