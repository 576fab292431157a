"""Links as machine code do what they do as plain Python, byte by byte in a capture at their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from netemu.capture.writer import CaptureWriter
from netemu.jit import JIT
from netemu.net.link import Link
from netemu.net.options import LinkOptions
from netemu.net.port import Port, port_send
from netemu.net.switch import Switch
from netemu.net.tap import PortCapture
from netemu.net.world import World
from netemu.timers import NEVER
from tests.net_kit import MS, S, make_wire_frame
from tests.offload_kit import NEEDS_CSUM, TCPV4, ether, header, ip4, marked, tcp

LARGE = ether(ip4(tcp(marked(3000)), tos=2))
TSO = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16)
SMALL = ether(ip4(tcp(marked(500)), tos=2))


def run(words: str, path: Path, *, compiled: bool) -> tuple[bytes, str]:
    """Send 200 frames through a switch, a link with these words and another switch; its capture and what it counted.

    What the test itself calls runs as plain Python in any case; the switch and all behind it need not.
    """
    world = World()
    near, far = Switch(world.timers), Switch(world.timers)
    outside = Port()  # nothing comes back to it
    entry = Link(world.timers, world.wires, outside, near.add_port())
    link = Link(world.timers, world.wires, near.add_port(), far.add_port(), LinkOptions.of(words, seed=7))
    with CaptureWriter(path) as writer:
        capture = PortCapture(world.timers, world.wires, link.ports[1], writer.sink)
        world.add_capture(writer)
        for n in range(200):
            when = n * MS // 5
            world.run_until(when) if compiled else world.timers.run_until(when)
            data, vnet = (LARGE, TSO) if n % 7 == 0 else (SMALL, b"")
            port_send(outside.address, make_wire_frame(world.wires, data, vnet))
        world.run_until(NEVER) if compiled else world.timers.run_until(100 * S)
        assert capture.lost == 0
        entry.unplug()
    return path.read_bytes(), repr(link.forward.stats())


@pytest.mark.skipif(not JIT, reason="nothing is compiled under NETEMU_JIT=0")
@pytest.mark.parametrize(
    "words",
    [
        "delay 5ms 2ms 30% distribution pareto loss 5% 10% duplicate 5% corrupt 10% reorder 10% gap 3",
        "rate 30mbit 24 64 3 queue 20p loss state 5% 20% 30% 40% 5% mtu 1100 gso segments",
        "rate 20mbit queue 0p codel target 1ms interval 5ms ecn loss gemodel 5% 20% 80% 1% limit 100",
        "rate 20mbit queue 60kb red avpkt 600 probability 0.1 gentle ecn",
        "delay 1ms slot 2ms 5ms packets 9 bytes 9kb",
    ],
)
def test_both_ways_of_running_do_the_same(words: str, tmp_path: Path) -> None:
    plain = run(words, tmp_path / "plain.pcapng", compiled=False)
    assert len(plain[0]) > 20_000
    assert run(words, tmp_path / "compiled.pcapng", compiled=True) == plain
