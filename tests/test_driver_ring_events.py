"""The driver's half of a split ring: kicks, and when it asks to be called; see test_driver_ring.py."""

from __future__ import annotations

import pytest

from netemu.driver.virtio_ring import (
    broken_reason,
    virtqueue_disable_cb,
    virtqueue_enable_cb_delayed,
    virtqueue_enable_cb_prepare,
    virtqueue_get_buf_ctx,
    virtqueue_kick,
    virtqueue_kick_prepare,
    virtqueue_notify,
    virtqueue_poll,
    vring_interrupt,
)
from netemu.virtio.split import vring_need_event
from tests.driver_kit import (
    V4_19,
    V6_1,
    V7_0,
    RingRig,
    every_era,
)

EIO = -5
newer_eras = pytest.mark.parametrize("kernel", [V6_1, V7_0])
both_suppressions = pytest.mark.parametrize("event", [False, True], ids=["flags", "EVENT_IDX"])


# Kicks

NEED_EVENT = [
    (0, 1, 0, 1),
    (1, 1, 0, 0),
    (5, 6, 5, 1),
    (5, 7, 6, 0),
    (5, 10, 3, 1),
    (5, 5, 3, 0),
    (65535, 0, 65535, 1),
    (65535, 1, 65530, 1),
    (0, 1, 65535, 1),
    (2, 3, 0, 1),
    (3, 3, 0, 0),
    (7, 7, 7, 0),
]
"""event, new, old, and whether to notify: sheet 11.5."""


@pytest.mark.parametrize(("event", "new", "old", "need"), NEED_EVENT)
def test_need_event_vectors(event: int, new: int, old: int, need: int) -> None:
    """Sheet 11.5, SPLIT-V-24."""
    assert vring_need_event(event, new, old) == need


@pytest.mark.parametrize(("event", "new", "old", "need"), NEED_EVENT)
def test_kick_prepare_under_event_idx(event: int, new: int, old: int, need: int) -> None:
    """SPLIT-V-24, SPLIT-V-25; the low bit of used flags says nothing (SPLIT-V-23)."""
    rig = RingRig(8, event=True)
    rig.vq.avail_idx_shadow = new
    rig.vq.num_added = (new - old) & 0xFFFF
    rig.device.set_avail_event(event)
    rig.device.set_used_flags(1)
    assert virtqueue_kick_prepare(rig.vq) == need
    assert rig.vq.num_added == 0


@pytest.mark.parametrize(("flags", "need"), [(0, 1), (1, 0)])
def test_kick_prepare_by_flags(flags: int, need: int) -> None:
    """SPLIT-V-21, SPLIT-V-22; avail_event is ignored (SPLIT-V-20), here set to what would ask for the opposite."""
    rig = RingRig(8)
    rig.add_one(1)
    rig.device.set_used_flags(flags)
    rig.device.set_avail_event(7 if need else 0)
    assert virtqueue_kick_prepare(rig.vq) == need


def test_a_batch_is_one_kick() -> None:
    """SPLIT-V-28: the event index lies inside the batch, the next batch is past it."""
    rig = RingRig(8, event=True)
    rig.device.set_avail_event(1)
    for token in (1, 2, 3):
        rig.add_one(token)
    assert virtqueue_kick(rig.vq) == 1
    assert rig.bell.kick_count == 1
    rig.add_one(4)
    assert virtqueue_kick(rig.vq) == 1
    assert rig.bell.kick_count == 1


def test_65535_added_buffers_kick_by_themselves() -> None:
    """Sheet 5.2 step 9: else the difference of the two indices would be lost."""
    rig = RingRig(8)
    rig.vq.num_added = 0xFFFE
    rig.add_one(1)
    assert rig.bell.kick_count == 1
    assert rig.vq.num_added == 0


def test_a_transport_that_refuses_breaks_the_ring() -> None:
    """Sheet 5.3."""
    rig = RingRig(8)
    rig.vq.refuse_notify = 1
    rig.add_one(1)
    assert virtqueue_kick(rig.vq) == 0
    assert rig.vq.broken
    assert rig.bell.kick_count == 0
    assert rig.add_one(2) == EIO
    assert broken_reason(rig.vq) == "virtqueue 1: the transport refused a notification"


