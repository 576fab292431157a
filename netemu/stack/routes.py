"""Where packets go: routes by longest prefix, and what is known of the path to a target.

Theory of operation
-------------------
The table is an array, sorted by length of prefix, longest first, which Python fills (`netemu.stack.route_table`); a
lookup walks it once and keeps the answer in a small cache by target. Own addresses and broadcast addresses are routes
too, as in Linux (RTN_LOCAL, RTN_BROADCAST), so one lookup tells what a target is. Both IP versions share the table.

What ICMP said of a path's MTU is kept by target for ten minutes (RFC 1191 section 6.3, Linux's mtu_expires), in
buckets of a few; a bucket that is full forgets what expires first.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct
from netemu.stack.host import is_ipv4

# What a route leads to, as Linux's RTN_....
LOCAL = 1
"""An address of this host."""
ON_LINK = 2
"""A neighbour, or by way of one: RTN_UNICAST."""
BROADCAST_ROUTE = 3
UNREACHABLE_ROUTE = 4
"""Refused: the sender is told."""
BLACKHOLE = 5
"""Refused without a word."""

CACHE_SIZE = 256
PATH_BUCKETS = 64
PATH_BUCKET = 4
REDIRECT_COUNT = 64
REDIRECT_EXPIRES = 300_000_000_000
"""ns; Linux's gc_timeout."""
MTU_EXPIRES = 600_000_000_000
"""ns."""
MIN_PMTU = 552
"""Linux's ip_rt_min_pmtu: a path of less is given packets of so many bytes without DF."""
_HASH = 0x9E3779B1


@struct
class Route(Struct):
    """One route. IPv4 prefixes are those of mapped addresses: 96 bits longer."""

    hi: i64
    lo: i64
    mask_hi: i64
    mask_lo: i64
    kind: i64
    interface: i64
    """Address of the `netemu.stack.host.Interface` that it leads out of."""
    gateway_hi: i64
    gateway_lo: i64
    """Next hop; both 0: the target itself."""
    source_hi: i64
    source_lo: i64
    """Preferred source address; both 0: the interface's."""
    mtu: i64
    """Bytes of an IP packet; 0: the interface's."""


@struct
class CachedRoute(Struct):
    """The answer to a lookup."""

    hi: i64
    lo: i64
    route: i64
    generation: i64


@struct
class PathMtu(Struct):
    """What was learned of one path."""

    hi: i64
    lo: i64
    mtu: i64
    """0: nothing is known."""
    locked: i64
    """1: it is below MIN_PMTU, packets go without DF."""
    expires: i64
    """ns."""


@struct
class Redirected(Struct):
    """A better next hop to one IPv4 target, of which a router told."""

    target: i64
    gateway: i64
    """``lo`` of each address."""
    expires: i64
    """ns."""
    generation: i64
    """Of the routes that it was told about: void when they change."""


@struct
class Routes(Struct):
    """A host's routes."""

    table: i64
    """Address of ``count`` `Route` structs, longest prefix first."""
    count: i64
    generation: i64
    """Counts up whenever routes change; cached answers of an older one are void. Never 0."""
    cache: i64
    """Address of CACHE_SIZE `CachedRoute` structs."""
    paths: i64
    """Address of PATH_BUCKETS * PATH_BUCKET `PathMtu` structs."""
    path_count: i64
    """Of those, how many were ever used: 0 spares the look."""
    redirects: i64
    """Address of REDIRECT_COUNT `Redirected` structs."""
    redirect_count: i64
    """Redirects that were heeded: 0 spares the look."""


routes_at = pointer(Routes)
route_at = pointer(Route)
cached_route_at = pointer(CachedRoute)
path_mtu_at = pointer(PathMtu)
redirected_at = pointer(Redirected)
REDIRECTED_SIZE = Redirected.dtype.itemsize
ROUTE_SIZE = Route.dtype.itemsize
CACHED_SIZE = CachedRoute.dtype.itemsize
PATH_SIZE = PathMtu.dtype.itemsize


@kernel
def address_hash(hi: i64, lo: i64) -> i64:
    """16 bits that depend on all of an address."""
    word = (hi ^ (hi >> 32) ^ lo ^ (lo >> 32)) & 0xFFFFFFFF
    return ((word * _HASH) & 0xFFFFFFFF) >> 16


@kernel
def _search(routes: Routes, hi: i64, lo: i64, interface: i64) -> i64:
    """Address of the longest matching `Route`, out of ``interface`` if that is not 0; 0: none."""
    at = routes.table
    v4 = is_ipv4(hi, lo)
    for _ in range(routes.count):
        route = route_at(at)
        # A short prefix of IPv6, ::/0 say, has all mapped addresses in it, and is not meant for them.
        if v4 != 0 and route.mask_lo == 0:
            break
        if (
            (hi & route.mask_hi) == route.hi
            and (lo & route.mask_lo) == route.lo
            and (interface in (0, route.interface) or route.kind == LOCAL)
        ):
            return at
        at += ROUTE_SIZE
    return 0


