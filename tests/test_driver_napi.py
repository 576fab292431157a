"""NAPI: interrupt, budget, completion and its race, and the send queue that the receive poll cleans.

"Sheet" is the project's fact sheet on Linux's virtio_net.c. Where something has to happen at a certain point inside a
kernel, the test puts it there by replacing a name in the kernel's module.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from netemu.driver import napi as napi_module
from netemu.driver import poll as poll_module
from netemu.driver import transmit as transmit_module
from netemu.driver.napi import (
    napi_complete_done,
    napi_disable,
    napi_enable,
    napi_schedule_prep,
    virtqueue_napi_schedule,
)
from netemu.driver.poll import skb_recv_done, virtnet_poll_cleantx
from netemu.driver.transmit import skb_xmit_done, start_xmit, virtnet_poll_tx
from netemu.driver.virtio_ring import virtqueue_disable_cb, virtqueue_enable_cb_prepare
from netemu.driver.virtnet import TAG_SIZE, Napi, SendQueue, tag_at
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import (
    BIG,
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

newer_eras = pytest.mark.parametrize("kernel", [V6_1, V7_0])
both_suppressions = pytest.mark.parametrize("event", [False, True], ids=["flags", "EVENT_IDX"])
SHORT = vnet_hdr() + frame(13)


def _features(features: FeatureSet, event: bool) -> FeatureSet:
    return features | FeatureSet.of(f.EVENT_IDX) if event else features


def _idle(kernel: str, size: int = 128, *, event: bool = False) -> Rig:
    """An open interface whose first poll is over: callbacks are on, nothing is scheduled."""
    rig = Rig(kernel, _features(MERGEABLE, event), size)
    rig.open()
    assert rig.poll() == 0
    assert (rig.napi.scheduled, rig.napi.completions) == (0, 1)
    assert _wants_interrupts(rig)
    return rig


def _wants_interrupts(rig: Rig) -> bool:
    """Whether a used buffer more would raise an interrupt, as the device reads it from shared memory."""
    if rig.vq.event:
        return rig.rx.used_event == rig.rx.used_idx
    return rig.rx.avail_flags == 0


def _interrupt(rig: Rig) -> None:
    skb_recv_done(rig.rq)


# 3.1 the core's rules


def test_schedule_prep() -> None:
    """Sheet 3.1: fails while off; a second time it marks missed."""
    napi = Napi()
    assert napi_schedule_prep(napi) == 0
    assert (napi.scheduled, napi.missed) == (0, 0)
    napi.enabled = 1
    assert napi_schedule_prep(napi) == 1
    assert (napi.scheduled, napi.missed) == (1, 0)
    assert napi_schedule_prep(napi) == 0
    assert (napi.scheduled, napi.missed) == (1, 1)


def test_complete_done() -> None:
    """Sheet 3.1: false if missed, and then it stays scheduled; the next time it completes."""
    napi = Napi(enabled=1, scheduled=1, missed=1)
    assert napi_complete_done(napi) == 0
    assert (napi.scheduled, napi.missed) == (1, 0)
    assert napi_complete_done(napi) == 1
    assert napi.scheduled == 0


@every_era
def test_enabling_schedules_a_poll_and_disabling_forgets_it(kernel: str) -> None:
    """Sheet 1.7: for frames that came before NAPI was on, for which no interrupt comes."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    rig.arrive_frame(frame(60))
    _interrupt(rig)
    assert rig.napi.scheduled == 0
    napi_enable(rig.napi, rig.vq)
    assert rig.napi.scheduled == 1
    assert rig.rx.avail_flags == 1
    assert rig.poll() == 1
    free(*rig.collect())
    virtqueue_napi_schedule(rig.napi, rig.vq)
    napi_disable(rig.napi)
    assert (rig.napi.enabled, rig.napi.scheduled) == (0, 0)


# 3.2 from the interrupt to the poll


