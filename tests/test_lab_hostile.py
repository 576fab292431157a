"""Anything at all on the wire, at hosts and routers that are at work: they count it, and go on."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from netemu.capture import read_capture
from netemu.jit import hook
from netemu.lab import Guest, Lab
from netemu.lab.router import Router
from netemu.stack.tcp.apps import tcp_echo
from tests.support import REPO

ETH = 14


def ones_sum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def mended(frame: bytearray) -> bytearray:
    """A frame of IPv4 or IPv6 with checksums that are right, so that it is looked at further in."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and len(frame) >= ETH + 20:
        head = (frame[ETH] & 15) * 4
        frame[24:26] = b"\0\0"
        frame[24:26] = ones_sum(bytes(frame[ETH : ETH + head])).to_bytes(2, "big")
        protocol, start, addresses = frame[23], ETH + head, bytes(frame[26:34])
    elif kind == b"\x86\xdd" and len(frame) >= ETH + 40:
        protocol, start, addresses = frame[20], ETH + 40, bytes(frame[22:54])
    else:
        return frame
    place = {6: 16, 17: 6, 1: 2, 58: 2}.get(protocol)
    if place is None or len(frame) < start + place + 2:
        return frame
    frame[start + place : start + place + 2] = b"\0\0"
    rest = bytes(frame[start:])
    pseudo = b"" if protocol == 1 else addresses + len(rest).to_bytes(4, "big") + bytes([0, 0, 0, protocol])
    frame[start + place : start + place + 2] = ones_sum(pseudo + rest).to_bytes(2, "big")
    return frame


def mutated(rng: random.Random, frame: bytes, targets: list[bytes]) -> bytes:
    """A frame to one of the stations, with some bits flipped, shorter or longer, with checksums right or not."""
    bad = bytearray(frame[:1500].ljust(ETH, b"\0"))
    bad[:6] = rng.choice(targets)
    for _ in range(rng.choice([0, 1, 1, 2, 5, 20])):
        at = rng.randrange(12, max(min(len(bad), 90), 13))
        bad[at] ^= 1 << rng.randrange(8)
    if rng.random() < 0.15:
        del bad[rng.randrange(ETH, len(bad) + 1) :]
    if rng.random() < 0.1:
        bad += rng.randbytes(rng.randrange(14))
    return bytes(mended(bad) if rng.random() < 0.7 else bad)


async def at_work(victim: Guest, friend: Guest) -> asyncio.StreamWriter:
    """Sockets of all kinds, some of them connected; the tasks wait for what comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def listen() -> None:
        with await victim.datagram(53) as datagram, await victim.raw() as raw:
            while True:
                await datagram.receive()
                await raw.receive_bytes()

    await victim.start_server(serve, 80)
    victim.tcp.listen(7, app=hook(tcp_echo))
    asyncio.get_running_loop().create_task(listen()).add_done_callback(lambda _: None)
    _, writer = await friend.connect(victim, 80)
    writer.write(b"hello")
    return writer


def build(lab: Lab) -> tuple[Guest, Guest, Guest, Router]:
    switch = lab.switch("sw")
    addresses = {name: [f"10.0.0.{n}/24", f"2001:db8::{n}/64"] for n, name in enumerate("vfx", start=1)}
    guests = [lab.guest(name, each, gateway="10.0.0.254") for name, each in addresses.items()]
    router = lab.router("r", [["10.0.0.254/24", "2001:db8::fe/64"], ["10.0.1.254/24"]])
    nodes: list[Guest | Router] = [*guests, router]
    for node in nodes:
        lab.link(node, switch, "delay 10us")
    return guests[0], guests[1], guests[2], router


def real_traffic(path: Path) -> list[bytes]:
    """What the victim sees when all is well: ARP, ND, pings, fragments, UDP, TCP."""
    with Lab() as lab:
        victim, friend, other, router = build(lab)
        lab.capture(victim, path)

        async def main() -> None:
            await asyncio.sleep(3)
            connected = await at_work(victim, friend)
            for source in (friend, router):
                for version in (4, 6):
                    await source.ping(victim, count=2, interval=0.1, size=2000, version=version)
            for version in (4, 6):
                reader, writer = await other.connect(victim, 7, version=version)
                writer.write(b"echo" * 1000)
                writer.write_eof()
                await reader.read()
                writer.close()
                with await other.datagram() as datagram:
                    await datagram.send(b"x" * 100, (await other.lookup(victim, version), 53))
            connected.close()
            await asyncio.sleep(1)

        lab.run(main())
    return [bytes(frame.data) for frame in read_capture(path)]


def shower(frames: list[bytes], seed: int) -> None:
    """Send frames at the victim and the router; afterwards both answer, and nothing is missing."""
    with Lab(seed=seed) as lab:
        victim, friend, attacker, router = build(lab)

        async def main() -> None:
            await asyncio.sleep(3)
            connected = await at_work(victim, friend)
            with await attacker.raw() as raw:
                for frame in frames:
                    await raw.send(frame)
                    await asyncio.sleep(100e-6)
            await asyncio.sleep(1500)  # connections are given up (15 retransmissions: 925 s), neighbours forgotten
            for target in (victim, router):
                for version in (4, 6):
                    stats = await friend.ping(target, count=15, version=version)
                    assert stats.received > 0, (target.name, version, stats.errors)
            connected.close()
            await asyncio.sleep(1)

        lab.run(main())
        for tcb in victim.tcp.tcbs():
            assert tcb.state <= 4, tcb.state
        engine, dropped = victim.nic.engine, sum(victim.nic.dropped.values())
        assert engine.frames_in == engine.frames_out + victim.nic.guest.merged + dropped
        assert sum(victim.stack.reasons().values()) >= engine.frames_out > len(frames) // 4
        wires = lab.world.wires
        assert [wires.pool.small_count, wires.pool.large_count] == wires.total


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return real_traffic(tmp_path_factory.mktemp("traffic") / "victim.pcapng")


def stations() -> list[bytes]:
    """The victim, the router, everybody."""
    return [bytes.fromhex(mac) for mac in ("020000000001", "020000000004", "ffffffffffff", "333300000001")]


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_mutated_traffic_does_no_lasting_harm(traffic: list[bytes], seed: int) -> None:
    rng = random.Random(seed)
    shower([mutated(rng, rng.choice(traffic), stations()) for _ in range(3000)], seed)


def test_the_captures_of_the_repository_do_none_either() -> None:
    frames: list[bytes] = []
    for path in sorted((REPO / "pcaps").glob("*.pcap*")):
        frames += [bytes(frame.data) for frame in read_capture(path)][:100]
    assert len(frames) > 500
    rng = random.Random(1)
    shower([rng.choice(stations()) + frame[6:1500] for frame in frames if len(frame) >= ETH], 1)
