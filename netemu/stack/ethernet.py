"""The link layer: VLAN tags taken off by offset, and each protocol handed to whoever takes it.

After Linux's __netif_receive_skb_core. Every VLAN is taken as one that the host has a device for.
"""

from __future__ import annotations

from netemu.jit import entry, i64, kernel, load16be
from netemu.skb import Skb, skb_at, skb_header_pointer
from netemu.stack.ipv4.arp import arp_rcv
from netemu.stack.ipv4.receive import ip_rcv
from netemu.stack.ipv6.receive import ipv6_rcv
from netemu.stack.mib import count_at
from netemu.stack.reasons import HDR_TRUNC, OTHERHOST, UNHANDLED_PROTO
from netemu.stack.state import L4_SCRATCH, PACKET_OTHERHOST, Stack, stack_at

ETH_HLEN = 14
ETH_P_802_3 = 1
ETH_P_802_2 = 4
ETH_P_802_3_MIN = 0x600
ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_8021Q = 0x8100
ETH_P_IPV6 = 0x86DD
ETH_P_8021AD = 0x88A8

VLAN_HLEN = 4
VLAN_MAX_DEPTH = 8
"""Tags that are taken off one frame at most; Linux looks through as many (include/linux/if_vlan.h)."""


@kernel
def _untag(stack: Stack, skb: Skb) -> i64:
    """Step over VLAN tags: move ``skb.network_header`` behind them and return the protocol found there.

    0 if the frame ends inside a tag; a tag's own EtherType if there are more than VLAN_MAX_DEPTH.
    """
    protocol = skb.protocol
    for _ in range(VLAN_MAX_DEPTH):
        if protocol not in (ETH_P_8021Q, ETH_P_8021AD):
            break
        # The tag, and the two bytes that follow it: what a length in place of an EtherType means depends on them.
        tag = skb_header_pointer(skb, skb.network_header, VLAN_HLEN + 2, stack.scratch + L4_SCRATCH)
        if tag == 0:
            return 0
        skb.network_header += VLAN_HLEN
        protocol = load16be(tag + 2)
        if protocol < ETH_P_802_3_MIN:
            protocol = ETH_P_802_3 if load16be(tag + VLAN_HLEN) == 0xFFFF else ETH_P_802_2
    return protocol


@kernel
def _deliver(stack: Stack, skb: Skb) -> i64:
    """Hand a frame to the protocol it carries; return the verdict."""
    if skb.len < ETH_HLEN:
        return HDR_TRUNC
    skb.network_header = ETH_HLEN
    protocol = skb.protocol
    if protocol in (ETH_P_8021Q, ETH_P_8021AD):
        protocol = _untag(stack, skb)
        if protocol == 0:
            return HDR_TRUNC
    if protocol not in (ETH_P_IP, ETH_P_IPV6, ETH_P_ARP):
        return UNHANDLED_PROTO
    if skb.pkt_type == PACKET_OTHERHOST and stack.promiscuous == 0:
        return OTHERHOST
    if protocol == ETH_P_IP:
        return ip_rcv(stack, skb, skb.network_header)
    if protocol == ETH_P_IPV6:
        return ipv6_rcv(stack, skb, skb.network_header)
    return arp_rcv(stack, skb, skb.network_header)


@kernel
def netif_receive_skb(stack: Stack, skb: Skb) -> i64:
    """Take a received frame up to its protocol; return the verdict, a `netemu.stack.reasons.StackReason`.

    ``skb.protocol`` and ``skb.pkt_type`` are set, as eth_type_trans does. ``network_header`` and ``transport_header``
    are set here; nothing else of the skb changes, and the caller frees it.
    """
    verdict = _deliver(stack, skb)
    count_at(stack.reasons, verdict)
    return verdict


@entry
def deliver(stack: i64, skb: i64) -> i64:
    """`netif_receive_skb` by addresses: the hook through which a loop hands up without compiling all protocols."""
    return netif_receive_skb(stack_at(stack), skb_at(skb))