@both_suppressions
@every_era
def test_interrupt_schedules_and_turns_callbacks_off(kernel: str, event: bool) -> None:
    """Sheet 3.2."""
    rig = _idle(kernel, event=event)
    rig.arrive_frame(frame(60))
    _interrupt(rig)
    assert (rig.napi.scheduled, rig.rq.interrupts) == (1, 1)
    assert rig.rx.avail_flags == (0 if event else 1)
    assert rig.poll() == 1
    free(*rig.collect())
    assert rig.rx.used_event == 1
    assert _wants_interrupts(rig)


@every_era
def test_an_interrupt_while_scheduled_leaves_callbacks_alone(kernel: str) -> None:
    """Sheet 3.2: it only marks the napi missed."""
    rig = _idle(kernel)
    rig.arrive_frame(frame(60))
    rig.napi.scheduled = 1
    _interrupt(rig)
    assert rig.napi.missed == 1
    assert rig.rx.avail_flags == 0


@every_era
def test_a_spurious_interrupt_schedules_nothing(kernel: str) -> None:
    """SPLIT-V-16, sheet 5.6."""
    rig = _idle(kernel)
    _interrupt(rig)
    assert (rig.napi.scheduled, rig.rq.interrupts) == (0, 0)
    assert _wants_interrupts(rig)


# 3.3, 3.5 budget


@both_suppressions
@pytest.mark.parametrize(
    ("pending", "polls"), [(0, [0]), (1, [1]), (63, [63]), (64, [64, 0]), (65, [64, 1]), (128, [64, 64, 0])]
)
@every_era
def test_budget(kernel: str, pending: int, polls: list[int], event: bool) -> None:
    """Sheet 3.1, 3.3; section 13: a poll that uses its whole budget has not completed and is called again."""
    rig = _idle(kernel, 128, event=event)
    for _ in range(pending):
        rig.arrive(SHORT)
    rig.napi.scheduled = 1
    virtqueue_disable_cb(rig.vq)
    for at, received in enumerate(polls):
        assert rig.poll() == received
        assert rig.rq.packets == sum(polls[: at + 1])
        assert rig.napi.scheduled == (1 if received == 64 else 0)
    assert rig.napi.polls == 1 + len(polls)
    assert _wants_interrupts(rig)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("features", [SMALL, MERGEABLE, BIG], ids=["small", "mrg", "big"])
@every_era
def test_every_outcome_counts_against_the_budget(kernel: str, features: FeatureSet) -> None:
    """Sheet 3.5: packets += 1 whatever became of the frame."""
    rig = Rig(kernel, features, 16)
    rig.fill()
    rig.arrive(SHORT)
    rig.arrive_frame(frame(60))
    rig.arrive(vnet_hdr(gso_type=2) + frame(60))
    rig.arrive_frame(frame(70))
    got = rig.receive(3)
    assert [contents(skb) for skb in got] == [frame(60)]
    assert rig.rq.packets == 3
    assert (rig.rq.rx_length_errors, rig.rq.rx_frame_errors) == (1, 1)
    got += rig.receive(3)
    assert rig.rq.packets == 4
    free(*got)
    rig.assert_nothing_lost()


