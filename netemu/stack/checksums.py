"""When a received checksum is trusted.

Sums are unfolded and little-endian, as `netemu.checksum` keeps them.
"""

from __future__ import annotations

from netemu.checksum import length_sum
from netemu.jit import i64, kernel
from netemu.skb import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, Skb, skb_checksum_ok


@kernel
def checksum_good(skb: Skb, offset: i64, length: i64, pseudo: i64) -> i64:
    """1 if the checksum over ``length`` bytes from ``offset`` on (a transport header) is good or need not be looked at.

    After skb_csum_unnecessary: a device that vouches for it is believed; so is a checksum that the sender has yet to
    finish (CHECKSUM_PARTIAL), unless it belongs to a header further out.
    """
    if skb.ip_summed == CHECKSUM_UNNECESSARY or (skb.ip_summed == CHECKSUM_PARTIAL and skb.csum_start >= offset):
        return 1
    return skb_checksum_ok(skb, offset, length, pseudo + length_sum(length))


@kernel
def plain_checksum_good(skb: Skb, offset: i64, length: i64) -> i64:
    """`checksum_good` for ICMP, which has no pseudo-header."""
    if skb.ip_summed == CHECKSUM_UNNECESSARY or (skb.ip_summed == CHECKSUM_PARTIAL and skb.csum_start >= offset):
        return 1
    return skb_checksum_ok(skb, offset, length, 0)
