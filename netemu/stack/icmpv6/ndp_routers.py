"""Routers and hosts that find each other (RFC 4861 section 6): solicitations and advertisements of routers, both ends.

Theory of operation
-------------------
A host that got its link-local address asks for routers, three times four seconds apart unless one answers. From an
advertisement it takes the router as a default one for its lifetime, the prefixes that are on the link, addresses of its
own for those it may use (RFC 4862 section 5.5.3), the link's MTU and the hop limit.

A router that is told to (`Ip6Interface.advertise`) advertises the prefixes of its own addresses: three times soon after
its start, later at random moments within its bounds, and within half a second of a solicitation, but never sooner than
three seconds after the one before.
"""

from __future__ import annotations

from netemu.jit import entry, i64, kernel, load8, load16be, load32be, memset
from netemu.stack.host import Host, host_at, interface_at, load64be
from netemu.stack.icmpv6.ndp import heard_of
from netemu.stack.icmpv6.ndp_options import (
    AUTONOMOUS,
    MTU,
    NO_ADDRESS,
    ON_LINK,
    PREFIX,
    SOURCE_ADDRESS,
    UNIT,
    find_option,
    link_address,
    options_good,
    put_link_address,
    put_mtu,
    put_prefix,
)
from netemu.stack.icmpv6.ndp_send import send_near
from netemu.stack.icmpv6.output import HEADER, ROUTER_ADVERTISEMENT, ROUTER_SOLICIT, start_message
from netemu.stack.ipv6.addresses import (
    ALL_NODES_HI,
    ALL_NODES_LO,
    ALL_ROUTERS_LO,
    free_address6,
    is_link_local6,
    link_local6,
)
from netemu.stack.ipv6.detection import random_delay, refresh_state, start_detection
from netemu.stack.ipv6.state import (
    DEFAULT_HOP_LIMIT,
    DEPRECATED,
    FREE,
    IP6_ADDRESS_SIZE,
    IP6_PREFIX_SIZE,
    IP6_ROUTER_SIZE,
    MIN_MTU,
    OUTGOING,
    PREFERRED,
    PREFIXES_MAX,
    ROUTERS_MAX,
    SECOND,
    Ip6Address,
    Ip6Interface,
    interface_ip6,
    ip6_address_at,
    ip6_at,
    ip6_interface_at,
    ip6_prefix_at,
    ip6_router_at,
)
from netemu.stack.neighbours import neighbour_at, neighbour_lookup, neighbours_at
from netemu.stack.packet import packet_at
from netemu.stack.reasons import DELIVERED, ICMP_INVALID
from netemu.timers import NEVER, STOPPED, timer_at, timer_start, timers_at

SOLICIT_INTERVAL = 4 * SECOND
"""RTR_SOLICITATION_INTERVAL."""
BETWEEN_ADVERTISEMENTS = 3 * SECOND
"""MIN_DELAY_BETWEEN_RAS."""
ANSWER_DELAY = SECOND // 2
"""MAX_RA_DELAY_TIME."""
INITIAL_INTERVAL = 16 * SECOND
"""The longest time between the first advertisements (MAX_INITIAL_RTR_ADVERT_INTERVAL)."""
INFINITE = 0xFFFFFFFF
"""A lifetime that does not end, seconds."""
TWO_HOURS = 7200
"""A lifetime that anybody may shorten an address's to (RFC 4862 section 5.5.3 (e)), seconds."""

_TIMES = 8
"""Bytes of an advertisement between its first ones and its options."""
_ADVERTISEMENT = HEADER + _TIMES
_INTERFACE_ID = 64
_PREFIXES_SENT = 16
_SOURCE = 8


@kernel
def _ends(now: i64, seconds: i64) -> i64:
    """The moment at which a lifetime ends."""
    return NEVER if seconds == INFINITE else now + seconds * SECOND


@kernel
def interface_id(mac: i64) -> i64:
    """The modified EUI-64 of a station address (RFC 4291 appendix A): lower half of an address, as a signed number."""
    high = (mac >> 24 ^ 0x020000) << 8 | 0xFF
    if high >= 1 << 31:
        high -= 1 << 32
    return high << 32 | 0xFE000000 | mac & 0xFFFFFF


