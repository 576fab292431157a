"""From the virtio header to the skb: checksum state, GSO, and the frame's type.

After Linux's virtio_net_hdr_to_skb, the end of receive_buf, and eth_type_trans.
"""

from __future__ import annotations

from netemu.driver.eras import Era, era_at
from netemu.driver.virtnet import ETH_HLEN, VirtnetInfo
from netemu.jit import i64, kernel, load8, load16, load16be, load32, load32be
from netemu.skb import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, SKB_HEAD_PAD, Skb, skb_header_pointer
from netemu.virtio.net import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    GSO_UDP_L4,
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_HASH_REPORT,
    HDR_HASH_VALUE,
    HDR_LEN_HASH,
    HDR_LEN_MAX,
    NEEDS_CSUM,
    UDP_TUNNEL_CSUM,
)

PACKET_HOST = 0
PACKET_BROADCAST = 1
PACKET_MULTICAST = 2
PACKET_OTHERHOST = 3

ETH_P_802_3_MIN = 0x600
ETH_P_802_3 = 1
ETH_P_802_2 = 4

CSUM_START_MAX = 0xFFFF
"""The skb keeps csum_start, counted from its head, in 16 bits."""
GSO_BY_FRAGS = 0xFFFF
UDP_MAX_SEGMENTS = 128
TCP_HEADER = 20
UDP_HEADER = 8
TCP_CSUM_OFFSET = 16
UDP_CSUM_OFFSET = 6
MIN_L3_V4 = 20
MIN_L3_V6 = 40

L4_HASH_REPORTS = (1 << 2) | (1 << 3) | (1 << 5) | (1 << 6) | (1 << 8) | (1 << 9)
L3_HASH_REPORTS = (1 << 1) | (1 << 4) | (1 << 7)


@kernel
def _gso_known(raw_type: i64, era: Era) -> i64:
    """Header bytes that the type's transport needs (0 for NONE), or -1 for a type the kernel does not know.

    The ECN bit without a type is none of these.
    """
    if raw_type == GSO_NONE:
        return 0
    gso_type = raw_type & ~GSO_ECN
    if gso_type in (GSO_TCPV4, GSO_TCPV6):
        return TCP_HEADER
    if gso_type == GSO_UDP:
        return UDP_HEADER
    if gso_type == GSO_UDP_L4 and era.usogso != 0:
        return UDP_HEADER
    return -1


@kernel
def _set_partial_csum(skb: Skb, hdr: i64, era: Era, gso_type: i64, transport: i64) -> i64:
    """Take over NEEDS_CSUM: remember where the checksum starts and where it goes; -1 if that is outside the frame.

    Linux first pulls what it needs into the linear part, so the frame's length is the bound in newer kernels and the
    linear part in v4.19.
    """
    start = load16(hdr + HDR_CSUM_START)
    offset = load16(hdr + HDR_CSUM_OFFSET)
    if era.strict_gso != 0:
        if start + max(transport, offset + 2) > skb.len or SKB_HEAD_PAD + start > CSUM_START_MAX:
            return -1
        minimum = MIN_L3_V6 if gso_type == GSO_TCPV6 else MIN_L3_V4
        if start < minimum:
            return -1
        if gso_type in (GSO_TCPV4, GSO_TCPV6) and offset != TCP_CSUM_OFFSET:
            return -1
        if gso_type == GSO_UDP_L4 and offset != UDP_CSUM_OFFSET:
            return -1
    else:
        linear = skb.len - skb.data_len
        if start > linear or start + offset > linear - 2:
            return -1
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = start
    skb.csum_offset = offset
    return 0


