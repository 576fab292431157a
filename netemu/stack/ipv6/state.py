"""What a host knows of IPv6: its addresses, its links, its routers; the structs that all modules of IPv6 share.

A host without IPv6 has none of it (`netemu.stack.host.Host.ip6` is 0), compiles none of it and pays for none of it.
Python's side is `netemu.stack.ipv6.layer`.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct
from netemu.stack.host import Host, interface_at

SECOND = 1_000_000_000
"""ns."""
MIN_MTU = 1280
"""Bytes of a packet that every link carries (RFC 8200 section 5)."""
DEFAULT_HOP_LIMIT = 64
"""As Linux's hop_limit; a router advertisement may say otherwise."""

ADDRESSES_MAX = 64
"""Addresses of one host; those that router advertisements would add beyond are not taken."""
ROUTERS_MAX = 16
"""Default routers that a host remembers (Linux has no bound but its memory)."""
PREFIXES_MAX = 32
"""On-link prefixes that it learned."""
GROUPS_MAX = 64
"""Multicast groups that sockets joined."""

# State of an address (RFC 4862 section 2); a slot that holds none is FREE.
FREE = 0
TENTATIVE = 1
PREFERRED = 2
DEPRECATED = 3
DUPLICATE = 4
"""Somebody else has it: it is not used (Linux's dadfailed)."""


@struct
class Ip6Address(Struct):
    """One address of a host's own. Times are moments, ns, NEVER (`netemu.timers`) for one that does not come."""

    host: i64
    interface: i64
    """Address of the `Interface` it belongs to."""
    state: i64
    hi: i64
    lo: i64
    prefix: i64
    """Bits that the link's hosts have in common."""
    preferred_until: i64
    valid_until: i64
    probes: i64
    """Solicitations of duplicate address detection that are still to be sent."""
    nonce: i64
    """48 bits in them, by which one's own come back are known (RFC 7527)."""
    announced: i64
    """1: the group that one listens to for it was reported."""
    learned: i64
    """1: it comes from a router's advertisement; 0: from a user, or it is the link-local one."""
    timer: i64
    """Address of its `Timer`: the next probe, or the end of a lifetime."""


@struct
class Ip6Interface(Struct):
    """What IPv6 has to know of an interface."""

    interface: i64
    """Address of the `Interface`."""
    enabled: i64
    hop_limit: i64
    """Of what is sent by it."""
    mtu: i64
    """Of IPv6 on this link: at most the interface's."""
    detect: i64
    """Probes for a duplicate address (DupAddrDetectTransmits); 0: addresses are good at once."""
    accept: i64
    """1: advertisements of routers are believed."""
    report: i64
    """1: group memberships are reported (MLDv2)."""
    retransmit: i64
    """ns between solicitations (RetransTimer)."""
    solicitations: i64
    """Router solicitations that are still to be sent."""
    # What a router tells here (AdvSendAdvertisements and its relatives, RFC 4861 section 6.2.1).
    advertise: i64
    """1: this router advertises."""
    advertise_initial: i64
    """Advertisements left of the first few, which follow each other sooner."""
    advertise_min: i64
    advertise_max: i64
    """ns between two that nobody asked for."""
    advertise_last: i64
    """When the last one was sent, ns."""
    advertise_lifetime: i64
    """Seconds that it is a default router for; 0: it is none."""
    advertise_mtu: i64
    """0: nothing is said."""
    advertise_valid: i64
    advertise_preferred: i64
    """Seconds of the lifetimes of its prefixes."""
    timer: i64
    """Address of the `Timer` of router solicitations, or of advertisements."""


@struct
class Ip6Router(Struct):
    """A default router, learned from its advertisements."""

    interface: i64
    """0: the slot is free."""
    hi: i64
    lo: i64
    until: i64
    """Moment, ns."""


@struct
class Ip6Prefix(Struct):
    """A prefix that is on a link, learned from a router."""

    interface: i64
    """0: the slot is free."""
    hi: i64
    lo: i64
    bits: i64
    until: i64


@struct
class Ip6Group(Struct):
    """A multicast group that a socket joined."""

    interface: i64
    hi: i64
    lo: i64
    users: i64
    """How often it was joined; 0: the slot is free."""


@struct
class Ip6(Struct):
    """IPv6 of one host."""

    addresses: i64
    """Address of ADDRESSES_MAX `Ip6Address` structs, of which the first ``address_count`` may be in use."""
    address_count: i64
    interfaces: i64
    """Address of one `Ip6Interface` per interface of the host, by index; ``lo`` has index 0."""
    routers: i64
    prefixes: i64
    groups: i64
    """Address of ROUTERS_MAX, PREFIXES_MAX, GROUPS_MAX structs."""
    group_count: i64
    """Slots of groups that may be in use."""
    flow_secret: i64
    """32 bits that nobody else knows, for flow labels."""
    output: i64
    """Hook ``(host, packet)``: `netemu.stack.ipv6.output.ip6_output`."""
    cut: i64
    """Hook ``(host, packet)``: `netemu.stack.ipv6.cut.ip6_cut`."""
    message: i64
    """Address of a `Packet` for neighbour discovery, which is sent while other packets are in the making."""
    scratch: i64
    """Host address of SCRATCH_SIZE bytes."""


SCRATCH_SIZE = 1 << 17
"""Bytes of room to work in, of which a message that came in has the first half (`RECEIVED`)."""
RECEIVED = 64
"""Where in it a received message lies; its IPv6 header is at 0."""
RECEIVED_MAX = (1 << 16) - RECEIVED
OUTGOING = 1 << 16
"""Where bodies of messages are made."""

ip6_at = pointer(Ip6)
ip6_address_at = pointer(Ip6Address)
ip6_interface_at = pointer(Ip6Interface)
ip6_router_at = pointer(Ip6Router)
ip6_prefix_at = pointer(Ip6Prefix)
ip6_group_at = pointer(Ip6Group)
IP6_ADDRESS_SIZE = Ip6Address.dtype.itemsize
IP6_INTERFACE_SIZE = Ip6Interface.dtype.itemsize
IP6_ROUTER_SIZE = Ip6Router.dtype.itemsize
IP6_PREFIX_SIZE = Ip6Prefix.dtype.itemsize
IP6_GROUP_SIZE = Ip6Group.dtype.itemsize


@kernel
def interface_ip6(host: Host, interface: i64) -> Ip6Interface:
    """What IPv6 knows of the `Interface` at an address."""
    index = interface_at(interface).index
    return ip6_interface_at(ip6_at(host.ip6).interfaces + index * IP6_INTERFACE_SIZE)
