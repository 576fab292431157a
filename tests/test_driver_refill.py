"""Receive buffers: when and how the ring is refilled, and what happens without memory; see test_driver_buffers.py.

"Sheet" is the project's fact sheet on Linux's virtio_net.c; all numbers here are from its tables or worked out by hand.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.driver.refill import (
    refill_wanted,
    refill_work,
    schedule_refill,
)
from netemu.pages import alloc_pages, page_at, put_page
from netemu.skb import Skb, frag_at
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import (
    BIG,
    BIG_DIRECT,
    ERAS,
    MERGEABLE,
    SMALL,
    V4_19,
    V6_1,
    V7_0,
    Rig,
    contents,
    every_era,
    frame,
    free,
    vnet_hdr,
)

BLOCK = 32768
HALF_SECOND = 500_000_000
NOT_SCHEDULED = -1
every_mode = pytest.mark.parametrize(
    "features", [SMALL, MERGEABLE, BIG, BIG_DIRECT], ids=["small", "mrg", "big", "direct"]
)


# 2.5 try_fill_recv


@every_mode
@every_era
def test_fill_posts_until_the_ring_is_full_and_kicks_once(kernel: str, features: FeatureSet) -> None:
    """Sheet 2.5; RXB-V-05."""
    rig = Rig(kernel, features, 32)
    assert rig.fill() == 1
    assert rig.rx.pending() == (1 if features == BIG_DIRECT else 32)
    assert (rig.rx_bell.kick_count, rig.rq.kicks, rig.rq.oom) == (1, 1, 0)
    rig.assert_nothing_lost()


@every_mode
@every_era
def test_a_full_ring_is_tried_once_more(kernel: str, features: FeatureSet) -> None:
    """Sheet 2.5: at least one attempt, which fails with ENOSPC and frees its buffer: success."""
    rig = Rig(kernel, features, 32)
    rig.fill()
    before = rig.rx.avail_idx
    assert rig.fill() == 1
    assert rig.rx.avail_idx == before
    assert rig.rq.oom == 0
    rig.assert_nothing_lost()


@every_mode
@every_era
def test_fill_out_of_memory(kernel: str, features: FeatureSet) -> None:
    """Sheet 2.5: only ENOMEM is reported; what was posted before is kicked."""
    rig = Rig(kernel, features, 64)
    rig.data_pool.refuse = 1
    assert rig.fill() == 0
    assert rig.rq.oom == 1
    assert rig.rx.pending() == 0
    assert rig.fill() == 1
    rig.assert_nothing_lost()


def test_fill_out_of_memory_half_way() -> None:
    """Sheet 2.5: two blocks of memory are 42 buffers; the device hears of them."""
    rig = Rig(V7_0, MERGEABLE, 64)
    held = []
    while rig.frag_pool.free_count > 2:
        held.append(alloc_pages(rig.frag_pool))
    assert rig.fill() == 0
    assert rig.rx.pending() == 42
    assert (rig.rq.kicks, rig.rq.oom) == (1, 1)
    for page in held:
        put_page(page)
    assert rig.fill() == 1
    assert rig.rx.pending() == 64
    rig.assert_nothing_lost()


@every_mode
def test_fill_on_a_broken_ring_is_no_oom(features: FeatureSet) -> None:
    """Sheet 2.5: EIO counts as success, and nothing is kicked."""
    rig = Rig(V7_0, features, 32)
    rig.vq.broken = 1
    assert rig.fill() == 1
    assert (rig.rq.kicks, rig.rx_bell.kick_count, rig.rq.oom) == (0, 0, 0)
    rig.assert_nothing_lost()


def test_kicks_count_notifications_not_attempts() -> None:
    """Sheet 2.5, 7.2: a device that wants no notification gets none, and none is counted (SPLIT-V-21)."""
    rig = Rig(V7_0, MERGEABLE, 64)
    rig.rx.set_used_flags(1)
    rig.fill()
    assert (rig.rq.kicks, rig.rx_bell.kick_count) == (0, 0)


def test_a_refused_notification_is_not_counted() -> None:
    """Sheet 2.5: only a successful notify bumps kicks."""
    rig = Rig(V7_0, MERGEABLE, 64)
    rig.vq.refuse_notify = 1
    rig.fill()
    assert rig.rq.kicks == 0
    assert rig.vq.broken


# 2.6 when

THRESHOLDS = [
    # kernel, ring, threshold that num_free must exceed
    (V4_19, 256, 128),
    (V4_19, 64, 32),
    (V4_19, 1024, 512),
    (V4_19, 1, 0),
    (V6_1, 256, 32),
    (V6_1, 1024, 32),
    (V6_1, 64, 32),
    (V6_1, 32, 16),
    (V7_0, 256, 32),
    (V7_0, 64, 32),
    (V7_0, 16, 8),
    (V7_0, 1, 0),
]


@pytest.mark.parametrize(("kernel", "ring", "threshold"), THRESHOLDS)
def test_refill_thresholds(kernel: str, ring: int, threshold: int) -> None:
    """Sheet 2.6: strictly more than ring / 2 until v5.2, than min(64, ring) / 2 since."""
    rig = Rig(kernel, SMALL, ring)
    rig.vq.num_free = threshold
    assert refill_wanted(rig.vi, rig.rq, 64) == 0
    rig.vq.num_free = threshold + 1
    assert refill_wanted(rig.vi, rig.rq, 64) == 1


@pytest.mark.parametrize(("kernel", "threshold"), [(V4_19, 128), (V6_1, 0), (V7_0, 0)])
def test_refill_threshold_with_budget_0(kernel: str, threshold: int) -> None:
    """Sheet 2.6: netpoll's budget of 0 makes the newer threshold 0."""
    rig = Rig(kernel, SMALL, 256)
    rig.vq.num_free = threshold
    assert refill_wanted(rig.vi, rig.rq, 0) == 0
    rig.vq.num_free = threshold + 1
    assert refill_wanted(rig.vi, rig.rq, 0) == 1