@kernel
def route_lookup(routes: Routes, hi: i64, lo: i64) -> i64:
    """Address of the `Route` to a target, or 0."""
    cached = cached_route_at(routes.cache + (address_hash(hi, lo) & (CACHE_SIZE - 1)) * CACHED_SIZE)
    if cached.generation == routes.generation and cached.lo == lo and cached.hi == hi:
        return cached.route
    route = _search(routes, hi, lo, 0)
    cached.hi = hi
    cached.lo = lo
    cached.route = route
    cached.generation = routes.generation
    return route


@kernel
def route_lookup_by(routes: Routes, hi: i64, lo: i64, interface: i64) -> i64:
    """`route_lookup` among the routes out of one interface, for a socket that is bound to it; 0: any interface."""
    return route_lookup(routes, hi, lo) if interface == 0 else _search(routes, hi, lo, interface)


@kernel
def is_local(routes: Routes, hi: i64, lo: i64) -> i64:
    """1 if an address is one of the host's own."""
    route = route_lookup(routes, hi, lo)
    return 1 if route != 0 and route_at(route).kind == LOCAL else 0


@kernel
def _path(routes: Routes, hi: i64, lo: i64) -> i64:
    """Address of the first `PathMtu` of a target's bucket."""
    return routes.paths + (address_hash(hi, lo) & (PATH_BUCKETS - 1)) * PATH_BUCKET * PATH_SIZE


@kernel
def _known_path(routes: Routes, hi: i64, lo: i64, now: i64) -> i64:
    """Address of the `PathMtu` of a target that is not yet forgotten, or 0."""
    if routes.path_count == 0:
        return 0
    at = _path(routes, hi, lo)
    for _ in range(PATH_BUCKET):
        path = path_mtu_at(at)
        if path.mtu != 0 and path.lo == lo and path.hi == hi:
            return at if now < path.expires else 0
        at += PATH_SIZE
    return 0


@kernel
def learned_mtu(routes: Routes, hi: i64, lo: i64, now: i64) -> i64:
    """What ICMP said of the path's MTU and is not yet forgotten, bytes; 0: nothing."""
    known = _known_path(routes, hi, lo, now)
    return path_mtu_at(known).mtu if known != 0 else 0


@kernel
def mtu_locked(routes: Routes, hi: i64, lo: i64, now: i64) -> i64:
    """1 if the path takes so little that packets go without DF (Linux's lock of the metric)."""
    known = _known_path(routes, hi, lo, now)
    return path_mtu_at(known).locked if known != 0 else 0


@kernel
def learn_mtu(routes: Routes, hi: i64, lo: i64, mtu: i64, lowest: i64, now: i64) -> i64:
    """Keep what ICMP says of the path to a target; the MTU that counts from now on, bytes.

    It is never raised before what is known expires (RFC 1191 section 6.3). Less than ``lowest`` (MIN_PMTU; 1280 for
    IPv6) counts as that; for IPv4 then without DF. After Linux's __ip_rt_update_pmtu.
    """
    known = learned_mtu(routes, hi, lo, now)
    if known != 0 and known < mtu:
        return known
    locked = 1 if mtu < lowest else 0
    mtu = max(mtu, lowest)
    at = _path(routes, hi, lo)
    best = at
    for _ in range(PATH_BUCKET):
        path = path_mtu_at(at)
        if path.mtu == 0 or (path.lo == lo and path.hi == hi):
            best = at
            break
        if path.expires < path_mtu_at(best).expires:
            best = at
        at += PATH_SIZE
    path = path_mtu_at(best)
    routes.path_count += 1 if path.mtu == 0 else 0
    path.hi = hi
    path.lo = lo
    path.mtu = mtu
    path.locked = locked
    path.expires = now + MTU_EXPIRES
    return mtu


@kernel
def _redirected(routes: Routes, target: i64) -> i64:
    """Address of the `Redirected` that a target (``lo``) shares with others."""
    return routes.redirects + (address_hash(0, target) & (REDIRECT_COUNT - 1)) * REDIRECTED_SIZE


@kernel
def next_hop4(routes: Routes, gateway: i64, target: i64, now: i64) -> i64:
    """``lo`` of the next hop to an IPv4 target by a route with ``gateway`` (0: none), or as a redirect has it."""
    if routes.redirect_count != 0:
        known = redirected_at(_redirected(routes, target))
        if known.target == target and known.generation == routes.generation and now < known.expires:
            return known.gateway
    return gateway if gateway != 0 else target


@kernel
def learn_redirect(routes: Routes, target: i64, gateway: i64, now: i64) -> None:
    """Send what is for ``target`` to ``gateway`` from now on (both ``lo``)."""
    known = redirected_at(_redirected(routes, target))
    known.target = target
    known.gateway = gateway
    known.generation = routes.generation
    known.expires = now + REDIRECT_EXPIRES
    routes.redirect_count += 1
