"""A lab: what is joined talks, times are those of the links, and the same seed gives the same bytes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from netemu.capture import read_capture
from netemu.errors import ConfigError
from netemu.lab import Cpu, Guest, Lab

MS = 1_000_000


def two_guests(lab: Lab, netem: str = "", **options: Any) -> tuple[Guest, Guest]:
    a, b = lab.guest("a", "10.0.0.1/24"), lab.guest("b", "10.0.0.2/24")
    lab.link(a, b, netem, **options)
    return a, b


def test_an_echo_takes_the_links_delay_and_the_time_of_its_bytes_on_the_wire() -> None:
    with Lab() as lab:
        a, b = two_guests(lab, "delay 10ms", rate="100mbit")
        stats = lab.run(a.ping(b, count=3))
    # 14 + 20 + 8 + 56 bytes each way, 80 ns a byte; the first one waits for ARP, of 14 + 28 bytes each way.
    echo = 20 * MS + 2 * 98 * 80
    assert list(stats.rtt) == [2 * echo - 2 * 56 * 80, echo, echo]


def test_time_goes_by_only_as_something_waits() -> None:
    with Lab() as lab:
        two_guests(lab)
        assert lab.now == 0
        lab.run(asyncio.sleep(3600))
        assert lab.now == 3600 * 1000 * MS


@pytest.mark.parametrize("place", ["guest", "link", "ring"])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, place: str) -> None:
    def once(name: str, seed: int) -> bytes:
        path = tmp_path / name
        with Lab(seed=seed) as lab:
            a, b = two_guests(lab, "delay 10ms 3ms loss 20%")
            lab.capture(lab.links["a-b"] if place == "link" else a, path, ring=place == "ring")
            lab.run(a.ping(b, count=20, interval=0.1))
        return path.read_bytes()

    first = once("1.pcapng", 7)
    assert first == once("2.pcapng", 7)
    assert first != once("3.pcapng", 8)
    assert len(first) > 1000


def test_a_guests_capture_has_both_directions_in_the_order_of_time(tmp_path: Path) -> None:
    with Lab() as lab:
        a, b = two_guests(lab, "delay 10ms")
        lab.capture(a, tmp_path / "a.pcapng")
        lab.run(a.ping(b, count=1))
    frames = list(read_capture(tmp_path / "a.pcapng"))
    assert [frame.tstamp // MS for frame in frames] == [0, 20, 20, 40]
    kinds = [frame.data[12:14].hex() for frame in frames]
    assert kinds == ["0806", "0806", "0800", "0800"]


def test_guests_in_two_networks_reach_each_other_by_a_router() -> None:
    with Lab() as lab:
        a = lab.guest("a", "10.0.0.1/24", gateway="10.0.0.254")
        b = lab.guest("b", "10.0.1.1/24", gateway="10.0.1.254")
        r = lab.router("r", ["10.0.0.254/24", "10.0.1.254/24"])
        lab.link(a, r, "delay 1ms")
        lab.link(r, b, "delay 2ms")
        stats = lab.run(a.ping(b, count=2))
        assert list(stats.rtt)[1] == 6 * MS
        assert r.stack.snmp()["IpForwDatagrams"] == 4


def test_ipv6_addresses_of_a_lab_are_good_at_once_unless_duplicates_are_looked_for() -> None:
    with Lab() as lab:
        a, b = lab.guest("a", "2001:db8::1/64"), lab.guest("b", "2001:db8::2/64")
        lab.link(a, b, "delay 1ms")
        late = lab.guest("late", "2001:db8::3/64", detect=1)
        assert lab.run(a.ping(b, count=1)).received == 1
        assert late.stack.snmp()["Icmp6OutNeighborSolicits"] == 0


def test_a_switch_floods_what_it_does_not_know_and_then_does_not() -> None:
    with Lab() as lab:
        sw = lab.switch("sw")
        guests = [lab.guest(name, f"10.0.0.{n}/24") for n, name in enumerate("abc", start=1)]
        for guest in guests:
            lab.link(guest, sw)
        stats = lab.run(guests[0].ping("c", count=3))
        assert stats.received == 3
        # The third guest saw the ARP request, which is for all, and nothing else.
        assert guests[1].nic.netdev["rx_packets"] == 1
        assert len(sw.fdb()) == 2


def test_a_stream_does_not_hold_small_pieces_back_as_asyncio_sets_tcp_nodelay() -> None:
    came: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readexactly(1)
            came.append(lab.now)
        writer.close()

    async def main() -> None:
        await b.start_server(serve, 80)
        _, writer = await a.connect(b, 80)
        writer.write(b"1")
        await asyncio.sleep(0.001)
        writer.write(b"2")
        await asyncio.sleep(1)
        writer.close()

    with Lab() as lab:
        a, b = two_guests(lab, "delay 10ms")
        lab.run(main())
    # With Nagle's algorithm the second would wait for the first's acknowledgement, 20 ms.
    assert came[1] - came[0] == MS


def test_a_slow_processor_adds_to_each_way_and_loses_what_its_ring_cannot_hold() -> None:
    with Lab() as lab:
        a = lab.guest("a", "10.0.0.1/24")
        b = lab.guest("b", "10.0.0.2/24", queue_size=16, cpu=Cpu(interrupt_latency=5 * MS))
        lab.link(a, b)

        async def main() -> int:
            source, sink = await a.datagram(), await b.datagram(9)
            await source.send(b"first", (b, 9))
            await sink.receive()
            for _ in range(40):
                await source.send(b"x" * 1000, (b, 9))
            await asyncio.sleep(1)
            return lab.now

        lab.run(main())
        # The ARP request and the first datagram took two of 16 buffers; Linux refills when half of them are gone.
        assert b.nic.dropped == {"no_buffer": 40 - 14}


def test_what_cannot_be_is_said() -> None:
    with Lab() as lab:
        a, _ = two_guests(lab)
        with pytest.raises(ConfigError, match="there is a guest 'a' already"):
            lab.guest("a")
        with pytest.raises(ConfigError, match=r"needs a lab in real time, Lab\(realtime=True\)"):
            lab.tap("tap0")
        with pytest.raises(ConfigError, match="a has no free port: 1 of 1 are plugged in"):
            lab.link(a, lab.switch("sw"))
        with pytest.raises(ConfigError, match="offloads are on, csum, off, not 'all'"):
            lab.guest("c", offloads="all")  # type: ignore[arg-type]
