"""The services of a scenario's guests, and what makes a guest a client: leases and resolvers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from netemu.aio import AsyncHost
from netemu.lab import Guest, Lab
from netemu.scenario.service_words import Service, dhcp_range, dns_records, parse_service
from netemu.scenario.whole import Scenario
from netemu.services.dhcp_client import DhcpClient
from netemu.services.dhcp_server import DhcpServer
from netemu.services.dns_client import DnsClient
from netemu.services.dns_server import DnsServer
from netemu.services.http_server import Content, HttpServer
from netemu.services.simple import chargen, daytime, discard, echo
from netemu.stack.addresses import halves_text

MADE_UP = "/bytes/"
"""Below this path every HTTP server of a scenario has as many bytes as the rest of the path says."""
MOST_MADE_UP = 1 << 30
_SIMPLE: dict[str, Callable[[AsyncHost], Awaitable[Any]]] = {
    "echo": echo,
    "discard": discard,
    "chargen": chargen,
    "daytime": daytime,
}


class ScenarioHttpServer(HttpServer):
    """A server of files that also has bytes of any number, to download."""

    def find(self, target: str) -> Content | None:
        """As `HttpServer.find`, and zeros for /bytes/NUMBER."""
        found = re.fullmatch(re.escape(MADE_UP) + r"([0-9]{1,10})", target)
        if found is not None and int(found[1]) <= MOST_MADE_UP:
            return Content(int(found[1]), "application/octet-stream", bytes(int(found[1])))
        return super().find(target)


class ScenarioServices:
    """All services of a lab, which live as long as it does."""

    def __init__(self, scenario: Scenario, lab: Lab) -> None:
        """None runs yet."""
        self._scenario, self._lab = scenario, lab
        self._running: list[Any] = []
        self._of_everybody: list[DnsServer] = []
        """Those that know the guests, also by addresses that are leased only now."""

    async def start(self) -> None:
        """Start them all, and have guests ask for addresses and names where they are told to.

        It is over when every guest has its address. Raises `NetemuError` if one gets none.
        """
        for name, section in self._scenario.guests.items():
            for text in section.services:
                self._running.append(await self._start(self._guest(name), parse_service(text)))
            if section.dns is not None:
                guest = self._guest(name)
                guest.resolver = DnsClient(guest, str(section.dns)).addresses
        clients = [DhcpClient(self._guest(name)) for name, section in self._scenario.guests.items() if section.dhcp]
        for client in clients:
            self._running.append(client)
            await client.acquire()
        for server in self._of_everybody:
            for name, addresses in self._everybody().items():
                server.add(name, addresses)

    def _guest(self, name: str) -> Guest:
        guest = self._lab.nodes[name]
        assert isinstance(guest, Guest)
        return guest

    async def _start(self, guest: Guest, service: Service) -> Any:
        match service.name:
            case "http":
                folder = self._scenario.folder / service.argument
                return await ScenarioHttpServer(folder if service.argument else {}).serve(guest)
            case "dns":
                server = DnsServer(dns_records(service.argument) if service.argument else {})
                if not service.argument:
                    self._of_everybody.append(server)
                return await server.serve(guest)
            case "dhcp":
                return await self._dhcp(guest, service.argument)
        return await _SIMPLE[service.name](guest)

    def _everybody(self) -> dict[str, list[str]]:
        """Every guest of the lab with its addresses."""
        return {
            name: [halves_text(*address) for address in self._guest(name).addresses]
            for name in self._scenario.guests
            if self._guest(name).addresses
        }

    async def _dhcp(self, guest: Guest, argument: str) -> Any:
        section = self._scenario.guests[guest.name]
        first, last = dhcp_range(argument)
        router = None if section.gateway is None else str(section.gateway)
        return await DhcpServer(str(section.ip[0].network), str(first), str(last), router=router).serve(guest)
