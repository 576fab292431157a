"""Neighbour discovery (RFC 4861 section 7): solicitations and advertisements of neighbours, after Linux's ndisc.c.

The states of neighbours are the shared cache's (`netemu.stack.neighbours`); this is how IPv6 asks, answers and listens.
What concerns an address of one's own that is still tentative goes to `netemu.stack.ipv6.detection`.

Messages have been found to come from the link itself (hop limit 255) before they are here. One that is malformed is
dropped, and counted as a verdict alone, as in Linux.
"""

from __future__ import annotations

from netemu.jit import entry, i64, kernel, load8, load32be
from netemu.stack.held import held_at
from netemu.stack.host import Host, host_at, interface_at, load64be
from netemu.stack.icmpv6.ndp_options import (
    NO_ADDRESS,
    SOURCE_ADDRESS,
    TARGET_ADDRESS,
    UNIT,
    link_address,
    options_good,
    put_link_address,
)
from netemu.stack.icmpv6.ndp_send import TARGET_SIZE, ask_all, send_near, start_solicitation
from netemu.stack.icmpv6.output import NEIGHBOUR_ADVERTISEMENT, start_message
from netemu.stack.ipv6.addresses import (
    ALL_NODES_HI,
    ALL_NODES_LO,
    SOLICITED_LO,
    is_assigned6,
    is_multicast6,
    is_tentative6,
    own_address6,
    select_source6,
)
from netemu.stack.ipv6.detection import address_clash, is_own_probe
from netemu.stack.ipv6.header import store64be
from netemu.stack.ipv6.state import IP6_ROUTER_SIZE, ROUTERS_MAX, ip6_address_at, ip6_at, ip6_router_at
from netemu.stack.neighbours import (
    ISROUTER,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    NUD_VALID,
    OVERRIDE,
    OVERRIDE_ISROUTER,
    WEAK_OVERRIDE,
    neighbour_at,
    neighbour_create,
    neighbour_lookup,
    neighbour_update,
    neighbours_at,
)
from netemu.stack.reasons import DELIVERED, ICMP_INVALID

ROUTER_FLAG = 1 << 31
SOLICITED_FLAG = 1 << 30
OVERRIDE_FLAG = 1 << 29
"""Of an advertisement."""

_SOURCE = 8
_TARGET = 24
"""Offsets of the addresses in an IPv6 header."""
_LOW_24 = 0xFFFFFF


@kernel
def heard_of(host: i64, interface: i64, hi: i64, lo: i64, mac: i64) -> i64:
    """A neighbour told its station address unasked: enter it, as not verified; address of the `Neighbour`, or 0."""
    h = host_at(host)
    address = neighbour_lookup(neighbours_at(h.neighbours), interface, hi, lo)
    if address == 0:
        address = neighbour_create(host, interface, hi, lo)
    if address != 0:
        neighbour_update(host, address, mac, NUD_STALE, WEAK_OVERRIDE | OVERRIDE)
    return address


@kernel
def send_advertisement(host: i64, h: Host, interface: i64, own: i64, to_hi: i64, to_lo: i64, flags: i64) -> i64:
    """Advertise the `Ip6Address` at ``own``, with ``flags``, to somebody or a group; SENT or SEND_...."""
    address = ip6_address_at(own)
    packet = ip6_at(h.ip6).message
    if h.forwarding != 0:
        flags |= ROUTER_FLAG
    at = start_message(packet, NEIGHBOUR_ADVERTISEMENT, 0, flags, TARGET_SIZE + UNIT)
    store64be(at, address.hi)
    store64be(at + 8, address.lo)
    put_link_address(at + 16, TARGET_ADDRESS, interface_at(interface).mac)
    return send_near(host, h, packet, interface, address.hi, address.lo, to_hi, to_lo)


@kernel
def take_solicitation(host: i64, h: Host, hdr: i64, at: i64, size: i64) -> i64:
    """A neighbour solicitation of ``size`` bytes at ``at``, whose IPv6 header is at ``hdr`` (section 7.2.3)."""
    options, options_size = at + TARGET_SIZE, size - TARGET_SIZE
    if options_size < 0 or load8(at + 1) != 0 or options_good(options, options_size) == 0:
        return ICMP_INVALID
    hi, lo = load64be(at + 8), load64be(at + 16)
    source_hi, source_lo = load64be(hdr + _SOURCE), load64be(hdr + _SOURCE + 8)
    target_hi, target_lo = load64be(hdr + _TARGET), load64be(hdr + _TARGET + 8)
    mac = link_address(options, options_size, SOURCE_ADDRESS)
    nameless = source_hi == 0 and source_lo == 0
    to_solicited = target_hi == ALL_NODES_HI and target_lo & ~_LOW_24 == SOLICITED_LO
    if is_multicast6(hi) != 0 or (nameless and (not to_solicited or mac != NO_ADDRESS)):
        return ICMP_INVALID
    own = own_address6(h, h.input, hi, lo)
    if own == 0 or ip6_address_at(own).interface != h.input:
        return DELIVERED  # for somebody else
    if is_assigned6(own) == 0:
        if nameless and is_tentative6(own) != 0 and is_own_probe(own, options, options_size) == 0:
            address_clash(h, own)
        return DELIVERED
    if nameless:
        send_advertisement(host, h, h.input, own, ALL_NODES_HI, ALL_NODES_LO, OVERRIDE_FLAG)
        return DELIVERED
    if mac != NO_ADDRESS:
        heard_of(host, h.input, source_hi, source_lo, mac)
    send_advertisement(host, h, h.input, own, source_hi, source_lo, SOLICITED_FLAG | OVERRIDE_FLAG)
    return DELIVERED


