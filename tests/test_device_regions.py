"""A device over guest memory of several regions: rings and buffers anywhere, bytes over two, regions replaced."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device import queue as q
from netemu.device import receive as r
from netemu.errors import NetemuError
from netemu.memory import GuestMemory
from netemu.virtio.features import FeatureSet
from netemu.virtio.split import RingAddresses
from tests.device_kit import (
    ACKNOWLEDGE,
    DRIVER,
    DRIVER_OK,
    FEATURES_OK,
    INDIRECT,
    INDIRECT_DESC,
    MRG_RXBUF,
    VERSION_1,
    AnyHand,
    Hand,
    Part,
    Ring,
    negotiate,
    pattern,
)
from tests.packed_kit import PackedHand
from tests.test_device_receive import arrive, header

LOW, MAPPED, TOP = 0x1000, 0x7F12_3456_7000, 2**64 - 0x8000
SIZE = 0x4000
KINDS = [pytest.param(Hand, id="split"), pytest.param(PackedHand, id="packed")]
BITS = (VERSION_1, MRG_RXBUF, INDIRECT_DESC)


def far_apart() -> GuestMemory:
    """Low, where a process maps things, and at the very top; each reservation comes from the next in turn."""
    return GuestMemory.of_regions([(TOP, SIZE), (LOW, SIZE), (MAPPED, SIZE)], spread=True)


@pytest.mark.parametrize("kind", KINDS)
def test_rings_and_buffers_anywhere(kind: type[AnyHand]) -> None:
    """T21. The parts of one ring lie in three regions, and so do the buffers of one frame."""
    hand = kind(*BITS, num=4, memory=far_apart())
    addresses = hand.rx.addresses
    assert {gpa >> 12 & ~0xF for gpa in (addresses.desc, addresses.avail, addresses.used)} == {
        gpa >> 12 & ~0xF for gpa in (TOP, LOW, MAPPED)
    }
    for size in (20, 100, 250, 60):
        parts = [hand.buffer(100) for _ in range(3)]
        heads = [hand.rx.post(part) for part in parts]
        assert arrive(hand, pattern(size)) == r.RECEIVED
        count = -(-(12 + size) // 100)
        used = hand.rx.take_used()
        assert [head for head, _ in used] == heads[:count]
        assert sum(length for _, length in used) == 12 + size
        assert hand.content(parts, 12 + size) == header(12, count) + pattern(size)
        for part in parts[count:]:
            assert hand.memory.read(part.gpa, 100) == b"\xaa" * 100
        hand = kind(*BITS, num=4, memory=far_apart())


@pytest.mark.parametrize("kind", KINDS)
def test_an_indirect_table_in_another_region(kind: type[AnyHand]) -> None:
    hand = kind(*BITS, num=4, memory=far_apart())
    parts = [hand.buffer(30), hand.buffer(30), hand.buffer(30)]
    head = hand.rx.post_indirect(*parts)
    assert arrive(hand, pattern(70)) == r.RECEIVED
    assert hand.rx.take_used() == [(head, 82)]
    assert hand.content(parts, 82) == header(12, 1) + pattern(70)


def touching() -> GuestMemory:
    """Three regions without a hole between them, wherever they are in host memory; the rings lie in a fourth."""
    return GuestMemory.of_regions(
        [(MAPPED + 4 * SIZE, SIZE), (MAPPED + SIZE, 64), (MAPPED, SIZE), (MAPPED + SIZE + 64, SIZE)]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [1, 11, 12, 13, 50, 99])
def test_t_21_a_segment_over_two_regions_that_touch(kind: type[AnyHand], before: int) -> None:
    """One descriptor, and one used entry, whatever lies behind the addresses."""
    hand = kind(*BITS, num=4, memory=touching())
    part = Part(MAPPED + SIZE - before, 100)
    head = hand.rx.post(part)
    assert arrive(hand, pattern(88)) == r.RECEIVED
    assert hand.rx.take_used() == [(head, 100)]
    whole = b"".join(
        hand.memory.read(gpa, size)
        for gpa, size in (
            (part.gpa, before),
            (MAPPED + SIZE, min(64, 100 - before)),
            (MAPPED + SIZE + 64, max(0, 36 - before)),
        )
    )
    assert whole == header(12, 1) + pattern(88)
    assert hand.rx_queue.descriptors_used == 1
    assert hand.rx_queue.chains_used == 1


def test_a_readable_segment_over_regions_keeps_its_place_before_writable_ones() -> None:
    """SPLIT-D-03: nothing is written to either of its pieces."""
    hand = Hand(*BITS, num=4, memory=touching())
    hand.rx.post(Part(MAPPED + SIZE - 10, 20, writable=False), Part(MAPPED + 5 * SIZE - 200, 100))
    assert arrive(hand, pattern(60)) == r.RECEIVED
    assert hand.memory.read(MAPPED + SIZE - 10, 10) == bytes(10)
    assert hand.memory.read(MAPPED + SIZE, 10) == bytes(10)
    assert hand.memory.read(MAPPED + 5 * SIZE - 200, 72) == header(12, 1) + pattern(60)


HOLES = [
    pytest.param(MAPPED + 2 * SIZE + 60, 8, id="into-a-hole"),
    pytest.param(MAPPED - 4, 8, id="from-nowhere"),
    pytest.param(MAPPED + SIZE - 4, 3 * SIZE, id="over-a-hole-into-another-region"),
    pytest.param(MAPPED + 5 * SIZE - 4, 5, id="over-the-end"),
    pytest.param(MAPPED, 0xFFFF_FFFF, id="longest"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("gpa", "size"), HOLES)
def test_a_segment_into_a_hole_breaks_the_queue(kind: type[AnyHand], gpa: int, size: int) -> None:
    hand = kind(*BITS, num=4, memory=touching())
    hand.rx.post(Part(gpa, size))
    before = hand.memory.snapshot()
    assert hand.pop() == -1
    assert hand.rx_queue.broken == q.BAD_ADDRESS
    assert hand.memory.snapshot() == before


@pytest.mark.parametrize(
    ("regions", "gpa"),
    [
        ([(2**63 - 0x1000, 0x1000), (2**63, 0x1000), (LOW, SIZE)], 2**63 - 4),
        ([(2**64 - 0x1000, 0x1000), (0, 0x1000), (LOW, SIZE)], 2**64 - 4),
    ],
    ids=["2^63", "2^64"],
)
def test_no_segment_goes_on_where_addresses_end(regions: list[tuple[int, int]], gpa: int) -> None:
    """Behind 2^64 there is nothing, and at 2^63 kernels' numbers change their sign: no machine has memory over it."""
    memory = GuestMemory.of_regions(reversed(regions))
    hand = Hand(*BITS, num=4, memory=memory)
    hand.rx.post(Part(gpa, 4))
    hand.rx.post(Part(gpa, 5))
    assert (hand.pop(), hand.pop()) == (1, -1)
    assert hand.rx_queue.broken == q.BAD_ADDRESS


