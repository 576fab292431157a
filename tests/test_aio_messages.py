"""Datagrams, ping and raw frames for coroutines, between hosts on a wire that takes 10 ms."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.packet import Raw as Payload

from netemu.aio import DeadlockError
from netemu.errors import ConfigError
from netemu.stack.addresses import halves_of
from netemu.stack.host import SEND_TOO_BIG, SEND_UNREACHABLE
from tests.aio_kit import run
from tests.message_kit import MAC, PEER_MAC
from tests.plain import plain_entries
from tests.wire_kit import DELAY, Wire

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_and_its_answer_take_a_round_trip(version: int) -> None:
    wire = Wire(1, 2)
    a, b = wire.sockets

    async def echo_once() -> None:
        with await b.datagram(7) as sock:
            data, source = await sock.receive()
            await sock.send(data.upper(), source)

    async def main() -> tuple[bytes, tuple[str, int]]:
        async with asyncio.TaskGroup() as group:
            group.create_task(echo_once())
            with await a.datagram() as sock:
                await sock.send(b"hello", (await b.lookup(b, version), 7))
                return await sock.receive()

    data, source = run(wire.world, main())
    assert (data, source) == (b"HELLO", ("10.0.0.2" if version == 4 else "2001:db8::2", 7))
    assert wire.world.now == 2 * DELAY


def test_a_peer_may_be_named_in_every_way() -> None:
    wire = Wire(1, 2)
    a, b = wire.sockets

    async def main() -> list[bytes]:
        receiver, sender = await b.datagram(9), await a.datagram()
        for number, target in enumerate((b, "host2", "10.0.0.2", "2001:db8::2")):
            await sender.send(bytes([number]), (target, 9))
        return [(await receiver.receive())[0] for _ in range(4)]

    assert run(wire.world, main()) == [b"\0", b"\1", b"\2", b"\3"]


def test_a_name_that_nobody_has_is_an_error_with_the_nearest_one() -> None:
    wire = Wire(1, 2)

    async def main() -> None:
        await wire.sockets[0].ping("hots2")

    with pytest.raises(ConfigError, match=r"no host is called 'hots2'; did you mean 'host2'\?"):
        run(wire.world, main())


def test_a_host_without_an_address_of_that_version_is_an_error() -> None:
    wire = Wire(1, 2)
    a, b = wire.sockets
    wire.hosts[1].interface.ipv6_hi = wire.hosts[1].interface.ipv6_lo = 0

    async def main() -> None:
        await a.resolve(b, 6)

    with pytest.raises(ConfigError, match="host2 has no IPv6 address"):
        run(wire.world, main())


def test_a_connected_socket_learns_that_nobody_is_there() -> None:
    wire = Wire(1, 2)

    async def main() -> None:
        with await wire.sockets[0].datagram(remote=("host2", 99)) as sock:
            assert sock.remote == ("10.0.0.2", 99)
            await sock.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError, match=r"host1: UDP 10\.0\.0\.1 port .* to 10\.0\.0\.2 port 99"):
                await sock.receive()

    run(wire.world, main())
    assert wire.world.now == 2 * DELAY


@pytest.mark.parametrize(("answer", "number"), [(SEND_UNREACHABLE, errno.ENETUNREACH), (SEND_TOO_BIG, errno.EMSGSIZE)])
def test_what_cannot_be_sent_raises(answer: int, number: int) -> None:
    wire = Wire(1, 2)

    async def main() -> int | None:
        with await wire.sockets[0].datagram() as sock:
            wire.hosts[0].answer = answer
            with pytest.raises(OSError, match=r"to 10\.0\.0\.2") as caught:
                await sock.send(b"x", ("host2", 9))
            return caught.value.errno

    assert run(wire.world, main()) == number


def test_sending_without_a_target_needs_a_connected_socket() -> None:
    wire = Wire(1)

    async def main() -> None:
        sock = await wire.sockets[0].datagram()
        with pytest.raises(OSError, match="estination address required"):
            await sock.send(b"x")

    run(wire.world, main())


def test_a_broadcast_has_to_be_asked_for_and_reaches_all() -> None:
    """socket(7), SO_BROADCAST."""
    wire = Wire(1, 2, 3)
    a = wire.sockets[0]

    async def main() -> list[bytes]:
        listeners = [await one.datagram(5000) for one in wire.sockets[1:]]
        plain = await a.datagram()
        with pytest.raises(PermissionError, match="broadcast=True"):
            await plain.send(b"x", ("255.255.255.255", 5000))
        sock = await a.datagram(broadcast=True)
        await sock.send(b"all", ("255.255.255.255", 5000))
        return [(await listener.receive())[0] for listener in listeners]

    assert run(wire.world, main()) == [b"all", b"all"]


def test_a_timeout_of_receiving_loses_nothing() -> None:
    wire = Wire(1, 2)
    a, b = wire.sockets

    async def main() -> bytes:
        receiver, sender = await b.datagram(9), await a.datagram()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receiver.receive(), 0.5)
        await sender.send(b"late", (b, 9))
        return (await asyncio.wait_for(receiver.receive(), 0.5))[0]

    assert run(wire.world, main()) == b"late"


def test_several_coroutines_may_wait_at_one_socket() -> None:
    wire = Wire(1, 2)
    a, b = wire.sockets

    async def main() -> set[bytes]:
        receiver, sender = await b.datagram(9), await a.datagram()
        tasks = [asyncio.ensure_future(receiver.receive()) for _ in range(3)]
        for number in range(3):
            await sender.send(bytes([number]), (b, 9))
        return {data for data, _ in await asyncio.gather(*tasks)}

    assert run(wire.world, main()) == {b"\0", b"\1", b"\2"}


def test_closing_a_socket_wakes_who_waits_there_and_frees_the_port() -> None:
    wire = Wire(1)
    a = wire.sockets[0]

    async def main() -> None:
        sock = await a.datagram(9)
        waiting = asyncio.ensure_future(sock.receive())
        await asyncio.sleep(0.1)
        sock.close()
        sock.close()
        with pytest.raises(OSError, match="is closed"):
            await waiting
        with pytest.raises(OSError, match="is closed"):
            await sock.send(b"x", ("10.0.0.1", 9))
        (await a.datagram(9)).close()

    run(wire.world, main())


def test_a_deadlock_names_the_socket() -> None:
    wire = Wire(1)

    async def main() -> None:
        await (await wire.sockets[0].datagram(53)).receive()

    with pytest.raises(DeadlockError, match="host1: UDP :: port 53"):
        run(wire.world, main())


class Collector(asyncio.DatagramProtocol):
    """A protocol as others write them."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.events.append((data, addr[0]))

    def error_received(self, exc: Exception) -> None:
        self.events.append(type(exc))

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(exc or "lost")


