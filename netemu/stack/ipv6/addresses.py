"""Addresses of IPv6 (RFC 4291): their scope, which are a host's own, and which of them a packet comes from (RFC 6724).

An address is two numbers, ``hi`` and ``lo`` (`netemu.stack.host`). A host takes packets for an address on whichever
interface they come in, as Linux does; a link-local one belongs to its own link alone.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.host import Host
from netemu.stack.ipv6.state import (
    ADDRESSES_MAX,
    DEPRECATED,
    FREE,
    GROUPS_MAX,
    IP6_ADDRESS_SIZE,
    IP6_GROUP_SIZE,
    PREFERRED,
    TENTATIVE,
    ip6_address_at,
    ip6_at,
    ip6_group_at,
)

LINK_LOCAL_HI = -0x0180_0000_0000_0000
"""fe80::, upper half, as a signed number."""
ALL_NODES_HI = -0x00FE_0000_0000_0000
"""ff02::, upper half: groups of the link."""
ALL_NODES_LO = 1
ALL_ROUTERS_LO = 2
MLD_ROUTERS_LO = 0x16
"""ff02::16: whoever listens to reports of MLDv2 (RFC 3810 section 5.2.14)."""
SOLICITED_LO = 0x1_FF00_0000
"""ff02::1:ff00:0, lower half, to which the last 24 bits of an address are added (RFC 4291 section 2.7.1)."""
LOOPBACK_LO = 1

# Scopes (RFC 4291 section 2.7).
SCOPE_INTERFACE = 1
SCOPE_LINK = 2
SCOPE_SITE = 5
SCOPE_GLOBAL = 14

_LOW_24 = 0xFFFFFF
_HALF = 64
_ALL = (1 << 64) - 1
_SITE_LOCAL = 0x3FB
"""fec0::/10, the first ten bits."""
_LINK_LOCAL = 0x3FA


@kernel
def top_bits(value: i64, count: i64) -> i64:
    """The first ``count`` bits (up to 63) of half an address, as a number of their own."""
    return (value >> (_HALF - count)) & ((1 << count) - 1)


@kernel
def is_multicast6(hi: i64) -> i64:
    """1 for ff00::/8."""
    return 1 if top_bits(hi, 8) == 0xFF else 0


@kernel
def is_link_local6(hi: i64) -> i64:
    """1 for fe80::/10."""
    return 1 if top_bits(hi, 10) == _LINK_LOCAL else 0


@kernel
def scope6(hi: i64, lo: i64) -> i64:
    """How far an address reaches (RFC 6724 section 3.1): the scope of a group, or what of it a unicast address has."""
    if is_multicast6(hi) != 0:
        return (hi >> 48) & 15
    if is_link_local6(hi) != 0 or (hi == 0 and lo == LOOPBACK_LO):
        return SCOPE_LINK
    return SCOPE_SITE if top_bits(hi, 10) == _SITE_LOCAL else SCOPE_GLOBAL


@kernel
def _equal_bits(first: i64, second: i64) -> i64:
    """Leading bits that two halves have in common."""
    differ = first ^ second
    if differ == 0:
        return _HALF
    count = 0
    while differ > 0:
        count += 1
        differ >>= 1
    # A negative one has its first bit set: it counts no step, and there is nothing in common.
    return _HALF - count if count > 0 else 0


@kernel
def common_prefix6(hi: i64, lo: i64, other_hi: i64, other_lo: i64) -> i64:
    """Leading bits that two addresses have in common."""
    bits = _equal_bits(hi, other_hi)
    return bits + _equal_bits(lo, other_lo) if bits == _HALF else bits


@kernel
def own_address6(host: Host, interface: i64, hi: i64, lo: i64) -> i64:
    """Address of the host's `Ip6Address` of this value, tentative or not, or 0.

    A link-local one has to be that of ``interface``, unless that is ``lo``; another may be any interface's.
    """
    ip6 = ip6_at(host.ip6)
    at = ip6.addresses
    link = is_link_local6(hi) if interface != host.loopback else 0
    for _ in range(ip6.address_count):
        own = ip6_address_at(at)
        if own.state != FREE and own.lo == lo and own.hi == hi and (link == 0 or own.interface == interface):
            return at
        at += IP6_ADDRESS_SIZE
    return 0


@kernel
def is_assigned6(address: i64) -> i64:
    """1 if packets may come to and from the `Ip6Address` at an address: it is neither tentative nor a duplicate."""
    return 1 if address != 0 and ip6_address_at(address).state in (PREFERRED, DEPRECATED) else 0


@kernel
def solicits6(host: Host, interface: i64, lo: i64) -> i64:
    """1 if ``lo`` is the lower half of a solicited-node group of an address of the interface, also a tentative one."""
    ip6 = ip6_at(host.ip6)
    at = ip6.addresses
    for _ in range(ip6.address_count):
        own = ip6_address_at(at)
        if own.state != FREE and own.interface == interface and SOLICITED_LO | own.lo & _LOW_24 == lo:
            return 1
        at += IP6_ADDRESS_SIZE
    return 0


@kernel
def is_member6(host: Host, interface: i64, hi: i64, lo: i64) -> i64:
    """1 if a multicast packet that came in on the interface is for this host (RFC 4291 section 2.8)."""
    if hi == ALL_NODES_HI:
        if lo == ALL_NODES_LO or (lo == ALL_ROUTERS_LO and host.forwarding != 0):
            return 1
        if lo & ~_LOW_24 == SOLICITED_LO and solicits6(host, interface, lo) != 0:
            return 1
    ip6 = ip6_at(host.ip6)
    at = ip6.groups
    for _ in range(ip6.group_count):
        group = ip6_group_at(at)
        if group.users > 0 and group.lo == lo and group.hi == hi and group.interface == interface:
            return 1
        at += IP6_GROUP_SIZE
    return 0


@kernel
def join_group6(host: Host, interface: i64, hi: i64, lo: i64) -> i64:
    """Have the host listen to a group on an interface; 1 if it did not before, 0 if it did, -1 if there is no room."""
    ip6 = ip6_at(host.ip6)
    free = 0
    for n in range(GROUPS_MAX):
        at = ip6.groups + n * IP6_GROUP_SIZE
        group = ip6_group_at(at)
        if group.users == 0:
            free = at if free == 0 else free
        elif group.lo == lo and group.hi == hi and group.interface == interface:
            group.users += 1
            return 0
    if free == 0:
        return -1
    group = ip6_group_at(free)
    group.interface = interface
    group.hi = hi
    group.lo = lo
    group.users = 1
    ip6.group_count = max(ip6.group_count, (free - ip6.groups) // IP6_GROUP_SIZE + 1)
    return 1


@kernel
def leave_group6(host: Host, interface: i64, hi: i64, lo: i64) -> i64:
    """Undo one `join_group6`; 1 if nobody listens any more."""
    ip6 = ip6_at(host.ip6)
    at = ip6.groups
    for _ in range(ip6.group_count):
        group = ip6_group_at(at)
        if group.users > 0 and group.lo == lo and group.hi == hi and group.interface == interface:
            group.users -= 1
            return 1 if group.users == 0 else 0
        at += IP6_GROUP_SIZE
    return 0


@kernel
def label6(hi: i64, lo: i64) -> i64:
    """Label of an address in the default policy table (RFC 6724 section 2.1)."""
    label = 1
    if hi == 0:
        if lo == LOOPBACK_LO:
            label = 0
        elif (lo >> 32) & 0xFFFFFFFF == 0xFFFF:
            label = 4
        elif (lo >> 32) & 0xFFFFFFFF == 0:
            label = 3
    elif top_bits(hi, 16) == 0x2002:
        label = 2
    elif top_bits(hi, 32) == 0x2001_0000:
        label = 5
    elif top_bits(hi, 7) == 0x7E:
        label = 13
    elif top_bits(hi, 10) == _SITE_LOCAL:
        label = 11
    elif top_bits(hi, 16) == 0x3FFE:
        label = 12
    return label


@kernel
def _scope_order(scope: i64, target: i64) -> i64:
    """How well a source of a scope suits a target of another (rule 2): the smallest that reaches, else the largest."""
    return 64 - scope if scope >= target else scope


@kernel
def _worth(own: i64, interface: i64, hi: i64, lo: i64) -> i64:
    """How good a source the `Ip6Address` at ``own`` is for a target: a number, more is better.

    Each rule has a field of its own, those that come first the higher ones; a rule decides where those above it tie.
    """
    address = ip6_address_at(own)
    same = 1 if address.lo == lo and address.hi == hi else 0  # rule 1
    scope = _scope_order(scope6(address.hi, address.lo), scope6(hi, lo))  # rule 2
    preferred = 1 if address.state == PREFERRED else 0  # rule 3
    outgoing = 1 if address.interface == interface else 0  # rule 5
    label = 1 if label6(address.hi, address.lo) == label6(hi, lo) else 0  # rule 6
    matching = min(common_prefix6(address.hi, address.lo, hi, lo), address.prefix)  # rule 8
    return ((((same << 8 | scope) << 1 | preferred) << 1 | outgoing) << 1 | label) << 8 | matching


@kernel
def select_source6(host: Host, interface: i64, hi: i64, lo: i64) -> i64:
    """The `Ip6Address` (its address) from which a packet to ``hi``, ``lo`` goes out by an interface, or 0.

    Candidates are all addresses of the host; to a link-local target, or a group, only those of the interface. Rules 4
    and 7 (home and temporary addresses) have nothing to decide here.
    """
    ip6 = ip6_at(host.ip6)
    near = is_link_local6(hi) | is_multicast6(hi)
    best = 0
    best_worth = -1
    for n in range(ip6.address_count):
        at = ip6.addresses + n * IP6_ADDRESS_SIZE
        own = ip6_address_at(at)
        if is_assigned6(at) == 0:
            continue
        if own.interface != interface and (near != 0 or is_link_local6(own.hi) != 0):
            continue
        worth = _worth(at, interface, hi, lo)
        if worth > best_worth:
            best = at
            best_worth = worth
    return best


@kernel
def link_local6(host: Host, interface: i64) -> i64:
    """The link-local `Ip6Address` (its address) of an interface that may be used, or 0."""
    ip6 = ip6_at(host.ip6)
    at = ip6.addresses
    for _ in range(ip6.address_count):
        own = ip6_address_at(at)
        if own.interface == interface and is_link_local6(own.hi) != 0 and is_assigned6(at) != 0:
            return at
        at += IP6_ADDRESS_SIZE
    return 0


@kernel
def free_address6(host: Host) -> i64:
    """A slot for one more address, or 0 if all are taken."""
    ip6 = ip6_at(host.ip6)
    at = ip6.addresses
    for _ in range(ip6.address_count):
        if ip6_address_at(at).state == FREE:
            return at
        at += IP6_ADDRESS_SIZE
    if ip6.address_count == ADDRESSES_MAX:
        return 0
    ip6.address_count += 1
    return at


@kernel
def is_tentative6(address: i64) -> i64:
    """1 if duplicate address detection goes on for the `Ip6Address` at an address."""
    return 1 if address != 0 and ip6_address_at(address).state == TENTATIVE else 0
