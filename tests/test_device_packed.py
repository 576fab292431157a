"""The device's half of a packed virtqueue against rings written by hand (section 2.8 of VIRTIO 1.4)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from netemu.device import queue as q
from netemu.device import vring_packed
from netemu.device.queue import flush, notify, unpop
from netemu.errors import ConfigError
from netemu.jit import store16, store16_release
from netemu.memory import DEFAULT_BASE
from netemu.virtio.split import RingAddresses
from tests.device_kit import EVENT_IDX, INDIRECT_DESC, MRG_RXBUF, RING_PACKED, VERSION_1, Part, pattern
from tests.packed_kit import AVAIL, DESC, DISABLE, ENABLE, NEXT, USED, WRITE, PackedHand
from tests.test_device_receive import arrive

PLAIN = (VERSION_1,)
TABLES = (VERSION_1, INDIRECT_DESC)
EVENTS = (VERSION_1, EVENT_IDX)


def use(hand: PackedHand, chains: int, written: int = 0) -> None:
    """Post, take and publish some chains of one descriptor."""
    for _ in range(chains):
        hand.rx.post(Part(DEFAULT_BASE, 1))
        assert hand.pop() == 1
        q.chain_at(hand.rx_queue.chains + (hand.rx_queue.taken - 1) * q.CHAIN_SIZE).written = written
    flush(hand.rx_queue)


# Available descriptors.


def test_pack_b_02_a_ring_of_zeros_has_nothing_available() -> None:
    """PACK-B-02. PACK-B-11: the ring begins as zeros."""
    hand = PackedHand(*PLAIN)
    assert hand.pop() == 0
    assert q.available(hand.rx_queue) == 0


@pytest.mark.parametrize(
    ("wrap", "flags", "is_there"),
    [
        (1, AVAIL, True),
        (1, AVAIL | USED, False),
        (1, 0, False),
        (1, USED, False),
        (0, USED, True),
        (0, AVAIL, False),
        (0, AVAIL | USED, False),
        (0, 0, False),
    ],
)
def test_pack_v_01_available_is_what_differs_from_the_wrap_counter(*, wrap: int, flags: int, is_there: bool) -> None:
    """PACK-V-01, PACK-B-02: bits that differ do not suffice. PACK-D-13: without the AVAIL bit it is not used."""
    hand = PackedHand(*PLAIN, first_idx=8 if wrap == 0 else 0)
    hand.rx.write(0, hand.buffer(10).gpa, 10, 5, WRITE | flags)
    assert hand.pop() == int(is_there)


def test_pack_v_02_the_id_is_in_the_last_descriptor_of_a_chain() -> None:
    """PACK-V-02."""
    hand = PackedHand(*PLAIN)
    parts = [hand.buffer(10, writable=False), hand.buffer(20), hand.buffer(30)]
    buffer = hand.rx.post(*parts)
    assert buffer == 7
    assert hand.pop() == 1
    assert hand.taken() == (7, parts)
    assert hand.pop() == 0


def test_pack_b_03_only_the_next_slot_is_looked_at() -> None:
    """PACK-B-03. What lies behind a descriptor that is not available is not there yet (PACK-D-08: ring order)."""
    hand = PackedHand(*PLAIN)
    part = hand.buffer(10)
    hand.rx.write(1, part.gpa, part.size, 3, WRITE | AVAIL)
    assert hand.pop() == 0
    hand.rx.write(0, part.gpa, part.size, 4, WRITE | AVAIL)
    assert (hand.pop(), hand.pop(), hand.pop()) == (1, 1, 0)
    assert [hand.taken(n)[0] for n in range(2)] == [4, 3]


def test_pack_d_15_a_chain_crosses_the_end_of_the_ring() -> None:
    """PACK-D-15: descriptors of a list in ring order. Those behind the end carry the flipped bits (PACK-B-01)."""
    hand = PackedHand(*PLAIN, num=5, first_idx=3)
    parts = [hand.buffer(n + 1) for n in range(4)]
    buffer = hand.rx.post(*parts)
    assert hand.pop() == 1
    assert hand.taken() == (buffer, parts)
    assert (hand.rx_queue.last_avail_idx, hand.rx_queue.avail_wrap) == (2, 0)
    assert hand.pop() == 0


def test_a_chain_as_long_as_the_ring() -> None:
    """Linux sheet, bug 24: the position is the same afterwards, the wrap counter is not."""
    hand = PackedHand(*PLAIN, num=4, first_idx=2)
    parts = [hand.buffer(n + 1) for n in range(4)]
    for _ in range(3):
        buffer = hand.rx.post(*parts)
        assert hand.pop() == 1
        assert hand.taken() == (buffer, parts)
        assert hand.pop() == 0
        flush(hand.rx_queue)
        assert hand.rx.take_used() == [(buffer, 0)]


def test_t_08_ids_are_numbers_and_no_slots() -> None:
    """Any 16-bit number comes back as it is."""
    hand = PackedHand(*PLAIN, num=3)
    for slot, buffer in enumerate([0xFFFF, 0, 0x1234]):
        hand.rx.write(slot, hand.buffer(4).gpa, 4, buffer, WRITE | AVAIL)
    assert [hand.pop() for _ in range(4)] == [1, 1, 1, 0]
    flush(hand.rx_queue)
    assert [hand.rx.used_descriptor(slot)[1] for slot in range(3)] == [0xFFFF, 0, 0x1234]


@pytest.mark.parametrize("num", [1, 2, 3, 5, 7, 100, 1000, 32767, 32768])
def test_pack_b_10_a_ring_of_any_size(num: int) -> None:
    """PACK-B-10."""
    hand = PackedHand(*PLAIN, num=num, size=(1 << 16) + 40 * num, first_idx=num - 1)
    for _ in range(4):
        use(hand, 1, written=1)
        assert hand.rx.take_used() == [(num - 1, 1)]


@pytest.mark.parametrize("num", [0, 32769])
def test_pack_b_10_no_other_size(num: int) -> None:
    """PACK-B-10."""
    hand = PackedHand(*PLAIN)
    hand.device.set_status(0)
    hand.device.set_features(hand.device.get_features())
    with pytest.raises(ConfigError):
        hand.device.setup_queue(0, RingAddresses(num, hand.rx.desc, hand.rx.driver_event, hand.rx.device_event))


@pytest.mark.parametrize(("desc", "driver", "device"), [(8, 0, 0), (0, 2, 0), (0, 0, 1)])
def test_pack_v_05_parts_that_are_not_aligned_are_refused(desc: int, driver: int, device: int) -> None:
    """PACK-V-05."""
    hand = PackedHand(*PLAIN)
    rx = hand.rx
    hand.device.set_status(0)
    hand.device.set_features(hand.device.get_features())
    with pytest.raises(ConfigError, match="not aligned"):
        hand.device.setup_queue(0, RingAddresses(8, rx.desc + desc, rx.driver_event + driver, rx.device_event + device))


def test_a_split_ring_of_a_packed_device_is_a_power_of_two() -> None:
    """SPLIT-B-02: what a driver without RING_PACKED is told."""
    hand = PackedHand(*PLAIN, num=100)
    assert hand.device.queue_size_max(0) == 100
    hand.device.set_status(0)
    hand.device.set_features(hand.device.get_features() - type(hand.device.features).of(RING_PACKED))
    assert hand.device.queue_size_max(0) == 64


def test_unpop_makes_a_chain_the_next_again() -> None:
    """Over the end of the ring and back: positions, wrap counter and memory as before."""
    hand = PackedHand(*PLAIN, num=5, first_idx=3)
    parts = [[hand.buffer(4)], [hand.buffer(4), hand.buffer(5), hand.buffer(6)]]
    ids = [hand.rx.post(*some) for some in parts]
    before = hand.memory.snapshot()
    for _ in range(2):
        assert (hand.pop(), hand.pop(), hand.pop()) == (1, 1, 0)
        assert [hand.taken(n) for n in range(2)] == list(zip(ids, parts, strict=True))
        unpop(hand.rx_queue)
    assert hand.memory.snapshot() == before


# Indirect tables.


@pytest.mark.parametrize("junk", [0, 0xFFFF & ~WRITE, NEXT | AVAIL | USED])
def test_pack_b_04_of_the_flags_in_a_table_write_alone_counts(junk: int) -> None:
    """PACK-B-04. Ids and other flags of its entries are ignored; so many entries as len / 16, one behind the other."""
    hand = PackedHand(*TABLES)
    parts = [hand.buffer(10, writable=False), hand.buffer(20), hand.buffer(30)]
    buffer = hand.rx.post_indirect(*parts, junk=junk)
    assert hand.pop() == 1
    assert hand.taken() == (buffer, parts)
    assert hand.rx_queue.slots_taken == 1


def test_pack_d_06_write_on_the_descriptor_of_a_table_is_ignored() -> None:
    """PACK-D-06."""
    hand = PackedHand(*TABLES)
    parts = [hand.buffer(10, writable=False), hand.buffer(20)]
    hand.rx.post_indirect(*parts, flags=WRITE)
    assert hand.pop() == 1
    assert hand.taken()[1] == parts


def test_a_table_may_be_longer_than_a_small_ring() -> None:
    """As on split rings: Linux's big buffers of 19 segments on a ring of 16."""
    hand = PackedHand(*TABLES, num=4)
    parts = [hand.buffer(4) for _ in range(19)]
    hand.rx.post_indirect(*parts)
    assert hand.pop() == 1
    assert hand.taken()[1] == parts