# What a kick says


def test_notif_v_01_a_plain_kick_names_the_queue() -> None:
    """NOTIF-V-01: The rig's queue is virtqueue 1."""
    rig = RingRig(8)
    rig.add_one(1)
    virtqueue_notify(rig.vq)
    assert rig.bell.data == 1


@pytest.mark.parametrize(
    ("start", "word"),
    [(0, 0x0003_0001), (0x7FFD, 0x8000_0001), (0x8000, 0x8003_0001), (0xFFFE, 0x0001_0001)],
)
def test_notif_v_03_a_kick_says_where_the_available_index_is(start: int, word: int) -> None:
    """NOTIF-V-03.

    NOTIF-V-02: low 15 bits in 16 to 30, bit 15 in 31; and a kick without new buffers repeats it (NOTIF-V-05).
    """
    rig = RingRig(8, start=start)
    rig.vq.notification_data = 1
    for token in (1, 2, 3):
        rig.add_one(token)
    for kicks in (1, 2):
        virtqueue_notify(rig.vq)
        assert (rig.bell.data, rig.bell.kick_count) == (word, kicks)


# Callbacks


@both_suppressions
@every_era
def test_used_event_follows_while_interrupts_are_wanted(kernel: str, event: bool) -> None:
    """Sheet 5.4 step 8: used_event := last_used_idx, with or without EVENT_IDX (SPLIT-V-15)."""
    rig = RingRig(8, kernel, event=event)
    for token in (1, 2, 3):
        rig.add_one(token)
    for head in (0, 1, 2):
        rig.device.use(head, 0)
    seen = []
    for _ in range(3):
        virtqueue_get_buf_ctx(rig.vq)
        seen.append(rig.device.used_event)
    assert seen == [1, 2, 3]


@every_era
def test_disable_cb_by_flags(kernel: str) -> None:
    """SPLIT-V-13, SPLIT-V-12: avail flags 1, and used_event stays where it was."""
    rig = RingRig(8, kernel)
    rig.device.set_used_event(55)
    virtqueue_disable_cb(rig.vq)
    assert rig.device.avail_flags == 1
    rig.add_one(1)
    rig.device.use(0, 0)
    virtqueue_get_buf_ctx(rig.vq)
    assert rig.device.used_event == 55
    assert virtqueue_enable_cb_prepare(rig.vq) == 1
    assert (rig.device.avail_flags, rig.device.used_event) == (0, 1)


@pytest.mark.parametrize(("kernel", "used_event"), [(V4_19, 55), (V6_1, 0), (V7_0, 0)])
def test_disable_cb_under_event_idx(kernel: str, used_event: int) -> None:
    """Sheet 5.6: the seed writes nothing, v5.14 and later used_event = 0; flags stay 0 in all (SPLIT-V-14)."""
    rig = RingRig(8, kernel, event=True)
    rig.device.set_used_event(55)
    virtqueue_disable_cb(rig.vq)
    assert (rig.device.avail_flags, rig.device.used_event) == (0, used_event)
    rig.add_one(1)
    rig.device.use(0, 0)
    virtqueue_get_buf_ctx(rig.vq)
    assert rig.device.used_event == used_event


@pytest.mark.parametrize(("kernel", "used_event"), [(V4_19, 55), (V6_1, 1), (V7_0, 55)])
def test_disable_cb_after_the_event_fired(kernel: str, used_event: int) -> None:
    """Sheet 5.6, 9 no. 21: until v6.4 disable_cb returned before noting it, so that get_buf rewrote used_event."""
    rig = RingRig(8, kernel, event=True)
    rig.device.set_used_event(55)
    rig.add_one(1)
    rig.device.use(0, 0)
    assert vring_interrupt(rig.vq) == 1
    virtqueue_disable_cb(rig.vq)
    assert rig.device.used_event == 55
    virtqueue_get_buf_ctx(rig.vq)
    assert rig.device.used_event == used_event


