"""Event suppression on the driver's side of a packed ring: kicks, interrupts, delayed callbacks."""

from __future__ import annotations

import pytest

from netemu.driver.virtio_ring import (
    virtqueue_disable_cb,
    virtqueue_enable_cb_delayed,
    virtqueue_enable_cb_prepare,
    virtqueue_get_buf_ctx,
    virtqueue_kick,
    virtqueue_kick_prepare,
    virtqueue_poll,
    vring_interrupt,
)
from tests.driver_kit import V6_1, V7_0
from tests.driver_packed_kit import DESC, DISABLE, ENABLE, PackedRig

eras_with_packed = pytest.mark.parametrize("kernel", [V6_1, V7_0])
both_suppressions = pytest.mark.parametrize("event", [False, True], ids=["flags", "EVENT_IDX"])


# Kicks


@pytest.mark.parametrize(("flags", "need"), [(ENABLE, 1), (DISABLE, 0), (3, 1)])
@both_suppressions
def test_pack_b_07_kick_by_flags(flags: int, need: int, event: bool) -> None:
    """PACK-B-07.

    PACK-B-09: the device's structure is read after the descriptors are written; 3 is reserved, Linux then kicks.
    """
    rig = PackedRig(4, event=event)
    rig.device.set_device_event(0, 1, flags)
    rig.add_many(1, 1)
    assert virtqueue_kick_prepare(rig.vq) == need
    assert rig.vq.num_added == 0


@pytest.mark.parametrize(
    ("before", "segments", "event", "wrap", "need"),
    [
        (0, 1, 0, 1, 1),  # the very slot
        (0, 1, 1, 1, 0),  # the one behind it
        (0, 3, 0, 1, 1),  # the first of three
        (0, 3, 2, 1, 1),  # the last of three
        (0, 3, 3, 1, 0),
        (2, 1, 1, 1, 0),  # passed before
        (2, 1, 2, 1, 1),
        (2, 1, 2, 0, 0),  # the right slot in the next round
        (4, 3, 4, 1, 1),  # 4 0 1 of a ring of 5: before the end
        (4, 3, 1, 0, 1),  # behind it, named with the next round's counter
        (4, 3, 1, 1, 0),  # behind it, named with this round's
        (4, 3, 2, 0, 0),
        (4, 1, 4, 1, 1),  # the last slot, after which the position is 0
        (4, 1, 0, 0, 0),
    ],
)
@eras_with_packed
def test_pack_b_08_kick_when_the_named_descriptor_is_passed(
    kernel: str, before: int, segments: int, event: int, wrap: int, need: int
) -> None:
    """PACK-B-08.

    The event names a slot and its wrap counter; ring of 5, ``before`` slots gone before the buffer is added.
    """
    rig = PackedRig(5, kernel, event=True)
    if before:
        rig.cycle(9, before)
        virtqueue_kick_prepare(rig.vq)
    rig.device.set_device_event(event, wrap, DESC)
    rig.add_many(1, segments)
    assert virtqueue_kick_prepare(rig.vq) == need


def test_a_batch_is_one_kick() -> None:
    """PACK-V-21: descriptors are counted since the last decision, over several buffers."""
    rig = PackedRig(8, event=True)
    rig.device.set_device_event(3, 1, DESC)
    kicks = []
    for token, segments in ((1, 2), (2, 1), (3, 2), (4, 1)):
        rig.add_many(token, segments)
        if token != 2:
            virtqueue_kick(rig.vq)
        kicks.append(rig.bell.kick_count)
    assert kicks == [0, 0, 1, 1]


@pytest.mark.parametrize(("kernel", "need"), [(V6_1, 0), (V7_0, 1)])
def test_a_chain_as_long_as_the_ring_and_the_wrap_counter(kernel: str, need: int) -> None:
    """Sheet 9, no. 24: until v6.5 the counter did not flip, and an event in the next round was taken for the last one.

    After a chain of 4 on a ring of 4, position 0 has wrap 0: the event at slot 3, wrap 1, was just passed. The old
    driver, which still thinks of wrap 1, compares slot 3 with position 0 of the same round, and stays silent.
    """
    rig = PackedRig(4, kernel, event=True)
    rig.device.set_device_event(3, 1, DESC)
    rig.add_many(1, 4)
    assert virtqueue_kick_prepare(rig.vq) == need
    # The descriptors themselves are right in both.
    buffer_id, slots, _ = rig.device.take()
    rig.device.use(buffer_id, 0, slots)
    assert virtqueue_get_buf_ctx(rig.vq)[0] == 1


# Interrupts


@eras_with_packed
def test_disable_and_enable_by_flags(kernel: str) -> None:
    """PACK-B-07: without EVENT_IDX only enable and disable are written."""
    rig = PackedRig(4, kernel)
    assert rig.device.driver_event == (0, 0, ENABLE)
    virtqueue_disable_cb(rig.vq)
    assert rig.device.driver_event == (0, 0, DISABLE)
    assert virtqueue_enable_cb_prepare(rig.vq) == 1 << 15
    assert rig.device.driver_event == (0, 0, ENABLE)