@kernel
def send_router_solicitation(host: i64, h: Host, interface: i64) -> i64:
    """Ask for routers; SENT or SEND_...."""
    packet = ip6_at(h.ip6).message
    source = link_local6(h, interface)
    at = start_message(packet, ROUTER_SOLICIT, 0, 0, HEADER + (UNIT if source != 0 else 0))
    source_hi, source_lo = 0, 0
    if source != 0:
        put_link_address(at, SOURCE_ADDRESS, interface_at(interface).mac)
        source_hi, source_lo = ip6_address_at(source).hi, ip6_address_at(source).lo
    return send_near(host, h, packet, interface, source_hi, source_lo, ALL_NODES_HI, ALL_ROUTERS_LO)


@kernel
def send_router_advertisement(host: i64, h: Host, own: Ip6Interface) -> i64:
    """Advertise a router, and the prefixes of its addresses, to all nodes of a link; SENT, SEND_..., 1: not yet."""
    interface = own.interface
    source = link_local6(h, interface)
    if source == 0:
        return 1
    ip6 = ip6_at(h.ip6)
    hop_limit = own.hop_limit if own.hop_limit != 0 else DEFAULT_HOP_LIMIT
    start_message(ip6.message, ROUTER_ADVERTISEMENT, 0, hop_limit << 24 | own.advertise_lifetime, HEADER)
    # Reachable time and retransmission timer are left to the hosts.
    body = ip6.scratch + OUTGOING
    size = _TIMES
    memset(body, 0, size)
    size += put_link_address(body + size, SOURCE_ADDRESS, interface_at(interface).mac)
    if own.advertise_mtu != 0:
        size += put_mtu(body + size, own.advertise_mtu)
    flags = ON_LINK | AUTONOMOUS
    count = 0
    at = ip6.addresses
    for _ in range(ip6.address_count):
        address = ip6_address_at(at)
        at += IP6_ADDRESS_SIZE
        used = address.state in (PREFERRED, DEPRECATED) and address.interface == interface
        if used and is_link_local6(address.hi) == 0 and 0 < address.prefix <= _INTERFACE_ID and count < _PREFIXES_SENT:
            hi = address.hi & (-1 << (_INTERFACE_ID - address.prefix))
            size += put_prefix(body + size, address.prefix, flags, own.advertise_valid, own.advertise_preferred, hi, 0)
            count += 1
    p = packet_at(ip6.message)
    p.payload, p.payload_len = body, size
    address = ip6_address_at(source)
    own.advertise_last = timers_at(h.timers).now
    return send_near(host, h, ip6.message, interface, address.hi, address.lo, ALL_NODES_HI, ALL_NODES_LO)


@kernel
def _take_router(h: Host, interface: i64, hi: i64, lo: i64, lifetime: i64) -> None:
    """Enter, or forget (lifetime 0), a default router (section 6.3.4)."""
    ip6 = ip6_at(h.ip6)
    until = timers_at(h.timers).now + lifetime * SECOND
    chosen = 0
    for n in range(ROUTERS_MAX):
        at = ip6.routers + n * IP6_ROUTER_SIZE
        router = ip6_router_at(at)
        if router.interface == interface and router.lo == lo and router.hi == hi:
            chosen = at
            break
        if chosen == 0 and (router.interface == 0 or router.until <= timers_at(h.timers).now):
            chosen = at
    if chosen == 0:
        return
    router = ip6_router_at(chosen)
    if lifetime > 0:
        router.interface, router.hi, router.lo, router.until = interface, hi, lo, until
    elif router.interface == interface and router.lo == lo and router.hi == hi:
        router.interface = 0