@every_era
def test_a_merged_packet_counts_once(kernel: str) -> None:
    """Sheet 3.5: whatever the number of its buffers."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    assert rig.arrive_frame(frame(9000)) == 6
    rig.arrive_frame(frame(60))
    got = rig.receive(2)
    assert [skb.len for skb in got] == [9000, 60]
    assert (rig.rq.packets, rig.rq.buffers_used) == (2, 7)
    free(*got)


@every_era
def test_frames_keep_their_order_over_polls(kernel: str) -> None:
    """The list that polls deliver to (napi_gro_receive without GRO)."""
    rig = _idle(kernel)
    sizes = [60 + n for n in range(70)]
    for size in sizes:
        rig.arrive_frame(frame(size))
    assert (rig.poll(), rig.poll()) == (64, 6)
    assert rig.rq.rx_count == 70
    got = rig.collect()
    assert [skb.len for skb in got] == sizes
    free(*got)


@every_era
def test_tags_come_from_the_slot_of_a_frames_first_buffer(kernel: str) -> None:
    """What the emulator keeps beside the used ring: number, time and wire length follow each frame, merged or not."""
    rig = Rig(kernel, MERGEABLE, 16)
    rig.fill()
    for slot in range(16):
        tag = tag_at(rig.rq.tags + TAG_SIZE * slot)
        tag.frame_id, tag.tstamp, tag.wire_len = 100 + slot, 200 + slot, 300 + slot
    rig.arrive_frame(frame(60))
    rig.arrive(SHORT)
    assert rig.arrive_frame(frame(9000)) == 3
    rig.arrive_frame(frame(60))
    got = rig.receive()
    assert [(skb.frame_id, skb.tstamp, skb.wire_len) for skb in got] == [
        (100, 200, 300),
        (102, 202, 302),
        (105, 205, 305),
    ]
    free(*got)


# 3.4 the completion race


def _after(monkeypatch: pytest.MonkeyPatch, module: object, name: str, happening: Callable[[], None]) -> None:
    """Let something happen once, right after a kernel that others of the module call."""
    original = getattr(module, name)
    done: list[bool] = []

    def wrapped(*args: object) -> object:
        result = original(*args)
        if not done:
            done.append(True)
            happening()
        return result

    monkeypatch.setattr(module, name, wrapped)


@pytest.mark.parametrize("point", ["virtqueue_enable_cb_prepare", "napi_complete_done"])
@both_suppressions
@every_era
def test_a_frame_that_arrives_while_the_poll_completes(
    kernel: str, event: bool, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sheet 3.4 step 2, section 13: the used index moved after prepare: NAPI is scheduled again with callbacks off."""
    rig = _idle(kernel, event=event)
    rig.napi.scheduled = 1
    completions = rig.napi.completions
    _after(monkeypatch, napi_module, point, lambda: void(rig.arrive_frame(frame(77))))
    assert rig.poll() == 0
    assert (rig.napi.scheduled, rig.napi.completions) == (1, completions + 1)
    if not event:
        assert rig.rx.avail_flags == 1
    monkeypatch.undo()
    assert rig.poll() == 1
    [skb] = rig.collect()
    assert contents(skb) == frame(77)
    assert rig.napi.scheduled == 0
    free(skb)


def void(_value: object) -> None:
    """Forget a result."""


