"""The neighbour cache, which ARP and neighbour discovery share: whose station address is what, and whether it lives.

Theory of operation
-------------------
An entry has the states of RFC 4861 section 7.3.2 as Linux's net/core/neighbour.c moves between them. INCOMPLETE: asked
for, packets wait. REACHABLE: heard of within the reachable time. STALE: not lately; the next packet sent makes it
DELAY, and if nothing confirms it for five seconds PROBE: it is asked directly, three times, a second apart. FAILED:
nobody answered; what waited is dropped and its senders are told.

What differs by version is behind hooks: how to ask, and how to tell. Each entry has a `Timer`. The reachable time is
drawn anew every five minutes between half and one and a half times 30 s, by the host's own generator.
"""

from __future__ import annotations

from netemu.chance import next_random
from netemu.jit import Struct, call2, call3, call5, entry, i64, kernel, pointer, struct
from netemu.stack.held import CHUNK_SIZE, drop_held, held_at, held_pool_at, hold_packet, take_held, unfold
from netemu.stack.host import Host, host_at, interface_at, is_ipv4
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.packet import packet_at, packet_len, push_ethernet
from netemu.stack.routes import address_hash
from netemu.timers import STOPPED, timer_at, timer_start, timer_stop, timers_at

# States, and their numbers in Linux (include/uapi/linux/neighbour.h).
NUD_NONE = 0
NUD_INCOMPLETE = 0x01
NUD_REACHABLE = 0x02
NUD_STALE = 0x04
NUD_DELAY = 0x08
NUD_PROBE = 0x10
NUD_FAILED = 0x20
NUD_PERMANENT = 0x80
NUD_CONNECTED = NUD_REACHABLE | NUD_PERMANENT
NUD_VALID = NUD_CONNECTED | NUD_STALE | NUD_DELAY | NUD_PROBE
NUD_IN_TIMER = NUD_INCOMPLETE | NUD_REACHABLE | NUD_DELAY | NUD_PROBE

# What may be done with news of a neighbour (`neighbour_update`), as Linux's NEIGH_UPDATE_F_....
OVERRIDE = 1
"""A different station address replaces the known one."""
WEAK_OVERRIDE = 2
"""A different one makes a reachable entry stale, and does not replace."""
OVERRIDE_ISROUTER = 4
ISROUTER = 8
ADMIN = 16
"""The user says so: permanent entries change as well."""

MICROSECOND = 1000
SECOND = 1_000_000_000
BASE_REACHABLE = 30 * SECOND
DELAY_PROBE = 5 * SECOND
RETRANS = 1 * SECOND
LOCK_TIME = 1 * SECOND
STALE_TIME = 60 * SECOND
"""gc_staletime: unused for so long, an entry may be forgotten."""
REDRAW = 300 * SECOND
PROBES = 3
"""mcast_solicit and ucast_solicit."""
QUEUE_BYTES = 212_992
"""unres_qlen_bytes: what may wait for one neighbour, each packet counted by the chunks it takes."""
GC_THRESHOLD = 128
"""gc_thresh1: with fewer entries none is forgotten."""
NEIGHBOUR_COUNT = 1024
"""gc_thresh3: no more entries than that."""
BUCKETS = 256

# In place of a station address.
WAITS = -1
DROPPED = -2


@struct
class Neighbour(Struct):
    """One neighbour on one link. Moments in ns."""

    next: i64
    """Address of the next in its bucket, or of the next free one."""
    interface: i64
    hi: i64
    lo: i64
    state: i64
    mac: i64
    """Station address as a number, as in `Interface`."""
    confirmed: i64
    """When it was last known to be reachable."""
    used: i64
    """When it was last sent to."""
    updated: i64
    """When address or state last changed."""
    probes: i64
    """Questions asked since it became INCOMPLETE or PROBE."""
    is_router: i64
    queue: i64
    """First packet that waits (`netemu.stack.held.Held`), or 0."""
    queue_tail: i64
    queue_bytes: i64
    timer: i64
    """Address of its `Timer`."""


