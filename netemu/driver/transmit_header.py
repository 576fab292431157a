"""The virtio header of a frame to be sent, from what its skb says is left to do: virtio_net_hdr_from_skb and the rest.

Fields nobody fills are zero: num_buffers (TX-V-02), the hash, outer_nh_offset (TX-V-05 is a MAY, and Linux does not).
DATA_VALID and RSC_INFO are never set (TX-V-39 to TX-V-41), nor are the bits of IPsec. UDP fragmentation is never asked
for (TX-V-10 is a MAY): Linux stopped offering it to its stack in v4.14.
"""

from __future__ import annotations

from netemu.driver.virtnet import VirtnetInfo
from netemu.jit import i64, kernel, load8, memset, store8, store16
from netemu.skb import (
    CHECKSUM_PARTIAL,
    GSO_TUNNEL_CSUM,
    SKB_CB_SCRATCH,
    Skb,
    skb_header_pointer,
)
from netemu.virtio.net import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    GSO_UDP_TUNNEL,
    GSO_UDP_TUNNEL_IPV4,
    GSO_UDP_TUNNEL_IPV6,
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_HDR_LEN,
    HDR_INNER_NH_OFFSET,
    HDR_OUTER_TH_OFFSET,
    NEEDS_CSUM,
    UDP_TUNNEL_CSUM,
)

ETH_P_IPV6 = 0x86DD
GSO_MODIFIERS = GSO_ECN | GSO_UDP_TUNNEL | GSO_TUNNEL_CSUM
"""The bits of an skb's gso_type beside what kind of segments it has."""
TCP_DATA_OFFSET = 12
UDP_HEADER = 8
EINVAL = -22


@kernel
def gso_header_length(skb: Skb) -> i64:
    """Bytes of all headers of a GSO frame, through the (inner) transport header; 0 if the frame ends before them.

    The unfinished checksum's start is where the transport header begins: no frame is GSO without one (TX-V-31).
    """
    if skb.gso_type & ~GSO_MODIFIERS != GSO_UDP_L4:
        at = skb_header_pointer(skb, skb.csum_start + TCP_DATA_OFFSET, 1, skb.head + SKB_CB_SCRATCH)
        if at == 0:
            return 0
        return skb.csum_start + (load8(at) >> 4) * 4
    return skb.csum_start + UDP_HEADER


@kernel
def _set_tunnel(vi: VirtnetInfo, skb: Skb, hdr: i64) -> i64:
    """The fields of a frame with segments inside a UDP tunnel (TX-V-16 to TX-V-25, TX-V-35); 0, or EINVAL.

    The bit is the inner header's, as the specification has it (TX-V-18, TX-V-19); Linux's names the outer one, which
    differs only for IPv4 inside IPv6 and the reverse.
    """
    if vi.tx_tnl == 0:
        return EINVAL
    bit = GSO_UDP_TUNNEL_IPV6 if skb.inner_protocol == ETH_P_IPV6 else GSO_UDP_TUNNEL_IPV4
    store8(hdr + HDR_GSO_TYPE, load8(hdr + HDR_GSO_TYPE) | bit)
    if skb.gso_type & GSO_TUNNEL_CSUM:
        store8(hdr + HDR_FLAGS, NEEDS_CSUM | UDP_TUNNEL_CSUM)
    store16(hdr + HDR_OUTER_TH_OFFSET, skb.transport_header)
    store16(hdr + HDR_INNER_NH_OFFSET, skb.inner_network_header)
    return 0


@kernel
def virtio_net_hdr_from_skb(vi: VirtnetInfo, skb: Skb, hdr: i64) -> i64:
    """Write the ``vi.hdr_len`` bytes in front of a frame to be sent; 0, or EINVAL for a GSO type that is none.

    hdr_len is exact where the device may rely on it (GUEST_HDRLEN, TX-V-33), else the linear part, which holds all
    headers (TX-V-34); where it does not, as in a frame that is sent on as it was received, the headers count.
    """
    memset(hdr, 0, vi.hdr_len)
    if skb.ip_summed == CHECKSUM_PARTIAL:
        store8(hdr + HDR_FLAGS, NEEDS_CSUM)
        store16(hdr + HDR_CSUM_START, skb.csum_start)
        store16(hdr + HDR_CSUM_OFFSET, skb.csum_offset)
    if skb.gso_size == 0:
        return 0
    kind = skb.gso_type & ~GSO_MODIFIERS
    if kind not in (GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4):
        return EINVAL
    headers = gso_header_length(skb)
    if headers == 0:
        return EINVAL
    if vi.guest_hdrlen == 0:
        headers = max(headers, skb.len - skb.data_len)
    store16(hdr + HDR_HDR_LEN, headers)
    store16(hdr + HDR_GSO_SIZE, skb.gso_size)
    store8(hdr + HDR_GSO_TYPE, kind | (skb.gso_type & GSO_ECN))
    if skb.gso_type & GSO_UDP_TUNNEL:
        return _set_tunnel(vi, skb, hdr)
    return 0
