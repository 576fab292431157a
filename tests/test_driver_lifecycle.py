"""Down and up again: close, freeze and restore, remove, rings of another size; nothing is lost on the way."""

from __future__ import annotations

import pytest

from netemu.driver.features import SUPPORTED
from netemu.driver.virtio_ring import Scatter, virtqueue_add
from netemu.errors import ConfigError
from netemu.jit import array_of
from netemu.pages import page_pool_at
from netemu.skb import alloc_skb, skb_pool_at
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_hand import HandRing
from tests.driver_kit import BIG, BIG_DIRECT, MERGEABLE, SMALL, V4_19, V6_1, V7_0, Rig, every_era, frame, free

MODES = {"mergeable": MERGEABLE, "big": BIG, "big-direct": BIG_DIRECT, "small": SMALL}
every_mode = pytest.mark.parametrize("mode", MODES)
RESET = FeatureSet.of(f.RING_RESET)
MULTIQUEUE = FeatureSet.of(f.MQ, f.CTRL_VQ)
DRIVER_OK, FEATURES_OK, FAILED = 4, 8, 128


def rig(mode: str = "mergeable", kernel: str = V7_0, more: FeatureSet = FeatureSet(), size: int = 16) -> Rig:  # noqa: B008
    # A big buffer without an indirect table takes 19 entries.
    made = Rig(kernel, MODES[mode] | more, 64 if mode == "big-direct" else size)
    made.driver.open()
    made.poll()
    return made


def use(made: Rig, frames: int) -> None:
    """Let frames through, so that rings, pages and averages are no longer as at the beginning."""
    for n in range(frames):
        made.arrive_frame(frame(60 + 7 * n % 1000))
        free(*made.receive())
        made.fill()


def put_in_send_queue(made: Rig) -> None:
    """An skb that waits in the send queue."""
    skb = alloc_skb(made.skb_pool)
    sg = array_of(Scatter, 1)
    sg[0].gpa, sg[0].length = made.memory.regions[0][0], 60
    assert virtqueue_add(made.tx_vq, sg.address, 1, 0, skb, 0) == 0


def everything_is_back(made: Rig) -> None:
    """No block, page or skb has a user, and no ring holds a buffer."""
    for rq in made.driver.receive_queues:
        for address in (rq.frag_pool, rq.page_pool):
            if address:
                pool = page_pool_at(address)
                assert pool.free_count == pool.total
        skbs = skb_pool_at(rq.skb_pool)
        assert skbs.free_count == skbs.total
    assert [vq.num_free for vq in made.driver.rings] == [vq.num for vq in made.driver.rings]
    assert [vq.mapped for vq in made.driver.rings] == [0] * len(made.driver.rings)


def hand_rings(made: Rig) -> None:
    """Look at the rings as they are now, with a device that has seen nothing of them."""
    made.turn_to(0)


# Close and open.


@every_mode
@every_era
def test_close_stops_polling_and_leaves_buffers_where_they_are(kernel: str, mode: str) -> None:
    """Sheet 1.7: posted receive buffers stay in the ring across close and open."""
    made = rig(mode, kernel)
    posted = made.rx.pending()
    before = made.memory.snapshot()
    made.driver.close()
    assert [napi.enabled for napi in made.driver.napis] == [0, 0]
    assert (made.vi.refill_enabled, made.vi.refill_due, made.driver.running) == (0, -1, False)
    assert made.memory.snapshot() == before
    made.driver.open()
    assert [napi.enabled for napi in made.driver.napis] == [1, 1]
    assert made.rx.pending() == posted


@every_era
def test_what_arrived_while_closed_is_polled_after_open(kernel: str) -> None:
    """Sheet 1.7: enabling NAPI schedules one poll at once, since no interrupt would come."""
    made = rig("small", kernel)
    made.driver.close()
    made.arrive_frame(frame(100))
    assert made.napi.scheduled == 0
    made.driver.open()
    assert made.napi.scheduled == 1
    made.poll()
    [skb] = made.collect()
    assert skb.len == 100
    free(skb)


@pytest.mark.parametrize("kernel", [V4_19, V6_1])
def test_a_refill_that_was_due_is_forgotten_on_close(kernel: str) -> None:
    """Section 9, #10: refill work that ran after close would turn NAPI on again."""
    made = rig("small", kernel)
    made.vi.refill_due = 0
    made.driver.close()
    assert made.vi.refill_due == -1


# Remove.


