"""The services of a guest in a scenario, as texts: "echo", "http:www", "dns:www.example=10.0.0.2"."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from netemu.errors import ConfigError
from netemu.expect.words import did_you_mean

SERVICES = {
    "echo": ("", "sends back what it gets, over TCP and UDP (port 7)"),
    "discard": ("", "takes what it gets, over TCP and UDP (port 9)"),
    "chargen": ("", "sends characters to who connects, or a line for each datagram (port 19)"),
    "daytime": ("", "tells the emulated time to who connects (port 13)"),
    "http": ("FOLDER", "the files of a folder beside the scenario, and /bytes/NUMBER (port 80)"),
    "dns": ("NAME=ADDRESS,...", "answers for names; without any for the names of all guests (port 53)"),
    "dhcp": ("FIRST-LAST", "gives addresses of its network, and its gateway (port 67)"),
}
"""The services with their arguments and words."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that a guest runs."""

    name: str
    argument: str


def parse_service(text: str) -> Service:
    """Read one; raises `ConfigError` for a name there is not, or an argument that it does not take."""
    name, _, argument = text.partition(":")
    if name not in SERVICES:
        raise ConfigError(f"no service is called {name!r}{did_you_mean(name, SERVICES)}")
    if argument and not SERVICES[name][0]:
        raise ConfigError(f"{name} takes no argument, and has {argument!r}")
    if name == "dns" and argument:
        dns_records(argument)
    if name == "dhcp":
        dhcp_range(argument)
    return Service(name, argument)


def dns_records(argument: str) -> dict[str, list[str]]:
    """Addresses by name, of NAME=ADDRESS,NAME=ADDRESS; a name may come twice. Raises `ConfigError`."""
    records: dict[str, list[str]] = {}
    for part in argument.split(","):
        name, _, address = (one.strip() for one in part.partition("="))
        try:
            ip_address(address)
        except ValueError:
            raise ConfigError(f"expected NAME=ADDRESS, as in www.example=10.0.0.2, not {part.strip()!r}") from None
        records.setdefault(name, []).append(address)
    return records


def dhcp_range(argument: str) -> tuple[IPv4Address, IPv4Address]:
    """The first and the last address of FIRST-LAST; raises `ConfigError`."""
    first, _, last = argument.partition("-")
    try:
        return IPv4Address(first.strip()), IPv4Address(last.strip())
    except ValueError:
        told = repr(argument) if argument else "nothing"
        raise ConfigError(f"dhcp needs a range of addresses, as in 10.0.0.100-10.0.0.199, not {told}") from None