@struct
class Neighbours(Struct):
    """A host's neighbours."""

    buckets: i64
    """Address of BUCKETS `Bucket` structs."""
    free: i64
    first: i64
    """Address of NEIGHBOUR_COUNT `Neighbour` structs."""
    made: i64
    """Of these, how many were ever used."""
    count: i64
    reachable_time: i64
    drawn: i64
    """When that was drawn."""
    solicit4: i64
    solicit6: i64
    """Hooks ``(host, neighbour)``: ask for the station address; at it where it is known, else everybody."""
    unreachable4: i64
    unreachable6: i64
    """Hooks ``(host, held packet, interface)``: tell the sender of a packet that there is no such neighbour."""
    timer: i64
    """Hook `neighbour_timer`."""
    ask: i64
    """Hook `neighbour_ask`, apart because few packets need it."""
    # Counters, by the names of /proc/net/stat/arp_cache.
    allocs: i64
    destroys: i64
    res_failed: i64
    unresolved_discards: i64
    table_fulls: i64
    conflicts: i64
    """Own addresses that somebody else uses, as seen in ARP or neighbour discovery (RFC 5227); not one of Linux's."""


@struct
class Bucket(Struct):
    """The neighbours of one hash."""

    first: i64


neighbours_at = pointer(Neighbours)
neighbour_at = pointer(Neighbour)
bucket_at = pointer(Bucket)
NEIGHBOUR_SIZE = Neighbour.dtype.itemsize
BUCKET_SIZE = Bucket.dtype.itemsize


@kernel
def _bucket(table: Neighbours, interface: i64, hi: i64, lo: i64) -> i64:
    return table.buckets + ((address_hash(hi, lo) ^ (interface >> 6)) & (BUCKETS - 1)) * BUCKET_SIZE


@kernel
def neighbour_lookup(table: Neighbours, interface: i64, hi: i64, lo: i64) -> i64:
    """Address of the `Neighbour`, or 0."""
    address = bucket_at(_bucket(table, interface, hi, lo)).first
    while address != 0:
        n = neighbour_at(address)
        if n.lo == lo and n.hi == hi and n.interface == interface:
            return address
        address = n.next
    return 0


@kernel
def _drop_queue(host: i64, n: Neighbour) -> None:
    """Forget what waits."""
    pool = held_pool_at(ip_state_at(host_at(host).ip).held)
    while n.queue != 0:
        held = n.queue
        n.queue = held_at(held).following
        drop_held(pool, held)
    n.queue_tail = 0
    n.queue_bytes = 0


@kernel
def neighbour_forget(host: i64, address: i64) -> None:
    """Remove an entry, and what waits for it."""
    table = neighbours_at(host_at(host).neighbours)
    n = neighbour_at(address)
    bucket = bucket_at(_bucket(table, n.interface, n.hi, n.lo))
    if bucket.first == address:
        bucket.first = n.next
    else:
        before = neighbour_at(bucket.first)
        while before.next != address:
            before = neighbour_at(before.next)
        before.next = n.next
    _drop_queue(host, n)
    timer_stop(n.timer)
    n.state = NUD_NONE
    n.next = table.free
    table.free = address
    table.count -= 1
    table.destroys += 1


@kernel
def _collect(host: i64, now: i64) -> None:
    """Forget entries that nobody used for a minute; in a full table the one that was used longest ago."""
    table = neighbours_at(host_at(host).neighbours)
    oldest = 0
    oldest_used = now + 1
    at = table.first
    for _ in range(table.made):
        n = neighbour_at(at)
        if n.state not in (NUD_NONE, NUD_PERMANENT) and n.queue == 0:
            used = max(n.used, n.confirmed)
            if n.state == NUD_FAILED or (n.state == NUD_STALE and used < now - STALE_TIME):
                neighbour_forget(host, at)
            elif used < oldest_used:
                oldest = at
                oldest_used = used
        at += NEIGHBOUR_SIZE
    if table.count >= NEIGHBOUR_COUNT and oldest != 0:
        neighbour_forget(host, oldest)


@kernel
def neighbour_create(host: i64, interface: i64, hi: i64, lo: i64) -> i64:
    """Address of a new `Neighbour`, about which nothing is known; 0: the table is full."""
    h = host_at(host)
    table = neighbours_at(h.neighbours)
    now = timers_at(h.timers).now
    if table.count >= GC_THRESHOLD and table.free == 0:
        _collect(host, now)
    address = table.free
    if address != 0:
        table.free = neighbour_at(address).next
    elif table.made < NEIGHBOUR_COUNT:
        address = table.first + table.made * NEIGHBOUR_SIZE
        table.made += 1
    else:
        table.table_fulls += 1
        return 0
    table.count += 1
    table.allocs += 1
    n = neighbour_at(address)
    bucket = bucket_at(_bucket(table, interface, hi, lo))
    n.next = bucket.first
    bucket.first = address
    n.interface = interface
    n.hi = hi
    n.lo = lo
    n.state = NUD_NONE
    n.mac = 0
    n.confirmed = now - 2 * BASE_REACHABLE
    n.used = now
    n.updated = now
    n.probes = 0
    n.is_router = 0
    n.queue = 0
    n.queue_tail = 0
    n.queue_bytes = 0
    timer = timer_at(n.timer)
    if timer.hook == 0:
        timer.queued = STOPPED
        timer.hook = table.timer
        timer.a = host
        timer.b = address
    timer.due = STOPPED
    return address


