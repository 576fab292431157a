"""The driver's half of a split ring: bytes at hand-worked offsets, and what Linux does with them.

Clause ids are those of VIRTIO 1.4, "sheet" is the project's fact sheet on Linux's virtio_ring.c.
"""

from __future__ import annotations

import struct

import pytest

from netemu.driver.virtio_ring import (
    broken_reason,
    virtqueue_detach_unused_buf,
    virtqueue_enable_cb_prepare,
    virtqueue_get_buf_ctx,
    virtqueue_kick_prepare,
    virtqueue_notify,
    virtqueue_poll,
    vring_interrupt,
)
from netemu.virtio.features import FeatureSet
from netemu.virtio.split import avail_bytes, desc_bytes, used_bytes
from tests.driver_kit import (
    BIG,
    MERGEABLE,
    SMALL,
    V4_19,
    V6_1,
    V7_0,
    Rig,
    RingRig,
    contents,
    every_era,
    frame,
    free,
    vnet_hdr,
)

EIO = -5
ENOSPC = -28
NOTHING = (0, 0, 0)
newer_eras = pytest.mark.parametrize("kernel", [V6_1, V7_0])
both_suppressions = pytest.mark.parametrize("event", [False, True], ids=["flags", "EVENT_IDX"])


# Layout and virtqueue_add


@pytest.mark.parametrize(("num", "sizes"), [(1, (16, 8, 14)), (8, (128, 22, 70)), (256, (4096, 518, 2054))])
def test_split_b_01_sizes_of_the_parts(num: int, sizes: tuple[int, int, int]) -> None:
    """SPLIT-B-01: 16 * N, 6 + 2 * N, 6 + 8 * N."""
    assert (desc_bytes(num), avail_bytes(num), used_bytes(num)) == sizes


@every_era
def test_split_b_03_a_chain_as_bytes(kernel: str) -> None:
    """SPLIT-B-03: Sheet 5.2: readable segments first, WRITE on the others (SPLIT-V-02), NEXT on all but the last."""
    rig = RingRig(8, kernel)
    assert rig.add([(0x1122334455667788, 0x0A0B0C0D)], [(0x5000, 64), (0x6000, 1500)], token=7) == 0
    table = rig.memory.read(rig.desc, 128)
    assert table[0:16] == bytes.fromhex("8877665544332211 0d0c0b0a 0100 0100")
    assert table[16:32] == bytes.fromhex("0050000000000000 40000000 0300 0200")
    assert table[32:46] == bytes.fromhex("0060000000000000 dc050000 0200")
    assert rig.vq.num_free == 5
    assert rig.vq.mapped == 3


@every_era
def test_split_b_05_the_available_ring_as_bytes(kernel: str) -> None:
    """SPLIT-B-05.

    The index is published at once; entries name heads: 0, then 3 behind a chain of three (sheet 5.2 step 8).
    """
    rig = RingRig(8, kernel)
    rig.add([], [(0x1000, 1), (0x2000, 1), (0x3000, 1)], token=1)
    rig.add([], [(0x4000, 1)], token=2)
    assert rig.memory.read(rig.avail, 8) == bytes.fromhex("0000 0200 0000 0300")
    assert rig.device.used_event == 0


@every_era
def test_split_b_06_used_elements_are_read_at_their_offsets(kernel: str) -> None:
    """SPLIT-B-06: Element n lies at 4 + 8 * n: id, then len; the length is handed on as it is (sheet 5.4 step 9)."""
    rig = RingRig(4, kernel)
    for token in (11, 12, 13):
        rig.add_one(token, ctx=token * 10)
    rig.memory.write(rig.used + 4, struct.pack("<IIII", 2, 0xFFFFFFFF, 0, 5))
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    rig.memory.write(rig.used + 2, b"\x02\x00")
    assert virtqueue_get_buf_ctx(rig.vq) == (13, 0xFFFFFFFF, 130)
    assert virtqueue_get_buf_ctx(rig.vq) == (11, 5, 110)
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING


@every_era
def test_only_writable_or_only_readable_segments(kernel: str) -> None:
    """SPLIT-V-02 at its ends."""
    rig = RingRig(8, kernel)
    rig.add([(0x1000, 10), (0x2000, 20)], [], token=1)
    rig.add([], [(0x3000, 30), (0x4000, 40)], token=2)
    assert rig.device.chain(rig.device.take()) == [(0x1000, 10, 0), (0x2000, 20, 0)]
    assert rig.device.chain(rig.device.take()) == [(0x3000, 30, 2), (0x4000, 40, 2)]


# Free list


