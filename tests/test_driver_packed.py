"""The driver's half of a packed ring: bytes at hand-worked offsets, ids, wrap counters, and what Linux does with them.

Clause ids are those of VIRTIO 1.4, "sheet" is the project's fact sheet on Linux's virtio_ring.c (its section 5.7).
"""

from __future__ import annotations

import pytest

from netemu.driver.virtio_ring import (
    broken_reason,
    virtqueue_detach_unused_buf,
    virtqueue_get_buf_ctx,
    virtqueue_notify,
    virtqueue_used_slot,
)
from netemu.errors import ConfigError
from netemu.jit import store16
from tests.driver_kit import V6_1, V7_0
from tests.driver_packed_kit import PackedRig

ENOSPC = -28
EIO = -5
NOTHING = (0, 0, 0)

eras_with_packed = pytest.mark.parametrize("kernel", [V6_1, V7_0])


# A new ring


def test_pack_v_05_parts_are_aligned_and_zero() -> None:
    """PACK-B-11: the ring starts all zero; PACK-B-10: 16 bytes a descriptor, 4 an event area; PACK-V-05: alignment."""
    rig = PackedRig(7)
    places = rig.ring.addresses
    assert (places.desc % 16, places.avail % 4, places.used % 4) == (0, 0, 0)
    assert rig.memory.read(places.desc, 7 * 16) == bytes(7 * 16)
    assert rig.memory.read(places.avail, 4) == rig.memory.read(places.used, 4) == bytes(4)
    assert len({places.desc, places.avail, places.used}) == 3


@pytest.mark.parametrize("num", [1, 2, 3, 7, 100, 32768])
def test_pack_b_10_any_size_up_to_32768(num: int) -> None:
    """PACK-B-10.

    N need not be a power of two: two rounds of the ring with one buffer in flight, at both ends of the range.
    """
    rig = PackedRig(num)
    for token in range(1, min(2 * num, 250) + 1):
        rig.cycle(token, 1)
    assert rig.vq.num_free == num


@pytest.mark.parametrize("num", [0, 32769])
def test_pack_b_10_no_other_size(num: int) -> None:
    """PACK-B-10."""
    with pytest.raises(ConfigError, match="from 1 to 32768"):
        PackedRig(num)


def test_pack_b_02_a_zero_ring_is_not_used() -> None:
    """PACK-B-02: AVAIL = USED = 0 is not enough: under the first wrap counter, 1, both have to be 1."""
    rig = PackedRig(4)
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    rig.add_many(1, 1)
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING


# virtqueue_add


def test_pack_b_11_a_chain_as_bytes() -> None:
    """PACK-B-11.

    PACK-V-01, PACK-V-03: AVAIL set, USED clear in every descriptor; PACK-V-12: writable behind readable ones.

    Offsets: addr 0, len 8, id 12, flags 14; Linux writes the id into all of them, the last is where it counts
    (PACK-V-02). NEXT on all but the last.
    """
    rig = PackedRig(8)
    assert rig.add([(0x1122334455667788, 0x0A0B0C0D)], [(0x5000, 64), (0x6000, 1500)], token=7) == 0
    table = rig.memory.read(rig.device.desc, 64)
    assert table[0:16] == bytes.fromhex("8877665544332211 0d0c0b0a 0000 8100")
    assert table[16:32] == bytes.fromhex("0050000000000000 40000000 0000 8300")
    assert table[32:48] == bytes.fromhex("0060000000000000 dc050000 0000 8200")
    assert table[48:64] == bytes(16)
    assert (rig.vq.num_free, rig.vq.mapped) == (5, 3)


def test_pack_v_01_bits_are_the_other_way_round_behind_the_end() -> None:
    """PACK-V-01: PACK-B-01, PACK-V-03: a chain over the ring's end has AVAIL before it and USED behind it."""
    rig = PackedRig(4)
    rig.cycle(1, 3)
    rig.add_many(2, 3)
    assert [rig.device.flags(slot) for slot in (3, 0, 1)] == [0x0083, 0x8003, 0x8002]
    buffer_id, slots, segments = rig.device.take()
    assert slots == 3
    assert segments == [(0x20000, 0x40, 2), (0x20100, 0x41, 2), (0x20200, 0x42, 2)]
    rig.device.use(buffer_id, 9, slots)
    assert virtqueue_get_buf_ctx(rig.vq) == (2, 9, 0)


def test_pack_b_01_wrap_counters_over_many_rounds() -> None:
    """PACK-B-01.

    Chains of 1 to 3 over a ring of 5: every position and both counters, with the device's view checked each time.
    """
    rig = PackedRig(5)
    for token in range(1, 60):
        rig.cycle(token, 1 + token % 3)
    assert rig.vq.num_free == 5
    assert rig.vq.mapped == 0


