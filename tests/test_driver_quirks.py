"""A driver that misbehaves on purpose: what lies in the ring then, byte by byte; and that the device survives it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu import Nic
from netemu.driver.quirks import QUIRKS, DriverQuirks
from netemu.errors import ConfigError
from netemu.frame import Frame
from netemu.jit import allocate, array_of
from netemu.offer import MODES, Mode, RingKind
from netemu.quirks import Quirk
from tests.conformance import ID
from tests.driver_kit import RingRig
from tests.driver_packed_kit import PackedRig
from tests.wire import udp

NAMES = [quirk.name for quirk in QUIRKS]
NEXT, WRITE, INDIRECT = 1, 2, 4
BUFFER = 0x4000_0000 + (1 << 21)
"""Where the rigs' buffers lie: in memory, behind the rings."""


CLOCK = allocate(8)


@pytest.fixture
def misbehave() -> Callable[..., DriverQuirks]:
    """Quirks for a rig, kept until the test is over: kernels know them by address alone."""
    kept = []

    def switch_on(rig: RingRig | PackedRig, *texts: str) -> DriverQuirks:
        kept.append(DriverQuirks(texts, rig.memory, [rig.vq], CLOCK.address))
        return kept[-1]

    return switch_on


def _spoilt(rig: RingRig | PackedRig, text: str) -> DriverQuirks:
    """Switch a quirk on, and add a buffer of three writable segments."""
    quirks = DriverQuirks([text], rig.memory, [rig.vq], CLOCK.address)
    segments = [(BUFFER + 0x1000 * n, 100 + n) for n in range(3)]
    assert rig.add([], segments, token=1) == 0
    return quirks


def _table(rig: RingRig | PackedRig, slot: int) -> list[tuple[int, int, int, int]]:
    """The indirect table that a ring descriptor names."""
    address, length = rig.device.descriptor(slot)[:2]
    return [struct.unpack("<QIHH", rig.memory.read(address + at, 16)) for at in range(0, length, 16)]


# What each one does to a split ring: a chain over descriptors 0, 1, 2 of 8, or a table.


def test_chain_loop() -> None:
    """SPLIT-V-04: the last descriptor goes on with the first."""
    rig = RingRig(8)
    _spoilt(rig, "chain-loop")
    assert [rig.device.descriptor(n)[2:] for n in range(3)] == [(3, 1), (3, 2), (3, 0)]


def test_chain_loop_in_a_table() -> None:
    rig = RingRig(8, indirect=True)
    _spoilt(rig, "chain-loop")
    assert [entry[2:] for entry in _table(rig, 0)] == [(3, 1), (3, 2), (3, 0)]


def test_next_out_of_range() -> None:
    rig = RingRig(8)
    _spoilt(rig, "next-out-of-range")
    assert rig.device.descriptor(2)[2:] == (3, 0xFFFF)


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("address-outside", (0x7FFFFFFFFFFF0000, 100, 3)),
        ("length-wraps", (0xFFFFFFFFFFFFF000, 0xFFFFFFFF, 3)),
        ("length-zero", (BUFFER, 0, 3)),
        ("wrong-direction", (BUFFER, 100, 1)),
    ],
)
def test_quirks_of_the_first_segment(name: str, first: tuple[int, int, int], indirect: bool) -> None:
    """The first of three is spoilt, the others are as they were."""
    rig = RingRig(8, indirect=indirect)
    _spoilt(rig, name)
    entries = _table(rig, 0) if indirect else [rig.device.descriptor(n) for n in range(3)]
    assert [entry[:3] for entry in entries] == [first, (BUFFER + 0x1000, 101, 3), (BUFFER + 0x2000, 102, 2)]


@pytest.mark.parametrize("packed", [False, True])
def test_short_last(packed: bool) -> None:
    rig: RingRig | PackedRig = PackedRig(8) if packed else RingRig(8)
    _spoilt(rig, "short-last")
    assert [rig.device.descriptor(n)[1] for n in range(3)] == [100, 101, 1]


def test_avail_too_far(misbehave: Callable[..., DriverQuirks]) -> None:
    """SPLIT-B-05: the index is ahead by more than the ring; with the next buffer it is right again."""
    rig = RingRig(8)
    misbehave(rig, "avail-too-far:count=1")
    rig.add_one(1)
    assert rig.device.avail_idx == 1 + 8 + 1
    rig.add_one(2)
    assert rig.device.avail_idx == 2


