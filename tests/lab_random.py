"""Random labs: whatever is built and whatever goes on in it, the books balance once all is quiet."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from netemu.errors import NetemuError
from netemu.jit import hook
from netemu.lab import Cpu, Guest, Lab
from netemu.lab.router import Router
from netemu.net.link import Link
from netemu.net.options import LinkOptions
from netemu.nic.control import Settings
from netemu.stack.tcp.apps import tcp_sink, tcp_source
from netemu.traffic.udp import udp_flow
from tests.conservation import everything_is_free


def card_options(rng: random.Random, *, faults: bool) -> dict[str, Any]:
    """A card of any kind."""
    options: dict[str, Any] = {
        "mode": rng.choice(["mergeable", "small", "big"]),
        "ring": rng.choice(["split", "packed"]),
        "queue_size": rng.choice([32, 64, 256]),
        "queues": rng.choice([1, 1, 2]),
        "driver": rng.choice(["linux-4.19", "linux-6.1", "linux-7.0"]),
        "offloads": rng.choice(["on", "csum", "off"]),
        "features": rng.choice(["", "", "-GUEST_TSO4,-GUEST_TSO6", "-GUEST_CSUM", "-EVENT_IDX", "-MRG_RXBUF"]),
        "gro": rng.random() < 0.3,
        "congestion": rng.choice(["cubic", "reno"]),
        "mtu": rng.choice([1500, 1500, 1500, 1280, 9000]),
    }
    if rng.random() < 0.3:
        options["cpu"] = Cpu(interrupt_latency=rng.choice([0, 50_000]), poll=1000, packet=500, byte=0.5)
    if rng.random() < 0.5 and options["driver"] == "linux-7.0":
        options["settings"] = Settings(coalesce={"rx-usecs": 50, "rx-frames": 32, "tx-usecs": 50, "tx-frames": 16})
    if faults and rng.random() < 0.5:
        options["pressure"] = [rng.choice(["skbs:p=0.1,seed=1", "pages:every=7", "tables:p=0.3,seed=2"])]
    return options


def netem_words(rng: random.Random) -> str:
    """Anything that a link can do, at a measure that lets something through."""
    words = (
        [f"delay {rng.choice(['1ms', '5ms 2ms', '10ms 3ms 25% distribution normal'])}"] if rng.random() < 0.7 else []
    )
    if rng.random() < 0.4:
        words.append(rng.choice(["loss 2%", "loss gemodel 1% 20%", "loss 10%"]))
    if rng.random() < 0.2:
        words.append("duplicate 3%")
    if rng.random() < 0.2:
        words.append("corrupt 1%")
    if words and "delay" in words[0] and rng.random() < 0.2:
        words.append("reorder 10% 50%")
    if rng.random() < 0.5:
        words.append(f"rate {rng.choice(['1mbit', '10mbit', '1gbit'])}")
        words.append(rng.choice(["", "queue 20p", "queue 1000p codel", "queue 64kb"]))
    if rng.random() < 0.1:
        words.append("slot 1ms 3ms packets 5")
    if rng.random() < 0.2:
        words.append("gso segments")
    return " ".join(filter(None, words))


def build(lab: Lab, rng: random.Random, *, faults: bool = False) -> list[Guest]:
    """One to three networks, joined by a router if there are several, each with a switch or a single link."""
    networks = rng.choice([1, 1, 2, 3])
    guests: list[Guest] = []
    ends: list[list[Any]] = []
    for network in range(networks):
        count = rng.choice([1, 2]) if networks > 1 else rng.choice([2, 2, 3])
        here: list[Any] = []
        for n in range(count):
            addresses = [f"10.0.{network}.{n + 1}/24", f"2001:db8:{network}::{n + 1}/64"]
            guest = lab.guest(f"g{network}{n}", addresses, **card_options(rng, faults=faults))
            if networks > 1:
                guest.stack.add_route("0.0.0.0/0", via=f"10.0.{network}.254")
                guest.stack.add_route("::/0", via=f"2001:db8:{network}::fe")
            here.append(guest)
            guests.append(guest)
        ends.append(here)
    if networks > 1:
        router = lab.router("r", [[f"10.0.{n}.254/24", f"2001:db8:{n}::fe/64"] for n in range(networks)])
        for n, here in enumerate(ends):
            here.append(router.ports[n])
    for n, here in enumerate(ends):
        if len(here) == 2:
            lab.link(here[0], here[1], netem_words(rng), name=f"link{n}")
        else:
            switch = lab.switch(f"sw{n}")
            for m, end in enumerate(here):
                lab.link(end, switch, netem_words(rng), name=f"link{n}.{m}")
    return guests


class Traffic:
    """What goes on in a lab."""

    def __init__(self, lab: Lab, guests: list[Guest], rng: random.Random) -> None:
        self.lab, self.guests, self.rng = lab, guests, rng
        self.refused: list[str] = []
        """What went wrong, as users are told."""
        self.done: list[str] = []

    def pair(self) -> tuple[Guest, Guest]:
        one, two = self.rng.sample(self.guests, 2)
        return one, two

    async def ping(self, rng: random.Random, version: int) -> None:
        one, two = self.pair()
        size = rng.choice([0, 1, 56, 1400, 1472, 1473, 3000, 20000, 65507])
        stats = await one.ping(two, count=rng.randint(1, 20), interval=0.05, size=size, version=version)
        assert stats.received <= stats.sent
        self.done.append(f"ping {stats.sent} {stats.received} {list(stats.rtt)}")

    async def flow(self, rng: random.Random, version: int) -> None:
        one, two = self.pair()
        size = rng.choice([32, 1000, 1472, 4000, "uniform 64 1400"])
        rate = rng.choice(["100kbit", "5mbit", "50mbit"])
        stats = await udp_flow(one, two, version=version, rate=rate, size=size, time=0.3)
        assert stats.received <= stats.sent
        self.done.append(str(stats))

    async def stream(self, rng: random.Random, version: int) -> None:
        """Both ends send, at once, and compare what they get."""
        one, two = self.pair()
        up, down = rng.randbytes(rng.choice([0, 1, 1000, 200_000])), rng.randbytes(rng.choice([0, 5, 60_000]))
        port = rng.randint(1024, 60000)
        abort = rng.random() < 0.2
        got: dict[str, bytes] = {}

        async def both(name: str, reader: Any, writer: Any, data: bytes, expected: bytes) -> None:
            async def send() -> None:
                for at in range(0, len(data), 5000):
                    writer.write(data[at : at + 5000])
                    await writer.drain()
                writer.write_eof()

            async def receive() -> None:
                taken = b""
                while part := await reader.read(7000):
                    taken += part
                    assert expected.startswith(taken)
                    if abort and len(taken) > 20000:
                        writer.transport.abort()
                        return
                got[name] = taken

            await asyncio.gather(send(), receive())
            writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await both("server", reader, writer, down, up)
            except OSError as error:
                self.refused.append(f"server {error}")
                writer.close()

        server = await two.start_server(serve, port)
        try:
            reader, writer = await one.connect(two, port, version=version)
            try:
                await both("client", reader, writer, up, down)
            finally:
                writer.close()
                await asyncio.sleep(5)
        finally:
            server.close()
        if not abort and "server" in got and "client" in got:
            assert got == {"server": up, "client": down}
        self.done.append(f"stream {[(k, len(v)) for k, v in got.items()]} of {len(up)} {len(down)}")

    async def kernel_transfer(self, rng: random.Random, version: int) -> None:
        """Apps in kernels at both ends."""
        one, two = self.pair()
        size = rng.choice([0, 1, 100_000, 2_000_000])
        address = await one.resolve(two, version)
        port = rng.randint(1024, 60000)
        listener = two.tcp.listen(port, app=hook(tcp_sink))
        connection = one.tcp.connect(address, port, app=hook(tcp_source), count=size)
        await asyncio.sleep(rng.choice([0.1, 2, 30]))
        self.done.append(f"app {connection.tcb.bytes_acked} {connection.tcb.state}")
        connection.close()
        listener.close()

    async def closed_port(self, rng: random.Random, version: int) -> None:
        one, two = self.pair()
        await one.connect(two, rng.randint(1, 1000), version=version)
        raise AssertionError("nobody listens there")

    async def nowhere(self, rng: random.Random, version: int) -> None:
        one, _ = self.pair()
        await one.ping("10.0.0.77" if version == 4 else "2001:db8::77", count=2)
        with await one.datagram() as datagram:
            await datagram.send(b"x" * rng.choice([0, 3000]), (rng.choice(["10.0.1.99", "10.9.9.9", "10.0.0.255"]), 9))

    async def noise(self, rng: random.Random, _version: int) -> None:
        one, two = self.pair()
        with await one.raw() as raw:
            for _ in range(20):
                frame = bytearray(rng.randbytes(rng.randint(14, 200)))
                frame[:6] = rng.choice([two.interface.mac.to_bytes(6, "big"), b"\xff" * 6])
                frame[12:14] = rng.choice([b"\x08\x00", b"\x86\xdd", b"\x08\x06"])
                await raw.send(bytes(frame))
                await asyncio.sleep(0.01)

    async def play(self, pieces: int) -> None:
        """So many pieces of traffic at once, each bounded; and what changes meanwhile."""
        kinds = [
            self.ping, self.flow, self.stream, self.stream, self.kernel_transfer, self.closed_port, self.nowhere,
            self.noise,
        ]  # fmt: skip
        await asyncio.sleep(3)  # duplicate address detection

        async def bounded() -> None:
            rng = random.Random(self.rng.random())
            await asyncio.sleep(rng.random())
            what, version = rng.choice(kinds), rng.choice([4, 6])
            try:
                async with asyncio.timeout(400):
                    await what(rng, version)
            except (OSError, NetemuError) as error:
                self.refused.append(f"{what.__name__} {type(error).__name__} {error}")

        await asyncio.gather(*(bounded() for _ in range(pieces)), self.changes())

    async def changes(self) -> None:
        links = list(self.lab.links.values())
        for _ in range(self.rng.choice([0, 3])):
            await asyncio.sleep(self.rng.random())
            link = self.rng.choice(links)
            if self.rng.random() < 0.3:
                link.down()
                await asyncio.sleep(0.3)
                link.up()
            else:
                try:
                    link.set(netem_words(self.rng))
                except NetemuError as error:
                    self.refused.append(f"set {error}")


class Patience:
    """A lab whose events do not end is stopped."""

    def __init__(self, lab: Lab, most: int = 300) -> None:
        self.lab, self.left = lab, most

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise AssertionError(f"there is no end to what happens at {self.lab.now} ns")


def link_books(link: Link) -> None:
    """Each frame is in one place."""
    for direction, (near, far) in zip(link.directions, (link.ports, link.ports[::-1]), strict=True):
        s = direction.stats()
        held = s.backlog + s.under_way
        assert s.offered + s.pieces - s.cut + s.duplicated == s.delivered + s.dropped_total + held, s
        assert s.offered == near.tx_packets
        assert s.delivered == far.rx_packets


def guest_books(guest: Guest) -> None:
    """What came in came up, was merged, or was dropped for a reason."""
    engine, nic = guest.nic.engine, guest.nic
    lost = sum(count for key, count in nic.dropped.items() if not key.startswith("tx_"))
    assert engine.frames_in == engine.frames_out + nic.guest.merged + lost, nic.dropped
    assert sum(guest.stack.reasons().values()) >= engine.frames_out


def quiet_books(lab: Lab) -> None:
    """Nothing is under way any more, and everything is back where it came from."""
    for link in lab.links.values():
        link_books(link)
        for direction in link.directions:
            assert direction.struct.held == 0
    for node in lab.nodes.values():
        if isinstance(node, Guest):
            guest_books(node)
        if isinstance(node, Guest | Router):
            assert not [tcb.state for tcb in node.tcp.tcbs()]
            assert node.tcp.table.free_count == node.tcp.table.total
    wires = lab.world.wires
    assert [wires.pool.small_count, wires.pool.large_count] == wires.total
    assert wires.pool.lost == 0


def play(seed: int, *, folder: Path | None = None, faults: bool = False, pieces: int = 8) -> Traffic:
    """Build a lab, let it run, wait until all is quiet, and look at the books."""
    rng = random.Random(seed)
    lab = Lab(seed=seed)
    lab.world.on_pause = Patience(lab)
    guests = build(lab, rng, faults=faults)
    if folder is not None:
        lab.capture(guests[0], folder / "guest.pcapng")
        lab.capture(guests[1], folder / "ring.pcapng", ring=True)
        lab.capture(next(iter(lab.links.values())), folder / "link.pcapng")
    traffic = Traffic(lab, guests, rng)

    async def main() -> None:
        await traffic.play(pieces)
        for link in lab.links.values():
            for direction in link.directions:
                direction.reset(LinkOptions())
        await asyncio.sleep(3600)

    lab.run(main())
    quiet_books(lab)
    lab.close()
    for guest in guests:
        guest.nic.driver.remove()
        everything_is_free(guest.nic)
    return traffic
