"""What IPv4 of a host works with: packets and skbs of its own, room to put bytes together, the limits of ICMP."""

from __future__ import annotations

from netemu.jit import Struct, i64, pointer, struct

ROOM_SIZE = (1 << 16) + 256
"""Bytes of room for one IP packet with its link header."""

PEER_COUNT = 256


@struct
class IpState(Struct):
    """Host addresses of what is there once, for the time of one call."""

    forward: i64
    """A `netemu.stack.packet.Packet` for what is sent on."""
    fragment: i64
    """One for a fragment of another packet."""
    segment: i64
    """One for a segment of another packet."""
    control: i64
    """One for ARP."""
    answer: i64
    """One for ICMP."""
    released: i64
    """One for a packet that waited for its neighbour."""
    room: i64
    """ROOM_SIZE bytes, in which a packet in pieces is put together."""
    held_room: i64
    """The same for a packet that waited (`netemu.stack.held`), and for one to an own address."""
    quote: i64
    """Bytes that an ICMP error quotes."""
    reassembly: i64
    """Address of the `netemu.stack.reassembly.ReassemblyPool`."""
    whole: i64
    """An `netemu.skb.Skb` for a reassembled datagram."""
    inner: i64
    """One for a packet that waited, or comes from this host itself."""
    held: i64
    """Address of the `netemu.stack.held.HeldPool`."""
    peers: i64
    """Address of PEER_COUNT `Peer` structs: to whom ICMP errors went lately."""
    loopback_deliver: i64
    """Hook of the event in which a packet to an own address comes back in."""
    cut: i64
    """Hook ``(host, packet)`` for one that is too long as it is: `netemu.stack.segment.ip_cut`."""
    icmp_tokens: i64
    """ICMP errors that may be sent at once, times 10^9."""
    icmp_stamp: i64
    """ns, when that was true."""


@struct
class Peer(Struct):
    """Whom ICMP errors were sent to, as Linux's inet_peer."""

    hi: i64
    lo: i64
    tokens: i64
    """ns of patience."""
    last: i64
    """ns."""


ip_state_at = pointer(IpState)
peer_at = pointer(Peer)
PEER_SIZE = Peer.dtype.itemsize