@kernel
def _take_prefix(h: Host, interface: i64, hi: i64, lo: i64, bits: i64, valid: i64) -> None:
    """Enter, or forget (lifetime 0), a prefix that is on the link (section 6.3.4)."""
    ip6 = ip6_at(h.ip6)
    now = timers_at(h.timers).now
    chosen = 0
    for n in range(PREFIXES_MAX):
        at = ip6.prefixes + n * IP6_PREFIX_SIZE
        prefix = ip6_prefix_at(at)
        if prefix.interface == interface and prefix.bits == bits and prefix.lo == lo and prefix.hi == hi:
            chosen = at
            break
        if chosen == 0 and (prefix.interface == 0 or prefix.until <= now):
            chosen = at
    if chosen == 0:
        return
    prefix = ip6_prefix_at(chosen)
    if valid > 0:
        prefix.interface, prefix.hi, prefix.lo, prefix.bits = interface, hi, lo, bits
        prefix.until = _ends(now, valid)
    elif prefix.interface == interface and prefix.bits == bits and prefix.lo == lo and prefix.hi == hi:
        prefix.interface = 0


@kernel
def _find_formed(h: Host, interface: i64, hi: i64) -> i64:
    """The `Ip6Address` (its address) that was formed of a prefix, or 0."""
    ip6 = ip6_at(h.ip6)
    at = ip6.addresses
    for _ in range(ip6.address_count):
        own = ip6_address_at(at)
        if own.state != FREE and own.learned != 0 and own.interface == interface and own.hi == hi:
            return at
        at += IP6_ADDRESS_SIZE
    return 0


@kernel
def _renew(h: Host, address: Ip6Address, valid: i64, preferred: i64) -> None:
    """Set the lifetimes of an address anew; its valid one is not shortened below two hours (RFC 4862, 5.5.3 (e))."""
    now = timers_at(h.timers).now
    ends = _ends(now, valid)
    least = now + TWO_HOURS * SECOND
    if ends >= least or ends > address.valid_until:
        address.valid_until = ends
    else:
        address.valid_until = min(address.valid_until, least)
    address.preferred_until = _ends(now, preferred)
    if address.state in (PREFERRED, DEPRECATED):
        refresh_state(h, address)


@kernel
def _form_address(host: i64, h: Host, interface: i64, hi: i64, valid: i64, preferred: i64) -> None:
    """Make an address of a prefix of 64 bits, or renew the one there is (RFC 4862 section 5.5.3)."""
    known = _find_formed(h, interface, hi)
    if known != 0:
        _renew(h, ip6_address_at(known), valid, preferred)
        return
    if valid == 0:
        return
    at = free_address6(h)
    if at == 0:
        return
    now = timers_at(h.timers).now
    address = ip6_address_at(at)
    address.interface = interface
    address.hi, address.lo = hi, interface_id(interface_at(interface).mac)
    address.prefix = _INTERFACE_ID
    address.preferred_until, address.valid_until = _ends(now, preferred), _ends(now, valid)
    address.learned = 1
    start_detection(host, h, at)


@kernel
def _prefix_option(host: i64, h: Host, interface: i64, option: i64) -> None:
    """Take a prefix from an advertisement."""
    bits, flags = load8(option + 2), load8(option + 3)
    valid, preferred = load32be(option + 4), load32be(option + 8)
    hi, lo = load64be(option + 16), load64be(option + 24)
    if load8(option + 1) != 4 or bits > 128 or is_link_local6(hi) != 0 or load8(option + 16) == 0xFF:
        return
    if flags & ON_LINK:
        mask_lo = 0 if bits <= 64 else -1 << (128 - bits)
        mask_hi = -1 if bits >= 64 else -1 << (64 - bits)
        _take_prefix(h, interface, hi & (mask_hi if bits > 0 else 0), lo & mask_lo, bits, valid)
    if flags & AUTONOMOUS and preferred <= valid and bits == _INTERFACE_ID:
        _form_address(host, h, interface, hi, valid, preferred)