@every_mode
@every_era
def test_remove_gives_everything_back(kernel: str, mode: str) -> None:
    made = rig(mode, kernel)
    use(made, 40)
    put_in_send_queue(made)
    posted = made.vq.num_free, made.rx.pending()
    assert made.driver.remove() == posted[1] + 1
    everything_is_back(made)


def test_clean_v_01_02_no_buffer_is_withdrawn_before_the_device_is_reset() -> None:
    """CLEAN-V-01, CLEAN-V-02, RST-V-01: the ring stays as it is until the status reads 0."""
    made = rig()
    at_reset: list[bytes] = []
    ring = made.transport.rings[0]
    before = made.memory.read(ring.avail, 38)
    original = made.transport.set_status

    def set_status(status: int) -> None:
        at_reset.append(made.memory.read(ring.avail, 38))
        original(status)

    made.transport.set_status = set_status  # type: ignore[method-assign]
    made.driver.remove()
    assert at_reset == [before]
    assert made.transport.status == 0


def test_rst_v_01_a_reset_is_over_when_the_status_says_so() -> None:
    """RST-V-01: a device that takes its time is waited for; one that never resets is given up, buffers and all."""
    made = rig()
    answers = [15, 15, 0]
    made.transport.get_status = lambda: answers.pop(0)  # type: ignore[method-assign]
    made.driver.remove()
    assert answers == []
    made = rig()
    made.transport.get_status = lambda: 15  # type: ignore[method-assign]
    before = made.rx.pending()
    with pytest.raises(ConfigError, match="does not reset"):
        made.driver.remove()
    assert (made.rx.pending(), made.vq.num_free) == (before, 16 - before)


# Freeze and restore.


@every_mode
@every_era
def test_freeze_gives_everything_back_and_restore_starts_afresh(kernel: str, mode: str) -> None:
    made = rig(mode, kernel)
    use(made, 20)
    structs = [vq.address for vq in made.driver.rings], made.driver.receive_queues.address
    made.driver.freeze()
    everything_is_back(made)
    assert made.transport.status == 0
    made.transport.log.clear()
    made.driver.restore()
    assert ([vq.address for vq in made.driver.rings], made.driver.receive_queues.address) == structs
    hand_rings(made)
    assert made.napi.enabled == 1
    for size in (60, 1514, 60):
        assert made.receive_frame(frame(size)).len == size
    free()


def test_restore_goes_the_way_of_the_first_time_with_the_same_features() -> None:
    """INIT-V-01 to INIT-V-11 once more; FEAT-D-05 is what makes it possible."""
    made = rig(more=MULTIQUEUE)
    chosen = made.driver.features
    made.driver.freeze()
    made.transport.log.clear()
    made.driver.restore()
    assert made.transport.log[:9] == [
        ("status", 0),
        ("status", 1),
        ("status", 3),
        ("set_features", chosen.mask),
        ("status", 3 | FEATURES_OK),
        ("queue", 0),
        ("queue", 1),
        ("queue", 2),
        ("status", 3 | FEATURES_OK | DRIVER_OK),
    ]


def test_an_interface_that_was_down_stays_down() -> None:
    made = rig()
    made.driver.close()
    made.driver.freeze()
    made.driver.restore()
    hand_rings(made)
    assert (made.driver.running, made.rx.pending(), made.napi.enabled) == (False, 0, 0)


def test_a_device_that_has_changed_its_mind_is_given_up() -> None:
    """INIT-V-09, INIT-V-12, INIT-V-13."""
    made = rig()
    made.driver.freeze()
    made.transport.refuse_features = True
    with pytest.raises(ConfigError, match="refuses the feature set"):
        made.driver.restore()
    assert made.transport.status & FAILED
    assert made.driver.running is False


# Rings of another size.


@every_mode
@pytest.mark.parametrize("size", [4, 8, 32])
def test_qrst_v_01_02_03_a_ring_is_made_anew_in_another_size(mode: str, size: int) -> None:
    """QRST-V-01, QRST-V-02, QRST-V-03: reset, seen to be reset, buffers taken back, set up as at first."""
    made = Rig(V7_0, MODES[mode] | RESET, 64)
    made.driver.open()
    made.poll()
    use(made, 30)
    made.transport.log.clear()
    made.driver.set_ringparam(rx_pending=size)
    assert made.transport.log == [("reset_queue", 0), ("queue", 0)]
    hand_rings(made)
    assert (made.vq.num, made.transport.rings[0].num, made.tx_vq.num) == (size, size, 64)
    fits = mode != "big-direct" or size == 32
    assert (made.rx.pending() > 0) == fits
    for length in (60, 1514) if fits else ():
        free(made.receive_frame(frame(length)))
    made.assert_nothing_lost()