@pytest.mark.parametrize(("segments", "result"), [(2, 0), (3, ENOSPC)])
def test_pack_v_14_room_for_the_whole_list_or_nothing(segments: int, result: int) -> None:
    """PACK-V-14, PACK-V-11: not one descriptor is exposed of a list that does not fit; there is no kick (sheet 5.2)."""
    rig = PackedRig(4)
    rig.add_many(1, 2)
    before = rig.memory.snapshot()
    assert rig.add([(0x9000, 1)] * segments, [], token=3) == result
    assert (rig.memory.snapshot() == before) == (result != 0)
    assert rig.bell.kick_count == 0


def test_pack_v_11_a_list_as_long_as_the_ring_is_the_longest() -> None:
    """PACK-V-11."""
    rig = PackedRig(4)
    assert rig.add_many(1, 5) == ENOSPC
    assert rig.add_many(1, 4) == 0
    assert rig.device.take()[1] == 4


def test_pack_v_15_the_head_is_exposed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """PACK-V-15, PACK-V-20, PACK-V-22: while later descriptors are written, the head's AVAIL bit says nothing yet."""
    rig = PackedRig(4)
    seen = []

    def watched(address: int, value: int) -> None:
        store16(address, value)
        seen.append(rig.device.flags(0))

    monkeypatch.setattr("netemu.driver.vring_packed.store16", watched)
    rig.add_many(1, 3)
    assert len(seen) >= 5
    assert set(seen) == {0}
    assert rig.device.is_available()


def test_pack_v_07_exposed_descriptors_are_left_alone() -> None:
    """PACK-V-06, PACK-V-07: adding more changes no byte of what was made available and is not used yet."""
    rig = PackedRig(8)
    rig.add_many(1, 3)
    before = rig.memory.read(rig.device.desc, 48)
    rig.add_many(2, 2)
    virtqueue_notify(rig.vq)
    assert rig.memory.read(rig.device.desc, 48) == before


def test_pack_v_13_nothing_depends_on_later_lists() -> None:
    """PACK-V-13: A buffer is whole when it is exposed: the device takes and uses it with nothing behind it."""
    rig = PackedRig(8)
    rig.add_many(1, 3)
    assert rig.device.take()[1] == 3
    assert not rig.device.is_available()


# Ids


def test_ids_are_not_slots() -> None:
    """Sheet 5.7: a chain of three takes three ids and shows the first, the next buffer's is the fourth."""
    rig = PackedRig(8)
    for token, segments in ((1, 3), (2, 1), (3, 2)):
        rig.add_many(token, segments)
    assert [rig.device.take()[0] for _ in range(3)] == [0, 3, 4]


def test_pack_v_04_the_slots_of_a_buffer_are_remembered_by_its_id() -> None:
    """PACK-V-04.

    Used out of order, the used descriptors lie where the slots of those before them end; ids come back newest first.

    PACK-B-03: the driver looks at one place.
    """
    rig = PackedRig(8)
    for token, segments in ((1, 3), (2, 1), (3, 2)):
        rig.add_many(token, segments)
    taken = {token: rig.device.take() for token in (1, 2, 3)}
    places = []
    for token in (3, 1, 2):
        places.append(rig.device.used_at)
        rig.device.use(taken[token][0], 10 * token, taken[token][1])
    assert places == [0, 2, 5]
    got = []
    slots = []
    for _ in range(3):
        slots.append(virtqueue_used_slot(rig.vq))
        got.append(virtqueue_get_buf_ctx(rig.vq))
    assert got == [(3, 30, 0), (1, 10, 0), (2, 20, 0)]
    assert slots == places
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    # Freed 4 5, then 0 1 2, then 3; each goes to the front.
    ids = []
    for token in (4, 5, 6, 7):
        rig.add_many(token, 1)
        ids.append(rig.device.take()[0])
    assert ids == [3, 0, 1, 2]


def test_the_length_is_handed_on_as_it_is() -> None:
    """Sheet 5.4 step 9; PACK-D-05: NEXT in a used descriptor says nothing."""
    rig = PackedRig(4)
    rig.add([], [(0x1000, 10)], token=5, ctx=77)
    buffer_id, slots, _ = rig.device.take()
    rig.device.use(buffer_id, 0xFFFFFFFF, slots, flags=3)
    assert virtqueue_get_buf_ctx(rig.vq) == (5, 0xFFFFFFFF, 77)


# Indirect tables


def test_pack_b_04_an_indirect_table_as_bytes() -> None:
    """PACK-B-04.

    Sheet 5.7: entries carry WRITE and nothing else (PACK-V-17); the head is INDIRECT without NEXT (PACK-V-19).
    """
    rig = PackedRig(4, indirect=True)
    rig.add([(0xAAAA, 12)], [(0xBBBB, 4064), (0xCCCC, 4096)], token=1)
    address, length, buffer_id, flags = rig.device.descriptor(0)
    assert (length, buffer_id, flags) == (48, 0, 0x0084)
    table = rig.memory.read(address, 48)
    assert table[0:16] == bytes.fromhex("aaaa000000000000 0c000000 0000 0000")
    assert table[16:32] == bytes.fromhex("bbbb000000000000 e00f0000 0000 0200")
    assert table[32:48] == bytes.fromhex("cccc000000000000 00100000 0000 0200")
    assert (rig.vq.num_free, rig.vq.mapped) == (3, 3)
    rig.device.use(*rig.device.take()[:1], 8, 1)
    assert virtqueue_get_buf_ctx(rig.vq)[:2] == (1, 8)
    assert (rig.vq.num_free, rig.vq.mapped) == (4, 0)
    assert rig.ring.tables.pool.free_count == 4


