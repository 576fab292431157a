"""Receive buffers: what each mode posts, their lengths by average and ring, and how blocks are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.driver.refill import (
    add_recvbuf_big,
    ewma_pkt_len_add,
    get_mergeable_buf_len,
)
from netemu.driver.virtio_ring import ENOMEM
from netemu.driver.virtnet import mergeable_min_buf_len, small_buffer_size
from netemu.pages import alloc_pages, page_at, put_page
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import (
    BASE,
    BIG,
    BIG_DIRECT,
    MERGEABLE,
    SMALL,
    V4_19,
    V6_1,
    V7_0,
    Rig,
    every_era,
    frame,
    free,
    vnet_hdr,
)

LEGACY = FeatureSet.of(f.MAC, f.STATUS)
BLOCK = 32768


def _posted(rig: Rig, count: int) -> list[list[tuple[int, int, int]]]:
    """The segments of the next available buffers."""
    return [rig.rx.chain(rig.rx.take()) for _ in range(count)]


def _start(rig: Rig) -> int:
    """Guest-physical address of the first page-fragment block."""
    return page_at(rig.rq.pool_pages).gpa


# 2.1 small

SMALL_ROWS = [
    # hdr_len, bytes a buffer takes, bytes posted, buffers per block
    (10, 1920, 1528, 17),
    (12, 1920, 1530, 17),
    (20, 1984, 1538, 16),
    (24, 1984, 1542, 16),
]


@pytest.mark.parametrize(("hdr_len", "size", "posted", "per_block"), SMALL_ROWS)
@every_era
def test_small_buffers(kernel: str, hdr_len: int, size: int, posted: int, per_block: int) -> None:
    """Sheet 2.1: the header lies 64 bytes into a buffer, hdr_len + 1518 bytes are writable; RXB-V-02 asks for 1526."""
    assert small_buffer_size(hdr_len) == size
    rig = Rig(kernel, LEGACY if hdr_len == 10 else SMALL, 64, hdr_len=hdr_len)
    assert rig.vi.hdr_len == hdr_len
    assert rig.fill() == 1
    record = 16 if kernel == V7_0 else 0
    wanted = [
        [(_start(rig) + n // per_block * BLOCK + record + n % per_block * size + 64, posted, 2)] for n in range(64)
    ]
    assert _posted(rig, 64) == wanted
    rig.assert_nothing_lost()


# 2.2 big


@pytest.mark.parametrize(("kernel", "padded"), [(V4_19, 16), (V6_1, 32), (V7_0, 32)])
def test_big_chains(kernel: str, padded: int) -> None:
    """Sheet 2.2, RXB-V-01: header alone, then the first page behind a gap of padded - hdr_len bytes, then 17 pages."""
    rig = Rig(kernel, BIG, 4)
    assert rig.fill() == 1
    for chain in _posted(rig, 4):
        page = chain[0][0]
        assert page % 4096 == 0
        assert chain[0] == (page, 12, 2)
        assert chain[1] == (page + padded, 4096 - padded, 2)
        assert [length for _, length, _ in chain[2:]] == [4096] * 17
        assert {flags for _, _, flags in chain} == {2}
        assert len({gpa // 4096 for gpa, _, _ in chain}) == 18
        assert sum(length for _, length, _ in chain) == 12 + 4096 - padded + 17 * 4096 >= 65601
    rig.assert_nothing_lost()


def test_big_capacity_of_the_sheet() -> None:
    """Sheet 2.2: with hdr_len 12, 17 pages and padding 32 the device sees 73,708 bytes."""
    rig = Rig(V7_0, BIG, 1)
    rig.fill()
    [chain] = _posted(rig, 1)
    assert sum(length for _, length, _ in chain) == 73708


@pytest.mark.parametrize(("kernel", "pages"), [(V4_19, 18), (V6_1, 4), (V7_0, 4)])
def test_big_pages_by_mtu(kernel: str, pages: int) -> None:
    """Sheet 1.4: without guest GSO, MTU 9000 needs ceil(9000 / 4096) = 3 more pages since v6.1; 17 before."""
    rig = Rig(kernel, BASE | FeatureSet.of(f.MTU, f.INDIRECT_DESC), 4, mtu=9000)
    rig.fill()
    for chain in _posted(rig, 4):
        assert len(chain) == pages + 1
    rig.assert_nothing_lost()


@every_era
def test_big_without_indirect_fills_13_of_256(kernel: str) -> None:
    """Sheet 2.2: a chain costs 19 slots, so 256 hold 13 and 9 stay unused; ENOSPC is no OOM (sheet 2.5)."""
    rig = Rig(kernel, BIG_DIRECT, 256)
    assert rig.fill() == 1
    assert rig.rx.pending() == 13
    assert rig.vq.num_free == 9
    rig.assert_nothing_lost()


def test_big_out_of_memory_keeps_the_pages_it_had() -> None:
    """Sheet 2.2: pages already taken go to the queue's own list, from which the next attempt takes them."""
    rig = Rig(V7_0, BIG, 4)
    pool = rig.page_pool
    held = []
    while pool.free_count > 5:
        held.append(alloc_pages(pool))
    assert add_recvbuf_big(rig.vi, rig.rq) == ENOMEM
    assert pool.free_count == 0
    kept = []
    at = rig.rq.pages
    while at:
        kept.append(at)
        at = page_at(at).private
    assert len(kept) == 5
    for page in held[:13]:
        put_page(page)
    assert add_recvbuf_big(rig.vi, rig.rq) == 0
    assert rig.rq.pages == 0
    for page in held[13:]:
        put_page(page)
    rig.assert_nothing_lost()


