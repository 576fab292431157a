"""GRO as the kernel these tests run on does it: the same segments through a veth pair, with NAPI and GRO on.

The receiving socket asks for a virtio_net_hdr (PACKET_VNET_HDR), so Linux itself says gso_size and what is left to be
summed. Needs root, to make the pair. A burst that the sender was interrupted in may be merged less than it could be,
and is sent again. Nothing is VLAN tagged: GRO of tags is in a module of its own that need not be there.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gro_kit import ACK, CWR, FIN, PSH, Packet, Segment, merged, stream
from tests.support import needs
from tests.test_gro import received, run_of, seen

pytestmark = needs("ip", "ethtool")

SOL_PACKET, PACKET_VNET_HDR, ETH_P_ALL = 263, 15, 3
NEEDS_CSUM = 1
FLUSH_TIMEOUT_NS = 20_000_000
TRIES = 20
VERSION = tuple(int(part) for part in os.uname().release.split(".")[:2])


class Veth:
    """A pair of interfaces; what is sent into the first goes through the second one's GRO."""

    def __init__(self) -> None:
        self.names = [f"ng{os.getpid() % 1000000}{end}" for end in "ab"]
        _run("ip", "link", "add", self.names[0], "type", "veth", "peer", "name", self.names[1])
        self.receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            for name in self.names:
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
                _run("ip", "link", "set", name, "arp", "off", "up")
            # A veth pair skips GRO for senders that could have sent large segments themselves.
            _run("ethtool", "-K", self.names[0], "tso", "off", "gso", "off")
            _run("ethtool", "-K", self.names[1], "gro", "on")
            # Polls follow each other at once: hold on to flows across them.
            (Path("/sys/class/net") / self.names[1] / "gro_flush_timeout").write_text(str(FLUSH_TIMEOUT_NS))
            self.receiver.bind((self.names[1], ETH_P_ALL))
            self.receiver.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            self.receiver.settimeout(0.06)
            self.sender.bind((self.names[0], 0))
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        self.receiver.close()
        self.sender.close()
        _run("ip", "link", "del", self.names[0])

    def through(self, frames: list[bytes]) -> list[tuple[bytes, int, int, int]]:
        """What comes out: bytes, header flags, gso_size, csum_start."""
        for frame in frames:
            self.sender.send(frame)
        out: list[tuple[bytes, int, int, int]] = []
        while True:
            try:
                data = self.receiver.recv(1 << 18)
            except TimeoutError:
                return out
            flags, _, _, gso_size, csum_start, _ = struct.unpack_from("<BBHHHH", data)
            out.append((data[10:], flags, gso_size, csum_start))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def veth() -> Iterator[Veth]:
    if os.geteuid() != 0:
        pytest.skip("making a veth pair needs root")
    try:
        pair = Veth()
    except (OSError, subprocess.CalledProcessError) as fault:
        pytest.skip(f"no veth pair with GRO here: {fault}")
    yield pair
    pair.remove()


def as_linux_does(veth: Veth, segments: list[Segment], wanted: list[Packet]) -> None:
    """Linux hands up the wanted packets in the wanted order, in one of a few tries."""
    for _ in range(TRIES):
        came = veth.through([segment.pack() for segment in segments])
        if [data for data, *_ in came] == [packet.data for packet in wanted]:
            break
    assert [data for data, *_ in came] == [packet.data for packet in wanted]
    for (data, flags, gso_size, csum_start), packet in zip(came, wanted, strict=True):
        assert gso_size == packet.size
        if packet.segments > 1:
            assert flags == NEEDS_CSUM
            assert struct.unpack_from(">H", data, csum_start + 16)[0] != 0


def check(veth: Veth, segments: list[Segment]) -> None:
    major, minor, *_ = VERSION
    assert seen(received(segments)) == merged(segments)
    as_linux_does(veth, segments, merged(segments, (major, minor)))


SCENES = {
    "in-a-row": run_of(8),
    "over-ipv6": run_of(8, v6=True),
    "short-last": [*run_of(4), replace(run_of(5)[4], payload=b"end")],
    "push-in-the-middle": [replace(one, flags=ACK | PSH) if at == 2 else one for at, one in enumerate(run_of(6))],
    "fin": [replace(one, flags=ACK | FIN) if at == 5 else one for at, one in enumerate(run_of(6))],
    "cwr": [replace(one, flags=ACK | CWR) if at in (0, 3) else one for at, one in enumerate(run_of(6))],
    "hole": [*run_of(3), *run_of(6)[4:]],
    "again": [*run_of(3), *run_of(6)[2:]],
    "fixed-identification": [replace(one, ident=0) for one in run_of(5)],
    "fixed-identification-and-fragmentable": [replace(one, ident=0, dont_fragment=False) for one in run_of(5)],
    "counting-and-fragmentable": run_of(5, dont_fragment=False),
    "identification-jumps": [replace(one, ident=9) if at == 3 else one for at, one in enumerate(run_of(6))],
    "time-to-live": [replace(one, ttl=63) if at == 3 else one for at, one in enumerate(run_of(6))],
    "hop-limit": [replace(one, ttl=63) if at == 3 else one for at, one in enumerate(run_of(6, v6=True))],
    "traffic-class": [replace(one, tos=1) if at == 3 else one for at, one in enumerate(run_of(6, v6=True))],
    "window": [replace(one, window=1) if at == 3 else one for at, one in enumerate(run_of(6))],
    "bad-checksum": [replace(one, bad_tcp=True) if at == 3 else one for at, one in enumerate(run_of(6))],
    "bad-ip-checksum": [replace(one, bad_ip=True) if at == 3 else one for at, one in enumerate(run_of(6))],
    "padded": [replace(one, padding=4) if at == 3 else one for at, one in enumerate(run_of(6))],
    "larger-than-the-first": [replace(run_of(1)[0], payload=b"1234"), *[replace(one, seq=5) for one in run_of(1)]],
    "64-kib": run_of(50, 1400),
    "nine-flows": [replace(one, ports=(at, 80)) for at, one in enumerate(run_of(9))] + run_of(1, ports=(0, 80)),
}


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene(veth: Veth, scene: str) -> None:
    """netemu, the second account in gro_kit and the kernel agree."""
    check(veth, SCENES[scene])


@pytest.mark.parametrize("seed", range(20))
def test_streams_with_accidents(veth: Veth, seed: int) -> None:
    check(veth, stream(seed, 24, flows=3, trouble=1.0, tagged=False))
