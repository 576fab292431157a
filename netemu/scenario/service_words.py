"""The services of a guest in a scenario, as texts: "echo", "http:www", "dns:www.example=10.0.0.2"."""

from __future__ import annotations

from dataclasses import dataclass

from netemu.errors import ConfigError
from netemu.expect.words import did_you_mean

SERVICES = {
    "echo": ("", "sends back what it gets, over TCP and UDP (port 7)"),
    "discard": ("", "takes what it gets, over TCP and UDP (port 9)"),
    "chargen": ("", "sends for as long as somebody takes it, over TCP (port 19)"),
    "http": ("FOLDER", "the files of a folder, over HTTP (port 80)"),
    "dns": ("NAME=ADDRESS,...", "answers for names (port 53)"),
    "dhcp": ("FIRST-LAST", "gives addresses of its network (port 67)"),
}
"""The services with their arguments and words."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that a guest runs."""

    name: str
    argument: str


def parse_service(text: str) -> Service:
    """Read one; raises `ConfigError` for a name there is not, or a missing argument."""
    name, _, argument = text.partition(":")
    if name not in SERVICES:
        raise ConfigError(f"no service is called {name!r}{did_you_mean(name, SERVICES)}")
    wanted = SERVICES[name][0]
    if argument and not wanted:
        raise ConfigError(f"{name} takes no argument, and has {argument!r}")
    return Service(name, argument)