@kernel
def _reachable_time(h: Host, table: Neighbours, now: i64) -> i64:
    """How long a confirmation lasts, ns (RFC 4861 section 6.3.2)."""
    if table.reachable_time == 0 or now - table.drawn >= REDRAW:
        h.random = next_random(h.random)
        table.reachable_time = BASE_REACHABLE // 2 + ((h.random * (BASE_REACHABLE // MICROSECOND)) >> 32) * MICROSECOND
        table.drawn = now
    return table.reachable_time


@kernel
def _probe(host: i64, table: Neighbours, address: i64) -> None:
    """Ask once more."""
    n = neighbour_at(address)
    n.probes += 1
    call2(table.solicit4 if is_ipv4(n.hi, n.lo) != 0 else table.solicit6, host, address)


@kernel
def _invalidate(host: i64, table: Neighbours, address: i64) -> None:
    """Nobody answered: the senders of what waits are told."""
    n = neighbour_at(address)
    table.res_failed += 1
    hook = table.unreachable4 if is_ipv4(n.hi, n.lo) != 0 else table.unreachable6
    pool = held_pool_at(ip_state_at(host_at(host).ip).held)
    interface = n.interface
    # To tell somebody is to send, which may hold packets or forget entries: this queue is taken off first.
    waiting = n.queue
    n.queue = 0
    n.queue_tail = 0
    n.queue_bytes = 0
    while waiting != 0:
        following = held_at(waiting).following
        if hook != 0:
            call3(hook, host, waiting, interface)
        drop_held(pool, waiting)
        waiting = following


@kernel
def _expired(host: i64, address: i64) -> None:
    """An entry's timer has expired. After Linux's neigh_timer_handler."""
    h = host_at(host)
    table = neighbours_at(h.neighbours)
    n = neighbour_at(address)
    now = timers_at(h.timers).now
    state = n.state
    due = now + RETRANS
    if state == NUD_REACHABLE:
        if now < n.confirmed + table.reachable_time:
            due = n.confirmed + table.reachable_time
        elif now < n.used + DELAY_PROBE:
            n.state = NUD_DELAY
            n.updated = now
            due = now + DELAY_PROBE
        else:
            n.state = NUD_STALE
            n.updated = now
    elif state == NUD_DELAY:
        if now < n.confirmed + DELAY_PROBE:
            n.state = NUD_REACHABLE
            n.updated = now
            due = n.confirmed + table.reachable_time
        else:
            n.state = NUD_PROBE
            n.updated = now
            n.probes = 0
    if n.state & (NUD_INCOMPLETE | NUD_PROBE) and n.probes >= PROBES:
        n.state = NUD_FAILED
        n.updated = now
        _invalidate(host, table, address)
        return
    if n.state & NUD_IN_TIMER:
        timer_start(timers_at(h.timers), n.timer, due)
    if n.state & (NUD_INCOMPLETE | NUD_PROBE):
        _probe(host, table, address)


@entry
def neighbour_timer(host: i64, address: i64) -> i64:
    """Hook of every entry's timer."""
    _expired(host, address)
    return 0


@kernel
def _wait(host: i64, table: Neighbours, n: Neighbour, packet: i64) -> i64:
    """Have a packet wait for its neighbour; 1, or 0 where there is no room. The oldest ones make room for it."""
    pool = held_pool_at(ip_state_at(host_at(host).ip).held)
    needed = (packet_len(packet) + CHUNK_SIZE - 1) // CHUNK_SIZE
    while n.queue != 0 and (n.queue_bytes + needed * CHUNK_SIZE > QUEUE_BYTES or needed > pool.free_count):
        oldest = n.queue
        n.queue = held_at(oldest).following
        n.queue_bytes -= held_at(oldest).chunks * CHUNK_SIZE
        drop_held(pool, oldest)
        table.unresolved_discards += 1
    held = hold_packet(pool, packet)
    if held == 0:
        table.unresolved_discards += 1
        return 0
    if n.queue == 0:
        n.queue = held
    else:
        held_at(n.queue_tail).following = held
    n.queue_tail = held
    n.queue_bytes += held_at(held).chunks * CHUNK_SIZE
    return 1