def test_datagram_protocols_of_others_work() -> None:
    wire = Wire(1, 2)
    a, b = wire.sockets

    async def main() -> list[Any]:
        transport, collector = await b.create_datagram_endpoint(Collector, ("10.0.0.2", 9))
        assert transport.get_extra_info("sockname") == ("10.0.0.2", 9)
        sender, refused = await a.create_datagram_endpoint(Collector, remote_addr=("host2", 10))
        sender.sendto(b"nobody")
        plain, _ = await a.create_datagram_endpoint(Collector)
        plain.sendto(b"hello", ("10.0.0.2", 9))
        await asyncio.sleep(1)
        transport.close()
        sender.close()
        assert transport.is_closing()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        plain.close()
        return [collector.events, refused.events]

    assert run(wire.world, main()) == [[(b"hello", "10.0.0.1"), "lost"], [ConnectionRefusedError, "lost"]]


# Ping.


@pytest.mark.parametrize("version", [4, 6])
def test_ping_measures_the_round_trip(version: int) -> None:
    wire = Wire(1, 2)
    a, b = wire.sockets
    stats = run(wire.world, a.ping(b, count=5, interval="100ms", version=version))
    assert (stats.sent, stats.received, stats.lost, stats.loss) == (5, 5, 0, 0.0)
    assert list(stats.rtt) == [2 * DELAY] * 5
    assert stats.duration == 400_000_000 + 2 * DELAY
    assert str(stats).startswith(f"5 requests to {'10.0.0.2' if version == 4 else '2001:db8::2'}, 5 answered, 0% loss")
    assert "rtt min/avg/max/mdev = 20.000/20.000/20.000/0.000 ms" in str(stats)
    assert stats.to_dict()["rtt_ns"]["p99"] == 2 * DELAY