# Used descriptors.


def test_pack_d_01_used_is_both_bits_like_the_wrap_counter_and_write_says_whether_anything_was_written() -> None:
    """PACK-D-01. PACK-D-02, PACK-D-03; 0x8082 and 0x8080, then 2 and 0 in the second round."""
    hand = PackedHand(*PLAIN, num=2)
    for marks in (0x8080, 0):
        part = hand.buffer(100)
        ids = [hand.rx.post(part), hand.rx.post(part)]
        assert (hand.pop(), hand.pop()) == (1, 1)
        q.chain_at(hand.rx_queue.chains).written = 77
        flush(hand.rx_queue)
        assert hand.rx.used_descriptor(0) == (77, ids[0], marks | WRITE)
        length, buffer, flags = hand.rx.used_descriptor(1)
        assert (length, buffer, flags) == (0, ids[1], marks)
        assert hand.rx.take_used() == [(ids[0], 77), (ids[1], 0)]


def test_pack_d_04_one_used_descriptor_a_chain_then_its_slots_are_skipped() -> None:
    """PACK-D-04. Trap T6: behind the last used one, not where the buffer lay. PACK-D-09: in order of completion."""
    hand = PackedHand(*PLAIN, num=7, first_idx=5)
    ids = [hand.rx.post(*[hand.buffer(3)] * length) for length in (3, 1, 2)]
    before = [hand.rx.used_descriptor(slot) for slot in range(7)]
    for _ in ids:
        assert hand.pop() == 1
    flush(hand.rx_queue)
    # Slots 5, 6, 0 | 1 | 2, 3: one used descriptor each at 5, 1 and 2; the counter flips behind slot 6.
    assert [hand.rx.used_descriptor(slot)[1:] for slot in (5, 1, 2)] == [
        (ids[0], AVAIL | USED),
        (ids[1], 0),
        (ids[2], 0),
    ]
    assert [hand.rx.used_descriptor(slot) for slot in (6, 0, 3, 4)] == [before[slot] for slot in (6, 0, 3, 4)]
    assert hand.rx.take_used() == [(buffer, 0) for buffer in ids]


