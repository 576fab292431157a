"""Moving a payload from one skb into another (skb_gro_receive), and finishing what was merged (gro_complete)."""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial, length_sum, pseudo_v4, pseudo_v6
from netemu.fates import MERGED, note_fate
from netemu.gro.flow import CWR, is_ipv4
from netemu.gro.headers import ETH_HLEN, IPPROTO_TCP, IPV4_HEADER, IPV6_HEADER
from netemu.gro.state import GRO_MAX_SIZE, Gro, Held
from netemu.jit import i64, kernel, load8, memcpy, store16, store16be
from netemu.skb import (
    CHECKSUM_PARTIAL,
    FRAG_SIZE,
    GSO_TCP_ACCECN,
    MAX_SKB_FRAGS,
    SHARED_INFO_SIZE,
    SK_BUFF_SIZE,
    SKB_HEAD_SIZE,
    Skb,
    frag_at,
    kfree_skb,
    skb_at,
)

TCP_CSUM_OFFSET = 16
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_ECN = 0x80
"""gso_type as the virtio header numbers it, which skbs keep."""


@kernel
def _to_frags(last: Skb, skb: Skb, offset: i64) -> i64:
    """Append the payload, from ``offset`` on, to the frags of ``last``; the memory charged with it, or -1 if it cannot.

    What is linear can only become a frag where it lies in a page, as small and build_skb buffers do.
    """
    linear = skb.len - skb.data_len - offset
    extra = 1 if linear > 0 else 0
    if (extra == 1 and skb.head_page == 0) or last.nr_frags + extra + skb.nr_frags > MAX_SKB_FRAGS:
        return -1
    if extra == 1:
        frag = frag_at(last.frags + last.nr_frags * FRAG_SIZE)
        frag.address = skb.data + offset
        frag.size = linear
        frag.page = skb.head_page
        skb.head_page = 0
        charged = skb.truesize - SK_BUFF_SIZE
    else:
        charged = skb.truesize - SK_BUFF_SIZE - SHARED_INFO_SIZE - SKB_HEAD_SIZE
    last.nr_frags += extra
    memcpy(last.frags + last.nr_frags * FRAG_SIZE, skb.frags, skb.nr_frags * FRAG_SIZE)
    last.nr_frags += skb.nr_frags
    skb.nr_frags = 0
    return charged


@kernel
def skb_gro_receive(gro: Gro, held: Held, address: i64) -> i64:
    """Give the skb's payload to the held one: as frags where they fit, else as a member of its frag list.

    0 if it did, and the skb is gone; -1 where the packet would become too large.
    """
    p = skb_at(held.skb)
    skb = skb_at(address)
    length = skb.len - gro.payload
    if p.len - ETH_HLEN + length >= GRO_MAX_SIZE:
        return -1
    last = skb_at(held.last)
    note_fate(gro.fates, skb.frame_id, MERGED, p.frame_id)
    charged = _to_frags(last, skb, gro.payload)
    if charged >= 0:
        if held.last != held.skb:
            last.data_len += length
            last.len += length
            last.truesize += charged
        kfree_skb(address)
    else:
        charged = skb.truesize
        skb.data += gro.payload
        skb.len -= gro.payload
        skb.next = 0
        if held.last == held.skb:
            p.frag_list = address
        else:
            last.next = address
        p.frag_tail = address
        held.last = address
    held.count += 1
    p.len += length
    p.data_len += length
    p.truesize += charged
    p.wire_len += length
    gro.merged += 1
    return 0


@kernel
def gro_complete(gro: Gro, held: Held) -> None:
    """napi_gro_complete: an skb of one segment is what it was; one of several gets its lengths, checksums and GSO."""
    skb = skb_at(held.skb)
    if held.count == 1:
        skb.gso_size = 0
        return
    header = skb.data + held.network
    size = skb.len - held.transport
    if is_ipv4(skb, held.network) != 0:
        store16be(header + 2, skb.len - held.network)
        store16(header + 10, 0)
        store16(header + 10, ~csum_fold(csum_partial(header, IPV4_HEADER, 0)))
        pseudo = pseudo_v4(header, IPPROTO_TCP)
        skb.gso_type = GSO_TCPV4
    else:
        store16be(header + 4, skb.len - held.network - IPV6_HEADER)
        pseudo = pseudo_v6(header, IPPROTO_TCP)
        skb.gso_type = GSO_TCPV6
    th = skb.data + held.transport
    store16(th + TCP_CSUM_OFFSET, csum_fold(pseudo + length_sum(size)))
    if load8(th + 13) & CWR:
        skb.gso_type |= GSO_TCP_ACCECN if gro.compares_cwr != 0 else GSO_ECN
    skb.gso_segs = held.count
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = held.transport
    skb.csum_offset = TCP_CSUM_OFFSET
    gro.packets += 1