@every_era
def test_free_heads_are_reused_newest_first(kernel: str) -> None:
    """Sheet 5.5: LIFO."""
    rig = RingRig(4, kernel)
    for token in (1, 2, 3):
        rig.add_one(token)
    for head in (1, 0, 2):
        rig.device.use(head, 0)
    assert [virtqueue_get_buf_ctx(rig.vq)[0] for _ in range(3)] == [2, 1, 3]
    assert rig.free_list() == [2, 0, 1, 3]


@every_era
def test_a_freed_chain_keeps_its_order_at_the_front_of_the_list(kernel: str) -> None:
    """Sheet 5.5: the chain's head becomes free_head, its last is followed by what was free before."""
    rig = RingRig(8, kernel)
    rig.add([], [(0x1000, 1)] * 3, token=1)
    rig.add_one(2)
    rig.device.use(0, 0)
    assert virtqueue_get_buf_ctx(rig.vq)[0] == 1
    assert rig.vq.num_free == 7
    assert rig.free_list() == [0, 1, 2, 4, 5, 6, 7]


def test_a_tampered_next_is_believed_by_4_19() -> None:
    """Sheet 5.1: the seed trusts ``next`` in the shared table: it frees 0 and 2 instead of 0 and 1 (SPLIT-D-05)."""
    rig = RingRig(8, V4_19)
    rig.add([], [(0x1000, 1), (0x2000, 1)], token=1)
    rig.device.write_descriptor(0, 0x1000, 1, 3, 2)
    rig.device.use(0, 0)
    assert virtqueue_get_buf_ctx(rig.vq)[0] == 1
    rig.add_one(5)
    rig.add_one(6)
    assert [rig.device.avail_entry(slot) for slot in (1, 2)] == [0, 2]


@newer_eras
def test_a_tampered_next_is_ignored_since_5_14(kernel: str) -> None:
    """Sheet 5.1: freed along the private copy, which also goes into the table when the descriptors are used again."""
    rig = RingRig(8, kernel)
    rig.add([], [(0x1000, 1), (0x2000, 1)], token=1)
    rig.device.write_descriptor(0, 0x1000, 1, 3, 6)
    rig.device.use(rig.device.take(), 0)
    assert virtqueue_get_buf_ctx(rig.vq)[0] == 1
    assert rig.vq.num_free == 8
    rig.add([], [(0x7000, 70), (0x8000, 80)], token=2)
    assert rig.device.chain(rig.device.take()) == [(0x7000, 70, 2), (0x8000, 80, 2)]
    assert rig.free_list() == [2, 3, 4, 5, 6, 7]


@every_era
def test_a_chain_that_the_device_made_a_loop_breaks_the_ring(kernel: str) -> None:
    """The walk along NEXT in shared memory (sheet 5.1) ends: no more descriptors are freed than are in use."""
    rig = RingRig(4, kernel)
    rig.add([], [(0x1000, 1), (0x2000, 1)], token=1)
    rig.device.write_descriptor(1, 0x2000, 1, 3, 0)
    rig.device.use(0, 0)
    virtqueue_get_buf_ctx(rig.vq)
    assert rig.vq.broken
    assert rig.vq.num_free <= 4


# Short of descriptors


@both_suppressions
@every_era
def test_enospc_with_readable_segments_notifies_anyway(kernel: str, event: bool) -> None:
    """Sheet 5.2 step 3: even where the device wants no notification; nothing else changes."""
    rig = RingRig(4, kernel, event=event)
    for token in range(1, 5):
        rig.add_one(token)
    virtqueue_kick_prepare(rig.vq)
    rig.device.set_used_flags(1)
    rig.device.set_avail_event(100)
    before = rig.memory.snapshot()
    assert rig.add([(0x1000, 1)], [], token=9) == ENOSPC
    assert rig.bell.kick_count == 1
    assert rig.add([], [(0x1000, 1)], token=9) == ENOSPC
    assert rig.bell.kick_count == 1
    assert rig.memory.snapshot() == before
    assert (rig.vq.num_free, rig.vq.num_added, rig.vq.mapped) == (0, 0, 4)


@pytest.mark.parametrize(("segments", "result"), [(2, 0), (3, ENOSPC)])
def test_enospc_at_its_bound(segments: int, result: int) -> None:
    """Sheet 5.2 step 3: two descriptors left hold two segments, not three."""
    rig = RingRig(4)
    rig.add_one(1)
    rig.add_one(2)
    assert rig.add([], [(0x1000, 1)] * segments, token=3) == result


def test_a_ring_of_one_entry() -> None:
    """SPLIT-B-02: N = 1 is a ring."""
    rig = RingRig(1)
    for token in (1, 2, 3):
        assert rig.add_one(token) == 0
        assert rig.add_one(99) == ENOSPC
        rig.device.use(rig.device.take(), token)
        assert virtqueue_get_buf_ctx(rig.vq) == (token, token, 0)
    assert rig.device.avail_idx == 3


# Indirect tables