@kernel
def _no_router(h: Host, interface: i64, hi: i64, lo: i64) -> None:
    """A neighbour is no router any more: what went by way of it needs another one (section 7.2.5)."""
    at = ip6_at(h.ip6).routers
    for _ in range(ROUTERS_MAX):
        router = ip6_router_at(at)
        if router.interface == interface and router.lo == lo and router.hi == hi:
            router.interface = 0
        at += IP6_ROUTER_SIZE


@kernel
def take_advertisement(host: i64, h: Host, hdr: i64, at: i64, size: i64) -> i64:
    """A neighbour advertisement of ``size`` bytes at ``at``, whose IPv6 header is at ``hdr`` (section 7.2.5)."""
    options, options_size = at + TARGET_SIZE, size - TARGET_SIZE
    if options_size < 0 or load8(at + 1) != 0 or options_good(options, options_size) == 0:
        return ICMP_INVALID
    hi, lo = load64be(at + 8), load64be(at + 16)
    flags = load32be(at + 4)
    solicited = flags & SOLICITED_FLAG
    if is_multicast6(hi) != 0 or (solicited != 0 and load8(hdr + _TARGET) == 0xFF):
        return ICMP_INVALID
    table = neighbours_at(h.neighbours)
    own = own_address6(h, h.input, hi, lo)
    if own != 0 and ip6_address_at(own).interface == h.input:
        # Somebody has an address of ours. An address in use stays in use: there is no way to tell who was first.
        if is_tentative6(own) != 0:
            address_clash(h, own)
        elif is_assigned6(own) != 0:
            table.conflicts += 1
        return DELIVERED
    address = neighbour_lookup(table, h.input, hi, lo)
    if address == 0:
        return DELIVERED  # nobody asked
    neighbour = neighbour_at(address)
    mac = link_address(options, options_size, TARGET_ADDRESS)
    if neighbour.state & NUD_VALID == 0 and mac == NO_ADDRESS:
        return DELIVERED
    was_router = neighbour.is_router
    news = WEAK_OVERRIDE | OVERRIDE_ISROUTER
    if flags & OVERRIDE_FLAG:
        news |= OVERRIDE
    if flags & ROUTER_FLAG:
        news |= ISROUTER
    neighbour_update(host, address, mac, NUD_REACHABLE if solicited != 0 else NUD_STALE, news)
    if was_router != 0 and neighbour.is_router == 0:
        _no_router(h, h.input, hi, lo)
    return DELIVERED


@kernel
def _asks_as(h: Host, interface: i64, queue: i64, hi: i64, lo: i64) -> i64:
    """The `Ip6Address` (its address) that a solicitation comes from (section 7.2.2); 0: the host has none yet.

    That of the packet which waits, if it is of this interface, else the one that suits the target.
    """
    if queue != 0:
        hdr = held_at(queue).bytes
        own = own_address6(h, interface, load64be(hdr + _SOURCE), load64be(hdr + _SOURCE + 8))
        if is_assigned6(own) != 0 and ip6_address_at(own).interface == interface:
            return own
    return select_source6(h, interface, hi, lo)


@entry
def solicit6(host: i64, address: i64) -> i64:
    """The hook `netemu.stack.neighbours.Neighbours.solicit6`: ask a neighbour for its station address."""
    h = host_at(host)
    neighbour = neighbour_at(address)
    interface = neighbour.interface
    source = _asks_as(h, interface, neighbour.queue, neighbour.hi, neighbour.lo)
    if source == 0:
        return 0
    own = ip6_address_at(source)
    packet = ip6_at(h.ip6).message
    at = start_solicitation(packet, neighbour.hi, neighbour.lo, UNIT)
    put_link_address(at, SOURCE_ADDRESS, interface_at(interface).mac)
    if neighbour.state == NUD_PROBE:
        return send_near(host, h, packet, interface, own.hi, own.lo, neighbour.hi, neighbour.lo)
    return ask_all(host, h, packet, interface, own.hi, own.lo, neighbour.lo)
