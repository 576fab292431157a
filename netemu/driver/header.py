"""From the virtio header to the skb: checksum state, GSO, and the frame's type.

After Linux's virtio_net_hdr_to_skb, virtio_net_hdr_tnl_to_skb, the end of receive_buf, and eth_type_trans.

Headers of segmented UDP tunnels (v6.17) are a hook, `VirtnetInfo.rx_tnl`: where GUEST_UDP_TUNNEL_GSO was not negotiated
there is none, and a frame that claims to be one is refused.
"""

from __future__ import annotations

from netemu.driver.eras import Era, era_at
from netemu.driver.virtnet import ETH_HLEN, VirtnetInfo, vi_at
from netemu.jit import call3, entry, i64, kernel, load8, load16, load16be, load32, load32be
from netemu.skb import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    GSO_TUNNEL_CSUM,
    SKB_HEAD_PAD,
    Skb,
    skb_at,
    skb_header_pointer,
)
from netemu.virtio.net import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    GSO_UDP_L4,
    GSO_UDP_TUNNEL,
    GSO_UDP_TUNNEL_IPV6,
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_HASH_REPORT,
    HDR_HASH_VALUE,
    HDR_INNER_NH_OFFSET,
    HDR_LEN_MAX,
    HDR_OUTER_TH_OFFSET,
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
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD

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
def virtio_net_hdr_to_skb(skb: Skb, hdr: i64, era: Era, raw_type: i64) -> i64:
    """Carry checksum and GSO from the header at host ``hdr`` into the skb; 0, or -1 for a header the kernel refuses.

    ``raw_type`` is its gso_type; that of a tunnel comes here without its tunnel bit.
    """
    flags = load8(hdr + HDR_FLAGS)
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


@entry
def virtio_net_hdr_tnl_to_skb(vi_address: i64, skb_address: i64, hdr: i64) -> i64:
    """`virtio_net_hdr_to_skb` for a segmented packet in a UDP tunnel (RX-V-08, RX-V-10, RX-V-12); 0, or -1 if refused.

    The checksum is that of the inner transport; the header says where the outer one and the inner network header lie.
    """
    vi = vi_at(vi_address)
    skb = skb_at(skb_address)
    raw_type = load8(hdr + HDR_GSO_TYPE)
    tunnel = raw_type & GSO_UDP_TUNNEL
    inner_type = raw_type & ~(GSO_UDP_TUNNEL | GSO_ECN)
    flags = load8(hdr + HDR_FLAGS)
    if tunnel == GSO_UDP_TUNNEL or inner_type in (GSO_NONE, GSO_UDP) or flags & NEEDS_CSUM == 0:
        return -1
    outer_l3 = MIN_L3_V6 if tunnel == GSO_UDP_TUNNEL_IPV6 else MIN_L3_V4
    inner_l3 = MIN_L3_V6 if inner_type == GSO_TCPV6 else MIN_L3_V4
    outer_th = load16(hdr + HDR_OUTER_TH_OFFSET)
    inner_nh = load16(hdr + HDR_INNER_NH_OFFSET)
    inner_th = load16(hdr + HDR_CSUM_START)
    if outer_th < ETH_HLEN + outer_l3 or inner_nh < outer_th + UDP_HEADER or inner_th < inner_nh + inner_l3:
        return -1
    if virtio_net_hdr_to_skb(skb, hdr, era_at(vi.era), raw_type & ~tunnel) < 0:
        return -1
    if inner_type == GSO_UDP_L4:
        # Only the packet itself tells which IP its datagrams travel in.
        first = skb_header_pointer(skb, inner_nh, 1, skb.head + HDR_LEN_MAX)
        if load8(first) >> 4 == 6:
            inner_l3 = MIN_L3_V6
        if inner_th < inner_nh + inner_l3:
            return -1
    if flags & UDP_TUNNEL_CSUM and vi.rx_tnl_csum == 0:
        return -1
    if skb.gso_size != 0:
        skb.gso_type |= tunnel | (GSO_TUNNEL_CSUM if flags & UDP_TUNNEL_CSUM else 0)
    skb.encapsulation = 1
    skb.inner_protocol = ETH_P_IPV6 if inner_l3 == MIN_L3_V6 else ETH_P_IP
    skb.inner_network_header = inner_nh
    skb.inner_transport_header = inner_th
    skb.transport_header = outer_th
    return 0


@kernel
def virtio_net_handle_csum_offload(vi: VirtnetInfo, skb: Skb, flags: i64, gso_type: i64) -> i64:
    """Believe a device that vouches for the checksum; -1 for flags that cannot be together (RX-V-11, RX-V-13).

    With UDP_TUNNEL_CSUM it vouches for the inner checksum as well. That bit beside NEEDS_CSUM makes sense in a tunnel
    alone; Linux lets it pass elsewhere, the specification does not, and neither does this driver.
    """
    if era_at(vi.era).tunnel_aware != 0:
        if gso_type & GSO_UDP_TUNNEL:
            return -1 if flags & DATA_VALID else 0
        if flags & UDP_TUNNEL_CSUM:
            if flags & NEEDS_CSUM:
                return -1
            if flags & DATA_VALID:
                if vi.rx_tnl_csum == 0:
                    return -1
                skb.csum_level = 1
    if flags & DATA_VALID:
        skb.ip_summed = CHECKSUM_UNNECESSARY
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
def virtnet_receive_done(vi_address: i64, skb_address: i64, queue: i64) -> i64:
    """Finish a received skb from its header; -1 if the header is refused (the caller frees it and counts)."""
    vi = vi_at(vi_address)
    skb = skb_at(skb_address)
    hdr = skb.vnet_hdr
    if load16(hdr + HDR_FLAGS) != 0:
        gso_type = load8(hdr + HDR_GSO_TYPE)
        if virtio_net_handle_csum_offload(vi, skb, load8(hdr + HDR_FLAGS), gso_type) < 0:
            return -1
        if gso_type & GSO_UDP_TUNNEL and vi.rx_tnl != 0:
            if call3(vi.rx_tnl, vi_address, skb_address, hdr) < 0:
                return -1
        elif virtio_net_hdr_to_skb(skb, hdr, era_at(vi.era), gso_type) < 0:
            return -1
    if vi.rxhash != 0:
        set_hash(skb, hdr)
    if era_at(vi.era).record_rx_queue != 0:
        skb.queue_mapping = queue
    eth_type_trans(vi, skb)
    return 0
