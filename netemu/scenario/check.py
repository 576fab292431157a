"""What has to hold between the tables of a scenario: names, addresses, options that go together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from pathlib import Path as FilePath

from netemu.errors import ConfigError
from netemu.expect import Sighting
from netemu.expect.words import did_you_mean, listed
from netemu.scenario.check_card import check_card
from netemu.scenario.check_expect import check_expectations
from netemu.scenario.check_words import check_words
from netemu.scenario.mistakes import Mistakes
from netemu.scenario.packets import parse_packets
from netemu.scenario.positions import Path
from netemu.scenario.service_words import dhcp_range, parse_service
from netemu.scenario.topology import GuestSection
from netemu.scenario.traffic_kinds import ReplayTraffic, ScapyTraffic, Targeted, Traffic, UdpTraffic
from netemu.scenario.whole import Scenario

_CAPTURES = (".pcap", ".pcapng", ".pcap.gz", ".pcapng.gz")


def check(scenario: Scenario, mistakes: Mistakes) -> None:
    """Add every mistake to ``mistakes``."""
    whole = _Checks(scenario, mistakes)
    whole.names()
    whole.links()
    whole.addresses()
    whole.guests()
    whole.traffic()
    whole.captures()
    check_expectations(scenario, mistakes)


@dataclass(frozen=True, slots=True)
class _Checks:
    scenario: Scenario
    mistakes: Mistakes

    def _nodes(self) -> dict[str, str]:
        """Every guest, switch and router, with what it is."""
        of = self.scenario
        found = dict.fromkeys(of.switches, "switch") | dict.fromkeys(of.routers, "router")
        return found | dict.fromkeys(of.guests, "guest")

    def _told(self, where: Path, reads: Callable[[str], object], text: str, *, key: str = "") -> None:
        """Have a text read by its parser, and tell what that says."""
        try:
            reads(text)
        except ConfigError as error:
            self.mistakes.add(where, f"{key}: {error}" if key else str(error))

    def names(self) -> None:
        """Names of guests, switches and routers differ; so do those of links, and of traffic."""
        seen: dict[str, str] = {}
        of = self.scenario
        of_kind = {"guest": list(of.guests), "switch": list(of.switches), "router": list(of.routers)}
        for kind, names in of_kind.items():
            for name in names:
                if name in seen:
                    self.mistakes.add((kind, name), f"{kind} {name} has the name of a {seen[name]}")
                seen.setdefault(name, kind)
        self._differ("link", [(where, one.label) for where, one in of.links])
        self._differ("traffic", [(where, name) for where, name, _ in of.traffic])

    def _differ(self, what: str, named: list[tuple[Path, str]]) -> None:
        seen: dict[str, Path] = {}
        for where, name in named:
            if name in seen:
                line = self.scenario.lines.get(seen[name], 0)
                self.mistakes.add((*where, "name"), f"{what} {name!r} is there already, in line {line}: give it a name")
            seen.setdefault(name, where)

    def links(self) -> None:
        """Each link has two ends that exist, and each end has as many links as it has room for."""
        nodes = self._nodes()
        count = dict.fromkeys(nodes, 0)
        for where, link in self.scenario.links:
            if link.between and (len(link.between) != 2 or link.between[0] == link.between[1]):
                self.mistakes.add((*where, "between"), 'link.between: expected two different ends, as in ["a", "b"]')
            for number, name in enumerate(link.between):
                if name not in nodes:
                    near = did_you_mean(name, nodes)
                    self.mistakes.add((*where, "between", number), f"nothing in the lab is called {name!r}{near}")
                    continue
                count[name] += 1
                if nodes[name] == "guest" and count[name] == 2:
                    self.mistakes.add((*where, "between", number), f"guest {name} has a link already: join a switch")
                if nodes[name] == "router" and count[name] == (len(self.scenario.routers[name].ip) or count[name]) + 1:
                    words = f"router {name} has more links than addresses, of which each is for one"
                    self.mistakes.add((*where, "between", number), words)
            check_words(where, link, self.mistakes)
        servers = [
            name for name, guest in self.scenario.guests.items() for text in guest.services if text[:5] == "dhcp:"
        ]
        for name, guest in self.scenario.guests.items():
            if guest.dhcp and not servers:
                self.mistakes.add(("guest", name, "dhcp"), f"no guest runs dhcp, which could give {name} an address")
        for name, router in self.scenario.routers.items():
            if router.ip and len(router.mtus()) != len(router.ip):
                ports = len(router.ip)
                words = f"router.{name}.mtu: expected one, or {ports} as there are addresses, not {len(router.mtu)}"
                self.mistakes.add(("router", name, "mtu"), words)
        unclear = any(not link.between for _, link in self.scenario.links)
        for name, links in count.items():
            if links == 0 and not unclear:
                self.mistakes.add(
                    (nodes[name], name), f"{nodes[name]} {name} is joined to nothing: a [[link]] is missing"
                )

    def addresses(self) -> None:
        """No two have one address; a gateway is a neighbour that exists."""
        of = self.scenario
        seen: dict[IPv4Address | IPv6Address, str] = {}
        for where, name, interface in self._interfaces():
            network = interface.network
            if network.prefixlen < network.max_prefixlen - 1 and interface.ip == network.network_address:
                self.mistakes.add(where, f"{interface} is the network's own address, and no host's")
            if interface.ip in seen:
                other = f"{seen[interface.ip]} has" if seen[interface.ip] != name else "it has"
                self.mistakes.add(where, f"{name} has the address {interface.ip}, which {other} already")
            seen.setdefault(interface.ip, name)
        stations: dict[str, str] = {}
        for name, guest in of.guests.items():
            if guest.mac in stations:
                self.mistakes.add(("guest", name, "mac"), f"{name} has the MAC address of {stations[guest.mac]}")
            if guest.mac is not None:
                stations.setdefault(guest.mac, name)
            self._gateway(name, "gateway", guest.gateway, guest.ip, seen)
            self._gateway(name, "gateway6", guest.gateway6, guest.ipv6, seen)

    def _interfaces(self) -> Iterator[tuple[Path, str, IPv4Interface | IPv6Interface]]:
        """Every address with who has it, and where it is said."""
        for name, guest in self.scenario.guests.items():
            for number, ipv4 in enumerate(guest.ip):
                yield ("guest", name, "ip", number), name, ipv4
            for number, ipv6 in enumerate(guest.ipv6):
                yield ("guest", name, "ipv6", number), name, ipv6
        for name, router in self.scenario.routers.items():
            for number, port in enumerate(router.ip):
                for interface in port:
                    yield ("router", name, "ip", number), name, interface

    def _gateway(
        self,
        name: str,
        key: str,
        gateway: IPv4Address | IPv6Address | None,
        interfaces: list[IPv4Interface] | list[IPv6Interface],
        known: dict[IPv4Address | IPv6Address, str],
    ) -> None:
        where = ("guest", name, key)
        if gateway is None or gateway.is_link_local or (not interfaces and where[:2] in self.scenario.faulty):
            return
        if not any(gateway in interface.network for interface in interfaces):
            networks = (
                listed(dict.fromkeys(str(interface.network) for interface in interfaces), "or") or "no network at all"
            )
            self.mistakes.add(where, f"the gateway {gateway} is no neighbour of {name}, which is in {networks}")
        elif gateway not in known:
            near = did_you_mean(str(gateway), map(str, known))
            self.mistakes.add(where, f"nobody has the address of the gateway {gateway}{near if 'did' in near else ''}")
        elif known[gateway] == name:
            self.mistakes.add(where, f"{name} is its own gateway")

    def guests(self) -> None:
        """The options of each guest go together, and its services exist."""
        for name, guest in self.scenario.guests.items():
            where: Path = ("guest", name)
            for number, text in enumerate(guest.services):
                place = (*where, "services", number)
                self._told(place, parse_service, text, key=f"guest.{name}.services")
                kind, _, folder = text.partition(":")
                if kind == "dhcp":
                    self._dhcp(place, name, guest, folder)
                if kind == "http" and folder and not (self.scenario.folder / folder).is_dir():
                    self.mistakes.add(place, f"guest.{name}.services: there is no folder {folder}")
            check_card(name, guest, where, self.mistakes)

    def _dhcp(self, where: Path, name: str, guest: GuestSection, argument: str) -> None:
        """A DHCP server gives addresses of its own network."""
        try:
            ends = dhcp_range(argument)
        except ConfigError:
            return  # which was told
        if not guest.ip:
            self.mistakes.add(where, f"guest.{name}.services: dhcp needs an address of the guest's own: ip")
        elif any(end not in guest.ip[0].network for end in ends) or ends[0] > ends[1]:
            words = f"guest.{name}.services: {argument} is no range of addresses of {guest.ip[0].network}"
            self.mistakes.add(where, words)

    def traffic(self) -> None:
        """Traffic is between guests that exist, and says how much there is of it."""
        for where, name, one in self.scenario.traffic:
            guests = self.scenario.guests
            if one.source and one.source not in guests:
                self._no_guest((*where, "from"), one.source)
            if isinstance(one, Targeted) and one.target:
                self._target(where, one)
            given = [key for key in one.one_of_these if getattr(one, key) not in (None, "")]
            if len(given) != 1 and one.one_of_these and where not in self.scenario.faulty:
                keys = listed(one.one_of_these, "or")
                words = f"expected {keys}, not both" if given else f"needs {keys}"
                self.mistakes.add((*where, given[0]) if given else where, f"traffic {name}: {words}")
            if one.stop is not None and one.stop <= one.start:
                self.mistakes.add((*where, "stop"), f"traffic {name} stops before it starts")
            end = self.scenario.lab.duration
            if end is not None and one.start >= end:
                self.mistakes.add((*where, "start"), f"traffic {name} starts when the run is over (lab.duration)")
            self._of_kind(where, name, one)

    def _no_guest(self, where: Path, name: str) -> None:
        kind = self._nodes().get(name)
        known = did_you_mean(name, self.scenario.guests)
        self.mistakes.add(
            where, f"{name!r} is a {kind}, and no guest" if kind else f"no guest is called {name!r}{known}"
        )

    def _target(self, where: Path, one: Targeted) -> None:
        place = (*where, "to")
        guest = self.scenario.guests.get(one.target)
        if guest is None:
            try:
                ip_address(one.target)
            except ValueError:
                self._no_guest(place, one.target)
                return
            if one.kind != "ping":
                self.mistakes.add(place, f"{one.kind} needs a guest at its other end, not an address")
            return
        if one.target == one.source:
            self.mistakes.add(place, f"{one.target} cannot talk to itself: nothing would leave it")
            return
        services = {text.partition(":")[0] for text in guest.services}
        if one.service and one.service not in services:
            words = f'guest {one.target} runs no {one.service}: add "{one.service}" to its services'
            self.mistakes.add(place, words)

    def _of_kind(self, where: Path, name: str, one: Traffic) -> None:
        if isinstance(one, UdpTraffic) and (one.rate is None) == (one.pps is None):
            words = "needs rate or pps" if one.rate is None else "expected rate or pps, not both"
            self.mistakes.add(where, f"traffic {name}: {words}")
        if isinstance(one, UdpTraffic):
            self._told((*where, "size"), _sizes, one.size, key="traffic.size")
        if isinstance(one, ScapyTraffic):
            for number, text in enumerate(one.packets):
                self._told((*where, "packets", number), parse_packets, text, key="traffic.packets")
        if isinstance(one, ReplayTraffic) and one.file and not (self.scenario.folder / one.file).is_file():
            self.mistakes.add((*where, "file"), f"traffic.file: there is no file {one.file}")

    def captures(self) -> None:
        """Captures are of places that exist, each in a file of its own that has a name of its kind."""
        places = {*self.scenario.guests, *(link.label for _, link in self.scenario.links)}
        files: set[str] = set()
        seen: dict[str, bool] = {}
        for where, one in self.scenario.captures:
            bare = one.at.partition(".")[2] if one.at.startswith(("guest.", "link.")) else one.at
            if bare and bare not in places:
                near = did_you_mean(bare, places)
                self.mistakes.add((*where, "at"), f"no guest and no link is called {bare!r}{near}")
            if one.file and not one.file.endswith(_CAPTURES):
                self.mistakes.add(
                    (*where, "file"), f"capture.file: expected a name in .pcap or .pcapng, not {one.file!r}"
                )
            if one.file and FilePath(one.file).name in files:
                self.mistakes.add((*where, "file"), f"capture.file: {one.file} is written by a capture already")
            files.add(FilePath(one.file).name)
            kind = "guest" if bare in self.scenario.guests and not one.at.startswith("link.") else "link"
            if one.ring and kind == "link":
                self.mistakes.add((*where, "ring"), "capture.ring: a ring is captured at a guest")
            if one.raw and kind == "guest":
                self.mistakes.add((*where, "raw"), "capture.raw: at a guest frames are raw anyway; it is for links")
            if (place := f"{kind}.{bare}") in seen:
                self.mistakes.add((*where, "at"), f"capture.at: there is a capture of {bare} already")
            seen[place] = one.ring
        for expected in self.scenario.expected:
            wanted = expected.expectation
            if isinstance(wanted, Sighting) and any(seen.get(f"{kind}{wanted.place}") for kind in ("", "guest.")):
                words = f"{wanted.place} has a capture of its ring: frames can be looked for at its link"
                self.mistakes.add(expected.where, words)


def _sizes(text: str) -> None:
    """Raise `ConfigError` for what are no sizes of a flow's datagrams."""
    from netemu.stack.udp.output import PAYLOAD_MAX_V4  # noqa: PLC0415 - loads NumPy
    from netemu.traffic.draws import size_table  # noqa: PLC0415
    from netemu.traffic.udp_source import HEADER  # noqa: PLC0415

    size_table(text, HEADER, PAYLOAD_MAX_V4)