def test_pack_b_05_a_list_is_direct_or_indirect() -> None:
    """PACK-B-05.

    PACK-V-16: without the feature no table; PACK-V-19: a single segment, or a table that fails, means a list.
    """
    rig = PackedRig(8, indirect=True)
    rig.ring.tables.pool.refuse = 1
    rig.add_many(1, 2)
    rig.add_many(2, 1)
    rig.add_many(3, 2)
    assert [rig.device.flags(slot) & 7 for slot in range(4)] == [3, 2, 2, 4]
    without = PackedRig(8)
    without.add_many(1, 2)
    assert [without.device.flags(slot) & 7 for slot in range(2)] == [3, 2]


def test_pack_v_10_a_list_longer_than_the_tables_is_chained() -> None:
    """PACK-V-10: PACK-V-18: a table has as many entries as the queue was made for, and no more."""
    rig = PackedRig(64, indirect=True, table_entries=40)
    rig.add_many(1, 40)
    rig.add_many(2, 41)
    assert [len(segments) for _, _, segments in (rig.device.take(), rig.device.take())] == [40, 41]
    assert rig.vq.num_free == 64 - 1 - 41


def test_a_table_over_the_rings_end() -> None:
    """An indirect buffer in the last slot flips both counters."""
    rig = PackedRig(3, indirect=True)
    for token in range(1, 12):
        rig.cycle(token, 2)
    assert (rig.vq.num_free, rig.ring.tables.pool.free_count) == (3, 3)


# BAD_RING


def _broken(used_id: int) -> PackedRig:
    rig = PackedRig(4)
    rig.add_many(1, 2)
    rig.device.use(used_id, 60, 1)
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    return rig


@pytest.mark.parametrize("used_id", [4, 0xFFFF])
def test_bad_ring_id_out_of_range(used_id: int) -> None:
    """Sheet 5.7: id >= num."""
    assert broken_reason(_broken(used_id).vq) == f"virtqueue 1: id {used_id} out of range"


@pytest.mark.parametrize("used_id", [1, 2, 3])
def test_bad_ring_id_not_in_use(used_id: int) -> None:
    """Sheet 5.7: an id that the chain took but does not show (1), and free ones; then nothing works any more."""
    rig = _broken(used_id)
    assert broken_reason(rig.vq) == f"virtqueue 1: id {used_id} is not a head"
    assert rig.add_many(9, 1) == EIO
    assert virtqueue_notify(rig.vq) == 0


def test_bad_ring_id_used_twice() -> None:
    """Section 13 of the sheet."""
    rig = PackedRig(4)
    rig.add_many(1, 1)
    buffer_id, slots, _ = rig.device.take()
    rig.device.use(buffer_id, 1, slots)
    rig.device.use(buffer_id, 1, slots)
    assert virtqueue_get_buf_ctx(rig.vq)[0] == 1
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    assert rig.vq.broken


# Taking back what was never used


@pytest.mark.parametrize("indirect", [False, True])
def test_detach_unused_buf_touches_no_index(indirect: bool) -> None:
    """Sheet 5.7: lowest id first; not a byte of the ring changes."""
    rig = PackedRig(8, indirect=indirect)
    for token, segments in ((1, 2), (2, 1), (3, 3)):
        rig.add_many(token, segments)
    before = rig.memory.snapshot()
    tokens = []
    while token := virtqueue_detach_unused_buf(rig.vq):
        tokens.append(token)
    assert tokens == [1, 2, 3]
    assert rig.memory.snapshot() == before
    assert (rig.vq.num_free, rig.vq.mapped) == (8, 0)


# What a kick says


def test_notif_v_04_a_kick_says_where_the_next_descriptor_goes() -> None:
    """NOTIF-V-04.

    PACK-V-08: the slot not yet available and its wrap counter; repeated without new ones (NOTIF-V-05, PACK-V-09).
    """
    rig = PackedRig(5, notification_data=True)
    words = []
    for token, segments in ((1, 3), (2, 1), (3, 2)):
        rig.cycle(token, segments)
        virtqueue_notify(rig.vq)
        virtqueue_notify(rig.vq)
        words.append(rig.bell.data)
    # Queue 1; after 3 slots at 3 with wrap 1, after 4 at 4, after 6 at 1 with wrap 0.
    assert words == [0x8003_0001, 0x8004_0001, 0x0001_0001]
    assert rig.bell.kick_count == 6