def test_indirect_inside() -> None:
    """SPLIT-V-07: the table's first entry is INDIRECT; a buffer without a table gets one, in its own memory."""
    rig = RingRig(8, indirect=True)
    _spoilt(rig, "indirect-inside")
    assert rig.device.descriptor(0)[2] == INDIRECT
    assert _table(rig, 0)[0][2] == NEXT | WRITE | INDIRECT
    rig = RingRig(8)
    _spoilt(rig, "indirect-inside")
    assert rig.device.descriptor(0)[:3] == (BUFFER, 16, INDIRECT)
    assert _table(rig, 0) == [(BUFFER, 16, INDIRECT | WRITE, 0)]


# A packed ring


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("address-outside", (0x7FFFFFFFFFFF0000, 100, 0, 0x83)),
        ("length-wraps", (0xFFFFFFFFFFFFF000, 0xFFFFFFFF, 0, 0x83)),
        ("length-zero", (BUFFER, 0, 0, 0x83)),
        ("wrong-direction", (BUFFER, 100, 0, 0x81)),
    ],
)
def test_quirks_of_the_first_descriptor_of_a_packed_ring(name: str, first: tuple[int, int, int, int]) -> None:
    rig = PackedRig(8)
    _spoilt(rig, name)
    assert [rig.device.descriptor(n) for n in range(2)] == [first, (BUFFER + 0x1000, 101, 0, 0x83)]


def test_chain_loop_of_a_packed_ring() -> None:
    """PACK-V-11: the list goes on into slots that were not made available."""
    rig = PackedRig(8)
    _spoilt(rig, "chain-loop")
    assert [rig.device.flags(n) for n in range(4)] == [0x83, 0x83, 0x83, 0]


def test_a_head_alone_keeps_its_availability(misbehave: Callable[..., DriverQuirks]) -> None:
    """The quirk is about the head's own flags here: NEXT is added, AVAIL comes with the rest."""
    rig = PackedRig(8)
    misbehave(rig, "chain-loop")
    rig.add_many(1, 1)
    assert rig.device.flags(0) == 0x83


def test_avail_too_far_of_a_packed_ring() -> None:
    """PACK-V-15: the slot behind the buffer is made available with nothing in it."""
    rig = PackedRig(8)
    _spoilt(rig, "avail-too-far")
    assert rig.device.descriptor(3) == (0, 0, 0, 0x82)


def test_next_out_of_range_does_not_happen_to_a_packed_ring() -> None:
    """There is no next; the rule is not even asked."""
    rig = PackedRig(8)
    quirks = _spoilt(rig, "next-out-of-range")
    assert quirks.fired == {"next-out-of-range": 0}
    assert rig.device.take()[1] == 3


# When


def test_the_moment_is_a_buffers_number(misbehave: Callable[..., DriverQuirks]) -> None:
    rig = RingRig(8)
    quirks = misbehave(rig, "length-zero:at=2,count=2")
    for token in range(1, 6):
        rig.add_one(token)
    assert [rig.device.descriptor(n)[1] for n in range(5)] == [100, 0, 0, 100, 100]
    assert quirks.fired == {"length-zero": 2}


def test_no_quirk_no_hook() -> None:
    rig = RingRig(8)
    quirks = _spoilt(rig, "length-zero")
    assert rig.vq.quirks != 0
    DriverQuirks([], rig.memory, [rig.vq], CLOCK.address)
    assert rig.vq.quirks == 0
    assert quirks.fired == {"length-zero": 1}


@pytest.mark.parametrize("quirk", QUIRKS, ids=NAMES)
def test_a_quirk_has_words_and_a_clause(quirk: Quirk) -> None:
    assert quirk.side == "driver"
    assert ID.findall(quirk.clause) == quirk.clause.split(", ")
    assert quirk.words


def test_a_name_that_is_none() -> None:
    with pytest.raises(ConfigError, match="no quirk is called 'sloth'"):
        Nic(quirks=["sloth"])


# The device survives


FRAMES = [udp(bytes([n % 251]) * (20 + 7 * n % 1400)) for n in range(150)]


ILLEGAL = {"next-out-of-range", "address-outside", "length-wraps"}
"""Descriptors that cannot be: the device refuses them, so that no frame gets lost in between uncounted.

The others describe buffers that can be, only not those that the driver thinks it has: a device is to use them as they
are described, and what the driver then makes of its memory is its own affair. Loops and tables in tables are illegal in
split rings; in packed ones a loop cannot be, only a list that runs on, and flags in tables are ignored (PACK-B-04).
"""
ILLEGAL_IN_SPLIT = {"chain-loop", "indirect-inside"}


def _survives(nic: Nic, *, accounts: bool = True) -> None:
    """All frames are played. Where the driver knows its own buffers, each arrives as it was sent or is counted."""
    received = [one.data for one in nic.receive(FRAMES)]
    assert nic.engine.frames_in == len(FRAMES)
    for reason in nic.device.broken + nic.driver.broken:
        assert reason.startswith("virtqueue 0: ")
    if accounts:
        assert set(received) <= set(FRAMES)
        assert len(received) + sum(nic.dropped.values()) == len(FRAMES)


