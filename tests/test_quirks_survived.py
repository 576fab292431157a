"""The driver in front of a device with quirks, in all receive modes, over both rings, in all eras.

It goes on, or says that the ring is broken; and every frame that arrived came up or is dropped under one reason.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

from netemu.device.quirks import QUIRKS
from netemu.nic import Nic
from netemu.nic.control import Settings
from netemu.offer import Mode, RingKind
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.support import REPO
from tests.test_engine import Wire
from tests.wire import ipv4, udp

MODES: list[Mode] = ["mergeable", "big", "small"]
ERAS = ["linux-4.19", "linux-6.1", "linux-7.0"]
NAMES = [quirk.name for quirk in QUIRKS]

BREAKS = {"used-id-out-of-range", "used-id-not-head", "used-id-twice", "used-index-torn", "used-index-back"}
"""After these a ring may be broken (BAD_RING), and need not be."""
HARMLESS = {"header-dirty", "interrupt-spurious", "event-ignored", "buffers-late", "out-of-order"}
"""Frames in a single buffer all come up, whatever happens to those."""


def udp_frame(payload: bytes, port: int = 9) -> bytes:
    """A frame of 42 bytes and the payload."""
    return ipv4(udp(payload, port=port), 17)


def sizes(seed: int, count: int, most: int) -> list[int]:
    """Lengths of frames, many of them short."""
    rng = random.Random(seed)
    return [rng.choice([60, 61, 128, 200, 1000, 1514, most]) for _ in range(count)]


def settled(nic: Nic) -> None:
    """What holds when nothing is under way: each frame has one fate, and a driver that gave up said so."""
    e = nic.engine
    assert nic.guest.outstanding is not None
    passed = nic.guest.outstanding.struct.passed
    assert e.frames_in == int(nic.drops_by_device.sum()) + passed + nic.dropped.get("ring_lost", 0)
    assert e.frames_out + nic.guest.merged + int(nic.driver.drops.sum()) == passed + nic.made_up
    for text in nic.driver.broken:
        assert "id" in text or "chain" in text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("name", NAMES)
def test_a_driver_survives_each_quirk(name: str, ring: RingKind, mode: Mode) -> None:
    """SPLIT-V-16: also interrupts for nothing."""
    most = 1514 if mode == "small" else 9000
    frames = [udp_frame(payload=bytes([n % 251]) * (size - 42)) for n, size in enumerate(sizes(1, 150, most))]
    for era in ERAS:
        accept = FeatureSet.of(*f.NAMES)
        nic = Nic(mode, 64, driver=era, ring=ring, quirks=[f"{name}:p=0.1,seed=3,at=5"], burst=8, accept=accept)
        received = nic.receive(frames)
        settled(nic)
        assert nic.quirks_fired[name] > 0 or nic.driver.broken or nic.device.broken
        if not nic.driver.broken:
            assert BREAKS.isdisjoint({name}) or name.startswith("used-i")
        if not nic.driver.broken and not nic.device.broken:
            # What came up under a number is that frame, unless a quirk took its bytes apart.
            for one in received[:4]:
                assert one.data == frames[one.skb.frame_id - 1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_frames_in_one_buffer_come_up_whole(name: str, ring: RingKind, mode: Mode) -> None:
    """Late, early, with junk in the header, with more interrupts than there should be: each is known by its number."""
    frames = [udp_frame(payload=bytes([n % 251]) * (18 + n)) for n in range(200)]
    nic = Nic(mode, 64, ring=ring, quirks=[f"{name}:p=0.3,seed=5"], burst=8)
    received = nic.receive(frames)
    assert nic.quirks_fired[name] > 20
    assert nic.dropped == {}
    assert {one.skb.frame_id: one.data for one in received} == dict(enumerate(frames, start=1))


@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("name", ["used-id-out-of-range", "used-id-twice"])
def test_a_bad_id_breaks_the_ring_for_good_and_says_so(name: str, ring: RingKind) -> None:
    """BAD_RING: nothing more comes up, and the device runs out of buffers."""
    nic = Nic("mergeable", 64, ring=ring, quirks=[f"{name}:at=10"], burst=1)
    frames = [udp_frame(payload=bytes(18)) for _ in range(300)]
    received = nic.receive(frames)
    # The frame whose entry is double came up before the driver saw the second one.
    assert len(received) == (10 if name == "used-id-twice" else 9)
    assert len(nic.driver.broken) == 1
    assert nic.dropped["no_buffer"] + nic.dropped.get("ring_lost", 0) == 300 - len(received)


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_a_length_beyond_the_buffer_is_counted_and_the_frame_dropped(ring: RingKind) -> None:
    """Section 4.8 of the Linux sheet: rx_length_errors and a drop; the other frames come up."""
    nic = Nic("mergeable", 64, ring=ring, quirks=["used-length-over:at=10,count=5"], burst=4)
    received = nic.receive([udp_frame(payload=bytes(18)) for _ in range(100)])
    assert len(received) == 95
    assert nic.dropped == {"length_error": 5}


def test_num_buffers_zero_costs_this_frame_alone() -> None:
    """Bug 6 of the Linux sheet is about frames that lie behind it; with a poll for each frame there are none."""
    nic = Nic("mergeable", 64, quirks=["num-buffers-zero:at=10,count=5"], burst=1)
    received = nic.receive([udp_frame(payload=bytes(18)) for _ in range(100)])
    assert len(received) + sum(nic.dropped.values()) == 100
    assert nic.dropped.keys() <= {"buffers_missing", "ring_lost"}


@pytest.mark.parametrize("name", ["csum-offsets", "gso-unknown", "gso-size-zero"])
@pytest.mark.parametrize("mode", MODES)
def test_a_header_that_linux_refuses_is_a_frame_error(name: str, mode: Mode) -> None:
    """Section 4.7 of the Linux sheet: rx_frame_errors, and the frame is gone."""
    nic = Nic(mode, 64, quirks=[f"{name}:at=10,count=5"], burst=4)
    received = nic.receive([udp_frame(payload=bytes(18)) for _ in range(100)])
    assert len(received) == 95
    assert nic.dropped == {"bad_header": 5}
    assert nic.netdev["rx_frame_errors"] == 5


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_lost_interrupts_stall_a_driver_and_nothing_hangs(ring: RingKind) -> None:
    """It is not told again with EVENT_IDX: the ring fills up, and the device drops what finds no buffer."""
    nic = Nic("mergeable", 64, ring=ring, quirks=["interrupt-lost:at=10"], burst=4)
    received = nic.receive([udp_frame(payload=bytes(18)) for _ in range(300)])
    assert len(received) < 64
    assert nic.dropped.keys() == {"no_buffer", "ring_lost"}
    settled(nic)


def test_quirks_of_several_queues_and_both_sides_together() -> None:
    rules = ["num-buffers-more:p=0.05", "used-length-short:p=0.05", "length-zero:p=0.02", "short-last:p=0.02"]
    nic = Nic("mergeable", 64, queues=3, quirks=rules, burst=8)
    frames = [udp_frame(payload=bytes(18 + n), port=1000 + n) for n in range(400)]
    nic.receive(frames)
    assert nic.quirks_fired.keys() == {rule.partition(":")[0] for rule in rules}
    settled(nic)


def test_lost_frames_and_made_up_ones_do_not_cancel_out() -> None:
    """Each number comes up once at most: what is there twice was made up, what is missing was lost."""
    both = 0
    for seed in range(1, 9):
        nic = Nic("mergeable", 64, quirks=[f"num-buffers-fewer:p=0.3,seed={seed}", "num-buffers-more:p=0.3"], burst=8)
        frames = [udp_frame(payload=bytes([n % 251]) * 4000) for n in range(60)]
        numbers = [one.skb.frame_id for one in nic.receive(frames)]
        settled(nic)
        assert len(set(numbers)) <= 60 - nic.dropped.get("ring_lost", 0)
        both += min(nic.made_up, nic.dropped.get("ring_lost", 0))
    assert both > 0


def test_what_a_guest_cannot_send_back_was_not_made_up() -> None:
    """Bug: drops of the send side went into the balance of what arrived."""
    nic = Nic(mtu=1500, guest="reflect", features="-MTU", quirks=["num-buffers-zero:at=1000"])
    nic.driver.vi.mtu = 576
    nic.exchange([udp_frame(payload=bytes(1000))] * 5)
    assert nic.dropped == {"tx_too_long": 5}
    assert nic.made_up == 0


def test_nothing_is_lost_in_the_ring_when_the_guest_sends() -> None:
    """Bug: with any quirk switched on, all that a guest sent counted as lost."""
    nic = Nic(guest="send", quirks=["num-buffers-zero:at=1000"])
    assert len(nic.send([udp_frame(payload=bytes(18))] * 5)) == 5
    assert (nic.dropped, nic.made_up) == ({}, 0)


def test_a_device_with_quirks_coalesces_all_the_same() -> None:
    """Bug: with any quirk switched on, every frame had its interrupt, whatever the driver had asked for."""
    coalesce = {"rx-usecs": 1_000_000, "rx-frames": 8}
    interrupts = []
    for quirks in ([], ["header-dirty:at=1000"], ["header-dirty:at=3,count=1"]):
        nic = Nic(features="-EVENT_IDX", settings=Settings(coalesce=coalesce), quirks=quirks, burst=1)
        wire = Wire([udp_frame(payload=bytes(18))] * 64)
        before = nic.queue_counters()[0]["interrupts"]
        nic.arrive(wire.address, 64)
        assert nic.run()
        interrupts.append(nic.queue_counters()[0]["interrupts"] - before)
    # The frame that is spoilt has a call of its own: 63 are left for the others, of which the last is not full.
    assert interrupts == [8, 8, 1 + 63 // 8]


PLAIN = """
import json, sys
from netemu.nic import Nic
from netemu.nic.control import Settings
from tests.test_quirks_survived import settled, udp_frame
frames = [udp_frame(payload=bytes([n]) * size) for n, size in enumerate([18, 18, 4000, 1000, 18, 2500, 18, 18] * 2)]
for ring in ("split", "packed"):
    for mode in ("mergeable", "big", "small"):
        for name in json.loads(sys.argv[1]):
            nic = Nic(mode, 16, ring=ring, quirks=[name + ":p=0.4,seed=2,at=2"], burst=4)
            nic.receive(frames)
            settled(nic)
print("survived")
"""


def test_no_quirk_makes_anybody_touch_memory_that_is_not_theirs() -> None:
    """As plain Python every access of device, driver and stack is checked against the book of allocations."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, json.dumps(NAMES)],
        env=os.environ | {"NETEMU_JIT": "0"},
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "survived\n", done.stderr[-2000:]