@newer_eras
def test_enabling_forgets_that_the_event_fired(kernel: str) -> None:
    """Sheet 5.6: event_triggered is cleared in prepare and delayed; the next disable writes used_event = 0 again."""
    for enable in (virtqueue_enable_cb_prepare, virtqueue_enable_cb_delayed):
        rig = RingRig(8, kernel, event=True)
        rig.add_one(1)
        rig.device.use(0, 0)
        vring_interrupt(rig.vq)
        virtqueue_disable_cb(rig.vq)
        virtqueue_get_buf_ctx(rig.vq)
        enable(rig.vq)
        assert rig.device.used_event == 1
        virtqueue_disable_cb(rig.vq)
        assert rig.device.used_event == 0


@both_suppressions
@every_era
def test_enable_and_look_again(kernel: str, event: bool) -> None:
    """SPLIT-V-29: what the device used between enabling and polling is seen; poll is inequality only (sheet 5.6)."""
    rig = RingRig(8, kernel, event=event)
    rig.add_one(1)
    opaque = virtqueue_enable_cb_prepare(rig.vq)
    assert virtqueue_poll(rig.vq, opaque) == 0
    rig.device.use(0, 0)
    assert virtqueue_poll(rig.vq, opaque) == 1


@both_suppressions
def test_interrupt_with_nothing_used_is_none_of_ours(event: bool) -> None:
    """Sheet 5.6; SPLIT-V-16: spurious notifications are tolerated."""
    rig = RingRig(8, event=event)
    rig.add_one(1)
    assert vring_interrupt(rig.vq) == 0
    rig.device.use(0, 0)
    assert vring_interrupt(rig.vq) == 1


DELAYED = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (8, 6), (255, 191), (256, 192)]
"""Outstanding buffers and the distance of used_event: sheet 11.5."""


@pytest.mark.parametrize("start", [0, 100, 65400])
@pytest.mark.parametrize(("outstanding", "distance"), DELAYED)
def test_enable_cb_delayed_distances(outstanding: int, distance: int, start: int) -> None:
    """Sheet 5.6, 11.5: three quarters of what is outstanding; 0 as soon as the device has used more than that."""
    rig = RingRig(256, event=True, start=start)
    rig.vq.avail_idx_shadow = (start + outstanding) & 0xFFFF
    virtqueue_disable_cb(rig.vq)
    rig.device.set_used_idx(start + distance)
    assert virtqueue_enable_cb_delayed(rig.vq) == 1
    assert rig.device.used_event == (start + distance) & 0xFFFF
    rig.device.set_used_idx(start + distance + 1)
    assert virtqueue_enable_cb_delayed(rig.vq) == 0


def test_enable_cb_delayed_by_flags() -> None:
    """Sheet 5.6: as prepare: avail flags 0."""
    rig = RingRig(8)
    virtqueue_disable_cb(rig.vq)
    virtqueue_enable_cb_delayed(rig.vq)
    assert rig.device.avail_flags == 0


# Indices that wrap


@both_suppressions
@every_era
def test_indices_wrap_at_65536(kernel: str, event: bool) -> None:
    """SPLIT-B-05: both run free modulo 65536, the slot is idx mod N."""
    rig = RingRig(4, kernel, event=event, start=65534)
    rig.device.set_avail_event(65535)
    kicks = []
    for token in (1, 2, 3, 4):
        rig.add_one(token)
        kicks.append(virtqueue_kick_prepare(rig.vq))
    assert rig.device.avail_idx == 2
    assert [rig.device.avail_entry(slot) for slot in (2, 3, 0, 1)] == [0, 1, 2, 3]
    assert kicks == ([0, 1, 0, 0] if event else [1, 1, 1, 1])
    for token in (1, 2, 3, 4):
        rig.device.use(rig.device.take(), 10 * token)
    assert rig.device.used_idx == 2
    got = [virtqueue_get_buf_ctx(rig.vq)[:2] for _ in range(5)]
    assert got == [(1, 10), (2, 20), (3, 30), (4, 40), (0, 0)]
    assert rig.device.used_event == 2
