"""A host that talks: the state of its protocols beyond what they check and count, and the interfaces below them.

Theory of operation
-------------------
A `Stack` alone takes frames, checks and counts them; that is all a replay needs. A `Host` adds what it takes to answer:
interfaces with addresses, routes, neighbours, sockets, a queue of timers. The stack's checks come first either way; at
the end of each stands a hook of the host's (``arp_input``, ``ip_input``, ``tcp_input`` ...), which is 0 in a replay, so
what is not used is not compiled.

Everything is a state machine: a frame comes in with `netemu.stack.deliver.host_deliver`, a timer with a call of its
hook, a user's wish with a call of an entry point; what goes out is a `netemu.stack.packet.Packet` for the interface's
``xmit`` hook, and events in ``timers``. Time is ``now`` of these timers.

Python learns of what happened to a socket through the `Ready` list: kernels put the socket's *handle* (a number that
its owner chose) on it, once, when something comes that the owner waits for.

IP addresses of both versions are two numbers, ``hi`` and ``lo``: the 128 bits of an IPv6 address, each half read
big-endian, as signed 64-bit values; an IPv4 address is the IPv4-mapped one (RFC 4291 section 2.5.5.2), ``hi`` 0.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load32be, pointer, store64, struct

MAPPED_IPV4 = 0xFFFF << 32
"""``lo`` of an IPv4 address, or'ed with its 32 bits."""

# What an interface does for a packet, besides sending it (`Interface.offloads`).
OFFLOAD_CSUM = 1
"""Finishes the checksum of TCP and UDP."""
OFFLOAD_TSO4 = 2
OFFLOAD_TSO6 = 4
"""Cut TCP segments of up to `Interface.gso_max` bytes into ones that fit."""
OFFLOAD_USO = 8
"""Cuts UDP (virtio's GSO_UDP_L4)."""

# What a host hears of a packet that it sent (`transport_error`), from ICMP and ICMPv6 alike.
ERROR_NET_UNREACHABLE = 1
ERROR_HOST_UNREACHABLE = 2
ERROR_PROTOCOL_UNREACHABLE = 3
ERROR_PORT_UNREACHABLE = 4
ERROR_TOO_BIG = 5
"""It exceeded the path's MTU, which comes along."""
ERROR_PROHIBITED = 6
ERROR_TIME_EXCEEDED = 7
ERROR_PARAMETER = 8

# What sending a packet comes to.
SENT = 0
SEND_DROPPED = -1
"""The interface had no room for it."""
SEND_UNREACHABLE = -2
"""There is no route."""
SEND_TOO_BIG = -3
"""It is longer than the path's MTU and must not be cut."""
SEND_NO_MEMORY = -4


@struct
class Ready(Struct):
    """Sockets that something happened to, for Python to look at; one list serves all hosts of a lab."""

    handles: i64
    """Host address of ``capacity`` 64-bit handles, of which ``count`` are on the list."""
    capacity: i64
    count: i64
    short: i64
    """1: a table of some host runs short, and Python makes it larger before the next event."""


@struct
class Interface(Struct):
    """A network interface, as the protocols see it."""

    host: i64
    """Address of the `Host`."""
    index: i64
    """From 1, as ifindex."""
    mac: i64
    """Station address as a number, first byte highest."""
    mtu: i64
    """Bytes of an IP packet."""
    offloads: i64
    """Mask of OFFLOAD_..."""
    gso_max: i64
    """Bytes of the longest IP packet that it cuts."""
    up: i64
    xmit: i64
    """Hook ``(device, packet)``: takes a packet that is complete from the Ethernet header on; 1, or 0: no room."""
    device: i64
    """Its first argument."""
    ipv4: i64
    """Own IPv4 address (32 bits); 0 if there is none."""
    ipv4_prefix: i64
    ipv6_link_local_hi: i64
    ipv6_link_local_lo: i64
    """Both 0 while there is none; see `netemu.stack.ipv6.addresses` for the state of each address."""
    ipv6_hi: i64
    ipv6_lo: i64
    """One more address of one's own, or 0 and 0."""
    ipv6_prefix: i64