def test_ping_counts_what_is_lost_comes_twice_or_is_changed() -> None:
    wire = Wire(1, 2)

    def spoil(number: int, packet: Any) -> list[Any]:
        if number == 2:
            return []
        if number == 3:
            return [packet, packet]
        if number == 4:
            changed = packet.copy()
            changed[ICMP].remove_payload()
            return [IP(bytes(changed / Payload(b"x" * 56)))]
        return [packet]

    wire.spoil = spoil
    stats = run(wire.world, wire.sockets[0].ping("host2", count=4, interval=0.5, timeout=2))
    assert (stats.sent, stats.received, stats.lost, stats.duplicates, stats.corrupted) == (4, 3, 1, 1, 1)
    assert stats.loss == 25.0
    assert wire.world.now == 1_500_000_000 + 2_000_000_000


def test_ping_with_answers_later_than_the_next_request() -> None:
    wire = Wire(1, 2)
    stats = run(wire.world, wire.sockets[0].ping("host2", count=10, interval="1ms"))
    assert list(stats.rtt) == [2 * DELAY] * 10
    assert wire.world.now == 9_000_000 + 2 * DELAY


def test_more_pings_than_there_are_sequence_numbers() -> None:
    wire = Wire(1, 2)
    stats = run(wire.world, wire.sockets[0].ping("host2", count=3, interval=0.1))
    assert stats.received == 3


def test_ping_without_a_route_raises_and_opens_nothing() -> None:
    wire = Wire(1, 2)
    wire.hosts[0].answer = SEND_UNREACHABLE
    with pytest.raises(OSError, match="Network is unreachable"):
        run(wire.world, wire.sockets[0].ping("host2"))
    assert wire.hosts[0].ping.sockets.open == []


def test_two_pings_at_once_keep_their_answers_apart() -> None:
    wire = Wire(1, 2, 3)
    a = wire.sockets[0]

    async def main() -> list[int]:
        both = await asyncio.gather(a.ping("host2", count=3, interval=0.1), a.ping("host3", count=5, interval=0.1))
        return [stats.received for stats in both]

    assert run(wire.world, main()) == [3, 5]


# Raw.


def test_scapy_packets_go_out_and_come_in() -> None:
    wire = Wire(1, 2)
    a, b = wire.sockets

    async def main() -> Any:
        sender, receiver = await a.raw(), await b.raw()
        await sender.send(Ether(src=PEER_MAC, dst=MAC) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(id=77))
        await sender.send(b"\xff" * 12 + b"\x88\xb5bytes")
        packet = await receiver.receive()
        assert (await receiver.receive_bytes())[12:] == b"\x88\xb5bytes"
        return packet

    packet = run(wire.world, main())
    assert packet[ICMP].id == 77
    assert packet.time == pytest.approx(DELAY / 1e9)


def test_a_raw_socket_needs_an_interface_that_is_there() -> None:
    wire = Wire(1)

    async def main() -> None:
        await wire.sockets[0].raw(interface=2)

    with pytest.raises(ConfigError, match="has 1 interfaces"):
        run(wire.world, main())


def test_sockets_want_an_emulated_loop() -> None:
    wire = Wire(1)
    with pytest.raises(ConfigError, match=r"lab\.run"):
        asyncio.run(wire.sockets[0].datagram())


def test_an_open_that_fails_leaves_nothing_attached() -> None:
    wire = Wire(1)
    wire.hosts[0].udp.open(halves_of("10.0.0.1"), 53)

    async def main() -> None:
        with pytest.raises(ConfigError, match="in use"):
            await wire.sockets[0].datagram(53)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError) as caught:
        run(wire.world, main())
    assert "open sockets" not in str(caught.value)