def test_an_indirect_table_lies_in_one_region() -> None:
    hand = Hand(*BITS, num=4, memory=touching())
    hand.rx.describe(0, MAPPED + SIZE - 16, 32, INDIRECT)
    hand.rx.expose(0)
    assert hand.pop() == -1
    assert hand.rx_queue.broken == q.BAD_ADDRESS


def test_a_part_of_a_ring_lies_in_one_region() -> None:
    hand = Hand(*BITS, num=4, memory=touching())
    hand.device.set_status(0)
    hand.device.set_features(FeatureSet.of(*BITS))
    with pytest.raises(NetemuError, match="no region"):
        hand.device.setup_queue(0, RingAddresses(4, MAPPED + SIZE - 32, hand.rx.avail, hand.rx.used))


@given(st.lists(st.tuples(st.integers(0, 3 * SIZE), st.integers(0, 300)), min_size=1, max_size=4), st.integers(0, 600))
@settings(max_examples=150, deadline=None)
def test_pieces_and_wholes_are_the_same_to_a_driver(places: list[tuple[int, int]], size: int) -> None:
    """Any buffers in memory of three regions that touch do as in memory of one, byte for byte."""
    cuts = [SIZE, SIZE + 64]
    base = LOW
    many = GuestMemory.of_regions([(base, cuts[0]), (base + cuts[0], 64), (base + cuts[1], 3 * SIZE)])
    one = GuestMemory.of_regions([(base, cuts[1] + 3 * SIZE)])
    outcomes = []
    for memory in (many, one):
        hand = Hand(*BITS, num=8, memory=memory)
        for offset, length in places:
            hand.rx.post(Part(base + 1024 + offset, length))
        outcomes.append((arrive(hand, pattern(size)), hand.rx.take_used()))
    assert outcomes[0] == outcomes[1]
    assert many.snapshot() == one.snapshot()


# Regions that are replaced.


def test_regions_are_replaced_while_the_device_is_stopped_and_addresses_translated_anew() -> None:
    """As a front-end of vhost-user does: the same guest addresses, other host memory, then a new region besides."""
    hand = Hand(*BITS, num=4)
    before = hand.memory
    with pytest.raises(NetemuError, match="in use"):
        before.replace_regions([(LOW, SIZE)])
    hand.device.set_status(0)
    shared = mmap.mmap(-1, SIZE)
    before.replace_regions([(MAPPED, shared), (LOW, SIZE)])
    features = FeatureSet.of(*BITS)
    negotiate(hand.device, features)
    rings = [Ring(before, 4) for _ in range(2)]
    for index, ring in enumerate(rings):
        hand.device.setup_queue(index, ring.addresses)
    hand.device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    hand.rx, hand.tx = rings
    part = hand.buffer(100)
    hand.rx.post(part)
    assert arrive(hand, pattern(60)) == r.RECEIVED
    start = part.gpa - MAPPED
    assert shared[start : start + 72] == header(12, 1) + pattern(60)


def test_queues_reset_one_by_one_let_go_of_memory_with_the_last() -> None:
    hand = Hand(VERSION_1, 40, num=4)
    hand.device.reset_queue(0)
    with pytest.raises(NetemuError, match="in use"):
        hand.memory.replace_regions([(LOW, SIZE)])
    hand.device.reset_queue(1)
    hand.memory.replace_regions([(LOW, SIZE)])
