"""The state of a protocol stack that kernels see: settings, counters, room to work in."""

from __future__ import annotations

from netemu.jit import Struct, i64, pointer, struct

# Kinds of destination, as a routing table of Linux would tell them apart.
UNICAST = 0
MULTICAST = 1
BROADCAST = 2

# pkt_type of an skb (include/uapi/linux/if_packet.h).
PACKET_HOST = 0
PACKET_BROADCAST = 1
PACKET_MULTICAST = 2
PACKET_OTHERHOST = 3

IP_SCRATCH = 0
L4_SCRATCH = 64
EXT_SCRATCH = 128
SCRATCH_SIZE = EXT_SCRATCH + 2048
"""Bytes: an IP header, a header above it, and the longest IPv6 extension header there can be (RFC 8200 section 4.3)."""


@struct
class Stack(Struct):
    """One host's protocols. Addresses are of the structs in `netemu.stack.mib`."""

    promiscuous: i64
    """1: frames addressed to another station are taken like one's own; 0: they are dropped, as Linux does."""
    any_port: i64
    """1: every port has a socket; 0: none has, which moves UdpNoPorts."""
    scratch: i64
    """Address of SCRATCH_SIZE bytes, where a header that lies in several pieces is put together."""
    reasons: i64
    """Address of one counter per `netemu.stack.reasons.StackReason`."""
    ip: i64
    ip_ext: i64
    icmp: i64
    tcp: i64
    tcp_ext: i64
    udp: i64
    ip6: i64
    icmp6: i64
    udp6: i64
    # A host that answers; all 0 where the stack only takes. Hooks get the host's address, and what else is said there.
    host: i64
    """Address of the `netemu.stack.host.Host`, which knows the skb and the interface at hand."""
    arp_input: i64
    """``(host, offset)``: a packet that `netemu.stack.ipv4.arp` found in order."""
    ip_input: i64
    """``(host, offset, size, cast)``: a datagram of ``size`` bytes, header included, whose addresses are to be judged.

    A verdict if it was dealt with; ``-1 - cast`` if it is for this host: its protocol takes it.
    `netemu.stack.ipv4.input`.
    """
    ip_defrag: i64
    """``(host, offset, size)``: a fragment of ``size`` bytes, header included; the address of the skb of the whole
    datagram if it is that now (also `Host.skb`), 0 while it waits for others, a verdict, negative, if it was dropped.
    `netemu.stack.ipv4.fragments`."""
    icmp_send: i64
    """``(host, type, code, info)``: complain of the skb at hand to its sender. `netemu.stack.icmp.output`."""
    icmp6_send: i64
    """The same for IPv6, by `netemu.stack.icmpv6.error`; 0: the host has no IPv6."""
    ip6_input: i64
    """``(host, offset, end)``: a packet from ``offset`` to ``end`` whose header, and options for every hop, are good.

    A verdict, or ``netemu.stack.ipv6.receive.LOCAL``: it is for this host.
    """
    ip6_fragment: i64
    """``(host, offset, at, end, named)``: a fragment whose header is at ``at``, named so by the byte at ``named``.

    Gives the skb of the packet that it completes, whose bytes are linear, and which lives until the next; 0 while it
    waits for others; a verdict, negative, if it was dropped.
    """
    ip6_problem: i64
    """``(host, offset, at, size, code)``: what is wrong with the header of ``size`` bytes at ``at`` (ICMPv6's code)."""
    icmp_input: i64
    """``(host, offset, size)`` of the ICMP message, which is in order and counted; 0 for an error that nobody
    here caused. `netemu.stack.icmp.input`."""
    icmp6_input: i64
    """``(host, offset, size)`` of the ICMPv6 message, which is in order and counted; a verdict."""
    tcp_input: i64
    """``(host, offset, size)`` of a segment with a good checksum; the skb's ``network_header`` says where IP begins."""
    udp_input: i64
    """``(host, offset, size, cast)`` of a datagram with a good checksum, header included."""


stack_at = pointer(Stack)