@struct
class Host(Struct):
    """One host's state. Hooks are those of the receiving side; each is called with the host's address first."""

    stack: i64
    """Address of the `Stack` that checks and counts."""
    timers: i64
    """Address of the `netemu.timers.Timers`, which has the time."""
    ready: i64
    """Address of the `Ready` list."""
    interfaces: i64
    """Address of ``interface_count`` `Interface` structs."""
    interface_count: i64
    forwarding: i64
    """1: packets for others are sent on: the host is a router."""
    random: i64
    """State of its generator (`netemu.chance`)."""
    input: i64
    """Address of the interface that the frame at hand came in on."""
    skb: i64
    """Address of that frame's skb."""
    packet: i64
    """Address of a `Packet` for what is sent at once: nobody else uses it before the hook that began it is done."""
    route: i64
    """Hook ``(host, packet)``: finds source, interface, next hop and path MTU of a packet; SENT or SEND_UNREACHABLE."""
    send: i64
    """Hook ``(host, packet)``: routes a packet, puts headers on it and sends it, now or when its neighbour is found.

    Gives SENT or SEND_...; `netemu.stack.ipv4.output`. The packet is the caller's again afterwards.
    """
    send6: i64
    route6: i64
    """The same for packets to IPv6 addresses, to which those above hand on; 0: the host has no IPv6."""
    deliver: i64
    """Hook `netemu.stack.deliver.host_deliver`, for packets to the host's own addresses."""
    loopback: i64
    """Address of the `Interface` ``lo``."""
    transport_error: i64
    """Hook ``(host, protocol, offset, error, info)``: an ICMP error of either version tells of a packet of this host.

    ``offset`` is that of the quoted transport header (8 bytes or more) in the skb at hand, the quoted packet's
    addresses are in the four fields below, ``info`` is the path's MTU for ERROR_TOO_BIG. 1 if somebody here had sent
    it, else 0.
    `netemu.stack.transport_error`.
    """
    error_source_hi: i64
    error_source_lo: i64
    error_target_hi: i64
    error_target_lo: i64
    tcp_error: i64
    udp_error: i64
    ping_error: i64
    """Hooks ``(host, offset, error, info)``, the same by protocol; ping's is that of ICMP and ICMPv6. 0: nobody."""
    ping_input: i64
    """Hook ``(host, offset, size)``: an echo reply, ICMP or ICMPv6, of ``size`` bytes with its header of 8."""
    raw_input: i64
    """Hook ``(host, skb)``: a frame came in, in front of all protocols; 0 while no raw socket is open."""
    routes: i64
    neighbours: i64
    fragments: i64
    ip: i64
    """Address of the `netemu.stack.ipv4.state.IpState`: what IPv4 works with."""
    ip6: i64
    """Address of the `netemu.stack.ipv6.state.Ip6`; 0: the host has no IPv6."""
    tcp: i64
    udp: i64
    ping: i64
    raw: i64
    """Addresses of the tables of the protocols, each a struct of its own module."""
    ip_identification: i64
    """Of the next IPv4 packet: each has one of its own, DF or not (RFC 6864 leaves it free for those with DF)."""


host_at = pointer(Host)
interface_at = pointer(Interface)
ready_at = pointer(Ready)
INTERFACE_SIZE = Interface.dtype.itemsize


@kernel
def mapped(ipv4: i64) -> i64:
    """``lo`` of an IPv4 address (32 bits)."""
    return MAPPED_IPV4 | ipv4


@kernel
def is_ipv4(hi: i64, lo: i64) -> i64:
    """1 if an address is an IPv4 one."""
    return 1 if hi == 0 and lo >> 32 == 0xFFFF else 0


@kernel
def load64be(address: i64) -> i64:
    """The big-endian 64-bit number at ``address``, as a signed value: half of an IPv6 address."""
    high = load32be(address)
    if high >= 1 << 31:
        high -= 1 << 32
    return (high << 32) | load32be(address + 4)


@kernel
def is_ready(address: i64, handle: i64) -> None:
    """Put a socket on the `Ready` list; the caller sees to it that it is there once. A full list is the owner's bug."""
    ready = ready_at(address)
    if ready.count < ready.capacity:
        store64(ready.handles + ready.count * 8, handle)
        ready.count += 1
