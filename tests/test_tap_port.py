"""A TAP device as a node: Linux at one talks to Linux at another, and what gets lost is counted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from netemu.aio import EmulatedLoop
from netemu.errors import NetemuError
from netemu.net.wire_frame import alloc_wire_frame
from netemu.net.world import World
from netemu.peers import tap
from netemu.peers.tap import TapPort, tap_receive, tap_wake
from netemu.peers.tun import Tun
from tests.tap_kit import Joined, Namespace, linux


@pytest.fixture
def left() -> Iterator[Namespace]:
    with linux() as namespace:
        yield namespace


@pytest.fixture
def right() -> Iterator[Namespace]:
    with linux() as namespace:
        yield namespace


@pytest.mark.parametrize(("mtu", "size"), [(1500, 56), (1500, 1472), (1500, 20_000), (9000, 60_000)])
def test_linux_pings_linux(left: Namespace, right: Namespace, mtu: int, size: int) -> None:
    joined = Joined(left, right, mtu=mtu)
    said = joined.run(left, "ping", "-c", "3", "-i", "0.01", "-s", str(size), "10.7.0.2")
    assert "3 received, 0% packet loss" in said
    assert joined.all_buffers_are_back()
    assert [port.dropped for port in joined.ports] == [0, 0]


def test_frames_are_counted_at_the_port(left: Namespace, right: Namespace) -> None:
    joined = Joined(left, right)
    for namespace, own in ((left, 1), (right, 2)):
        namespace.run("sysctl", "-qw", "net.ipv6.conf.tap7.disable_ipv6=1")
        namespace.run("ip", "neighbour", "add", f"10.7.0.{3 - own}", "lladdr", "ff:ff:ff:ff:ff:ff", "dev", "tap7")
    while joined.ports[0].read() or joined.ports[1].read():
        joined.world.run_until(joined.world.now + 1)  # what IPv6 said before it was switched off
    before = [(port.port.rx_packets, port.port.tx_packets) for port in joined.ports]
    joined.run(left, "ping", "-c", "5", "-i", "0.01", "-s", "100", "10.7.0.2")
    after = [(port.port.rx_packets, port.port.tx_packets) for port in joined.ports]
    moved = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)]
    assert moved == [(5, 5), (5, 5)]


def test_a_device_that_was_removed_is_told(left: Namespace) -> None:
    world = World()
    with left.inside():
        port = TapPort(world, Tun("tap7"))
    loop = EmulatedLoop(world, realtime=True)

    async def main() -> None:
        ended = port.serve(loop)
        left.run("ip", "link", "delete", "tap7")
        await asyncio.wait_for(ended, 10)

    with pytest.raises(NetemuError, match=r"^tap7: .*; was the device removed"):
        loop.run_until_complete(main())
    loop.close()


def test_closing_ends_the_service(left: Namespace) -> None:
    world = World()
    with left.inside():
        port = TapPort(world, Tun("tap7"))
    loop = EmulatedLoop(world, realtime=True)

    async def main() -> None:
        ended = port.serve(loop)
        port.close()
        await ended

    loop.run_until_complete(main())
    loop.close()


# Frames on their way out, by hand: kernels run as plain Python here.


def frame_for(port: TapPort, world: World, size: int = 60) -> int:
    address = alloc_wire_frame(world.wires.pool, size)
    tap_receive.py_func(port.port.node, 0, address)  # type: ignore[attr-defined]
    return address


def test_an_interface_that_is_down_takes_nothing(left: Namespace) -> None:
    world = World()
    with left.inside():
        port = TapPort(world, Tun("tap7"))
    frame_for(port, world)
    assert port.flush() == 0
    assert port.dropped == 1
    assert world.wires.pool.small_count == world.wires.total[0]
    port.close()


def test_a_list_that_is_full_drops(left: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(tap, "LIST_ROOM", 3)
    with left.inside():
        device = Tun("tap7")
        device.bring_up(1500)
        port = TapPort(world, device)
    for _ in range(5):
        frame_for(port, world)
    assert port.dropped == 2
    assert port.flush() == 3
    assert port.dropped == 2
    assert world.wires.pool.small_count == world.wires.total[0]
    port.close()


def test_one_wake_up_serves_a_burst(left: Namespace) -> None:
    """It comes HOLD after the first frame, and not at all when the list was written meanwhile."""
    world = World()
    with left.inside():
        port = TapPort(world, Tun("tap7"))
    loop = EmulatedLoop(world)
    loop.call_soon(port.serve, loop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    for _ in range(3):
        frame_for(port, world)
    timers = world.timers.struct
    assert (timers.count, world.next_due) == (1, tap.HOLD)
    tap_wake.py_func(port.port.node, 0)  # type: ignore[attr-defined]
    assert len(world.take_ready()) == 1
    port.flush()
    tap_wake.py_func(port.port.node, 0)  # type: ignore[attr-defined]
    assert world.take_ready() == []
    port.close()
    loop.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(port.tun.fileno())
