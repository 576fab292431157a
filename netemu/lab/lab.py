"""`Lab`: guests, routers and switches, the links between them, one clock, and a loop for programs that use them.

Theory of operation
-------------------
A lab is a `netemu.net.world.World` (everything that happens without Python, in emulated time) and an asyncio event loop
whose time is that world's (`netemu.aio.loop.EmulatedLoop`). What is built belongs to the lab under a name. `run` runs a
coroutine until it is done; whatever it waits for happens meanwhile.

Everything that is left to chance has a seed made of the lab's and of a name, so that a lab does the same each time, and
adding a link does not change what happens on another.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import zlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, Self, TypeVar

from netemu.aio.loop import EmulatedLoop
from netemu.aio.names import Names
from netemu.driver.eras import DEFAULT_ERA
from netemu.errors import ConfigError
from netemu.expect import Verdict
from netemu.expect.measured import Value
from netemu.expect.words import did_you_mean
from netemu.lab.captures import LabCapture, capture_guest, capture_port, capture_ring
from netemu.lab.cpu import Cpu
from netemu.lab.expectations import Expectations
from netemu.lab.guest import Guest, Offloads
from netemu.lab.kernels import load_kernels
from netemu.lab.measure import lab_counters
from netemu.lab.router import Router
from netemu.lab.wires import LabLink, LabSwitch
from netemu.net.options import LinkOptions
from netemu.net.port import Port
from netemu.net.units import parse_time
from netemu.net.world import World
from netemu.nic.control import Settings
from netemu.offer import Mode, RingKind, RssOptions
from netemu.stack.tcp.table import TcpSettings
from netemu.xdp import XdpProgram

if TYPE_CHECKING:
    from netemu.lab.tap import LabTap

T = TypeVar("T")
U = TypeVar("U")


def default_of(gateway: str) -> str:
    """The destination of a default route by a gateway: all addresses of its version."""
    return "::/0" if ":" in gateway else "0.0.0.0/0"


def _listed(words: str | Iterable[U]) -> Iterable[str | U]:
    """What may be one text or several."""
    return [words] if isinstance(words, str) else words


def _tell_errors(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of errors that nobody took.

    That a handler of asyncio's streams was cancelled is none, nor is an interrupt in a task: who runs the loop gets it.
    """
    if not isinstance(context.get("exception"), asyncio.CancelledError | KeyboardInterrupt):
        loop.default_exception_handler(context)


Node = Guest | Router | LabSwitch
_MAC = 0x02_00_00_00_00_00
"""Addresses of a lab's own making are local ones (IEEE 802), counted up."""


