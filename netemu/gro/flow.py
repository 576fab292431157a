"""Whose flow a frame belongs to, and whether it continues what is held of it: the rules of tcp_gro_receive.

An skb of the same flow is held at most once. Where the headers differ in what has to be equal in all segments, or the
sequence number is not the next one, the held skb is ready and the frame starts anew.
"""

from __future__ import annotations

from netemu.gro.headers import (
    ETH_HLEN,
    ETH_P_8021AD,
    ETH_P_8021Q,
    IP_DF,
    IPV6_HEADER,
    TCP_HEADER,
    same_bytes,
)
from netemu.gro.state import Gro, Held, held_at
from netemu.jit import i64, kernel, load8, load16, load16be, load32, load32be, load64
from netemu.skb import Skb, skb_at

FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
URG = 0x20
CWR = 0x80
ENDS_A_BURST = URG | PSH | RST | SYN | FIN
"""Flags with which a segment goes up at once."""
V6_FIXED = 0xF00FFFFF
"""Of the first word of an IPv6 header: version and flow label, not the traffic class."""


@kernel
def is_ipv4(skb: Skb, network: i64) -> i64:
    """1 if the header that GRO found at ``network`` is IPv4's."""
    return 1 if load8(skb.data + network) >> 4 == 4 else 0


@kernel
def same_flow(gro: Gro, skb: Skb, held: Held) -> i64:
    """1 if the held skb has the same link header, tags, addresses and ports; IPv6: extensions and flow label too."""
    p = skb_at(held.skb)
    if held.network != gro.network or held.transport != gro.transport or p.hash != skb.hash:
        return 0
    mine = skb.data
    other = p.data
    if (
        load64(mine) != load64(other)
        or load32(mine + 8) != load32(other + 8)
        or load16(mine + 12) != load16(other + 12)
    ):
        return 0
    if (
        skb.protocol in (ETH_P_8021Q, ETH_P_8021AD)
        and same_bytes(mine + ETH_HLEN, other + ETH_HLEN, gro.network - ETH_HLEN) == 0
    ):
        return 0
    if load32(mine + gro.transport) != load32(other + gro.transport):
        return 0
    mine += gro.network
    other += gro.network
    if load8(mine) >> 4 == 4:
        return 1 if load64(mine + 12) == load64(other + 12) else 0
    if (load32be(mine) ^ load32be(other)) & V6_FIXED or load8(mine + 6) != load8(other + 6):
        return 0
    if gro.hop_limit_is_flow != 0 and load8(mine + 7) != load8(other + 7):
        return 0
    if same_bytes(mine + 8, other + 8, IPV6_HEADER - 8) == 0:
        return 0
    return same_bytes(mine + IPV6_HEADER, other + IPV6_HEADER, gro.transport - gro.network - IPV6_HEADER)


@kernel
def find_flow(gro: Gro, skb: Skb, bucket: i64) -> i64:
    """Which of the bucket's held skbs, counted from the oldest, is of the frame's flow; -1 for none."""
    for n in range(load64(bucket)):
        if same_flow(gro, skb, held_at(load64(bucket + 8 + 8 * n))) != 0:
            return n
    return -1


@kernel
def _network_differs(gro: Gro, skb: Skb, held: Held) -> i64:
    """What IPv4 and IPv6 want equal in all segments: TTL, TOS, DF; and an IPv4 identification that fits.

    It either counts up with the segments or stays the same (in older kernels only with DF); the second segment decides.
    """
    mine = skb.data + gro.network
    other = skb_at(held.skb).data + gro.network
    if is_ipv4(skb, gro.network) == 0:
        return ((load32be(mine) ^ load32be(other)) & ~V6_FIXED) | (load8(mine + 7) ^ load8(other + 7))
    unfragmented = load16be(mine + 6) & IP_DF
    differs = load8(mine + 8) ^ load8(other + 8)
    differs |= load8(mine + 1) ^ load8(other + 1)
    differs |= unfragmented ^ (load16be(other + 6) & IP_DF)
    distance = (load16be(mine + 4) - load16be(other + 4)) & 0xFFFF
    if held.count == 1 and distance == 0 and (unfragmented != 0 or gro.fixed_id_without_df != 0):
        held.fixed_id = 1
    return differs | (distance ^ (0 if held.fixed_id != 0 else held.count))


@kernel
def continues(gro: Gro, skb: Skb, held: Held) -> i64:
    """1 if the frame's payload is what comes next in the held skb's flow, and nothing in its headers forbids merging.

    TCP flags (but for FIN and PSH), window, acknowledgement and options have to be equal, and no segment may be
    larger than the first.
    """
    p = skb_at(held.skb)
    th = skb.data + gro.transport
    other = p.data + gro.transport
    length = skb.len - gro.payload
    before = p.len - gro.payload
    differs = gro.flush
    may_differ = FIN | PSH
    if gro.compares_cwr == 0:
        differs |= load8(th + 13) & CWR
        may_differ |= CWR
    differs |= (load32be(th + 12) ^ load32be(other + 12)) & ~(may_differ << 16)
    differs |= load32(th + 8) ^ load32(other + 8)
    if differs != 0:  # the length of the options is known to be the same from here on
        return 0
    if same_bytes(th + TCP_HEADER, other + TCP_HEADER, gro.payload - gro.transport - TCP_HEADER) == 0:
        return 0
    if _network_differs(gro, skb, held) != 0:
        return 0
    if length == 0 or length > p.gso_size:
        return 0
    return 1 if (load32be(other + 4) + before) & 0xFFFFFFFF == load32be(th + 4) else 0
