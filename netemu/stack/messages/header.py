"""What a message's IP header says of it."""

from __future__ import annotations

from netemu.jit import i64, kernel, load8, load32be
from netemu.skb import skb_at, skb_header_pointer
from netemu.stack.host import Host, load64be, mapped
from netemu.stack.messages.datagram import Message
from netemu.stack.state import IP_SCRATCH, stack_at

_IPV4_HEADER = 20
_IPV6_HEADER = 40


@kernel
def message_addresses(h: Host, m: Message) -> i64:
    """Fill in what the IP header of the packet at hand says: addresses, TTL. The version of IP, 4 or 6."""
    skb = skb_at(h.skb)
    m.interface = h.input
    scratch = stack_at(h.stack).scratch + IP_SCRATCH
    iph = skb_header_pointer(skb, skb.network_header, _IPV4_HEADER, scratch)
    if load8(iph) >> 4 == 4:
        m.source_hi = 0
        m.source_lo = mapped(load32be(iph + 12))
        m.target_hi = 0
        m.target_lo = mapped(load32be(iph + 16))
        m.extra = load8(iph + 8)
        return 4
    iph = skb_header_pointer(skb, skb.network_header, _IPV6_HEADER, scratch)
    m.source_hi = load64be(iph + 8)
    m.source_lo = load64be(iph + 16)
    m.target_hi = load64be(iph + 24)
    m.target_lo = load64be(iph + 32)
    m.extra = load8(iph + 7)
    return 6