# 2.3 mergeable

MIN_BUF_LEN = [
    # hdr_len, ring, min_buf_len, length while the average is small
    (12, 16, 4086, 4096),
    (12, 32, 2037, 2112),
    (12, 64, 1518, 1536),
    (12, 256, 1518, 1536),
    (20, 32, 2030, 2112),
    (24, 32, 2026, 2112),
    (20, 64, 1518, 1600),
    (24, 64, 1518, 1600),
    (20, 1024, 1518, 1600),
]


@pytest.mark.parametrize(("hdr_len", "ring", "least", "length"), MIN_BUF_LEN)
def test_min_buf_len_table(hdr_len: int, ring: int, least: int, length: int) -> None:
    """Sheet 2.3 steps 2 and 3."""
    assert mergeable_min_buf_len(hdr_len, 65535, ring) == least
    rig = Rig(V7_0, MERGEABLE, ring, hdr_len=hdr_len)
    assert rig.rq.min_buf_len == least
    assert get_mergeable_buf_len(rig.vi, rig.rq) == length


@pytest.mark.parametrize("ring", [1, 2, 4, 8])
def test_the_smallest_rings_get_whole_pages(ring: int) -> None:
    """Sheet 2.3: min_buf_len of 4086 and more is cut to 4096 - hdr_len."""
    rig = Rig(V7_0, MERGEABLE, ring)
    assert rig.rq.min_buf_len >= 4086
    assert get_mergeable_buf_len(rig.vi, rig.rq) == 4096


@pytest.mark.parametrize(
    ("features", "mtu", "least"),
    [
        (BASE | FeatureSet.of(f.MRG_RXBUF), 1500, 2037),
        (BASE | FeatureSet.of(f.MRG_RXBUF, f.MTU), 1500, 1518),
        (BASE | FeatureSet.of(f.MRG_RXBUF, f.MTU), 9000, 2037),
        (MERGEABLE | FeatureSet.of(f.MTU), 1500, 2037),
    ],
    ids=["no MTU feature", "MTU 1500", "MTU over 1500", "guest GSO"],
)
def test_min_buf_len_counts_the_longest_packet(features: FeatureSet, mtu: int, least: int) -> None:
    """Sheet 2.3 step 3: P is 65535 with big_packets, else the maximum MTU: 65535 unless the feature lowers it."""
    assert Rig(V7_0, features, 32, mtu=mtu).rq.min_buf_len == least