@pytest.mark.parametrize(("kernel", "threshold"), [(V4_19, 128), (V6_1, 32), (V7_0, 32)])
def test_refill_at_the_end_of_a_receive(kernel: str, threshold: int) -> None:
    """Sheet 2.6, 9 no. 12: as many frames as the threshold leave the ring as it is, one more fills it again."""
    rig = Rig(kernel, MERGEABLE, 256)
    rig.fill()
    for _ in range(threshold):
        rig.arrive(vnet_hdr() + frame(60))
    for _ in range(threshold // 32):
        free(*rig.receive())
    assert rig.vq.num_free == threshold
    rig.arrive(vnet_hdr() + frame(60))
    free(*rig.receive())
    assert rig.vq.num_free == 0
    rig.assert_nothing_lost()


# 2.7 out of memory


def _starved(kernel: str, frames: int = 40) -> Rig:
    """An open interface with frames waiting and no memory to replace their buffers."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.open()
    rig.poll()
    rig.vi.now = 7_000
    for _ in range(frames):
        rig.arrive(vnet_hdr() + frame(60))
    # All blocks but the queue's own are gone, and that one is used up.
    rig.rq.alloc_frag_offset = BLOCK
    rig.frag_pool.refuse = 1000
    rig.napi.scheduled = 1
    return rig


@pytest.mark.parametrize("kernel", [V4_19, V6_1])
def test_oom_in_the_poll_schedules_the_worker(kernel: str) -> None:
    """Sheet 2.7: delay 0; the poll returns what it received and completes."""
    rig = _starved(kernel)
    assert rig.poll() == 40
    assert rig.vi.refill_due == 7_000
    assert rig.napi.scheduled == 0
    assert rig.rq.packets == 40
    free(*rig.collect())


def test_oom_in_the_poll_returns_the_budget_since_6_19() -> None:
    """Sheet 2.7: NAPI stays scheduled and polls again; the statistics count the real packets; there is no worker."""
    rig = _starved(V7_0)
    assert rig.poll() == 64
    assert rig.rq.packets == 40
    assert rig.napi.scheduled == 1
    assert rig.vi.refill_due == NOT_SCHEDULED
    free(*rig.collect())
    assert rig.poll() == 64
    assert rig.rq.packets == 40
    rig.frag_pool.refuse = 0
    assert rig.poll() == 0
    assert rig.napi.scheduled == 0
    assert rig.vq.num_free == 0
    rig.assert_nothing_lost()


@pytest.mark.parametrize("kernel", [V4_19, V6_1, V7_0])
def test_oom_with_a_full_budget_pending(kernel: str) -> None:
    """Section 13: 64 frames pending: 64 are returned and counted, and NAPI has not completed in any era."""
    rig = _starved(kernel, 64)
    assert rig.poll() == 64
    assert rig.rq.packets == 64
    assert rig.napi.scheduled == 1
    assert rig.vi.refill_due == (NOT_SCHEDULED if kernel == V7_0 else 7_000)
    free(*rig.collect())


@pytest.mark.parametrize("kernel", [V4_19, V6_1])
def test_the_worker_tries_again_after_half_a_second(kernel: str) -> None:
    """Sheet 2.7, 9 no. 9: recovery at 0 s, 0.5 s, 1.0 s; NAPI is enabled again each time, which schedules a poll."""
    rig = _starved(kernel)
    rig.poll()
    free(*rig.collect())
    due = []
    rig.frag_pool.refuse = 2
    while rig.vi.refill_due != NOT_SCHEDULED:
        due.append(rig.vi.refill_due - 7_000)
        rig.vi.now = rig.vi.refill_due
        rig.napi.scheduled = 0
        refill_work(rig.vi)
        assert (rig.napi.enabled, rig.napi.scheduled) == (1, 1)
    assert due == [0, HALF_SECOND, 2 * HALF_SECOND]
    assert rig.vi.refill_runs == 3
    assert rig.vq.num_free == 0
    rig.assert_nothing_lost()


def test_the_worker_is_one_work_item() -> None:
    """Sheet 2.7: several queues that fail re-arm it once; what is scheduled already is not moved."""
    rig = Rig(V4_19, MERGEABLE | FeatureSet.of(f.MQ, f.CTRL_VQ), 16, pairs=3)
    for rq in rig.driver.receive_queues:
        rig.rq = rq
        rig.frag_pool.refuse = 1
    rig.vi.now = 100
    refill_work(rig.vi)
    assert rig.vi.refill_due == 100 + HALF_SECOND
    rig.vi.now = 200
    schedule_refill(rig.vi, 0)
    assert rig.vi.refill_due == 100 + HALF_SECOND
    rig.vi.now = rig.vi.refill_due
    refill_work(rig.vi)
    assert rig.vi.refill_due == NOT_SCHEDULED
    assert [ring.num_free for ring in rig.driver.rings[:6:2]] == [0, 0, 0]


@pytest.mark.parametrize(("kernel", "due"), [(V4_19, 50), (V6_1, NOT_SCHEDULED)])
def test_the_worker_is_gated_since_5_19(kernel: str, due: int) -> None:
    """Sheet 2.7: it may only be scheduled while refill_enabled is set, which open does (9 no. 10)."""
    rig = Rig(kernel, MERGEABLE, 16)
    rig.vi.now = 50
    schedule_refill(rig.vi, 0)
    assert rig.vi.refill_due == due
    rig.open()
    schedule_refill(rig.vi, 0)
    assert rig.vi.refill_due == 50


@every_era
def test_open_fills_and_schedules_every_queue(kernel: str) -> None:
    """Sheet 1.7: only current pairs are filled, NAPI is turned on for all, and one poll is scheduled at once."""
    rig = Rig(kernel, MERGEABLE | FeatureSet.of(f.MQ, f.CTRL_VQ), 16, pairs=3)
    rig.vi.curr_queue_pairs = 2
    assert [ring.num_free for ring in rig.driver.rings[:6:2]] == [16, 16, 16]
    rig.open()
    assert [ring.num_free for ring in rig.driver.rings[:6:2]] == [0, 0, 16]
    assert [(napi.enabled, napi.scheduled) for napi in rig.driver.napis[::2]] == [(1, 1)] * 3


@pytest.mark.parametrize(("kernel", "due"), [(V4_19, 0), (V6_1, 0), (V7_0, NOT_SCHEDULED)])
def test_open_out_of_memory(kernel: str, due: int) -> None:
    """Sheet 1.7: the worker with delay 0; v7.0 ignores it, its first poll fills the ring."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.frag_pool.refuse = 1
    rig.open()
    assert rig.vi.refill_due == due
    assert rig.vq.num_free == 64
    assert rig.poll() == 0
    assert rig.vq.num_free == 0
    rig.assert_nothing_lost()


# Conservation


@every_mode
@every_era
def test_pages_are_conserved_over_many_rounds(kernel: str, features: FeatureSet) -> None:
    """Whatever is posted, received and freed, in the end every pool has all of its blocks, and no block a user."""
    rig = Rig(kernel, features, 32)
    rig.fill()
    held = []
    for turn in range(60):
        # 15 is too short, so it is dropped; the others are copied, built in place or hung on as frags.
        for size in (60, 15, 200, 1400)[: 1 + turn % 4]:
            if rig.rx.pending():
                rig.arrive(vnet_hdr() + frame(size), lengths=(12 + size if size != 15 else 15,))
        held += rig.receive()
        if turn % 3:
            free(*held)
            held = []
        rig.fill()
    free(*held)
    rig.assert_nothing_lost()


@given(
    kernel=st.sampled_from(ERAS),
    indirect=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["frame", "frame", "frame", "short", "too long", "no skb", "no page", "free"]),
            st.sampled_from([60, 129, 3744, 3745, 9014, 65549]),
            st.integers(0, 40),
        ),
        max_size=30,
    ),
)
@settings(max_examples=60, deadline=None)
def test_chains_of_pages_keep_together(kernel: str, indirect: bool, steps: list[tuple[str, int, int]]) -> None:
    """Sheet 2.2, 4.3: pages pass between ring, skbs, the queue's list and the pool, and none is lost or doubled."""
    rig = Rig(kernel, BIG if indirect else BIG_DIRECT, 64)
    held: list[Skb] = []
    for kind, size, count in steps:
        pool = rig.page_pool
        taken = [alloc_pages(pool) for _ in range(pool.free_count)] if kind == "no page" else []
        for page in reversed(taken[:count]):
            put_page(page)
        del taken[:count]
        rig.fill()
        for page in taken:
            put_page(page)
        if kind == "free":
            free(*held[: count % 8])
            del held[: count % 8]
        if kind not in ("no page", "free") and rig.rx.pending():
            rig.skb_pool.refuse = 1 if kind == "no skb" else 0
            data = frame(13 if kind == "short" else size)
            lengths = (19 * 4096,) if kind == "too long" else None
            rig.arrive(vnet_hdr() + data, lengths=lengths)
            got = rig.receive()
            assert len(got) == (1 if kind == "frame" else 0)
            assert all(contents(skb) == data for skb in got)
            rig.skb_pool.refuse = 0
            held += got
        listed = 0
        at = rig.rq.pages
        while at:
            listed += 1
            # Only the head of a posted chain notes where the chain ends: elsewhere that would be stale.
            assert page_at(at).last == 0
            at = page_at(at).private
        posted = rig.rx.pending() * 18
        in_skbs = 0
        for skb in held:
            pages = [frag_at(skb.frags + n * 24).page for n in range(skb.nr_frags)] + [skb.head_page] * (
                skb.head_page != 0
            )
            assert all(page_at(page).last == 0 for page in pages)
            in_skbs += len(pages)
        assert listed + posted + in_skbs + pool.free_count == pool.total
    free(*held)
    rig.assert_nothing_lost()