@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_the_device_survives_it_once(name: str, mode: Mode, ring: RingKind) -> None:
    """One buffer among many, in the middle of a run: no exception, no hang; illegal ones break the ring, which says so.

    The ring has 64 buffers at first, so the 70th is one of a refill, and 150 frames need more than those.
    """
    nic = Nic(mode, 64, ring=ring, quirks=[f"{name}:at=70,count=1"])
    illegal = name in ILLEGAL or (ring == "split" and name in ILLEGAL_IN_SPLIT)
    _survives(nic, accounts=illegal or name == "avail-too-far")
    never = name == "next-out-of-range" and ring == "packed"
    assert nic.driver.quirks.fired == {name: 0 if never else 1}
    if illegal and not never:
        assert len(nic.device.broken) == 1
        assert nic.dropped["queue_broken"] > 0


@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_the_device_survives_it_always(name: str, mode: Mode, ring: RingKind) -> None:
    """Every buffer from the first on."""
    _survives(Nic(mode, 16, ring=ring, quirks=[name]), accounts=name in ILLEGAL)


@pytest.mark.parametrize("mode", ["mergeable", "small"])
@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("name", ["length-zero", "short-last", "wrong-direction"])
def test_a_buffer_with_less_room_is_used_as_it_is(name: str, mode: Mode, ring: RingKind) -> None:
    """SPLIT-D-01: 0 bytes or 1 are room, if not much: such a ring is no reason to give up."""
    nic = Nic(mode, 16, ring=ring, quirks=[name])
    nic.receive(FRAMES)
    assert nic.device.broken == []


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    seed=st.integers(1, 1000),
    chance=st.sampled_from([0.02, 0.3]),
    mode=st.sampled_from(MODES),
    ring=st.sampled_from(["split", "packed"]),
    extra=st.sampled_from(["", "-EVENT_IDX", "-INDIRECT_DESC", "+IN_ORDER"]),
)
def test_the_device_survives_any_mixture(
    names: list[str], seed: int, chance: float, mode: Mode, ring: RingKind, extra: str
) -> None:
    rules = [f"{name}:p={chance},seed={seed + n}" for n, name in enumerate(names)]
    _survives(Nic(mode, 32, ring=ring, features=extra, quirks=rules), accounts=False)


def _writable(nic: Nic) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which bytes of the one region the device may write by what the ring of queue 0 says, and the ring itself."""
    memory, places = nic.memory, nic.driver.vqs.vrings[0].addresses
    packed = bool(nic.driver.rings[0].packed)
    [(base, size)] = memory.regions
    allowed = np.zeros(size, np.bool_)

    def allow(gpa: int, length: int) -> None:
        if base <= gpa and gpa + length <= base + size:
            allowed[gpa - base : gpa - base + length] = True

    def look(table: int, entries: int) -> None:
        for n in range(entries):
            gpa, length, a, b = struct.unpack("<QIHH", memory.read(table + 16 * n, 16))
            flags = b if packed else a
            if flags & INDIRECT and table == places.desc and base <= gpa < base + size:
                look(gpa, length // 16)
            elif flags & WRITE:
                allow(gpa, length)

    look(places.desc, places.num)
    if packed:
        allow(places.desc, 16 * places.num)
        allow(places.used, 4)
    else:
        allow(places.used, 6 + 8 * places.num)
    return allowed


@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_written_outside_the_buffers(name: str, mode: Mode, ring: RingKind) -> None:
    """A full ring with every third buffer spoilt, and no turn of the guest: the device writes what the ring allows.

    SPLIT-D-03, SPLIT-D-05, PACK-D-11: neither readable segments nor, of a split ring, descriptors.
    """
    nic = Nic(mode, 32, ring=ring, burst=1 << 30, wait=False, quirks=[f"{name}:p=0.34,seed=5"])
    allowed = _writable(nic)
    before = np.frombuffer(nic.memory.snapshot(), np.uint8)
    data = b"".join(FRAMES[:40])
    place = allocate(len(data))
    place.array[:] = bytearray(data)
    frames = array_of(Frame, 40)
    at = 0
    for frame, sent in zip(frames, FRAMES, strict=False):
        frame.address, frame.len, frame.wire_len = place.address + at, len(sent), len(sent)
        at += len(sent)
    nic.arrive(frames.address, 40)
    assert nic.run()
    after = np.frombuffer(nic.memory.snapshot(), np.uint8)
    changed = np.flatnonzero(before != after)
    assert allowed[changed].all()
