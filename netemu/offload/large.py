"""How long a large frame is where it goes as segments, without cutting it."""

from __future__ import annotations

from netemu.frame import Frame
from netemu.jit import i64, kernel, load8, load16
from netemu.offload.vnet import GSO_BITS
from netemu.virtio.net import (
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    NEEDS_CSUM,
)

_TRANSPORT_MIN = 20


@kernel
def is_large(frame: Frame) -> i64:
    """Whether a frame is to be cut one day: it brings a header that says so."""
    return 1 if frame.vnet != 0 and load8(frame.vnet + HDR_GSO_TYPE) & ~GSO_BITS != GSO_NONE else 0


@kernel
def segments_and_headers(frame: Frame) -> i64:
    """Of a large frame: how many segments it becomes, times 65536, plus the bytes that each has before its payload.

    As Linux does for its queues (qdisc_pkt_len_init), it goes by where the header says that the checksum starts: that
    is where the (innermost) transport header lies. A header that is not true makes a wrong number, and no harm.
    """
    size = load16(frame.vnet + HDR_GSO_SIZE)
    kind = load8(frame.vnet + HDR_GSO_TYPE) & ~GSO_BITS
    headers = load16(frame.vnet + HDR_CSUM_START)
    if size == 0 or headers + _TRANSPORT_MIN > frame.len:
        return (1 << 16) | min(frame.len, 0xFFFF)
    if kind in (GSO_TCPV4, GSO_TCPV6):
        headers += (load8(frame.address + headers + 12) >> 4) * 4
    elif kind == GSO_UDP:
        size = max(size & ~7, 8)  # fragments of a datagram: its own header is part of what is cut
    else:
        headers += 8
    payload = frame.len - headers
    if payload <= size:
        return (1 << 16) | headers
    return ((payload + size - 1) // size) << 16 | headers


@kernel
def wire_size(frame: Frame) -> i64:
    """Bytes that a frame takes on the wire: a large one is as long as all its segments with their headers."""
    if frame.vnet == 0 or is_large(frame) == 0:
        return frame.len
    both = segments_and_headers(frame)
    return frame.len + ((both >> 16) - 1) * (both & 0xFFFF)


@kernel
def segment_size(frame: Frame) -> i64:
    """Bytes of the longest segment of a large frame, headers included."""
    both = segments_and_headers(frame)
    return frame.len if both >> 16 == 1 else min(frame.len, (both & 0xFFFF) + load16(frame.vnet + HDR_GSO_SIZE))


@kernel
def csum_field(frame: Frame) -> i64:
    """Of a frame with a header: where its unfinished checksum starts, times 65536, plus where it stands; 0: none."""
    if load8(frame.vnet + HDR_FLAGS) & NEEDS_CSUM == 0:
        return 0
    start = load16(frame.vnet + HDR_CSUM_START)
    field = start + load16(frame.vnet + HDR_CSUM_OFFSET)
    return start << 16 | field if start > 0 and field + 2 <= min(frame.len, 0x10000) else 0