@pytest.mark.parametrize(
    ("average", "length"),
    [
        (0, 1536),
        (60, 1536),
        (1518, 1536),
        (1524, 1536),
        (1525, 1600),
        (2000, 2048),
        (4084, 4096),
        (4085, 4096),
        (65226, 4096),
    ],
)
@every_era
def test_mergeable_length_by_average(kernel: str, average: int, length: int) -> None:
    """Sheet 2.3 step 2: 12 + clamp(average, 1518, 4084), rounded up to 64: 12 + 1524 = 24 * 64."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.rq.mrg_avg_pkt_len = average
    assert get_mergeable_buf_len(rig.vi, rig.rq) == length


@pytest.mark.parametrize(("kernel", "length"), [(V4_19, 1536), (V6_1, 1600), (V7_0, 1600)])
def test_the_seed_adds_12_whatever_the_header_is(kernel: str, length: int) -> None:
    """Sheet 2.3 step 2: 12 + 1518 rounds to 1536, 20 + 1518 to 1600."""
    rig = Rig(kernel, MERGEABLE, 64, hdr_len=20)
    assert get_mergeable_buf_len(rig.vi, rig.rq) == length


LAYOUTS = [
    # kernel, ring, lengths over the first blocks, offset of a block's first buffer
    (V4_19, 64, [1536] * 20 + [2048], 0),
    (V6_1, 64, [1536] * 20 + [2048], 0),
    (V7_0, 64, [1536] * 20 + [2032], 16),
    (V4_19, 16, [4096] * 8, 0),
    (V6_1, 16, [4096] * 8, 0),
    (V7_0, 16, [4096] * 6 + [8176], 16),
]


@pytest.mark.parametrize(("kernel", "ring", "block", "offset"), LAYOUTS)
def test_block_layouts(kernel: str, ring: int, block: list[int], offset: int) -> None:
    """Sheet 2.3: the hole at a block's end goes to its last buffer (9 no. 14); the whole block is used."""
    rig = Rig(kernel, MERGEABLE, ring)
    rig.fill()
    assert offset + sum(block) == BLOCK
    wanted = []
    for n in range(ring):
        in_block = n % len(block)
        at = _start(rig) + n // len(block) * BLOCK + offset + sum(block[:in_block])
        wanted.append([(at, block[in_block], 2)])
    assert _posted(rig, ring) == wanted
    rig.assert_nothing_lost()


@every_era
def test_the_enlarged_last_buffer_can_be_filled_to_its_end(kernel: str) -> None:
    """Sheet 2.3 step 6, 12 no. 5: the device takes the size from the descriptor, and the driver accepts it all."""
    last = 2032 if kernel == V7_0 else 2048
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    for _ in range(20):
        rig.arrive(vnet_hdr() + frame(60))
        free(*rig.receive())
    skb = rig.receive_one(vnet_hdr() + frame(last - 12))
    assert skb.len == last - 12
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("kernel", [V4_19, V6_1])
def test_a_block_that_nobody_holds_is_cut_from_its_start_again(kernel: str) -> None:
    """skb_page_frag_refill: 16 of a block's 17 small buffers came back before the ring is filled again."""
    rig = Rig(kernel, SMALL, 16)
    rig.fill()
    first = _posted(rig, 16)
    rig.rx.last_avail = 0
    for _ in range(16):
        rig.arrive(vnet_hdr() + frame(13))
    assert rig.receive() == []
    assert sorted(_posted(rig, 16)) == sorted(first)
    assert rig.frag_pool.alloc_count == 1
    rig.assert_nothing_lost()


def test_a_block_with_a_dma_record_is_held_by_it_and_never_cut_again() -> None:
    """v6.6 to v7.0: the record at the block's start holds a reference of its own, so a new block is taken instead."""
    rig = Rig(V7_0, SMALL, 16)
    rig.fill()
    first = _posted(rig, 16)
    rig.rx.last_avail = 0
    for _ in range(16):
        rig.arrive(vnet_hdr() + frame(13))
    assert rig.receive() == []
    assert [buffer for buffer in _posted(rig, 16) if buffer in first] == []
    assert rig.frag_pool.alloc_count == 2
    rig.assert_nothing_lost()


# 2.4 EWMA


def _averages(start: int, sample: int, count: int) -> list[int]:
    seen = []
    for _ in range(count):
        start = ewma_pkt_len_add(start, sample)
        seen.append(start)
    return seen


def test_ewma_vectors() -> None:
    """Sheet 2.4."""
    assert _averages(0, 65226, 1) == [65226]
    assert _averages(64, 127, 50) == [64] * 50
    assert _averages(64, 128, 1) == [65]
    assert _averages(1514, 60, 5) == [1491, 1468, 1446, 1424, 1402]
    assert _averages(60, 1514, 4) == [82, 104, 126, 147]
    assert _averages(60, 1514, 2000)[-1] == 1451


@given(average=st.integers(1, 70000), sample=st.integers(1, 70000))
@settings(max_examples=200, deadline=None)
def test_ewma_moves_up_only_for_64_more(average: int, sample: int) -> None:
    """Sheet 2.4: precision 0 and floor: up only if sample - average >= 64, down for any smaller sample."""
    after = ewma_pkt_len_add(average, sample)
    assert (after > average) == (sample - average >= 64)
    assert (after < average) == (sample < average)
