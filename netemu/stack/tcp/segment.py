"""A segment that arrived, as numbers (RFC 9293 section 3.1)."""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load8, load16be, load32be, pointer, struct
from netemu.skb import Skb, skb_header_pointer
from netemu.stack.host import load64be, mapped
from netemu.stack.tcp.options import options_at, parse_options

FIN = 1
SYN = 2
RST = 4
PSH = 8
ACK = 16
URG = 32

HEADER = 20
"""Bytes of a header without options."""


@struct
class Segment(Struct):
    """What came."""

    local_hi: i64
    local_lo: i64
    local_port: i64
    remote_hi: i64
    remote_lo: i64
    remote_port: i64
    flags: i64
    sequence: i64
    acknowledgement: i64
    """Both as in the header, 32 bits."""
    seq: i64
    """Position of its first byte, SYN or FIN; set once its connection is known."""
    ack: i64
    """Position that it acknowledges."""
    window: i64
    """As in the header."""
    payload: i64
    """Offset of its bytes in the skb."""
    size: i64
    """How many they are."""
    length: i64
    """The same with SYN and FIN: SEG.LEN."""
    options: i64
    """Address of an `Options`."""


segment_at = pointer(Segment)


@kernel
def _addresses(segment: Segment, skb: Skb, scratch: i64) -> None:
    """Take the addresses from the IP header, which was checked."""
    at = skb_header_pointer(skb, skb.network_header, HEADER, scratch)
    if load8(at) >> 4 == 4:
        segment.remote_hi = 0
        segment.remote_lo = mapped(load32be(at + 12))
        segment.local_hi = 0
        segment.local_lo = mapped(load32be(at + 16))
        return
    at = skb_header_pointer(skb, skb.network_header + 8, 32, scratch)
    segment.remote_hi = load64be(at)
    segment.remote_lo = load64be(at + 8)
    segment.local_hi = load64be(at + 16)
    segment.local_lo = load64be(at + 24)


@kernel
def take_segment(segment: Segment, skb: Skb, offset: i64, size: i64, scratch: i64) -> None:
    """Take apart the ``size`` bytes at ``offset``, which `netemu.stack.tcp.receive` found in order.

    ``scratch``: 60 bytes in which a header is put together that lies in pieces.
    """
    _addresses(segment, skb, scratch)
    at = skb_header_pointer(skb, offset, HEADER, scratch)
    header = (load8(at + 12) >> 4) * 4
    if header > HEADER:
        at = skb_header_pointer(skb, offset, header, scratch)
    segment.remote_port = load16be(at)
    segment.local_port = load16be(at + 2)
    segment.sequence = load32be(at + 4)
    segment.acknowledgement = load32be(at + 8)
    flags = load8(at + 13)
    segment.flags = flags
    segment.window = load16be(at + 14)
    segment.payload = offset + header
    segment.size = size - header
    segment.length = segment.size + ((flags & SYN) >> 1) + (flags & FIN)
    parse_options(options_at(segment.options), at + HEADER, header - HEADER, flags & SYN)
