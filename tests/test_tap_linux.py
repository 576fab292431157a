"""A guest and the protocols of a real Linux: ping and UDP, both ways, small, large and in fragments."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from tests.tap_talk import GUEST, GUEST6, HOST, HOST6, Talk, talk


@pytest.fixture(scope="module")
def plain() -> Iterator[Talk]:
    with talk() as talking:
        yield talking


@pytest.mark.parametrize("size", [56, 1472, 1473, 20_000, 65_000])
def test_linux_pings_the_guest(plain: Talk, size: int) -> None:
    said = plain.run(plain.linux("ping", "-c", "3", "-i", "0.01", "-W", "5", "-s", str(size), GUEST))
    assert "3 received, 0% packet loss" in said


@pytest.mark.parametrize("size", [56, 1452, 1453, 20_000])
def test_linux_pings_the_guest_over_ipv6(plain: Talk, size: int) -> None:
    said = plain.run(plain.linux("ping", "-c", "3", "-i", "0.01", "-W", "5", "-s", str(size), GUEST6))
    assert "3 received, 0% packet loss" in said


@pytest.mark.parametrize("target", [HOST, HOST6])
@pytest.mark.parametrize("size", [56, 20_000])
def test_the_guest_pings_linux(plain: Talk, target: str, size: int) -> None:
    stats = plain.run(plain.guest.ping(target, count=3, interval="10ms", size=size))
    assert (stats.sent, stats.received) == (3, 3)


@pytest.mark.parametrize("source", [HOST, HOST6])
@pytest.mark.parametrize("size", [0, 1, 1472, 30_000])
def test_datagrams_both_ways(plain: Talk, source: str, size: int) -> None:
    """Linux sends to the guest, which sends back what it got; checksums and fragments are judged by Linux."""
    sent = bytes(at % 251 for at in range(size))

    async def main() -> bytes:
        ours = await plain.guest.datagram(port=0)
        with plain.socket(address=source) as theirs:
            target = GUEST6 if ":" in source else GUEST
            await plain.lab.loop.sock_sendto(theirs, sent, (target, ours.port))
            data, sender = await ours.receive()
            await ours.send(data, sender)
            back, address = await asyncio.wait_for(plain.lab.loop.sock_recvfrom(theirs, 65536), 10)
            assert address[:2] == (target, ours.port)
        ours.close()
        return back

    assert plain.run(main()) == sent


def test_linux_hears_that_a_port_is_closed(plain: Talk) -> None:
    async def main() -> None:
        with plain.socket() as theirs:
            theirs.connect((GUEST, 9999))
            await plain.lab.loop.sock_sendall(theirs, b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.wait_for(plain.lab.loop.sock_recv(theirs, 100), 10)

    plain.run(main())


def test_a_ping_takes_as_long_as_the_link() -> None:
    """10 ms each way; real time can only be longer."""
    with talk("delay 10ms") as talking:
        said = talking.run(talking.linux("ping", "-c", "5", "-i", "0.05", GUEST))
        times = re.search(r"= ([\d.]+)/", said)
        assert times is not None
        assert float(times[1]) >= 20
        assert "5 received" in said
