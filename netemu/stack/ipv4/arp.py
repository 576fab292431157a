"""ARP (RFC 826), after Linux's arp_rcv: checked; no counter of Linux moves. `arp_process` answers."""

from __future__ import annotations

from netemu.jit import call2, i64, kernel, load8, load16be
from netemu.skb import Skb, skb_header_pointer
from netemu.stack.reasons import ARP_INHDR, DELIVERED, HDR_TRUNC
from netemu.stack.state import L4_SCRATCH, Stack

_SIZE = 28
_ETHERNET = 1
_IEEE802 = 6
_ETH_P_IP = 0x0800
_REQUEST = 1
_REPLY = 2


@kernel
def arp_rcv(stack: Stack, skb: Skb, offset: i64) -> i64:
    """Take the packet at ``offset``; return the verdict. It is for IPv4 over Ethernet, and asks or answers."""
    arp = skb_header_pointer(skb, offset, _SIZE, stack.scratch + L4_SCRATCH)
    if arp == 0:
        return HDR_TRUNC
    hardware = load16be(arp)
    if load8(arp + 4) != 6 or load8(arp + 5) != 4 or load16be(arp + 2) != _ETH_P_IP:
        return ARP_INHDR
    if hardware not in (_ETHERNET, _IEEE802) or load16be(arp + 6) not in (_REQUEST, _REPLY):
        return ARP_INHDR
    if stack.arp_input != 0:
        call2(stack.arp_input, stack.host, offset)
    return DELIVERED