@entry
def neighbour_ask(host: i64, interface: i64, hi: i64, lo: i64, packet: i64) -> i64:
    """Hook `Neighbours.ask`: `neighbour_resolve` of one that is not known to be there. After __neigh_event_send."""
    h = host_at(host)
    table = neighbours_at(h.neighbours)
    now = timers_at(h.timers).now
    address = neighbour_lookup(table, interface, hi, lo)
    if address == 0:
        address = neighbour_create(host, interface, hi, lo)
        if address == 0:
            return DROPPED
    n = neighbour_at(address)
    n.used = now
    if n.state == NUD_STALE:
        n.state = NUD_DELAY
        n.updated = now
        timer_start(timers_at(h.timers), n.timer, now + DELAY_PROBE)
        return n.mac
    waits = _wait(host, table, n, packet)
    if n.state != NUD_INCOMPLETE:
        n.state = NUD_INCOMPLETE
        n.updated = now
        n.probes = 0
        timer_start(timers_at(h.timers), n.timer, now + RETRANS)
        _probe(host, table, address)
    return WAITS if waits != 0 else DROPPED


@kernel
def neighbour_resolve(host: i64, interface: i64, hi: i64, lo: i64, packet: i64) -> i64:
    """Station address of a neighbour to send a `Packet` to now; WAITS or DROPPED if there is none yet.

    ``packet`` is complete from its IP header on. After Linux's neigh_resolve_output.
    """
    h = host_at(host)
    table = neighbours_at(h.neighbours)
    address = neighbour_lookup(table, interface, hi, lo)
    if address != 0:
        n = neighbour_at(address)
        if packet_at(packet).confirm != 0:
            n.confirmed = timers_at(h.timers).now
        if n.state & (NUD_CONNECTED | NUD_DELAY | NUD_PROBE):
            n.used = timers_at(h.timers).now
            return n.mac
    return call5(table.ask, host, interface, hi, lo, packet)


@kernel
def _release(host: i64, n: Neighbour) -> None:
    """Send what waited."""
    ip = ip_state_at(host_at(host).ip)
    pool = held_pool_at(ip.held)
    interface = interface_at(n.interface)
    while n.queue != 0:
        held = n.queue
        n.queue = held_at(held).following
        take_held(pool, held, ip.held_room)
        p = packet_at(ip.released)
        unfold(held, p, ip.held_room)
        push_ethernet(p, n.mac, interface.mac)
        call2(interface.xmit, interface.device, ip.released)
    n.queue_tail = 0
    n.queue_bytes = 0


@kernel
def neighbour_update(host: i64, address: i64, mac: i64, state: i64, flags: i64) -> i64:
    """News of a neighbour: its station address ``mac`` (-1: not said) and the state that follows; 1 if it was taken.

    ``flags`` is a mask of OVERRIDE .... After Linux's __neigh_update.
    """
    h = host_at(host)
    table = neighbours_at(h.neighbours)
    n = neighbour_at(address)
    now = timers_at(h.timers).now
    old = n.state
    if old == NUD_PERMANENT and flags & ADMIN == 0:
        return 0
    if state & NUD_VALID == 0:
        timer_stop(n.timer)
        n.state = state
        n.updated = now
        if old & (NUD_INCOMPLETE | NUD_PROBE) and state == NUD_FAILED:
            _invalidate(host, table, address)
        return 1
    if mac == -1:
        if old & NUD_VALID == 0:
            return 0
        mac = n.mac
    if state & NUD_CONNECTED:
        n.confirmed = now
    if old & NUD_VALID:
        if mac != n.mac and flags & OVERRIDE == 0:
            if flags & WEAK_OVERRIDE == 0 or old & NUD_CONNECTED == 0:
                return 0
            mac = n.mac
            state = NUD_STALE
            flags &= ~(ISROUTER | OVERRIDE_ISROUTER)
        elif mac == n.mac and state == NUD_STALE and flags & ADMIN == 0:
            state = old
    if state != old or mac != n.mac:
        n.updated = now
    if state != old:
        timer_stop(n.timer)
        n.state = state
        if state == NUD_PROBE:
            n.probes = 0
        if state == NUD_REACHABLE:
            timer_start(timers_at(h.timers), n.timer, now + _reachable_time(h, table, now))
        elif state & NUD_IN_TIMER:
            timer_start(timers_at(h.timers), n.timer, now)
    if mac != n.mac:
        n.mac = mac
        if state & NUD_CONNECTED == 0:
            n.confirmed = now - 2 * BASE_REACHABLE
    if old & NUD_VALID == 0:
        _release(host, n)
    if flags & OVERRIDE_ISROUTER:
        n.is_router = 1 if flags & ISROUTER else 0
    return 1