@every_era
def test_indirect_table_as_bytes(kernel: str) -> None:
    """Sheet 5.2 step 5: head = table's address, 16 * n, INDIRECT alone (SPLIT-V-09); one slot is used (SPLIT-B-04).

    SPLIT-V-07: no entry is INDIRECT.
    """
    rig = RingRig(4, kernel, indirect=True)
    rig.add([(0xAAAA, 12)], [(0xBBBB, 4064), (0xCCCC, 4096)], token=1)
    address, length, flags, _ = rig.device.descriptor(0)
    assert (length, flags) == (48, 4)
    table = rig.memory.read(address, 48)
    assert table[0:16] == bytes.fromhex("aaaa000000000000 0c000000 0100 0100")
    assert table[16:32] == bytes.fromhex("bbbb000000000000 e00f0000 0300 0200")
    assert table[32:46] == bytes.fromhex("cccc000000000000 00100000 0200")
    assert (rig.vq.num_free, rig.vq.mapped) == (3, 3)
    rig.device.use(0, 8)
    assert virtqueue_get_buf_ctx(rig.vq)[:2] == (1, 8)
    assert (rig.vq.num_free, rig.vq.mapped) == (4, 0)


def test_tables_of_buffers_in_flight_do_not_overlap() -> None:
    """Each buffer keeps its own table while the device has it."""
    rig = RingRig(4, indirect=True)
    for token in range(1, 5):
        rig.add([], [(0x1000 * token, token), (0x1000 * token + 0x800, 10 * token)], token=token)
    for token in range(1, 5):
        wanted = [(0x1000 * token, token, 2), (0x1000 * token + 0x800, 10 * token, 2)]
        assert rig.device.chain(rig.device.take()) == wanted


@pytest.mark.parametrize(("entries", "segments", "slots"), [(19, 19, 1), (19, 20, 20), (1024, 1024, 1)])
def test_tables_are_as_large_as_asked(entries: int, segments: int, slots: int) -> None:
    """A table has the entries its queue was made for (a big buffer needs 19, sheet 2.2); what is longer is chained."""
    rig = RingRig(32, indirect=True, table_entries=entries)
    wanted = [(0x1000 * n, n, 2) for n in range(1, segments + 1)]
    assert rig.add([], [(gpa, length) for gpa, length, _ in wanted], token=1) == 0
    assert rig.vq.num_free == 32 - slots
    assert rig.device.chain(rig.device.take()) == wanted


@pytest.mark.parametrize(("features", "segments"), [(MERGEABLE, 1), (SMALL, 1), (BIG, 19)])
def test_split_v_03_segments_of_a_receive_buffer(features: FeatureSet, segments: int) -> None:
    """SPLIT-V-03: one, but for big buffers: header, the first page's rest, 17 pages (sheet 2.2)."""
    rig = Rig(features=features, size=16)
    rig.fill()
    assert len(rig.rx.chain(rig.rx.take())) == segments


def test_split_v_17_what_lies_behind_the_used_length_is_nobodys() -> None:
    """SPLIT-V-17, SPLIT-V-18: the device wrote 60 bytes more than it says; the frame has none of them."""
    rig = Rig(features=MERGEABLE)
    rig.fill()
    data = vnet_hdr() + frame(100)
    skb = rig.receive_one(data + b"\xa5" * 60, lengths=(len(data),))
    assert contents(skb) == frame(100)
    free(skb)


@pytest.mark.parametrize(("num", "start"), [(32768, 0), (32768, 65000)])
def test_split_b_02_the_largest_ring(num: int, start: int) -> None:
    """SPLIT-B-02: 32768 entries: slots and heads keep all their bits; a full ring and back."""
    rig = RingRig(num, event=True, start=start)
    for token in range(1, num + 1):
        assert rig.add_one(token) == 0
    assert rig.add_one(1) == ENOSPC
    assert rig.device.avail_idx == (start + num) & 0xFFFF
    for token in range(1, num + 1):
        rig.device.place_used(rig.device.take(), token)
    rig.device.publish()
    assert all(virtqueue_get_buf_ctx(rig.vq)[:2] == (token, token) for token in range(1, num + 1))
    assert rig.vq.num_free == num


def test_a_single_segment_needs_no_table() -> None:
    """Sheet 5.2 step 2: indirect only for more than one segment."""
    rig = RingRig(4, indirect=True)
    rig.add([], [(0x1000, 64)], token=1)
    assert rig.device.descriptor(0)[:3] == (0x1000, 64, 2)


def test_without_the_feature_there_is_no_table() -> None:
    """SPLIT-V-06."""
    rig = RingRig(4, indirect=False)
    rig.add([], [(0x1000, 64), (0x2000, 64)], token=1)
    assert rig.device.descriptor(0)[2] == 3


