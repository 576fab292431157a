"""Where a frame's headers are, and whether they are ones that GRO takes: inet_gro_receive, ipv6_gro_receive and below.

Headers are pulled into the linear part as far as they were looked at, as Linux does.
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial, length_sum, pseudo_v4, pseudo_v6
from netemu.gro.state import Gro
from netemu.jit import i64, kernel, load8, load16, load16be, memcpy
from netemu.pages import put_page
from netemu.skb import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    FRAG_SIZE,
    SKB_HEAD_SIZE,
    Skb,
    frag_at,
    skb_checksum,
    skb_copy_bits,
)

ETH_HLEN = 14
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8
VLAN_HLEN = 4
VLAN_MAX_DEPTH = 8
IPV4_HEADER = 20
IPV6_HEADER = 40
TCP_HEADER = 20
IPPROTO_TCP = 6
IP_DF = 0x4000
EXTENSIONS_MAX = 8
"""IPv6 extension headers that are looked through; Linux has no bound but the frame."""
NEXTHDR_HOP = 0
NEXTHDR_ROUTING = 43
NEXTHDR_DEST = 60


@kernel
def _bytes_in_frags(skb: Skb) -> i64:
    """Bytes in the skb's own frags."""
    total = 0
    for n in range(skb.nr_frags):
        total += frag_at(skb.frags + n * FRAG_SIZE).size
    return total


@kernel
def gro_pull(skb: Skb, size: i64) -> i64:
    """Make the first ``size`` bytes linear: copy what is missing out of the frags; 0 where that cannot be.

    It cannot where the frame is shorter, or its linear part is no head of its own with room for them, or what is
    missing lies in its frag list: that takes 17 frags of hardly any bytes each, which only a device at fault makes.
    """
    linear = skb.len - skb.data_len
    if size <= linear:
        return 1
    if size > skb.len or skb.head_page != 0 or skb.data + size > skb.head + SKB_HEAD_SIZE:
        return 0
    missing = size - linear
    if skb.frag_list != 0 and missing > _bytes_in_frags(skb):
        return 0
    skb_copy_bits(skb, linear, skb.data + linear, missing)
    skb.data_len -= missing
    while missing > 0:
        frag = frag_at(skb.frags)
        if missing < frag.size:
            frag.address += missing
            frag.size -= missing
            return 1
        missing -= frag.size
        put_page(frag.page)
        skb.nr_frags -= 1
        for n in range(skb.nr_frags):
            memcpy(skb.frags + n * FRAG_SIZE, skb.frags + (n + 1) * FRAG_SIZE, FRAG_SIZE)
    return 1


@kernel
def _ipv4(gro: Gro, skb: Skb) -> i64:
    """Take an IPv4 header without options that carries TCP; 0 for any other. A wrong length or a fragment flushes."""
    if gro_pull(skb, gro.network + IPV4_HEADER) == 0:
        return 0
    iph = skb.data + gro.network
    if load8(iph + 9) != IPPROTO_TCP or load8(iph) != 0x45 or csum_fold(csum_partial(iph, IPV4_HEADER, 0)) != 0xFFFF:
        return 0
    if load16be(iph + 2) != skb.len - gro.network or load16be(iph + 6) & ~IP_DF:
        gro.flush = 1
    gro.transport = gro.network + IPV4_HEADER
    return 1


@kernel
def _ipv6(gro: Gro, skb: Skb) -> i64:
    """Take an IPv6 header and its extensions, if TCP follows; 0 if not. A wrong length flushes."""
    at = gro.network + IPV6_HEADER
    if gro_pull(skb, at) == 0:
        return 0
    hdr = skb.data + gro.network
    if load16be(hdr + 4) != skb.len - at:
        gro.flush = 1
    following = load8(hdr + 6)
    for _ in range(EXTENSIONS_MAX):
        if following not in (NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_DEST):
            break
        if gro_pull(skb, at + 8) == 0:
            return 0
        following = load8(skb.data + at)
        at += (load8(skb.data + at + 1) + 1) * 8
        if gro_pull(skb, at) == 0:
            return 0
    gro.transport = at
    return 1 if following == IPPROTO_TCP else 0


@kernel
def _checksum_validated(gro: Gro, skb: Skb, v6: i64) -> i64:
    """skb_gro_checksum_validate: 1 if the TCP checksum is good, or vouched for, or still to be made; summed if need be.

    A sum that was found good spares the stack its own.
    """
    if skb.ip_summed == CHECKSUM_UNNECESSARY or (skb.ip_summed == CHECKSUM_PARTIAL and skb.csum_start >= gro.transport):
        return 1
    size = skb.len - gro.transport
    header = skb.data + gro.network
    pseudo = pseudo_v6(header, IPPROTO_TCP) if v6 != 0 else pseudo_v4(header, IPPROTO_TCP)
    if csum_fold(skb_checksum(skb, gro.transport, size, pseudo + length_sum(size))) != 0xFFFF:
        return 0
    if skb.ip_summed == CHECKSUM_NONE:
        skb.ip_summed = CHECKSUM_UNNECESSARY
        skb.csum_level = 0
    return 1


@kernel
def find_headers(gro: Gro, skb: Skb) -> i64:
    """Note in ``gro`` where the layers of the frame begin; 0 unless it is TCP that GRO takes.

    ``gro.flush`` is then 1 for one that may not be merged, but ends what is held of its flow.
    """
    at = ETH_HLEN
    protocol = skb.protocol
    for _ in range(VLAN_MAX_DEPTH):
        if protocol not in (ETH_P_8021Q, ETH_P_8021AD):
            break
        if gro_pull(skb, at + VLAN_HLEN) == 0:
            return 0
        protocol = load16be(skb.data + at + 2)
        at += VLAN_HLEN
    gro.network = at
    gro.flush = 1 if skb.gso_size != 0 or skb.frag_list != 0 else 0
    if protocol == ETH_P_IP:
        known = _ipv4(gro, skb)
    elif protocol == ETH_P_IPV6:
        known = _ipv6(gro, skb)
    else:
        return 0
    if known == 0 or gro_pull(skb, gro.transport + TCP_HEADER) == 0:
        return 0
    if gro.flush == 0 and _checksum_validated(gro, skb, 1 if protocol == ETH_P_IPV6 else 0) == 0:
        return 0
    header_size = (load8(skb.data + gro.transport + 12) >> 4) * 4
    gro.payload = gro.transport + header_size
    if header_size < TCP_HEADER or gro_pull(skb, gro.payload) == 0:
        return 0
    return 1


@kernel
def same_bytes(one: i64, other: i64, size: i64) -> i64:
    """1 if ``size`` bytes, an even number, are the same at both addresses."""
    for at in range(0, size, 2):
        if load16(one + at) != load16(other + at):
            return 0
    return 1