class Lab:
    """A lab; a context manager that finishes its captures at the end."""

    def __init__(self, seed: int = 1, *, realtime: bool = False) -> None:
        """An empty lab at time 0. ``realtime`` ties its clock to that on the wall, as whatever is real needs it."""
        self.seed = seed
        self.world = World()
        load_kernels()
        self.loop = EmulatedLoop(self.world, realtime=realtime)
        self.loop.set_exception_handler(_tell_errors)
        self.names = Names()
        self.nodes: dict[str, Node] = {}
        self.links: dict[str, LabLink] = {}
        self.taps: dict[str, LabTap] = {}
        self.captures: list[LabCapture] = []
        self.folder = Path()
        """Where captures go whose path is relative."""
        self.verdicts: list[Verdict] = []
        """Once the lab is closed: what became of its expectations."""
        self._looking: list[LabCapture] = []
        self._expectations = Expectations(self._look_at, self.counters)
        self._macs = 0

    @property
    def now(self) -> int:
        """Emulated time, ns."""
        return self.world.now

    def seed_of(self, name: str) -> int:
        """The seed of whatever has a name."""
        return zlib.crc32(f"{self.seed}/{name}".encode())

    def guest(
        self,
        name: str,
        ip: str | Iterable[str] = (),
        *,
        gateway: str | None = None,
        mac: bytes | str | None = None,
        mode: Mode = "mergeable",
        ring: RingKind = "split",
        queue_size: int = 256,
        queues: int = 1,
        driver: str = DEFAULT_ERA,
        features: str = "",
        offloads: Offloads = "on",
        mtu: int = 1500,
        rss: RssOptions | str | None = None,
        settings: Settings = Settings(),  # noqa: B008 - it cannot be changed
        gro: bool = False,
        xdp: XdpProgram | None = None,
        pressure: Iterable[str] = (),
        quirks: Iterable[str] = (),
        cpu: Cpu | None = None,
        congestion: str = "cubic",
        tcp: TcpSettings | None = None,
        detect: int = 0,
        **unknown: Never,
    ) -> Guest:
        """Add a guest with addresses like "10.0.0.1/24" and "2001:db8::1/64", and a default route by ``gateway``.

        ``offloads`` says what its protocols leave to the card. The rest is its card's, as `netemu.nic.Nic` has it; its
        processor is ``cpu``. Its TCP has ``congestion`` control "cubic" or "reno" and, with ``tcp``, settings other
        than Linux's (`netemu.stack.tcp.settings.tcp_settings`). Its IPv6 addresses are good at once, or with
        ``detect`` after so many attempts to find a duplicate: Linux makes one (RFC 4862).
        Raises `ConfigError` for what cannot be.
        """
        if unknown:
            known = inspect.signature(Lab.guest).parameters
            word = next(iter(unknown))
            raise ConfigError(f"a guest has no option {word!r}{did_you_mean(word, [*known][1:-1])}")
        guest = Guest(
            self._free(name),
            self.world,
            self.names,
            mac=mac or self._next_mac(),
            seed=self.seed_of(name),
            mode=mode,
            ring=ring,
            queue_size=queue_size,
            queues=queues,
            driver=driver,
            features=features,
            offloads=offloads,
            mtu=mtu,
            rss=rss,
            settings=settings,
            gro=gro,
            xdp=xdp,
            pressure=_listed(pressure),
            quirks=_listed(quirks),
            cpu=cpu,
            congestion=congestion,
            tcp=tcp,
        )
        for address in _listed(ip):
            guest.stack.add_address(guest.interface, address, detect=detect)
        if gateway is not None:
            guest.stack.add_route(default_of(gateway), via=gateway)
        self._add(name, guest)
        return guest

    def router(
        self, name: str, addresses: str | Iterable[str | Iterable[str]] = (), *, mtu: int | Sequence[int] = 1500
    ) -> Router:
        """Add a router with a port for each of ``addresses``, "10.0.0.254/24" or several of them.

        ``mtu`` is that of all ports, or one each, in the same order.
        """
        ports = list(_listed(addresses))
        each_mtu = [mtu] * len(ports) if isinstance(mtu, int) else mtu
        if len(each_mtu) != len(ports):
            raise ConfigError(f"router {name!r} has {len(ports)} ports: one mtu, or one each")
        router = Router(self._free(name), self.world, self.names, seed=self.seed_of(name))
        for each, own in zip(ports, each_mtu, strict=True):
            router.add_port(self._next_mac(), _listed(each), mtu=own)
        self._add(name, router)
        return router

    def switch(self, name: str) -> LabSwitch:
        """Add a learning switch, which has a port for each link that is plugged in."""
        switch = LabSwitch(self._free(name), self.world)
        self.nodes[name] = switch
        return switch

    def tap(self, name: str, addresses: Iterable[str] = (), *, mtu: int = 1500) -> LabTap:
        """Add a TAP device of this machine, on which Linux gets ``addresses``: the lab's door to the real world.

        The lab has to run in real time; the device goes away with it. Raises `ConfigError` where this machine, or the
        user's rights, do not allow it.
        """
        from netemu.lab.tap import LabTap  # noqa: PLC0415 - few labs have one

        tap = LabTap(self._free(name), self.world, self.loop, addresses, mtu=mtu)
        self.taps[name] = tap
        return tap

    def link(
        self,
        a: Node | LabTap | Port | str,
        b: Node | LabTap | Port | str,
        netem: str = "",
        *,
        name: str = "",
        **options: Any,
    ) -> LabLink:
        """Join two nodes (or the nodes of two names), each with the next port that is free, or two ports.

        ``netem`` has words as ``tc qdisc ... netem`` takes them, ``options`` those of `LinkOptions`; both directions
        are alike until one is set otherwise (`Link.forward`, `Link.backward`). The link is called ``name``, or after
        what it joins: "a-b". Raises `ConfigError` where no port is free.
        """
        a, b = self._node(a), self._node(b)
        for end in (a, b):
            if not isinstance(end, Guest | Router | LabSwitch | Port) and end not in self.taps.values():
                raise ConfigError(f"a link joins guests, routers, switches and ports, not {end!r}")
        title = name or f"{self._name_of(a)}-{self._name_of(b)}"
        if title in self.links:
            raise ConfigError(f"there is a link {title!r} already: give this one a name of its own")
        ends = self.port_of(a), self.port_of(b)
        if ends[0] is ends[1]:
            raise ConfigError(f"both ends of the link {title!r} are in the same port")
        link = LabLink(title, self.world, ends, LinkOptions.of(netem, **options), seed=self.seed_of(title))
        self.links[title] = link
        return link

    def _node(self, what: Node | LabTap | Port | str) -> Node | LabTap | Port:
        """What a name means; raises `ConfigError` if nothing is called so."""
        if not isinstance(what, str):
            return what
        known: dict[str, Node | LabTap] = {**self.nodes, **self.taps}
        if what not in known:
            raise ConfigError(f"nothing in the lab is called {what!r}{did_you_mean(what, known)}")
        return known[what]

    def port_of(self, node: Node | LabTap | Port) -> Port:
        """The next free port of a node; raises `ConfigError` if all are plugged in."""
        if isinstance(node, Port):
            return node
        if isinstance(node, LabSwitch):
            return node.add_port()
        ports = [node.port] if isinstance(node, Guest) else node.ports
        for port in ports:
            if not port.link:
                return port
        raise ConfigError(f"{node.name} has no free port: {len(ports)} of {len(ports)} are plugged in")

    def capture(
        self, at: Node | LabLink | Port | str, path: str | os.PathLike[str], *, ring: bool = False, raw: bool = False
    ) -> LabCapture:
        """Write what passes at a guest, at a link (where its first end is) or at a port, from now on.

        A guest or a link may be given by its name.

        At a guest: what tcpdump in it shows, or with ``ring`` what lies in the rings of its card. Elsewhere: frames as
        the wire has them, or with ``raw`` as they travel inside an emulator, unfinished. The file is complete when
        the lab is closed.
        """
        place = self.place(at)[1] if isinstance(at, str) else at
        capture = self._capture(place, self.folder / path, ring=ring, raw=raw)
        self.captures.append(capture)
        return capture

    def _capture(self, at: Node | LabLink | Port, path: Path, *, ring: bool = False, raw: bool = False) -> LabCapture:
        if isinstance(at, Guest):
            return capture_ring(self.world, at, path) if ring else capture_guest(self.world, at, path)
        port = at.ports[0] if isinstance(at, LabLink) else self.port_of(at)
        return capture_port(self.world, port, path, self._name_of(at), raw=raw)

    def counters(self) -> dict[str, dict[str, Value]]:
        """What everything here has counted, by scope: guest.NAME, link.NAME and so on; see `netemu.lab.measure`."""
        return lab_counters(self.nodes, self.links)

    def expect(self, text: str, of: Any = None) -> Verdict | None:
        """Expect something, as docs/scenarios.md has it: "loss <= 1 %", "never seen at a: tcp.flags.reset == 1".

        What is expected ``of`` something that was measured (by `Guest.ping` or `netemu.traffic.udp.udp_flow`, say) is
        judged now; the verdict is true if it held. Otherwise it is about the lab's counters, or about frames from
        now on, and is judged when the lab is closed: see ``verdicts``. Raises `ConfigError` for what is no expectation,
        or is about what is not there.
        """
        return self._expectations.expect(text, of)

    def place(self, name: str) -> tuple[str, Guest | LabLink]:
        """The guest or link that a name means, "a" or "guest.a", with its full name; raises `ConfigError`."""
        kind, _, bare = name.partition(".")
        found: dict[str, Guest | LabLink] = {f"link.{key}": link for key, link in self.links.items()}
        found |= {f"guest.{key}": node for key, node in self.nodes.items() if isinstance(node, Guest)}
        for full, thing in found.items():
            if name in {full, full.partition(".")[2]}:
                return full, thing
        known = found if kind in {"guest", "link"} and bare else [full.partition(".")[2] for full in found]
        raise ConfigError(f"no guest and no link is called {name!r}{did_you_mean(name, known)}")

    def _look_at(self, name: str, scratch: Path) -> tuple[str, Path]:
        """Have the frames at a place captured, into ``scratch`` if nobody does already: its full name, and the file."""
        full, thing = self.place(name)
        for capture in self.captures:
            if capture.place == thing.name and capture.is_of_frames:
                return full, Path(capture.path)
        self._looking.append(self._capture(thing, scratch))
        return full, scratch

    def at(self, when: str | float, what: Callable[..., object], *arguments: Any) -> None:
        """Call ``what`` when the emulated time is ``when``: "5s", or a number of seconds."""
        seconds = parse_time(when) / 1e9 if isinstance(when, str) else when
        self.loop.call_at(seconds, what, *arguments)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine until it is done; emulated time goes by as it waits. Its value."""
        asyncio.set_event_loop(self.loop)
        try:
            return self.loop.run_until_complete(main)
        finally:
            asyncio.set_event_loop(None)

    def close(self) -> None:
        """End whatever runs on the loop, finish the captures, and judge.

        All of it is done whatever goes wrong. Raises `NetemuError` if a task cannot be ended, or a capture
        misses frames.
        """
        with contextlib.ExitStack() as steps:  # the last one first
            steps.callback(self.loop.close)
            steps.callback(self._expectations.close)
            steps.callback(self._judge)
            for capture in self.captures + self._looking:
                steps.callback(capture.finish)
            for tap in self.taps.values():
                steps.callback(tap.close)
            steps.callback(self._end_tasks)

    def _end_tasks(self) -> None:
        """Cancel what runs, and let it come to its end."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    def _judge(self) -> None:
        self.captures.clear()
        self._looking.clear()
        self.verdicts = self._expectations.judge()

    def __repr__(self) -> str:
        """What is in it, and how late it is."""
        return f"<lab of {len(self.nodes)} nodes and {len(self.links)} links, seed {self.seed}, {self.now / 1e9:g} s>"

    def __enter__(self) -> Self:
        """Return the lab itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _add(self, name: str, node: Guest | Router) -> None:
        self.nodes[name] = node
        self.names.add(name, lambda: node.addresses)

    def _free(self, name: str) -> str:
        if not name:
            raise ConfigError("guests, routers and switches have names, which are not empty")
        if name in self.nodes or name in self.taps:
            kind = type(self.nodes.get(name) or self.taps[name]).__name__
            raise ConfigError(f"there is a {kind.removeprefix('Lab').lower()} {name!r} already")
        return name

    def _name_of(self, what: Node | LabTap | LabLink | Port) -> str:
        if not isinstance(what, Port):
            return what.name
        for name, node in self.nodes.items():
            ports = [node.port] if isinstance(node, Guest) else list(node.ports)
            for number, port in enumerate(ports):
                if port.address == what.address:
                    return f"{name}.{number}"
        return "port"

    def _next_mac(self) -> bytes:
        self._macs += 1
        return (_MAC + self._macs).to_bytes(6, "big")
