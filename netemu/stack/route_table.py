"""`RouteTable`: the routes of a host for Python, in the words of ``ip route``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netemu.errors import ConfigError
from netemu.jit import StructArray, array_of
from netemu.stack.addresses import Address, Network, halves, mask_halves
from netemu.stack.routes import (
    BLACKHOLE,
    BROADCAST_ROUTE,
    CACHE_SIZE,
    LOCAL,
    ON_LINK,
    PATH_BUCKET,
    PATH_BUCKETS,
    REDIRECT_COUNT,
    UNREACHABLE_ROUTE,
    CachedRoute,
    PathMtu,
    Redirected,
    Route,
    Routes,
)

KINDS = {"local": LOCAL, "unicast": ON_LINK, "broadcast": BROADCAST_ROUTE, "unreachable": UNREACHABLE_ROUTE}
KINDS["blackhole"] = BLACKHOLE


@dataclass(frozen=True)
class RouteEntry:
    """One route; ``str`` gives its line as ``ip route`` prints it."""

    network: Network
    kind: str = "unicast"
    interface: int = 0
    """Address of the `netemu.stack.host.Interface`; 0 for the kinds that lead nowhere."""
    device: str = ""
    """That interface's name."""
    via: Address | None = None
    source: Address | None = None
    metric: int = 0
    mtu: int = 0

    def __str__(self) -> str:
        """The route in one line."""
        target = "default" if self.network.prefixlen == 0 else str(self.network)
        if self.network.prefixlen == self.network.max_prefixlen:
            target = str(self.network.network_address)
        words = [] if self.kind == "unicast" else [self.kind]
        words.append(target)
        words += ["via", str(self.via)] if self.via is not None else []
        words += ["dev", self.device] if self.device else []
        words += ["src", str(self.source)] if self.source is not None else []
        words += ["metric", str(self.metric)] if self.metric else []
        words += ["mtu", str(self.mtu)] if self.mtu else []
        return " ".join(words)


class RouteTable:
    """A `Routes` with its memory. Iterating gives the entries in the order in which they are looked at."""

    def __init__(self) -> None:
        """Make an empty table."""
        self._entries: list[RouteEntry] = []
        self._table: StructArray[Route] = array_of(Route, 8)
        self._cache: StructArray[CachedRoute] = array_of(CachedRoute, CACHE_SIZE)
        self._paths: StructArray[PathMtu] = array_of(PathMtu, PATH_BUCKETS * PATH_BUCKET)
        self._redirects: StructArray[Redirected] = array_of(Redirected, REDIRECT_COUNT)
        self.struct = Routes(
            table=self._table.address,
            generation=1,
            cache=self._cache.address,
            paths=self._paths.address,
            redirects=self._redirects.address,
        )

    def __iter__(self) -> Iterator[RouteEntry]:
        """All entries, longest prefix first."""
        return iter(self._entries)

    def __contains__(self, entry: object) -> bool:
        """Whether there is a route to the same prefix by the same way."""
        return isinstance(entry, RouteEntry) and any(_key(entry) == _key(known) for known in self._entries)

    def add(self, entry: RouteEntry) -> None:
        """Add a route; raises `ConfigError` for one that is there."""
        if entry in self:
            raise ConfigError(f"there is a route to {entry.network} already")
        self._entries.append(entry)
        self._fill()

    def remove(self, network: Network, kind: str = "unicast", interface: int = 0) -> None:
        """Remove the routes to a prefix, those of one interface if it is given; raises `ConfigError` without any."""
        gone = [
            entry
            for entry in self._entries
            if entry.network == network and entry.kind == kind and interface in (0, entry.interface)
        ]
        if not gone:
            raise ConfigError(f"there is no route to {network}")
        self._entries = [entry for entry in self._entries if entry not in gone]
        self._fill()

    def forget_paths(self) -> None:
        """Forget what ICMP said of paths."""
        self._paths.view["mtu"] = 0
        self.struct.path_count = 0

    def _fill(self) -> None:
        """Write the table that kernels read: longest prefix first, own addresses before others, then by metric."""
        self._entries.sort(key=lambda entry: (-_length(entry), entry.kind != "local", entry.metric))
        if len(self._entries) > len(self._table):
            self._table = array_of(Route, 2 * len(self._entries))
            self.struct.table = self._table.address
        for entry, route in zip(self._entries, self._table, strict=False):
            route.hi, route.lo = halves(entry.network.network_address)
            route.mask_hi, route.mask_lo = mask_halves(entry.network)
            route.kind, route.interface, route.mtu = KINDS[entry.kind], entry.interface, entry.mtu
            route.gateway_hi, route.gateway_lo = halves(entry.via) if entry.via is not None else (0, 0)
            route.source_hi, route.source_lo = halves(entry.source) if entry.source is not None else (0, 0)
        self.struct.count = len(self._entries)
        self.struct.generation += 1


def _length(entry: RouteEntry) -> int:
    """Bits of a prefix over 128."""
    return entry.network.prefixlen + 128 - entry.network.max_prefixlen


def _key(entry: RouteEntry) -> tuple[object, ...]:
    """What makes two routes the same."""
    return entry.network, entry.kind, entry.metric, entry.interface
