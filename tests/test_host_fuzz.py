"""Anything at all into a host that answers: nothing is raised, every frame has one verdict, and time goes on."""

from __future__ import annotations

import ipaddress
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.capture import read_capture
from netemu.stack.held import CHUNK_COUNT
from netemu.stack.reasons import StackReason
from tests import wire
from tests.host_kit import MAC, PEER_MAC, HostBench
from tests.skb_kit import layouts
from tests.support import own_captures, shared_captures
from tests.test_host_arp import OWN, PEER, arp

THERE = wire.pack_addresses("10.9.0.2", "10.8.0.2")
BACK = wire.pack_addresses("10.9.0.1", "10.9.0.2")
QUOTE = wire.ipv4(wire.udp(), 17, addresses=BACK)[14:]
FRAMES = [
    arp(1, PEER_MAC, PEER, bytes(6), OWN),
    arp(2, PEER_MAC, PEER, MAC, OWN, dst=MAC),
    wire.ipv4(wire.icmp(8, bytes(40)), 1),
    wire.ipv4(wire.icmp(3, b"\x00\x00\x05\x00" + QUOTE, code=4), 1),
    wire.ipv4(wire.icmp(11, bytes(4) + QUOTE), 1),
    wire.ipv4(wire.udp(), 17, options=bytes.fromhex("9404000007070400000000 00")),
    wire.ipv4(bytes(24), 17, fragment=0x2000),
    wire.ipv4(bytes(24), 17, fragment=3),
    wire.ipv4(wire.udp(bytes(900), addresses=THERE), 17, addresses=THERE),
    wire.ipv4(wire.tcp(bytes(50)), 6),
    wire.ipv4(b"abc", 99),
]


def mended(frame: bytes) -> bytes:
    """The frame with a right IPv4 header checksum, so that what was changed behind it is looked at."""
    head = (frame[14] & 15) * 4 if len(frame) >= 34 else 0
    if frame[12:14] != b"\x08\x00" or not 20 <= head <= len(frame) - 14:
        return frame
    frame = wire.put(frame, 24, bytes(2))
    return wire.put(frame, 24, wire.internet_checksum(frame[14 : 14 + head]).to_bytes(2, "big"))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One of the frames above with some bytes changed, cut, or longer."""
    frame = bytearray(draw(st.sampled_from(FRAMES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(12, len(frame) - 1))
        frame[at] = draw(st.one_of(st.sampled_from([0, 1, 0x45, 0x46, 0xFF]), st.integers(0, 255)))
    frame = frame[: draw(st.integers(14, len(frame)))] + draw(st.binary(max_size=8))
    return mended(bytes(frame)) if draw(st.booleans()) else bytes(frame)


def take(bench: HostBench, frame: bytes, **layout: Any) -> StackReason:
    """Take a frame, addressed to this station or not; it moves the counter of its verdict, and no other one."""
    before = Counter(bench.stack.reasons())
    verdict = bench.take(bench.skbs.build(frame, **layout))
    assert Counter(bench.stack.reasons()) - before == Counter([verdict.key])
    return verdict


def settled(bench: HostBench) -> None:
    """Two minutes later nothing is held any more."""
    bench.run(120)
    assert bench.stack.ip.held.free_count == CHUNK_COUNT
    assert bench.stack.ip.reassembly.in_use == 0
    assert bench.queue.struct.lost == 0


@settings(max_examples=100, deadline=None)
@given(
    frames=st.lists(st.tuples(mutated(), layouts(), st.sampled_from([0, 0, 1, 8])), max_size=8),
    forwarding=st.booleans(),
)
def test_mutated_frames(frames: list[tuple[bytes, dict[str, Any], int]], forwarding: bool) -> None:
    """As plain Python, where each access is checked."""
    bench = HostBench(forwarding=forwarding)
    bench.interface(bytes.fromhex("020000000011"), "10.8.0.1/24", mtu=576)
    for frame, layout, wait in frames:
        take(bench, frame, **layout)
        bench.run(wait)
    settled(bench)


@pytest.mark.parametrize("path", own_captures() + shared_captures(), ids=lambda path: "/".join(path.parts[-2:]))
def test_captures(path: Path) -> None:
    """Each frame comes to the host it is for, and to a router that has a small link to send it on by."""
    router = HostBench(forwarding=True, mtu=1500)
    far = router.interface(bytes.fromhex("020000000011"), "10.8.0.1/24", mtu=576)
    router.know("10.8.0.2", PEER_MAC, far)
    router.stack.add_route("default", via="10.8.0.2")
    host = HostBench()
    for frame in read_capture(path, None):
        if len(frame.data) < 34:
            continue
        if frame.data[12:14] == b"\x08\x00":
            target = ipaddress.IPv4Address(frame.data[30:34])
            if not (target.is_multicast or target.is_loopback or is_own(host, target)):
                host.stack.add_address(host.eth0, f"{target}/32")
        for bench in (host, router):
            take(bench, frame.data, linear=128, pieces=(4096,) * 60)
            bench.run(0.001)
        host.taken()
        for sent in router.taken():
            if sent.data[12:14] == b"\x08\x00" and sent.interface == 2:
                assert wire.internet_checksum(sent.data[14 : 14 + (sent.data[14] & 15) * 4]) == 0
                assert len(sent.data) <= 14 + 576
    settled(host)
    settled(router)


def is_own(bench: HostBench, target: ipaddress.IPv4Address) -> bool:
    return any(address.ip == target for address in bench.stack.ip.addresses(bench.eth0))
