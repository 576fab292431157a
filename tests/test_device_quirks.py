"""What a device with quirks writes: header, used entries and interrupts, read by a driver held by hand."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from netemu.device import receive as r
from netemu.device.queue import unpop
from netemu.device.quirks import QUIRKS, device_quirks_at
from netemu.errors import ConfigError
from netemu.jit import call5
from tests.device_kit import EVENT_IDX, MRG_RXBUF, VERSION_1, AnyHand, Hand, HostFrame, Part, pattern
from tests.packed_kit import DISABLE, PackedHand

KINDS = [pytest.param(Hand, id="split"), pytest.param(PackedHand, id="packed")]
BITS = (VERSION_1, MRG_RXBUF)
TSO4, GUEST_CSUM = 7, 1


class Driver:
    """A driver held by hand, with buffers of 100 bytes posted, in front of a device with quirks."""

    def __init__(self, kind: type[AnyHand], *quirks: str, bits: tuple[int, ...] = BITS, posted: int = 6) -> None:
        self.hand = kind(*bits, quirks=quirks)
        self.parts = [self.hand.buffer(100) for _ in range(posted)]
        self.ids = [self.hand.rx.post(part) for part in self.parts]
        self.number = 0

    def arrive(self, size: int, *, tries: int = 1) -> int:
        """A frame reaches the device, at the second try where a capture had no room at the first; calls it made."""
        dq, frame = self.hand.rx_queue, HostFrame(pattern(size))
        self.number += 1
        for n in range(tries):
            assert r.receive_frame(dq, self.hand.side, frame.address, frame.size, 0) == r.RECEIVED
            if dq.quirks:
                call5(device_quirks_at(dq.quirks).spoil, dq.quirks, self.number, 0, 0, 0)
            if n + 1 < tries:
                unpop(dq)
        return int(r.publish(dq))

    def header(self, nth: int = 0) -> tuple[int, ...]:
        """flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers in the nth buffer."""
        return struct.unpack("<BBHHHHH", self.hand.memory.read(self.parts[nth].gpa, 12))

    def used(self) -> list[tuple[int, int]]:
        """Number of the buffer and length of each used entry since the last look."""
        return [(self.ids.index(head), length) for head, length in self.hand.rx.take_used()]


CLEAN = (0, 0, 0, 0, 0, 0)


def test_the_list_has_a_name_and_a_clause_for_each() -> None:
    assert len({quirk.name for quirk in QUIRKS}) == len({quirk.number for quirk in QUIRKS}) == len(QUIRKS) == 20
    assert all(quirk.side == "device" and quirk.clause and quirk.words for quirk in QUIRKS)
    assert max(quirk.number for quirk in QUIRKS) < 63


def test_a_quirk_of_the_driver_is_none_of_the_device() -> None:
    with pytest.raises(ConfigError, match="no quirk is called 'chain-loop'"):
        Hand(VERSION_1, quirks=["chain-loop"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_quirk_that_does_not_happen_changes_nothing(kind: type[AnyHand]) -> None:
    bad, good = Driver(kind, "used-id-twice:p=0", "num-buffers-zero:at=9"), Driver(kind)
    for size in (60, 150, 88):
        assert bad.arrive(size) == good.arrive(size) == 1
    assert bad.hand.memory.snapshot() == good.hand.memory.snapshot()
    assert bad.used() == good.used() == [(0, 72), (1, 100), (2, 62), (3, 100)]


# The header.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("num-buffers-zero", 60, 0),
        ("num-buffers-zero", 150, 0),
        ("num-buffers-more", 60, 2),
        ("num-buffers-more", 150, 3),
        ("num-buffers-fewer", 150, 1),
        ("num-buffers-fewer", 60, 1),
    ],
)
def test_rx_d_02_broken_by_num_buffers(kind: type[AnyHand], name: str, size: int, expected: int) -> None:
    """RX-D-02."""
    driver = Driver(kind, name)
    driver.arrive(size)
    assert driver.header() == (*CLEAN, expected)
    assert [length for _, length in driver.used()] == ([72] if size == 60 else [100, 62])


def test_rx_d_20_broken_by_checksum_offsets() -> None:
    """RX-D-20."""
    for seed in range(1, 6):
        driver = Driver(Hand, f"csum-offsets:seed={seed}")
        driver.arrive(60)
        flags, _, _, _, start, offset, _ = driver.header()
        assert flags == 1
        assert start + offset + 2 > 60


def test_rx_d_26_broken_by_a_gso_type_there_is_not() -> None:
    """RX-D-26."""
    driver = Driver(Hand, "gso-unknown")
    driver.arrive(60)
    assert driver.header()[1] == 2


@pytest.mark.parametrize(("bits", "kind"), [((), 5), ((54, GUEST_CSUM), 3), ((54, 10, GUEST_CSUM), 1)])
def test_rx_d_07_broken_by_a_gso_type_nobody_asked_for(bits: tuple[int, ...], kind: int) -> None:
    """RX-D-07. RX-D-08: the first of USO, UFO, TSO4, TSO6 that was not negotiated."""
    driver = Driver(Hand, "gso-unasked", bits=(*BITS, *bits))
    driver.arrive(60)
    assert driver.header()[1:4] == (kind, 0, 1400)


def test_rx_d_28_broken_by_a_gso_size_of_zero() -> None:
    """RX-D-28."""
    driver = Driver(Hand, "gso-size-zero")
    driver.arrive(60)
    assert driver.header()[1:4] == (1, 0, 0)


def test_rx_d_05_broken_by_junk_that_means_nothing() -> None:
    """RX-D-05. Type, count and the flags that have a meaning are as they should be; the frame, too."""
    driver = Driver(Hand, "header-dirty:seed=3", bits=(*BITS, 57))
    driver.arrive(60)
    flags, gso_type, *junk, count = driver.header()
    assert (flags & 0x0F, gso_type, count) == (0, 0, 1)
    assert any(junk)
    assert driver.hand.memory.read(driver.parts[0].gpa + 20, 60) == pattern(60)


def test_a_header_over_many_small_buffers_is_changed_where_it_lies() -> None:
    hand = Hand(*BITS, num=64, quirks=["num-buffers-zero"])
    parts = [hand.buffer(1) for _ in range(20)]
    for part in parts:
        hand.rx.post(part)
    dq, frame = hand.rx_queue, HostFrame(b"12345678")
    assert r.receive_frame(dq, hand.side, frame.address, frame.size, 0) == r.RECEIVED
    call5(device_quirks_at(dq.quirks).spoil, dq.quirks, 1, 0, 0, 0)
    r.publish(dq)
    assert hand.content(parts, 20) == bytes(12) + b"12345678"


def test_a_frame_that_is_tried_twice_asks_its_rules_once() -> None:
    driver = Driver(Hand, "num-buffers-zero:count=1")
    driver.arrive(60, tries=3)
    driver.arrive(60)
    assert [driver.header(n)[6] for n in range(2)] == [0, 1]
    assert driver.hand.device.quirks_fired == {"num-buffers-zero": 1}


# Used entries.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [60, 150])
def test_split_d_15_broken_by_a_used_length_beyond_the_buffer(kind: type[AnyHand], size: int) -> None:
    """SPLIT-D-15. PACK-D-03."""
    driver = Driver(kind, "used-length-over")
    driver.arrive(size)
    *whole, (_, last) = driver.used()
    assert last > 100
    assert all(length == 100 for _, length in whole)


@pytest.mark.parametrize("kind", KINDS)
def test_rx_d_03_broken_by_a_used_length_below_the_headers(kind: type[AnyHand]) -> None:
    """RX-D-03."""
    driver = Driver(kind, "used-length-short")
    driver.arrive(150)
    (_, first), (_, second) = driver.used()
    assert first < 26
    assert second == 62


def raw_ids(driver: Driver, count: int) -> list[int]:
    """The ids of the first used entries, whatever they are."""
    hand: Any = driver.hand
    if isinstance(hand, Hand):
        assert hand.rx.used_idx == count
        return [struct.unpack("<I", hand.memory.read(hand.rx.used + 4 + 8 * n, 4))[0] for n in range(count)]
    return [hand.rx.used_descriptor(n)[1] for n in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_split_b_06_broken_by_an_id_out_of_range(kind: type[AnyHand]) -> None:
    """SPLIT-B-06."""
    driver = Driver(kind, "used-id-out-of-range")
    driver.arrive(60)
    assert 8 <= raw_ids(driver, 1)[0] < 65536


def test_split_b_06_broken_by_an_id_that_heads_nothing() -> None:
    """SPLIT-B-06. Heads 0 to 5 were posted, 0 is to be used: 6 and 7 are left."""
    for seed in range(1, 6):
        driver = Driver(Hand, f"used-id-not-head:seed={seed}")
        driver.arrive(60)
        assert raw_ids(driver, 1)[0] in (6, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_buffer_that_becomes_used_twice(kind: type[AnyHand]) -> None:
    """SPLIT-B-06, PACK-D-04."""
    driver = Driver(kind, "used-id-twice:at=2")
    driver.arrive(60)
    driver.arrive(60)
    first, second = driver.ids[:2]
    assert raw_ids(driver, 3) == [first, second, second]


@pytest.mark.parametrize("kind", KINDS)
def test_rx_d_04_broken_by_a_buffer_that_comes_late(kind: type[AnyHand]) -> None:
    """RX-D-04. With the next frame, and in front of it; a frame in a single buffer is late as a whole."""
    driver = Driver(kind, "buffers-late:count=2")
    driver.arrive(150)
    assert driver.used() == [(0, 100)]
    driver.arrive(60)
    assert driver.used() == [(1, 62), (2, 72)]
    driver.arrive(70)
    assert driver.used() == [(3, 82)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_late_comes_when_no_frame_does(kind: type[AnyHand]) -> None:
    driver = Driver(kind, "buffers-late")
    driver.arrive(60)
    assert driver.used() == []
    assert driver.hand.device.settle() == [0]
    assert driver.used() == [(0, 72)]
    assert driver.hand.device.settle() == []


@pytest.mark.parametrize("kind", KINDS)
def test_rfb_d_05_broken_by_buffers_out_of_order(kind: type[AnyHand]) -> None:
    """RFB-D-05. Those of one frame in reverse; of two frames in a buffer each the second comes first."""
    driver = Driver(kind, "out-of-order:count=2")
    driver.arrive(150)
    assert driver.used() == [(1, 62), (0, 100)]
    driver.arrive(60)
    assert driver.used() == []
    driver.arrive(70)
    assert driver.used() == [(3, 82), (2, 72)]


def test_split_d_14_broken_by_an_index_of_two_halves() -> None:
    """SPLIT-D-14."""
    driver = Driver(Hand, "used-index-torn:count=1")
    driver.arrive(60)
    assert driver.hand.rx.used_idx == 0x0101
    driver.arrive(60)
    assert driver.hand.rx.used_idx == 2


def test_split_b_06_broken_by_an_index_that_steps_back() -> None:
    """SPLIT-B-06."""
    driver = Driver(Hand, "used-index-back:at=2,count=1")
    driver.arrive(60)
    driver.arrive(60)
    assert driver.hand.rx.used_idx == 0
    driver.hand.device.settle()
    assert driver.hand.rx.used_idx == 2
    assert driver.used() == [(0, 72), (1, 72)]


def test_pack_d_01_broken_by_half_of_the_flags() -> None:
    """PACK-D-01. AVAIL without USED, as if the descriptor still were available; put right with the next frame."""
    driver = Driver(PackedHand, "used-index-torn:count=1")
    driver.arrive(60)
    assert driver.hand.rx.used_descriptor(0)[2] == 0x80 | 2
    assert driver.used() == []
    driver.arrive(60)
    assert driver.used() == [(0, 72), (1, 72)]


def test_pack_d_14_broken_by_writing_where_one_has_been_before() -> None:
    """PACK-D-14."""
    driver = Driver(PackedHand, "used-index-back:at=2,count=1")
    driver.arrive(60)
    assert driver.used() == [(0, 72)]
    driver.arrive(60)
    assert driver.hand.rx.used_descriptor(0)[:2] == (72, driver.ids[1])
    assert driver.used() == []
    driver.hand.device.settle()
    assert driver.used() == [(1, 72)]


# Interrupts.


@pytest.mark.parametrize("kind", KINDS)
def test_split_d_10_broken_by_an_interrupt_that_does_not_come(kind: type[AnyHand]) -> None:
    """SPLIT-D-10."""
    driver = Driver(kind, "interrupt-lost:count=1")
    assert driver.arrive(60) == 0
    assert driver.hand.bell.call_count == 0
    assert driver.used() == [(0, 72)]
    assert driver.arrive(60) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_split_d_13_broken_by_an_interrupt_for_nothing(kind: type[AnyHand]) -> None:
    """SPLIT-D-13."""
    driver = Driver(kind, "interrupt-spurious:count=1")
    assert driver.arrive(60) == 2
    assert driver.hand.bell.call_count == 2
    assert driver.arrive(60) == 1


def test_split_d_09_broken_by_interrupts_nobody_wants() -> None:
    """SPLIT-D-09. PACK-B-07; with EVENT_IDX, SPLIT-D-13."""
    driver = Driver(Hand, "event-ignored:at=2")
    driver.hand.rx.set_no_interrupt(1)
    assert [driver.arrive(60) for _ in range(2)] == [0, 1]
    other = Driver(Hand, "event-ignored:at=2", bits=(*BITS, EVENT_IDX))
    other.hand.rx.set_used_event(5)
    assert [other.arrive(60) for _ in range(2)] == [0, 1]
    packed = Driver(PackedHand, "event-ignored:at=2")
    packed.hand.rx.set_event(DISABLE)
    assert [packed.arrive(60) for _ in range(2)] == [0, 1]


def test_a_queue_that_is_reset_and_set_up_again_goes_on_misbehaving() -> None:
    driver = Driver(Hand, "num-buffers-zero", bits=(*BITS, 40))
    rx = driver.hand.rx
    driver.hand.device.reset_queue(0)
    assert driver.hand.rx_queue.quirks == 0
    driver.hand.memory.write(rx.avail, bytes(4))
    driver.hand.memory.write(rx.used, bytes(4))
    driver.hand.device.setup_queue(0, rx.addresses)
    rx.avail_idx = 0
    part: Part = driver.hand.buffer(100)
    rx.post(part)
    driver.parts = [part]
    driver.arrive(60)
    assert driver.header()[6] == 0
