"""Bytes of a received frame as the payload of a packet that goes out: an answer, a quotation, what is sent on."""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.skb import Skb, frag_at, skb_copy_bits
from netemu.stack.packet import Packet


@kernel
def payload_of_skb(p: Packet, skb: Skb, offset: i64, size: i64, room: i64) -> None:
    """Make ``size`` bytes of a frame, from ``offset`` on, the payload of a packet.

    They stay where they are if they lie in the linear part, in the first frag, or in these two; else they are put
    together in ``room``. The frame has to live as long as the packet.
    """
    linear = skb.len - skb.data_len
    first = min(max(linear - offset, 0), size)
    rest = size - first
    p.payload = skb.data + offset
    p.payload_len = first
    p.more_len = 0
    if rest == 0:
        return
    at = max(offset - linear, 0)
    if skb.nr_frags > 0 and at + rest <= frag_at(skb.frags).size:
        p.more = frag_at(skb.frags).address + at
        p.more_len = rest
        return
    skb_copy_bits(skb, offset, room, size)
    p.payload = room
    p.payload_len = size
