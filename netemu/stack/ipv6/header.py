"""The bytes of an outgoing IPv6 packet: its header (RFC 8200 section 3), flow label (RFC 6437), pseudo-header."""

from __future__ import annotations

from netemu.checksum import length_sum
from netemu.jit import i64, kernel, load16be, store8, store16be, store32be
from netemu.stack.packet import Packet

HEADER6 = 40
"""Bytes."""

IPPROTO_TCP = 6
IPPROTO_UDP = 17

_WORD = 0xFFFFFFFF
_MIX = 0x9E3779B1
_LABEL = 0xFFFFF


@kernel
def store64be(address: i64, value: i64) -> None:
    """Store half an IPv6 address, big-endian."""
    store32be(address, value >> 32)
    store32be(address + 4, value)


@kernel
def _mix(state: i64, value: i64) -> i64:
    """A hash, of 32 bits, of one more 32-bit number."""
    state = ((state ^ (value & _WORD)) * _MIX) & _WORD
    return state ^ (state >> 15)


@kernel
def flow_label(p: Packet, secret: i64) -> i64:
    """The label of a packet's flow: a hash of its addresses, protocol and ports, never 0 (RFC 6437 section 3).

    All packets of a flow have the same, and nobody who does not know the secret can tell it beforehand.
    """
    state = _mix(secret, p.source_hi >> 32)
    state = _mix(state, p.source_hi)
    state = _mix(state, p.source_lo >> 32)
    state = _mix(state, p.source_lo)
    state = _mix(state, p.target_hi >> 32)
    state = _mix(state, p.target_hi)
    state = _mix(state, p.target_lo >> 32)
    state = _mix(state, p.target_lo)
    state = _mix(state, p.protocol)
    if p.protocol in (IPPROTO_TCP, IPPROTO_UDP):
        state = _mix(state, load16be(p.transport) << 16 | load16be(p.transport + 2))
    label = (state ^ (state >> 20)) & _LABEL
    return label if label != 0 else 1


@kernel
def _sum64(value: i64) -> i64:
    """What half an address adds to a sum: its four big-endian words, each read little-endian."""
    return length_sum(value) + length_sum(value >> 32)


@kernel
def pseudo_sum6(p: Packet) -> i64:
    """Sum of the pseudo-header (RFC 8200 section 8.1) but for its length, unfolded and little-endian."""
    total = _sum64(p.source_hi) + _sum64(p.source_lo) + _sum64(p.target_hi) + _sum64(p.target_lo)
    return total + (p.protocol << 8)


@kernel
def put_header6(p: Packet, label: i64) -> None:
    """Put the IPv6 header in front of what is there."""
    length = p.transport + p.transport_len - p.data + p.payload_len + p.more_len
    p.data -= HEADER6
    at = p.data
    store32be(at, 6 << 28 | p.traffic_class << 20 | label)
    store16be(at + 4, length)
    store8(at + 6, p.protocol)
    store8(at + 7, p.hop_limit)
    store64be(at + 8, p.source_hi)
    store64be(at + 16, p.source_lo)
    store64be(at + 24, p.target_hi)
    store64be(at + 32, p.target_lo)