def test_pack_d_07_the_first_buffer_of_a_frame_becomes_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """PACK-D-07. Whoever looks at its flags sees the others complete."""
    hand = PackedHand(*PLAIN, MRG_RXBUF)
    for _ in range(3):
        hand.rx.post(hand.buffer(30))
    seen: list[list[int]] = []

    def watch(store: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def stored(address: int, value: int) -> None:
            store(address, value)
            seen.append([hand.rx.used_descriptor(slot)[2] & (AVAIL | USED) for slot in range(3)])

        return stored

    monkeypatch.setattr(vring_packed, "store16", watch(store16))
    monkeypatch.setattr(vring_packed, "store16_release", watch(store16_release))
    assert arrive(hand, pattern(60)) == 0
    used = AVAIL | USED
    assert seen[-1] == [used, used, used]
    assert all(marks[0] == AVAIL for marks in seen[:-1])
    assert seen[-2][1:] == [used, used]


def test_pack_d_14_a_used_descriptor_is_not_touched_again() -> None:
    """PACK-D-14."""
    hand = PackedHand(*PLAIN)
    use(hand, 1, written=9)
    before = hand.memory.read(hand.rx.desc, 16)
    use(hand, 3, written=9)
    assert hand.memory.read(hand.rx.desc, 16) == before


def test_pack_d_11_nothing_is_written_to_readable_buffers() -> None:
    """PACK-D-11."""
    hand = PackedHand(*PLAIN)
    parts = [hand.buffer(50, writable=False), hand.buffer(100)]
    buffer = hand.rx.post(*parts)
    assert arrive(hand, pattern(60)) == 0
    assert hand.rx.take_used() == [(buffer, 72)]
    assert hand.memory.read(parts[0].gpa, 50) == b"\xaa" * 50


# When the driver is called (PACK-B-09: after the descriptors have been written).


@pytest.mark.parametrize(
    ("bits", "flags", "due"), [(PLAIN, ENABLE, 1), (PLAIN, DISABLE, 0), (EVENTS, ENABLE, 1), (EVENTS, DISABLE, 0)]
)
def test_pack_b_07_enable_and_disable(bits: tuple[int, ...], flags: int, due: int) -> None:
    """PACK-B-07."""
    hand = PackedHand(*bits)
    hand.rx.set_event(flags, offset=7)
    use(hand, 1)
    assert notify(hand.rx_queue) == due
    assert hand.bell.call_count == due


def test_pack_b_06_reserved_bits_of_the_flags_are_ignored() -> None:
    """PACK-B-06."""
    hand = PackedHand(*PLAIN)
    hand.memory.write(hand.rx.driver_event, struct.pack("<HH", 0, 0xFFFC | DISABLE))
    use(hand, 1)
    assert notify(hand.rx_queue) == 0


def test_pack_b_07_a_value_that_was_not_negotiated_does_not_silence_the_device() -> None:
    """PACK-B-07."""
    hand = PackedHand(*PLAIN)
    hand.rx.set_event(DESC, offset=7, wrap=1)
    use(hand, 1)
    assert notify(hand.rx_queue) == 1


# Ring of 5, used so many from a position; the driver waits for (offset, wrap): worked out on paper from PACK-B-08.
EVENT = [
    # (first, used, offset, wrap, due)
    (0, 1, 0, 1, 1),
    (0, 1, 1, 1, 0),
    (0, 3, 2, 1, 1),
    (0, 3, 3, 1, 0),
    (0, 3, 1, 0, 0),
    (3, 1, 3, 1, 1),
    (3, 2, 0, 0, 0),  # slot 0 comes next, in the round to come
    (3, 3, 0, 0, 1),  # ... and now it was used
    (3, 3, 0, 1, 0),  # slot 0 of the round before: passed long ago
    (3, 3, 4, 1, 1),
    (3, 4, 1, 0, 1),
    (3, 4, 2, 0, 0),
    (8, 2, 3, 0, 1),  # the same in the second round, where the wrap counter is 0
    (8, 3, 0, 1, 1),
    (8, 2, 0, 1, 0),
    (0, 5, 4, 1, 1),
    (0, 5, 0, 0, 0),
]


@pytest.mark.parametrize(("first", "used", "offset", "wrap", "due"), EVENT)
def test_pack_b_08_with_value_2_only_the_slot_that_was_named_calls(
    first: int, used: int, offset: int, wrap: int, due: int
) -> None:
    """PACK-B-08."""
    hand = PackedHand(*EVENTS, num=5, first_idx=first)
    hand.rx.set_event(DESC, offset, wrap)
    use(hand, used)
    assert notify(hand.rx_queue) == due


def test_pack_b_08_a_decision_covers_all_that_was_used_since_the_last() -> None:
    """PACK-B-08. Trap T4, and chains count by their slots: the named one may lie in the middle of one."""
    hand = PackedHand(*EVENTS)
    hand.rx.set_event(DESC, 1, 1)
    hand.rx.post(*[hand.buffer(4)] * 3)
    hand.pop()
    flush(hand.rx_queue)
    use(hand, 2)
    assert notify(hand.rx_queue) == 1
    assert notify(hand.rx_queue) == 0


@pytest.mark.parametrize("first", [0, 3, 8])
@pytest.mark.parametrize("wrap", [0, 1])
@pytest.mark.parametrize("offset", [5, 100, 32767])
def test_an_event_outside_the_ring_hurts_nobody(first: int, wrap: int, offset: int) -> None:
    hand = PackedHand(*EVENTS, num=5, first_idx=first)
    hand.rx.set_event(DESC, offset, wrap)
    use(hand, 4)
    assert notify(hand.rx_queue) in (0, 1)


# When the driver is asked to kick.


@pytest.mark.parametrize("bits", [PLAIN, EVENTS])
def test_pack_d_18_a_receive_queue_begins_without_kicks(bits: tuple[int, ...]) -> None:
    """PACK-D-18."""
    hand = PackedHand(*bits)
    assert (hand.rx.kicks[0], hand.tx.kicks[0]) == (DISABLE, ENABLE)


def test_pack_d_18_without_event_idx_kicks_are_switched_on_and_off() -> None:
    """PACK-D-18."""
    hand = PackedHand(*PLAIN)
    assert q.enable_kicks(hand.rx_queue, 0) == 0
    assert hand.rx.kicks == (ENABLE, 0, 0)
    q.disable_kicks(hand.rx_queue)
    assert hand.rx.kicks[0] == DISABLE


@pytest.mark.parametrize(
    ("first", "waiting", "expected"), [(0, 0, (0, 1)), (3, 1, (4, 1)), (3, 2, (0, 0)), (4, 3, (2, 0)), (9, 1, (0, 1))]
)
def test_with_event_idx_the_descriptor_behind_those_that_wait_is_named(
    first: int, waiting: int, expected: tuple[int, int]
) -> None:
    """PACK-B-08: of those that wait already the driver will not tell again."""
    hand = PackedHand(*EVENTS, num=5, first_idx=first)
    for _ in range(waiting):
        hand.rx.post(hand.buffer(1))
    assert q.enable_kicks(hand.rx_queue, waiting) == waiting
    assert hand.rx.kicks == (DESC, *expected)


def test_waiting_counts_slots_and_sees_what_slipped_in() -> None:
    """Trap T5. A frame found one chain of two slots too small; then there are three."""
    hand = PackedHand(*EVENTS, MRG_RXBUF)
    hand.rx.post(hand.buffer(10), hand.buffer(10))
    assert q.available(hand.rx_queue) == 2
    assert arrive(hand, pattern(60)) == 2
    assert hand.rx_queue.seen == 2
    assert q.enable_kicks(hand.rx_queue, 2) == 2
    hand.rx.post(hand.buffer(100))
    assert q.enable_kicks(hand.rx_queue, 2) == 3
    assert arrive(hand, pattern(60)) == 0


def test_available_is_the_ring_size_when_the_ring_is_full() -> None:
    hand = PackedHand(*PLAIN, num=5, first_idx=4)
    for length in (2, 1, 2):
        hand.rx.post(*[hand.buffer(1)] * length)
    assert q.available(hand.rx_queue) == 5
    assert hand.pop() == 1
    assert q.available(hand.rx_queue) == 3
