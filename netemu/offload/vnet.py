"""The virtio-net header as a template: read from memory, held as numbers, written again (VIRTIO 1.4, section 5.1.6)."""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load8, load16, memset, pointer, store8, store16, struct
from netemu.offload.batch import TEMPLATE_BYTES
from netemu.virtio.net import (
    GSO_ECN,
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
)

GSO_TUNNELS = GSO_UDP_TUNNEL_IPV4 | GSO_UDP_TUNNEL_IPV6
GSO_BITS = GSO_TUNNELS | GSO_ECN


@struct
class VnetHeader(Struct):
    """The fields of struct virtio_net_hdr that say what a sender left undone; offsets count from the frame's start."""

    flags: i64
    gso_type: i64
    hdr_len: i64
    gso_size: i64
    csum_start: i64
    csum_offset: i64
    outer_th_offset: i64
    inner_nh_offset: i64


vnet_at = pointer(VnetHeader)


@kernel
def clear_vnet(h: VnetHeader) -> None:
    """All fields zero: nothing is left undone."""
    h.flags = 0
    h.gso_type = 0
    h.hdr_len = 0
    h.gso_size = 0
    h.csum_start = 0
    h.csum_offset = 0
    h.outer_th_offset = 0
    h.inner_nh_offset = 0


@kernel
def load_vnet(address: i64, h: VnetHeader) -> None:
    """Read the header of 32 bytes at ``address``."""
    h.flags = load8(address + HDR_FLAGS)
    h.gso_type = load8(address + HDR_GSO_TYPE)
    h.hdr_len = load16(address + HDR_HDR_LEN)
    h.gso_size = load16(address + HDR_GSO_SIZE)
    h.csum_start = load16(address + HDR_CSUM_START)
    h.csum_offset = load16(address + HDR_CSUM_OFFSET)
    h.outer_th_offset = load16(address + HDR_OUTER_TH_OFFSET)
    h.inner_nh_offset = load16(address + HDR_INNER_NH_OFFSET)


@kernel
def store_vnet(address: i64, h: VnetHeader) -> None:
    """Write the header to 32 bytes at ``address``; num_buffers and the hash stay zero, for the device to fill."""
    memset(address, 0, TEMPLATE_BYTES)
    store8(address + HDR_FLAGS, h.flags)
    store8(address + HDR_GSO_TYPE, h.gso_type)
    store16(address + HDR_HDR_LEN, h.hdr_len)
    store16(address + HDR_GSO_SIZE, h.gso_size)
    store16(address + HDR_CSUM_START, h.csum_start)
    store16(address + HDR_CSUM_OFFSET, h.csum_offset)
    store16(address + HDR_OUTER_TH_OFFSET, h.outer_th_offset)
    store16(address + HDR_INNER_NH_OFFSET, h.inner_nh_offset)