@kernel
def take_router_advertisement(host: i64, h: Host, hdr: i64, at: i64, size: i64) -> i64:
    """A router advertisement of ``size`` bytes at ``at``, whose IPv6 header is at ``hdr`` (section 6.3.4)."""
    options, options_size = at + _ADVERTISEMENT, size - _ADVERTISEMENT
    hi, lo = load64be(hdr + _SOURCE), load64be(hdr + _SOURCE + 8)
    if options_size < 0 or load8(at + 1) != 0 or options_good(options, options_size) == 0 or is_link_local6(hi) == 0:
        return ICMP_INVALID
    interface = h.input
    own = interface_ip6(h, interface)
    if own.accept == 0 or own.enabled == 0:
        return DELIVERED
    own.solicitations = 0
    if load8(at + 4) != 0:
        own.hop_limit = load8(at + 4)
    if load32be(at + 12) != 0:
        own.retransmit = load32be(at + 12) * (SECOND // 1000)
    _take_router(h, interface, hi, lo, load16be(at + 6))
    mac = link_address(options, options_size, SOURCE_ADDRESS)
    if mac != NO_ADDRESS:
        heard_of(host, interface, hi, lo, mac)
    known = neighbour_lookup(neighbours_at(h.neighbours), interface, hi, lo)
    if known != 0:
        neighbour_at(known).is_router = 1
    option = find_option(options, options_size, MTU, 0)
    if option != 0 and load8(option + 1) == 1:
        mtu = load32be(option + 4)
        if MIN_MTU <= mtu <= interface_at(interface).mtu:
            own.mtu = mtu
    option = find_option(options, options_size, PREFIX, 0)
    while option != 0:
        _prefix_option(host, h, interface, option)
        option = find_option(options, options_size, PREFIX, option)
    return DELIVERED


@kernel
def take_router_solicitation(host: i64, h: Host, hdr: i64, at: i64, size: i64) -> i64:
    """A router solicitation of ``size`` bytes at ``at``, whose IPv6 header is at ``hdr`` (section 6.2.6)."""
    options, options_size = at + HEADER, size - HEADER
    if options_size < 0 or load8(at + 1) != 0 or options_good(options, options_size) == 0:
        return ICMP_INVALID
    hi, lo = load64be(hdr + _SOURCE), load64be(hdr + _SOURCE + 8)
    mac = link_address(options, options_size, SOURCE_ADDRESS)
    if mac != NO_ADDRESS and hi == 0 and lo == 0:
        return ICMP_INVALID
    own = interface_ip6(h, h.input)
    if h.forwarding == 0 or own.advertise == 0:
        return DELIVERED
    if mac != NO_ADDRESS:
        known = heard_of(host, h.input, hi, lo, mac)
        if known != 0:
            neighbour_at(known).is_router = 0
    timers = timers_at(h.timers)
    due = max(timers.now + random_delay(h, ANSWER_DELAY), own.advertise_last + BETWEEN_ADVERTISEMENTS)
    running = timer_at(own.timer).due
    if running == STOPPED or due < running:
        timer_start(timers, own.timer, due)
    return DELIVERED


@kernel
def _advertise(host: i64, h: Host, own: Ip6Interface) -> None:
    """Advertise, and set the timer for the next time (section 6.2.4)."""
    send_router_advertisement(host, h, own)
    wait = own.advertise_min + random_delay(h, max(own.advertise_max - own.advertise_min, 1))
    if own.advertise_initial > 0:
        own.advertise_initial -= 1
        if own.advertise_initial > 0:
            wait = min(wait, INITIAL_INTERVAL)
    timers = timers_at(h.timers)
    timer_start(timers, own.timer, timers.now + wait)


@entry
def router_timer(at: i64, _unused: i64) -> i64:
    """The hook of an interface's timer: a solicitation, or an advertisement, is to be sent."""
    own = ip6_interface_at(at)
    host = interface_at(own.interface).host
    h = host_at(host)
    if own.enabled == 0:
        return 0
    if own.advertise != 0:
        _advertise(host, h, own)
    elif own.solicitations > 0:
        send_router_solicitation(host, h, own.interface)
        own.solicitations -= 1
        if own.solicitations > 0:
            timers = timers_at(h.timers)
            timer_start(timers, own.timer, timers.now + SOLICIT_INTERVAL)
    return 0