@kernel
def virtio_net_hdr_to_skb(skb: Skb, hdr: i64, era: Era) -> i64:
    """Carry checksum and GSO from the header at host ``hdr`` into the skb; 0, or -1 for a header the kernel refuses."""
    flags = load8(hdr + HDR_FLAGS)
    raw_type = load8(hdr + HDR_GSO_TYPE)
    gso_type = raw_type & ~GSO_ECN
    gso_size = load16(hdr + HDR_GSO_SIZE)
    headers = 0
    transport = _gso_known(raw_type, era)
    if transport < 0:
        return -1
    if gso_type != GSO_NONE and gso_size == 0:
        return -1
    if era.strict_gso != 0 and gso_type == GSO_UDP_L4 and (flags & NEEDS_CSUM == 0 or raw_type & GSO_ECN != 0):
        return -1
    if flags & NEEDS_CSUM:
        if _set_partial_csum(skb, hdr, era, gso_type, transport) < 0:
            return -1
        headers = load16(hdr + HDR_CSUM_START)
    elif era.strict_gso != 0 and gso_type != GSO_NONE:
        # The network header is not known yet, so its least length stands for it.
        headers = MIN_L3_V6 if gso_type == GSO_TCPV6 else MIN_L3_V4
        if headers + transport > skb.len:
            return -1
    if gso_type == GSO_NONE:
        return 0
    if era.strict_gso == 0:
        skb.gso_type = raw_type
        skb.gso_size = gso_size
        return 0
    if gso_size == GSO_BY_FRAGS:
        return -1
    if gso_type != GSO_UDP:
        headers += transport
    payload = skb.len - headers
    if gso_type == GSO_UDP_L4 and payload > gso_size * UDP_MAX_SEGMENTS:
        return -1
    # A payload that needs no segmenting makes it an ordinary frame.
    if payload > gso_size:
        skb.gso_type = raw_type
        skb.gso_size = gso_size
    return 0


@kernel
def set_hash(skb: Skb, hdr: i64) -> None:
    """Take over the hash report: which layer was hashed decides whether it is an L4 hash."""
    report = load16(hdr + HDR_HASH_REPORT)
    if report > 9:
        return
    if (L4_HASH_REPORTS >> report) & 1:
        skb.hash = load32(hdr + HDR_HASH_VALUE)
        skb.l4_hash = 1
    elif (L3_HASH_REPORTS >> report) & 1:
        skb.hash = load32(hdr + HDR_HASH_VALUE)


@kernel
def eth_type_trans(vi: VirtnetInfo, skb: Skb) -> None:
    """Find the frame's protocol and whom it is for. The 14 bytes are linear, as every receive mode makes sure."""
    at = skb.data
    if load8(at) & 1:
        everyone = load16be(at) == 0xFFFF and load32be(at + 2) == 0xFFFFFFFF
        skb.pkt_type = PACKET_BROADCAST if everyone else PACKET_MULTICAST
    elif (load16be(at) << 32) | load32be(at + 2) == vi.mac:
        skb.pkt_type = PACKET_HOST
    else:
        skb.pkt_type = PACKET_OTHERHOST
    skb.network_header = ETH_HLEN
    protocol = load16be(at + 12)
    if protocol >= ETH_P_802_3_MIN:
        skb.protocol = protocol
    else:
        # Netware of old puts IPX right behind the length.
        sap = skb_header_pointer(skb, ETH_HLEN, 2, skb.head + HDR_LEN_MAX)
        skb.protocol = ETH_P_802_3 if sap != 0 and load16be(sap) == 0xFFFF else ETH_P_802_2


@kernel
def virtnet_receive_done(vi: VirtnetInfo, skb: Skb, hdr: i64, queue: i64) -> i64:
    """Finish a received skb from its header; -1 if the header is refused (the caller frees it and counts)."""
    era = era_at(vi.era)
    if load16(hdr + HDR_FLAGS) != 0:
        flags = load8(hdr + HDR_FLAGS)
        if flags & DATA_VALID:
            if flags & UDP_TUNNEL_CSUM and era.tunnel_aware != 0:
                return -1
            skb.ip_summed = CHECKSUM_UNNECESSARY
        if virtio_net_hdr_to_skb(skb, hdr, era) < 0:
            return -1
    if vi.hdr_len >= HDR_LEN_HASH:
        set_hash(skb, hdr)
    if era.record_rx_queue != 0:
        skb.queue_mapping = queue
    eth_type_trans(vi, skb)
    return 0