def test_clean_v_02_nothing_is_taken_back_before_the_queue_is_reset() -> None:
    """CLEAN-V-02, QRST-V-01: the device is asked until it says so."""
    made = Rig(V7_0, MERGEABLE | RESET, 16)
    made.driver.open()
    made.poll()
    answers = [True, True, False]
    seen: list[int] = []

    def queue_in_reset(index: int) -> bool:  # noqa: ARG001 - there is one
        seen.append(made.vq.num_free)
        return answers.pop(0)

    made.transport.queue_in_reset = queue_in_reset  # type: ignore[method-assign]
    made.driver.set_ringparam(rx_pending=8)
    assert (answers, seen) == ([], [0, 0, 0])


def test_a_queue_that_is_never_reset_keeps_its_buffers() -> None:
    made = Rig(V7_0, MERGEABLE | RESET, 16)
    made.driver.open()
    made.transport.queue_in_reset = lambda index: True  # type: ignore[method-assign]  # noqa: ARG005
    with pytest.raises(ConfigError, match="does not reset virtqueue 0"):
        made.driver.set_ringparam(rx_pending=8)
    assert made.vq.num_free == 0


def test_a_send_ring_gives_its_skbs_back() -> None:
    made = Rig(V7_0, MERGEABLE | RESET, 64)
    made.driver.open()
    put_in_send_queue(made)
    free_before = made.skb_pool.free_count
    made.driver.set_ringparam(tx_pending=32)
    assert made.skb_pool.free_count == free_before + 1
    assert (made.tx_vq.num, made.tx_vq.num_free, made.vq.num) == (32, 32, 64)
    assert (made.sq.stopped, made.tx_napi.enabled) == (0, 1)


def test_a_ring_may_grow_over_what_it_began_with() -> None:
    """Its pools grow with it: a ring of 64 is filled, which memory for 16 would not do."""
    made = Rig(V7_0, SMALL | RESET, 64)
    made.driver.set_ringparam(rx_pending=4)
    made.driver.open()
    made.driver.set_ringparam(rx_pending=64)
    hand_rings(made)
    assert made.rx.pending() == 64


def test_the_same_size_is_no_work() -> None:
    made = Rig(V7_0, MERGEABLE | RESET, 16)
    made.transport.log.clear()
    made.driver.set_ringparam(16, 16)
    assert made.transport.log == []


@pytest.mark.parametrize(
    ("kernel", "more", "size", "words"),
    [
        (V7_0, FeatureSet(), 8, "did not agree on RING_RESET"),
        (V4_19, RESET, 8, "did not agree on RING_RESET"),
        (V7_0, RESET, 128, "at most 64"),
        (V7_0, RESET, 12, "power of two"),
        (V7_0, RESET, 0, "power of two"),
    ],
)
def test_sizes_that_cannot_be_change_nothing(kernel: str, more: FeatureSet, size: int, words: str) -> None:
    made = rig(kernel=kernel, more=more, size=64)
    made.transport.log.clear()
    with pytest.raises(ConfigError, match=words):
        made.driver.set_ringparam(rx_pending=size, tx_pending=32)
    assert (made.transport.log, made.vq.num) == ([], 64)


def test_only_kernels_that_know_ring_reset_take_it() -> None:
    """RING_RESET: v6.0."""
    assert f.RING_RESET in SUPPORTED
    for kernel, taken in ((V4_19, False), (V6_1, True), (V7_0, True)):
        assert (f.RING_RESET in rig(kernel=kernel, more=RESET).driver.features) == taken


def test_a_ring_by_the_book_after_a_resize() -> None:
    """SPLIT-B-05: the available index starts from 0 again, as in a fresh ring."""
    made = Rig(V7_0, SMALL | RESET, 16)
    made.driver.open()
    made.poll()
    use(made, 20)
    assert made.rx.avail_idx == 36
    made.driver.set_ringparam(rx_pending=8)
    ring = made.transport.rings[0]
    fresh = HandRing(made.memory, 8, ring.desc, ring.avail, ring.used)
    assert (fresh.avail_idx, fresh.used_idx) == (8, 0)