@eras_with_packed
def test_enable_under_event_idx_names_the_next_used_descriptor(kernel: str) -> None:
    """PACK-B-06, PACK-B-08: offset and wrap of the slot the next used buffer will take; then flags = 2."""
    rig = PackedRig(5, kernel, event=True)
    for token, segments, wanted in ((1, 3, (3, 1)), (2, 2, (0, 0)), (3, 4, (4, 0)), (4, 2, (1, 1))):
        rig.cycle(token, segments)
        virtqueue_disable_cb(rig.vq)
        assert rig.device.driver_event[2] == DISABLE
        assert virtqueue_enable_cb_prepare(rig.vq) == wanted[0] | wanted[1] << 15
        assert rig.device.driver_event == (*wanted, DESC)


@eras_with_packed
def test_the_event_follows_while_interrupts_are_wanted(kernel: str) -> None:
    """Sheet 5.7: get_buf moves off_wrap on while the flags say 2, and leaves it alone while they say 1."""
    rig = PackedRig(4, kernel, event=True)
    virtqueue_disable_cb(rig.vq)
    virtqueue_enable_cb_prepare(rig.vq)
    seen = []
    for token in (1, 2, 3, 4):
        rig.cycle(token, 1)
        seen.append(rig.device.driver_event)
    assert seen == [(1, 1, DESC), (2, 1, DESC), (3, 1, DESC), (0, 0, DESC)]
    virtqueue_disable_cb(rig.vq)
    rig.cycle(5, 1)
    assert rig.device.driver_event == (0, 0, DISABLE)


@both_suppressions
@eras_with_packed
def test_pack_v_23_enable_and_look_again(kernel: str, event: bool) -> None:
    """PACK-V-23: What the device used between enabling and polling is seen."""
    rig = PackedRig(4, kernel, event=event)
    rig.add_many(1, 2)
    opaque = virtqueue_enable_cb_prepare(rig.vq)
    assert virtqueue_poll(rig.vq, opaque) == 0
    buffer_id, slots, _ = rig.device.take()
    rig.device.use(buffer_id, 0, slots)
    assert virtqueue_poll(rig.vq, opaque) == 1


def test_poll_on_a_broken_ring_says_no() -> None:
    """Sheet 9, no. 19 (v5.9)."""
    rig = PackedRig(4)
    rig.add_many(1, 1)
    opaque = virtqueue_enable_cb_prepare(rig.vq)
    rig.device.use(3, 0, 1)
    assert virtqueue_get_buf_ctx(rig.vq) == (0, 0, 0)
    assert virtqueue_poll(rig.vq, opaque) == 0


@eras_with_packed
def test_disable_after_the_event_fired_writes_nothing(kernel: str) -> None:
    """Sheet 5.6: it has fired, and will not again."""
    rig = PackedRig(4, kernel, event=True)
    virtqueue_disable_cb(rig.vq)
    virtqueue_enable_cb_prepare(rig.vq)
    rig.add_many(1, 1)
    rig.device.use(rig.device.take()[0], 0, 1)
    assert vring_interrupt(rig.vq) == 1
    virtqueue_disable_cb(rig.vq)
    assert rig.device.driver_event == (0, 1, DESC)
    # What differs: v6.4 and later leave the event alone from here on (sheet 9, no. 21).
    virtqueue_get_buf_ctx(rig.vq)
    assert rig.device.driver_event == ((1, 1, DESC) if kernel == V6_1 else (0, 1, DESC))


@both_suppressions
def test_interrupt_with_nothing_used_is_none_of_ours(event: bool) -> None:
    """Spurious notifications are tolerated."""
    rig = PackedRig(4, event=event)
    rig.add_many(1, 1)
    assert vring_interrupt(rig.vq) == 0
    rig.device.use(rig.device.take()[0], 0, 1)
    assert vring_interrupt(rig.vq) == 1


DELAYED = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (8, 6), (255, 191), (256, 192)]
"""Slots in use and how far ahead the event is: sheet 11.5, where it is buffers."""


@pytest.mark.parametrize(("outstanding", "distance"), DELAYED)
@pytest.mark.parametrize("start", [0, 200])
def test_enable_cb_delayed_names_three_quarters(outstanding: int, distance: int, start: int) -> None:
    """Sheet 5.7: counted in descriptors from the next used one on, over the end into the next round."""
    num = 256
    rig = PackedRig(num, event=True)
    if start:
        rig.cycle(1, start)
    for token in range(outstanding):
        rig.add_many(2 + token, 1)
    virtqueue_disable_cb(rig.vq)
    assert virtqueue_enable_cb_delayed(rig.vq) == 1
    place = start + distance
    assert rig.device.driver_event == (place % num, 1 - place // num, DESC)


def test_enable_cb_delayed_gives_way_to_the_next_used() -> None:
    """Sheet 5.7, 9 no. 23: false as soon as the next descriptor is used; split rings compare with the distance."""
    rig = PackedRig(8, event=True)
    for token in (1, 2, 3, 4):
        rig.add_many(token, 1)
    virtqueue_disable_cb(rig.vq)
    assert virtqueue_enable_cb_delayed(rig.vq) == 1
    rig.device.use(rig.device.take()[0], 0, 1)
    assert virtqueue_enable_cb_delayed(rig.vq) == 0


def test_enable_cb_delayed_by_flags() -> None:
    """Without EVENT_IDX there is no place to name."""
    rig = PackedRig(4)
    rig.add_many(1, 2)
    virtqueue_disable_cb(rig.vq)
    virtqueue_enable_cb_delayed(rig.vq)
    assert rig.device.driver_event == (0, 0, ENABLE)