@both_suppressions
@every_era
def test_missed_while_the_poll_completes(kernel: str, event: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 3.4 step 3: somebody scheduled it meanwhile: callbacks go off again, it stays scheduled."""
    rig = _idle(kernel, event=event)
    rig.napi.scheduled = 1

    def interrupt() -> None:
        rig.arrive_frame(frame(77))
        _interrupt(rig)

    _after(monkeypatch, napi_module, "virtqueue_enable_cb_prepare", interrupt)
    completions = rig.napi.completions
    assert rig.poll() == 0
    assert (rig.napi.scheduled, rig.napi.missed, rig.napi.completions) == (1, 0, completions)
    if not event:
        assert rig.rx.avail_flags == 1
    monkeypatch.undo()
    assert rig.poll() == 1
    free(*rig.collect())
    assert (rig.napi.scheduled, _wants_interrupts(rig)) == (0, True)


@every_era
def test_a_frame_between_polls_needs_no_interrupt(kernel: str) -> None:
    """Sheet 3.1: after a full budget callbacks are still off."""
    rig = _idle(kernel)
    for _ in range(64):
        rig.arrive(SHORT)
    _interrupt(rig)
    assert rig.poll() == 64
    assert rig.rx.avail_flags == 1
    rig.arrive(SHORT)
    assert rig.poll() == 1
    assert rig.rx.avail_flags == 0


@pytest.mark.parametrize(("kernel", "scheduled"), [(V4_19, 1), (V6_1, 0), (V7_0, 0)])
def test_polling_a_broken_ring(kernel: str, scheduled: int) -> None:
    """Sheet 5.4, 9 no. 19: v4.19 schedules itself for ever, since virtqueue_poll sees a used index that moved."""
    rig = _idle(kernel)
    rig.rx.use(200, 60)
    _interrupt(rig)
    for _ in range(3):
        assert rig.poll() == 0
        assert rig.napi.scheduled == scheduled
    assert rig.driver.broken == ["virtqueue 0: id 200 out of range"]


# 3.6 cleantx


def _sent(kernel: str, count: int, used: int, size: int = 64) -> Rig:
    """An interface that sent ``count`` frames of 100 bytes, of which the device is done with ``used``."""
    rig = Rig(kernel, MERGEABLE, size)
    rig.open()
    rig.poll()
    if rig.tx_napi.scheduled:
        virtnet_poll_tx(rig.sq)
    rig.tx_napi.weight = 64
    for _ in range(count):
        start_xmit(rig.sq, rig.outgoing(frame(100)).address, 1)
    for _ in range(used):
        rig.tx.use(rig.tx.take(), 0)
    return rig


@every_era
def test_cleantx_counts_at_completion(kernel: str) -> None:
    """Sheet 3.3 step 1, 3.6, 6.3: the receive poll frees what was sent; bytes are without the header."""
    rig = _sent(kernel, 5, 3)
    before = rig.skb_pool.free_count
    assert (rig.sq.packets, rig.sq.bytes) == (0, 0)
    assert rig.poll() == 0
    assert (rig.sq.packets, rig.sq.bytes) == (3, 300)
    assert rig.skb_pool.free_count == before + 3
    assert rig.tx_vq.num_free == 62


@every_era
def test_cleantx_leaves_a_locked_queue_alone(kernel: str) -> None:
    """Sheet 3.6: trylock."""
    rig = _sent(kernel, 5, 3)
    rig.sq.locked = 1
    virtnet_poll_cleantx(rig.rq)
    assert (rig.sq.packets, rig.sq.locked) == (0, 1)
    rig.sq.locked = 0
    virtnet_poll_cleantx(rig.rq)
    assert (rig.sq.packets, rig.sq.locked) == (3, 0)


@every_era
def test_cleantx_without_tx_napi_does_nothing(kernel: str) -> None:
    """Sheet 3.6."""
    rig = _sent(kernel, 5, 3)
    rig.tx_napi.weight = 0
    virtnet_poll_cleantx(rig.rq)
    assert rig.sq.packets == 0


@pytest.mark.parametrize(("kernel", "weight"), [(V4_19, 0), (V6_1, 64), (V7_0, 64)])
def test_tx_napi_by_default(kernel: str, weight: int) -> None:
    """Sheet 1.6: off in the seed, on since v5.3."""
    assert Rig(kernel).tx_napi.weight == weight


@pytest.mark.parametrize(("used", "woken"), [(1, False), (2, True)])
@every_era
def test_cleantx_wakes_at_19_free(kernel: str, used: int, woken: bool) -> None:
    """Sheet 3.6: 2 + MAX_SKB_FRAGS; of 64 descriptors 47 were in flight, so 18 or 19 are free; v6.8 counts it."""
    rig = _sent(kernel, 47, used)
    assert rig.sq.stopped == 1
    virtnet_poll_cleantx(rig.rq)
    assert rig.tx_vq.num_free == 17 + used
    assert rig.sq.stopped == (0 if woken else 1)
    assert rig.sq.wake == (1 if woken and kernel == V7_0 else 0)


@newer_eras
def test_cleantx_wakes_only_what_was_stopped(kernel: str) -> None:
    """Sheet 3.6: only a queue that was stopped counts a wake."""
    rig = _sent(kernel, 5, 3)
    virtnet_poll_cleantx(rig.rq)
    assert (rig.sq.stopped, rig.sq.wake) == (0, 0)


@pytest.mark.parametrize(("kernel", "locked"), [(V4_19, 0), (V6_1, 1), (V7_0, 1)])
def test_cleantx_wakes_inside_the_lock_since_5_14(kernel: str, locked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 3.6, 9 no. 22."""
    rig = _sent(kernel, 47, 10)
    seen = []
    monkeypatch.setattr(poll_module, "tx_wake_queue", lambda sq: seen.append(sq.locked))
    virtnet_poll_cleantx(rig.rq)
    assert seen == [locked]


@pytest.mark.parametrize(("kernel", "freed"), [(V4_19, 2), (V6_1, 8), (V7_0, 8)])
def test_cleantx_looks_again_since_5_14(kernel: str, freed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 3.6: what the device finishes meanwhile is freed too, while enable_cb_delayed fails (over 3/4 of 6)."""
    rig = _sent(kernel, 8, 2)

    def finish() -> None:
        for _ in range(6):
            rig.tx.use(rig.tx.take(), 0)

    _after(monkeypatch, poll_module, "free_old_xmit_skbs", finish)
    virtnet_poll_cleantx(rig.rq)
    assert rig.sq.packets == freed


# 3.8 the send queue's own poll


@newer_eras
def test_xmit_done_schedules_tx_napi(kernel: str) -> None:
    """Sheet 6.3: callbacks off, TX NAPI scheduled; its poll frees, wakes, completes with callbacks on, returns 0."""
    rig = _sent(kernel, 47, 40)
    rig.tx_vq.avail_flags_shadow = 0
    skb_xmit_done(rig.sq)
    assert rig.tx_napi.scheduled == 1
    assert rig.tx.avail_flags == 1
    assert virtnet_poll_tx(rig.sq) == 0
    assert (rig.sq.packets, rig.sq.bytes, rig.sq.stopped) == (40, 4000, 0)
    assert (rig.tx_napi.scheduled, rig.tx.avail_flags, rig.sq.locked) == (0, 0, 0)
    assert rig.tx.used_event == 40


@newer_eras
def test_the_tx_poll_frees_with_callbacks_off(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 3.8: under the lock, callbacks are disabled before anything is freed."""
    rig = _sent(kernel, 3, 1)
    virtqueue_enable_cb_prepare(rig.tx_vq)
    seen = []
    monkeypatch.setattr(transmit_module, "free_old_xmit_skbs", lambda sq: seen.append((sq.locked, rig.tx.avail_flags)))
    virtnet_poll_tx(rig.sq)
    assert seen == [(1, 1)]


def test_xmit_done_without_tx_napi_wakes_the_queue() -> None:
    """Sheet 6.3: at once, and whatever is free; nothing is freed here."""
    rig = Rig(V4_19, MERGEABLE, 64)
    rig.open()
    for _ in range(46):
        start_xmit(rig.sq, rig.outgoing(frame(100)).address, 0)
    assert rig.sq.stopped == 1
    rig.tx.use(rig.tx.take(), 0)
    skb_xmit_done(rig.sq)
    assert (rig.sq.stopped, rig.sq.packets, rig.tx.avail_flags) == (0, 0, 1)


@pytest.mark.parametrize("point", ["virtqueue_enable_cb_prepare", "napi_complete_done"])
@newer_eras
def test_a_completion_while_the_tx_poll_completes(kernel: str, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 3.8: the same race, the same answer."""
    rig = _sent(kernel, 3, 1)
    rig.tx_napi.scheduled = 1
    _after(monkeypatch, transmit_module, point, lambda: rig.tx.use(rig.tx.take(), 0))
    virtnet_poll_tx(rig.sq)
    assert (rig.sq.packets, rig.tx_napi.scheduled, rig.tx.avail_flags) == (1, 1, 1)
    monkeypatch.undo()
    virtnet_poll_tx(rig.sq)
    assert (rig.sq.packets, rig.tx_napi.scheduled, rig.tx.avail_flags) == (2, 0, 0)


@newer_eras
def test_missed_while_the_tx_poll_completes(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 3.8: not done: callbacks off."""
    rig = _sent(kernel, 3, 1)
    rig.tx_napi.scheduled = 1
    _after(monkeypatch, transmit_module, "virtqueue_enable_cb_prepare", lambda: void(napi_schedule_prep(rig.tx_napi)))
    virtnet_poll_tx(rig.sq)
    assert (rig.tx_napi.scheduled, rig.tx_napi.missed, rig.tx.avail_flags, rig.sq.locked) == (1, 0, 1, 0)


def test_send_queue_of_a_receive_queue() -> None:
    """Sheet 3.6: cleantx looks at the pair's own send queue."""
    rig = Rig(V7_0, MERGEABLE | FeatureSet.of(f.MQ, f.CTRL_VQ), 16, pairs=3)
    size = SendQueue.dtype.itemsize
    assert [rq.sq for rq in rig.driver.receive_queues] == [rig.driver.send_queues.address + n * size for n in range(3)]
