"""Names of hosts: a lab's guests by the names they were given, and whatever a resolver finds."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias

from netemu.errors import ConfigError
from netemu.stack.addresses import Halves, halves_are_ipv4, halves_of

Resolver = Callable[[str], Awaitable[list[Halves]]]
"""Finds the addresses of a name; raises `OSError` if there are none."""


class Addressed(Protocol):
    """Something with addresses: a guest."""

    @property
    def addresses(self) -> list[Halves]:
        """Its addresses, the one to prefer first."""


Target: TypeAlias = str | Addressed
"""Who is meant: an address as it is written, a name, or a host itself."""


class Names:
    """The hosts that have a name without asking anybody, as in /etc/hosts."""

    def __init__(self) -> None:
        """Nobody has one."""
        self._hosts: dict[str, Callable[[], list[Halves]]] = {}

    def add(self, name: str, addresses: Callable[[], list[Halves]]) -> None:
        """Give a host a name; ``addresses`` says which it has at the moment."""
        self._hosts[name] = addresses

    def __contains__(self, name: object) -> bool:
        """Whether somebody has the name."""
        return name in self._hosts

    def addresses(self, name: str) -> list[Halves]:
        """The addresses of the host with that name. Raises `ConfigError` if nobody has it."""
        if name not in self._hosts:
            near = difflib.get_close_matches(name, self._hosts, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"no host is called {name!r}{hint}")
        return self._hosts[name]()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def choose(addresses: Iterable[Halves], version: int, who: str) -> Halves:
    """The first address of a version of IP (0: of either). Raises `ConfigError` if there is none."""
    for address in addresses:
        if version == 0 or (version == 4) == halves_are_ipv4(address):
            return address
    what = f"IPv{version} address" if version else "address"
    raise ConfigError(f"{who} has no {what}")


async def resolve(target: Target | Any, names: Names, resolver: Resolver | None, version: int = 0) -> Halves:
    """The address of whom is meant. Raises `ConfigError` for a name that nobody knows, `OSError` for a resolver's."""
    if not isinstance(target, str):
        addresses = getattr(target, "addresses", None)
        if addresses is None:
            raise ConfigError(f"a host is meant by an address, a name or itself, not by {target!r}")
        return choose(addresses, version, getattr(target, "name", "the host"))
    if _is_address(target):
        return choose([halves_of(target)], version, target)
    if resolver is not None and target not in names:
        return choose(await resolver(target), version, target)
    return choose(names.addresses(target), version, target)
