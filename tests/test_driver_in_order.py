"""Rings used in order (IN_ORDER), both kinds: which descriptors are taken, and what a batch gives back."""

from __future__ import annotations

import struct

import pytest

from netemu.driver.virtio_ring import broken_reason, virtqueue_get_buf_ctx, virtqueue_used_slot, vring_interrupt
from tests.driver_kit import RingRig
from tests.driver_packed_kit import PackedRig

NOTHING = (0, 0, 0)


def _add(rig: RingRig | PackedRig, token: int, segments: int, size: int = 100) -> None:
    """A buffer of one readable byte and so many writable segments of ``size`` bytes."""
    parts = [(0x10000 * token + 0x100 * n, size) for n in range(segments)]
    assert rig.add([(0x9000, 1)], parts, token, ctx=7 * token) == 0


# Split rings


def test_ord_v_01_descriptors_are_taken_in_table_order() -> None:
    """ORD-V-01: From 0 on, round and round, whatever came back when; chains may lie over the table's end."""
    rig = RingRig(8, in_order=True)
    heads = []
    for token in range(1, 12):
        _add(rig, token, 2)
        heads.append(rig.device.take())
        rig.device.use(heads[-1], 0)
        assert virtqueue_get_buf_ctx(rig.vq)[0] == token
    assert heads == [0, 3, 6, 1, 4, 7, 2, 5, 0, 3, 6]


def test_split_v_05_next_is_the_one_behind_and_0_at_the_end() -> None:
    """SPLIT-V-05."""
    rig = RingRig(4, in_order=True)
    _add(rig, 1, 2)
    rig.device.use(rig.device.take(), 0)
    virtqueue_get_buf_ctx(rig.vq)
    _add(rig, 2, 2)
    flags_and_next = [rig.device.descriptor(n)[2:] for n in (3, 0)]
    assert flags_and_next == [(1, 0), (3, 1)]
    assert rig.device.descriptor(1)[2] == 2


def test_split_v_10_indirect_entries_follow_each_other() -> None:
    """next = 1, 2, ... in the table (SPLIT-V-10)."""
    rig = RingRig(4, in_order=True, indirect=True)
    _add(rig, 1, 3)
    address = rig.device.descriptor(0)[0]
    entries = [struct.unpack("<QIHH", rig.memory.read(address + 16 * n, 16)) for n in range(4)]
    assert [entry[3] for entry in entries[:3]] == [1, 2, 3]
    assert entries[3][2] & 1 == 0


@pytest.mark.parametrize("indirect", [False, True])
def test_ord_v_02_a_batch_comes_back_whole(indirect: bool) -> None:
    """ORD-V-02: One element, in the slot of the first, names the head of the last.

    The last has the length that the device says, those before count as completely used: all that was writable.
    """
    rig = RingRig(16, in_order=True, indirect=indirect)
    for token, segments in ((1, 1), (2, 3), (3, 2), (4, 1)):
        _add(rig, token, segments)
    heads = [rig.device.take() for _ in range(4)]
    rig.memory.write(rig.used + 4, struct.pack("<II", heads[2], 55))
    rig.device.set_used_idx(3)
    assert [virtqueue_get_buf_ctx(rig.vq) for _ in range(4)] == [(1, 100, 7), (2, 300, 14), (3, 55, 21), NOTHING]
    # The next element lies three slots on.
    rig.memory.write(rig.used + 4 + 8 * 3, struct.pack("<II", heads[3], 66))
    rig.device.set_used_idx(4)
    assert virtqueue_used_slot(rig.vq) == 3
    assert virtqueue_get_buf_ctx(rig.vq) == (4, 66, 28)
    assert (rig.vq.num_free, rig.vq.mapped) == (16, 0)


def test_a_batch_of_one_is_an_ordinary_element() -> None:
    """Elements one by one are right too."""
    rig = RingRig(4, in_order=True)
    for token in (1, 2):
        _add(rig, token, 1)
    for token in (1, 2):
        rig.device.use(rig.device.take(), 10 * token)
    assert [virtqueue_get_buf_ctx(rig.vq)[:2] for _ in range(3)] == [(1, 10), (2, 20), (0, 0)]


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_the_rest_of_a_batch_is_more_to_get(packed: bool) -> None:
    """Sheet 5.8: until the last buffer of a batch has been got, there is more, and an interrupt would be ours."""
    rig: RingRig | PackedRig = PackedRig(8, in_order=True) if packed else RingRig(8, in_order=True)
    for token in (1, 2):
        _add(rig, token, 1)
    if isinstance(rig, PackedRig):
        _, first, _ = rig.device.take()
        last, second, _ = rig.device.take()
        rig.device.use(last, 5, first + second)
    else:
        rig.memory.write(rig.used + 4, struct.pack("<II", 2, 5))
        rig.device.set_used_idx(2)
    assert vring_interrupt(rig.vq) == 1
    virtqueue_get_buf_ctx(rig.vq)
    assert vring_interrupt(rig.vq) == 1
    virtqueue_get_buf_ctx(rig.vq)
    assert vring_interrupt(rig.vq) == 0


@pytest.mark.parametrize("used_id", [1, 4, 6, 8])
def test_an_element_that_names_no_head_breaks_the_ring(used_id: int) -> None:
    """In the middle of a chain (1), free (4, 6), outside (8)."""
    rig = RingRig(8, in_order=True)
    _add(rig, 1, 1)
    _add(rig, 2, 1)
    rig.device.use(used_id, 0)
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    assert broken_reason(rig.vq) is not None


# Packed rings


def test_ids_of_a_packed_ring_in_order_are_slots() -> None:
    """Sheet 5.8: no list of ids; the id is the position of the buffer's first descriptor."""
    rig = PackedRig(7, in_order=True)
    ids = []
    for token in range(1, 8):
        _add(rig, token, 2)
        buffer_id, slots, _ = rig.device.take()
        ids.append(buffer_id)
        rig.device.use(buffer_id, 0, slots)
        assert virtqueue_get_buf_ctx(rig.vq)[0] == token
    assert ids == [0, 3, 6, 2, 5, 1, 4]


@pytest.mark.parametrize("indirect", [False, True])
def test_ord_v_03_a_batch_comes_back_whole(indirect: bool) -> None:
    """ORD-V-03.

    One used descriptor over the first of the batch, with the last one's id; the whole batch is skipped.

    A ring of 11 begins at slot 5, so that direct chains pass its end within the batch.
    """
    rig = PackedRig(11, in_order=True, indirect=indirect)
    rig.cycle(9, 1)
    rig.cycle(8, 1 if indirect else 4)
    for token, segments in ((1, 1), (2, 3), (3, 2), (4, 1)):
        _add(rig, token, segments)
    taken = [rig.device.take() for _ in range(4)]
    rig.device.use(taken[2][0], 55, sum(slots for _, slots, _ in taken[:3]))
    assert [virtqueue_get_buf_ctx(rig.vq) for _ in range(4)] == [(1, 100, 7), (2, 300, 14), (3, 55, 21), NOTHING]
    rig.device.use(taken[3][0], 66, taken[3][1])
    assert virtqueue_get_buf_ctx(rig.vq) == (4, 66, 28)
    assert (rig.vq.num_free, rig.vq.mapped) == (11, 0)


@pytest.mark.parametrize("used_id", [1, 4, 8])
def test_a_descriptor_with_an_id_not_in_use_breaks_the_ring(used_id: int) -> None:
    rig = PackedRig(8, in_order=True)
    _add(rig, 1, 1)
    _add(rig, 2, 1)
    rig.device.use(used_id, 0, 2)
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    assert broken_reason(rig.vq) is not None
