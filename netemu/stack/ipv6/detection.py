"""The life of an address: duplicate address detection (RFC 4862 section 5.4), preferred and valid lifetimes (5.5.4).

Theory of operation
-------------------
A new address is tentative. After a delay of up to a second, drawn by the host's generator, the host asks on the link
whether somebody has it, ``detect`` times, a second apart; with no answer until a second later the address is its own.
If somebody answers, or asks for the same address, it is a duplicate and never used. What is asked carries a nonce,
by which one's own question is known when a link brings it back (RFC 7527).

One timer per address does both: it brings the next probe, later the end of a lifetime.

When a link-local address is there, the interface can talk: its groups are reported, and its timer starts, with which a
host looks for routers, and a router tells of itself (`netemu.stack.icmpv6.ndp_routers`).
"""

from __future__ import annotations

from netemu.chance import next_random
from netemu.jit import entry, i64, kernel
from netemu.stack.host import Host, host_at
from netemu.stack.icmpv6.mld import TO_EXCLUDE, report_groups
from netemu.stack.icmpv6.ndp_options import NONCE as NONCE_OPTION
from netemu.stack.icmpv6.ndp_options import UNIT, find_option, load_mac, put_nonce
from netemu.stack.icmpv6.ndp_send import ask_all, start_solicitation
from netemu.stack.ipv6.addresses import is_link_local6
from netemu.stack.ipv6.state import (
    DEPRECATED,
    DUPLICATE,
    FREE,
    PREFERRED,
    SECOND,
    TENTATIVE,
    Ip6Address,
    interface_ip6,
    ip6_address_at,
    ip6_at,
)
from netemu.stack.neighbours import neighbours_at
from netemu.timers import NEVER, timer_start, timer_stop, timers_at

SOLICITATIONS = 3
"""Router solicitations after which a host gives up (MAX_RTR_SOLICITATIONS, RFC 4861 section 10)."""
SOLICIT_DELAY = 1 * SECOND
"""The longest delay before the first solicitation, of a router or of an address (MAX_RTR_SOLICITATION_DELAY)."""
INITIAL_ADVERTISEMENTS = 3
"""MAX_INITIAL_RTR_ADVERTISEMENTS."""


@kernel
def random_delay(h: Host, most: i64) -> i64:
    """A delay below ``most`` ns, drawn by the host's generator."""
    h.random = next_random(h.random)
    return h.random * (most >> 10) >> 22


@kernel
def _nonce(h: Host) -> i64:
    """48 bits drawn by the host's generator."""
    h.random = next_random(h.random)
    high = h.random & 0xFFFF
    h.random = next_random(h.random)
    return high << 32 | h.random


@kernel
def _schedule(h: Host, address: Ip6Address) -> None:
    """Set the timer of an address in use to the end of its next lifetime."""
    due = address.preferred_until if address.state == PREFERRED else address.valid_until
    due = min(due, address.valid_until)
    if due == NEVER:
        timer_stop(address.timer)
    else:
        timer_start(timers_at(h.timers), address.timer, due)


@kernel
def refresh_state(h: Host, address: Ip6Address) -> None:
    """Make the state of an address in use what its lifetimes say now."""
    now = timers_at(h.timers).now
    if address.valid_until <= now:
        address.state = FREE
        timer_stop(address.timer)
        return
    address.state = PREFERRED if now < address.preferred_until else DEPRECATED
    _schedule(h, address)


@kernel
def _can_talk(host: i64, h: Host, interface: i64) -> None:
    """An interface has its link-local address."""
    own = interface_ip6(h, interface)
    report_groups(host, h, interface, TO_EXCLUDE)
    own.solicitations = SOLICITATIONS if own.accept != 0 else 0
    own.advertise_initial = INITIAL_ADVERTISEMENTS
    if own.accept != 0 or own.advertise != 0:
        timers = timers_at(h.timers)
        timer_start(timers, own.timer, timers.now + random_delay(h, SOLICIT_DELAY))


@kernel
def _assign(host: i64, h: Host, address: Ip6Address) -> None:
    """An address is the host's own, and what comes with it begins."""
    address.announced = 1
    refresh_state(h, address)
    if is_link_local6(address.hi) != 0:
        _can_talk(host, h, address.interface)


@kernel
def start_detection(host: i64, h: Host, at: i64) -> None:
    """Begin to use the `Ip6Address` at an address, whose interface, value and lifetimes are there.

    Nothing is sent before its timer expires; without detection the address may be used at once all the same.
    """
    address = ip6_address_at(at)
    timers = timers_at(h.timers)
    address.host = host
    address.state = TENTATIVE
    address.announced = 0
    address.probes = interface_ip6(h, address.interface).detect
    address.nonce = _nonce(h)
    delay = 0
    if address.probes == 0:
        refresh_state(h, address)
    else:
        delay = random_delay(h, SOLICIT_DELAY)
    timer_start(timers, address.timer, timers.now + delay)


@kernel
def _announce(host: i64, h: Host, address: Ip6Address) -> None:
    """Tell, once, of the group that one listens to for an address."""
    if address.announced == 0:
        address.announced = 1
        report_groups(host, h, address.interface, TO_EXCLUDE)


@kernel
def _probe(host: i64, h: Host, address: Ip6Address) -> None:
    """Ask whether somebody has a tentative address."""
    _announce(host, h, address)
    address.probes -= 1
    packet = ip6_at(h.ip6).message
    put_nonce(start_solicitation(packet, address.hi, address.lo, UNIT), address.nonce)
    ask_all(host, h, packet, address.interface, 0, 0, address.lo)
    timers = timers_at(h.timers)
    timer_start(timers, address.timer, timers.now + interface_ip6(h, address.interface).retransmit)


@kernel
def address_clash(h: Host, at: i64) -> None:
    """Somebody else has, or wants, the tentative `Ip6Address` at an address."""
    address = ip6_address_at(at)
    address.state = DUPLICATE
    timer_stop(address.timer)
    neighbours_at(h.neighbours).conflicts += 1


@kernel
def is_own_probe(at: i64, options: i64, size: i64) -> i64:
    """1 if a solicitation with these options is the one that was sent for the `Ip6Address` at an address."""
    found = find_option(options, size, NONCE_OPTION, 0)
    return 1 if found != 0 and load_mac(found + 2) == ip6_address_at(at).nonce else 0


@entry
def address_timer(at: i64, _unused: i64) -> i64:
    """The hook of an address's timer: the next probe, or the end of a lifetime."""
    address = ip6_address_at(at)
    host = host_at(address.host)
    if address.state == TENTATIVE:
        if address.probes > 0:
            _probe(address.host, host, address)
        else:
            _assign(address.host, host, address)
    elif address.state in (PREFERRED, DEPRECATED):
        if address.announced == 0:
            _announce(address.host, host, address)
            _assign(address.host, host, address)
        else:
            refresh_state(host, address)
    return 0