def test_a_refused_table_falls_back_to_a_chain() -> None:
    """Sheet 5.2 step 2: silently; the next buffer has a table again."""
    rig = RingRig(8, indirect=True)
    rig.ring.tables.pool.refuse = 1
    assert rig.add([], [(0x1000, 1), (0x2000, 2)], token=1) == 0
    assert rig.add([], [(0x3000, 3), (0x4000, 4)], token=2) == 0
    assert [rig.device.descriptor(n)[2] for n in (0, 1, 2)] == [3, 2, 4]
    assert rig.vq.num_free == 5
    for head in (0, 2):
        rig.device.use(head, 0)
        virtqueue_get_buf_ctx(rig.vq)
    assert (rig.vq.num_free, rig.vq.mapped) == (8, 0)


def test_a_table_needs_one_free_descriptor_and_a_fallback_all() -> None:
    """Sheet 5.2 steps 2 and 3: with one slot left a table fits, a chain of two does not."""
    rig = RingRig(2, indirect=True)
    rig.add_one(1)
    rig.ring.tables.pool.refuse = 1
    assert rig.add([], [(0x1000, 1), (0x2000, 2)], token=2) == ENOSPC
    assert rig.add([], [(0x1000, 1), (0x2000, 2)], token=2) == 0
    assert rig.add([], [(0x1000, 1), (0x2000, 2)], token=3) == ENOSPC


# BAD_RING


def _broken(kernel: str, used_id: int, *, event: bool = False) -> RingRig:
    """A ring on which the device used an id that it must not."""
    rig = RingRig(4, kernel, event=event)
    rig.add([], [(0x1000, 1), (0x2000, 1)], token=1)
    rig.device.use(used_id, 60)
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    return rig


@pytest.mark.parametrize("used_id", [4, 5, 0xFFFFFFFF])
@every_era
def test_bad_ring_id_out_of_range(kernel: str, used_id: int) -> None:
    """Sheet 5.4 step 5; section 13: id = num."""
    rig = _broken(kernel, used_id)
    assert broken_reason(rig.vq) == f"virtqueue 1: id {used_id} out of range"
    assert rig.vq.last_used_idx == 0


@pytest.mark.parametrize("used_id", [1, 2, 3])
@every_era
def test_bad_ring_id_that_is_no_head(kernel: str, used_id: int) -> None:
    """Sheet 5.4 step 6: the middle of a chain (1) and free descriptors (2, 3)."""
    rig = _broken(kernel, used_id)
    assert broken_reason(rig.vq) == f"virtqueue 1: id {used_id} is not a head"
    assert rig.vq.num_free == 2


@every_era
def test_bad_ring_id_repeated(kernel: str) -> None:
    """Section 13: the same id twice; the first is good."""
    rig = RingRig(4, kernel)
    rig.add_one(1)
    rig.device.place_used(0, 60)
    rig.device.place_used(0, 60)
    rig.device.publish()
    assert virtqueue_get_buf_ctx(rig.vq) == (1, 60, 0)
    assert broken_reason(rig.vq) is None
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    assert rig.vq.broken


@both_suppressions
@every_era
def test_what_broken_means(kernel: str, event: bool) -> None:
    """Sheet 5.4: no add, get, notify or callback; virtqueue_poll keeps promising work in 4.19 (sheet 9, no. 19)."""
    rig = _broken(kernel, 3, event=event)
    kicks = rig.bell.kick_count
    assert rig.add_one(2) == EIO
    assert virtqueue_get_buf_ctx(rig.vq) == NOTHING
    assert virtqueue_notify(rig.vq) == 0
    assert rig.bell.kick_count == kicks
    assert vring_interrupt(rig.vq) == 0
    assert virtqueue_poll(rig.vq, virtqueue_enable_cb_prepare(rig.vq)) == (1 if kernel == V4_19 else 0)


# Taking back what was never used


@pytest.mark.parametrize("indirect", [False, True])
@every_era
def test_detach_unused_buf(kernel: str, indirect: bool) -> None:
    """Sheet 5.5: lowest head first, the index goes back and is published, in the end all descriptors are free."""
    rig = RingRig(8, kernel, indirect=indirect, start=65535)
    rig.add([], [(0x1000, 1), (0x2000, 2)], token=1)
    rig.add_one(2)
    rig.add([(0x3000, 1)], [(0x4000, 2)], token=3)
    rig.device.use(rig.device.take(), 0)
    assert virtqueue_get_buf_ctx(rig.vq)[0] == 1
    rig.add_one(4)
    # Token 4 has taken head 0 again.
    indices = []
    tokens = []
    while token := virtqueue_detach_unused_buf(rig.vq):
        tokens.append(token)
        indices.append(rig.device.avail_idx)
    assert tokens == [4, 2, 3]
    assert indices == [2, 1, 0]
    assert (rig.vq.num_free, rig.vq.mapped) == (8, 0)
