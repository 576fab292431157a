"""A frame that brings a virtio-net header: whether a device may accept it, and what it asks for.

Nothing in the header is trusted (TX-D-07): its offsets have to name what the frame's own headers say. Bits that are not
known are ignored (TX-D-01), and fields whose bit is not set are not looked at (TX-D-02, TX-D-09).
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.offload.dissect import ETH_P_IP, ETH_P_IPV6, UDP, Layers, dissect, enter_tunnel
from netemu.offload.judge import LARGE, UNFINISHED, large_kind_fits
from netemu.offload.reasons import BAD_CSUM_START, BAD_GSO, BAD_TUNNEL, WHOLE
from netemu.offload.vnet import GSO_BITS, GSO_TUNNELS, VnetHeader
from netemu.virtio.net import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_UDP,
    GSO_UDP_L4,
    GSO_UDP_TUNNEL_IPV4,
    NEEDS_CSUM,
    UDP_TUNNEL_CSUM,
)


@kernel
def _in_tunnel(frame: i64, length: i64, d: Layers, h: VnetHeader) -> i64:
    """Dissect the packets of a frame with a tunnel bit, going by the header's offsets: LARGE or BAD_TUNNEL."""
    tunnel = h.gso_type & GSO_TUNNELS
    base = h.gso_type & ~GSO_BITS
    if tunnel == GSO_TUNNELS:  # TX-D-08
        return BAD_TUNNEL
    if base in (GSO_NONE, GSO_UDP):  # TX-D-12
        return BAD_TUNNEL
    if h.flags & NEEDS_CSUM == 0 or h.flags & DATA_VALID:  # TX-D-10, TX-D-11
        return BAD_TUNNEL
    if dissect(frame, length, d) != WHOLE or d.protocol != UDP or d.transport != h.outer_th_offset:
        return BAD_TUNNEL
    at = h.inner_nh_offset
    if at < d.payload or at >= d.end:
        return BAD_TUNNEL
    kind = ETH_P_IP if tunnel == GSO_UDP_TUNNEL_IPV4 else ETH_P_IPV6
    return LARGE if enter_tunnel(frame, at, kind, d) == WHOLE else BAD_TUNNEL


@kernel
def read_template(frame: i64, length: i64, d: Layers, h: VnetHeader) -> i64:
    """What the header asks for: LARGE or UNFINISHED, WHOLE where nothing, else why it must not be accepted.

    ``d`` is filled for LARGE.
    """
    base = h.gso_type & ~GSO_BITS
    if h.gso_type & GSO_TUNNELS:
        if _in_tunnel(frame, length, d, h) != LARGE:
            return BAD_TUNNEL
    elif h.flags & UDP_TUNNEL_CSUM:  # TX-D-13
        return BAD_TUNNEL
    if h.flags & NEEDS_CSUM:
        if h.csum_start + h.csum_offset + 2 > length:
            return BAD_CSUM_START
    elif base != GSO_NONE:
        return BAD_GSO
    if base == GSO_NONE:
        return UNFINISHED if h.flags & NEEDS_CSUM else WHOLE
    if h.gso_size == 0 or (h.gso_type & GSO_ECN and base in (GSO_UDP, GSO_UDP_L4)):
        return BAD_GSO
    if h.gso_type & GSO_TUNNELS == 0 and dissect(frame, length, d) != WHOLE:
        return BAD_GSO
    if large_kind_fits(frame, d, h) == 0:
        return BAD_GSO
    h.hdr_len = d.payload
    if base == GSO_UDP:
        # A datagram's fragments start with its UDP header, at multiples of eight bytes.
        if h.gso_size < 8:
            return BAD_GSO
        return LARGE if d.end - d.transport > h.gso_size else UNFINISHED
    return LARGE if d.end - d.payload > h.gso_size or h.gso_type & GSO_TUNNELS else UNFINISHED
