"""The send queue: what lies in the ring for a frame, when the queue stops, kicks and frees.

"Sheet" is the project's fact sheet on Linux's virtio_net.c.
"""

from __future__ import annotations

import pytest

from netemu.driver import transmit as transmit_module
from netemu.driver.transmit import (
    free_old_xmit_skbs,
    start_xmit,
    virtnet_poll_tx,
    xmit_skb,
)
from netemu.driver.virtio_ring import Virtqueue, virtqueue_disable_cb, virtqueue_notify
from netemu.driver.virtnet import SendQueue
from netemu.skb import Skb
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import (
    BASE,
    MERGEABLE,
    SMALL,
    V4_19,
    V6_1,
    V7_0,
    Rig,
    every_era,
    frame,
    free,
    linear,
    vnet_hdr,
)

LEGACY = FeatureSet.of(f.MAC)


def _send(rig: Rig, data: bytes, *, more: int = 0, headroom: int = 64) -> Skb:
    skb = rig.outgoing(data, headroom)
    start_xmit(rig.sq, skb.address, more)
    return skb


def _rig(kernel: str, size: int = 64, *, features: FeatureSet = MERGEABLE, tx_napi: bool | None = None) -> Rig:
    rig = Rig(kernel, features, size)
    if tx_napi is not None:
        rig.tx_napi.weight = 64 if tx_napi else 0
    rig.tx_napi.enabled = 1
    return rig


# The ring


@every_era
def test_header_in_front_of_the_frame(kernel: str) -> None:
    """Sheet 6.2: one readable segment: header, then the frame; num_buffers is 0, all other fields too."""
    rig = _rig(kernel)
    skb = _send(rig, frame(100))
    [(gpa, length, flags)] = rig.tx.chain(rig.tx.take())
    assert (length, flags) == (112, 0)
    assert rig.memory.host_address(gpa, 1) == skb.data - 12
    assert rig.memory.read(gpa, length) == bytes(12) + frame(100)


@pytest.mark.parametrize(
    ("headroom", "lengths"), [(64, [112]), (12, [112]), (14, [112]), (13, [12, 100]), (63, [12, 100])]
)
@every_era
def test_the_frames_address_decides_where_the_header_goes(kernel: str, headroom: int, lengths: list[int]) -> None:
    """Sheet 6.2: in front where 12 bytes are free there and the address is even, else apart; the same bytes in sum."""
    rig = _rig(kernel)
    _send(rig, frame(100), headroom=headroom)
    head = rig.tx.take()
    assert [length for _, length, _ in rig.tx.chain(head)] == lengths
    assert rig.tx.read_buffer(head) == bytes(12) + frame(100)


@pytest.mark.parametrize("headroom", [0, 2, 10])
@every_era
def test_too_little_headroom_for_the_header(kernel: str, headroom: int) -> None:
    """Sheet 6.2: 10 bytes are too few for 12; the header lies in the control block and touches no byte of the frame."""
    rig = _rig(kernel)
    _send(rig, frame(100), headroom=headroom)
    head = rig.tx.take()
    assert [length for _, length, _ in rig.tx.chain(head)] == [12, 100]
    assert rig.tx.read_buffer(head) == bytes(12) + frame(100)


@every_era
def test_legacy_devices_get_the_header_apart(kernel: str) -> None:
    """Sheet 1.3 step 11, 6.2: without VERSION_1 (or ANY_LAYOUT) the 10 bytes are a segment of their own."""
    rig = _rig(kernel, features=LEGACY)
    _send(rig, frame(100))
    head = rig.tx.take()
    assert [length for _, length, _ in rig.tx.chain(head)] == [10, 100]
    assert rig.tx.read_buffer(head) == bytes(10) + frame(100)


@every_era
def test_a_frame_with_frags(kernel: str) -> None:
    """Sheet 6.2: nr_frags + 1 segments, or + 2; a received frame is sent on as it lies."""
    rig = _rig(kernel)
    rig.fill()
    rig.arrive(vnet_hdr(num_buffers=3) + frame(1300), frame(500), frame(60))
    [skb] = rig.receive()
    # 1300 bytes are too many to be built in place: a linear part and a frag (sheet 4.5).
    copied = len(linear(skb))
    start_xmit(rig.sq, skb.address, 0)
    head = rig.tx.take()
    chain = rig.tx.chain(head)
    assert [length for _, length, _ in chain] == [12 + copied, 1300 - copied, 500, 60]
    assert {flags for _, _, flags in chain} == {0}
    assert rig.tx.read_buffer(head) == bytes(12) + frame(1300) + frame(500) + frame(60)
    rig.tx.use(head, 0)
    free_old_xmit_skbs(rig.sq)
    assert (rig.sq.packets, rig.sq.bytes) == (1, 1860)
    rig.assert_nothing_lost()


@every_era
def test_a_frame_built_in_a_page_has_the_header_in_front_too(kernel: str) -> None:
    """Sheet 6.2: its headroom is the place of the header it was received with, which nobody needs any more."""
    rig = _rig(kernel, features=SMALL)
    rig.fill()
    skb = rig.receive_one(vnet_hdr() + frame(300))
    start_xmit(rig.sq, skb.address, 0)
    head = rig.tx.take()
    assert [length for _, length, _ in rig.tx.chain(head)] == [312]
    assert rig.tx.read_buffer(head) == bytes(12) + frame(300)


@every_era
def test_indirect_table_for_more_than_one_segment(kernel: str) -> None:
    """Sheet 5.2: one slot for header and frame; a single segment needs no table."""
    rig = _rig(kernel, features=BASE | FeatureSet.of(f.INDIRECT_DESC))
    _send(rig, frame(100), headroom=63)
    assert rig.tx_vq.num_free == 63
    assert rig.tx.descriptor(0)[1:3] == (32, 4)
    _send(rig, frame(100))
    assert rig.tx.descriptor(1)[1:3] == (112, 0)


# Completion


@every_era
def test_the_used_length_means_nothing(kernel: str) -> None:
    """Sheet 6.3: bytes are the skb's, counted at completion and not before."""
    rig = _rig(kernel, tx_napi=True)
    for size in (60, 100):
        _send(rig, frame(size), more=1)
    assert (rig.sq.packets, rig.sq.bytes) == (0, 0)
    rig.tx.use(rig.tx.take(), 0xFFFFFFFF)
    virtnet_poll_tx(rig.sq)
    assert (rig.sq.packets, rig.sq.bytes) == (1, 60)


@pytest.mark.parametrize(("kernel", "packets"), [(V4_19, 1), (V6_1, 1), (V7_0, 0)])
@pytest.mark.parametrize("more", [0, 1])
def test_the_next_frame_frees_the_last_even_with_tx_napi(kernel: str, packets: int, more: int) -> None:
    """Sheet 6.1 step 1, 10 "TX reclaim with NAPI in start_xmit": the polls alone do it in the newest kernels."""
    rig = _rig(kernel, tx_napi=True)
    _send(rig, frame(60))
    rig.tx.use(rig.tx.take(), 0)
    _send(rig, frame(60), more=more)
    assert rig.sq.packets == packets


@every_era
def test_the_next_frame_frees_the_last_without_tx_napi(kernel: str) -> None:
    """Sheet 6.1 step 1."""
    rig = _rig(kernel, tx_napi=False)
    before = rig.skb_pool.free_count
    _send(rig, frame(60))
    rig.tx.use(rig.tx.take(), 0)
    _send(rig, frame(60))
    assert rig.sq.packets == 1
    assert rig.skb_pool.free_count == before - 1


@pytest.mark.parametrize(
    ("kernel", "more", "flags"),
    [(V4_19, 0, 0), (V4_19, 1, 1), (V6_1, 0, 0), (V6_1, 1, 1), (V7_0, 0, 0), (V7_0, 1, 1)],
)
def test_interrupts_wanted_after_a_frame_with_tx_napi(kernel: str, more: int, flags: int) -> None:
    """Sheet 6.1 steps 1 and 7: a frame that kicks turns delayed callbacks on, one that does not leaves them off."""
    rig = _rig(kernel, tx_napi=True)
    virtqueue_disable_cb(rig.tx_vq)
    _send(rig, frame(60), more=more)
    assert rig.tx.avail_flags == flags


def test_a_device_that_is_done_before_callbacks_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 6.1 step 7, 3.2: enable_cb_delayed fails, so TX NAPI is scheduled, with callbacks off."""
    rig = _rig(V7_0, tx_napi=True)
    original = virtqueue_notify

    def at_once(vq: Virtqueue) -> int:
        result = original(vq)
        rig.tx.use(rig.tx.take(), 0)
        return result

    monkeypatch.setattr(transmit_module, "virtqueue_notify", at_once)
    _send(rig, frame(60))
    assert (rig.tx_napi.scheduled, rig.tx.avail_flags) == (1, 1)
    virtnet_poll_tx(rig.sq)
    assert (rig.sq.packets, rig.tx_napi.scheduled, rig.tx.avail_flags) == (1, 0, 0)


@every_era
def test_everything_comes_back(kernel: str) -> None:
    """Skbs and descriptors are conserved over many turns of a ring of 32."""
    rig = _rig(kernel, 32, features=BASE | FeatureSet.of(f.INDIRECT_DESC), tx_napi=True)
    for turn in range(200):
        _send(rig, frame(60 + turn % 60), more=turn % 2, headroom=64 if turn % 3 else 63)
        if turn % 5 == 0:
            while rig.tx.pending():
                rig.tx.use(rig.tx.take(), 0)
            virtnet_poll_tx(rig.sq)
    while rig.tx.pending():
        rig.tx.use(rig.tx.take(), 0)
    virtnet_poll_tx(rig.sq)
    assert rig.sq.packets == 200
    assert rig.sq.bytes == sum(60 + turn % 60 for turn in range(200))
    assert (rig.tx_vq.num_free, rig.tx_vq.mapped) == (32, 0)
    assert rig.skb_pool.free_count == rig.skb_pool.total


# Stop


@pytest.mark.parametrize("tx_napi", [False, True])
@every_era
def test_stop_below_19_free(kernel: str, tx_napi: bool) -> None:
    """Sheet 6.1 step 5: after the frame that leaves 18 of 64; counted since v6.8."""
    rig = _rig(kernel, tx_napi=tx_napi)
    for _ in range(45):
        _send(rig, frame(60))
    assert (rig.tx_vq.num_free, rig.sq.stopped) == (19, 0)
    _send(rig, frame(60))
    assert (rig.tx_vq.num_free, rig.sq.stopped) == (18, 1)
    assert rig.tx.pending() == 46
    assert (rig.sq.stop, rig.sq.wake) == ((1, 0) if kernel == V7_0 else (0, 0))


@pytest.mark.parametrize(("done", "running"), [(46, True), (35, True), (34, False), (0, False)])
@every_era
def test_restart_right_after_stop_without_tx_napi(
    kernel: str, done: int, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sheet 6.1 step 5: with over 3/4 of the 46 frames (34) used meanwhile they are freed, and the queue goes on."""
    rig = _rig(kernel, tx_napi=False)
    for _ in range(45):
        _send(rig, frame(60))
    original = xmit_skb

    def fast_device(sq: SendQueue, address: int) -> int:
        result = original(sq, address)
        for _ in range(done):
            rig.tx.use(rig.tx.take(), 0)
        return result

    monkeypatch.setattr(transmit_module, "xmit_skb", fast_device)
    _send(rig, frame(60))
    assert rig.sq.stopped == (0 if running else 1)
    assert rig.sq.packets == (done if running else 0)
    assert rig.tx.avail_flags == (1 if running else 0)
    assert (rig.sq.stop, rig.sq.wake) == ((1, int(running)) if kernel == V7_0 else (0, 0))


@every_era
def test_queue_full(kernel: str) -> None:
    """Sheet 6.1 step 3, 5.2 step 3: tx_fifo_errors and tx_dropped, the skb freed, a notification not counted."""
    rig = _rig(kernel, 4, tx_napi=False)
    for _ in range(4):
        _send(rig, frame(60), more=1)
    before, kicks, counted = rig.skb_pool.free_count, rig.tx_bell.kick_count, rig.sq.kicks
    for n in (1, 2):
        _send(rig, frame(60))
        assert (rig.sq.tx_fifo_errors, rig.sq.tx_dropped) == (n, n)
        assert rig.tx_bell.kick_count == kicks + n
    assert rig.sq.kicks == counted
    assert rig.skb_pool.free_count == before
    assert rig.tx.pending() == 4


@every_era
def test_a_broken_ring_drops_too(kernel: str) -> None:
    """Sheet 5.4, 6.1: EIO is an error like any other."""
    rig = _rig(kernel)
    rig.tx_vq.broken = 1
    before = rig.skb_pool.free_count
    _send(rig, frame(60))
    assert (rig.sq.tx_fifo_errors, rig.sq.tx_dropped, rig.tx_bell.kick_count) == (1, 1, 0)
    assert rig.skb_pool.free_count == before


# Kicks


@every_era
def test_kicks_and_xmit_more(kernel: str) -> None:
    """Sheet 6.1 step 6: one kick for a batch, with the frame that ends it."""
    rig = _rig(kernel)
    for more, kicks in ((1, 0), (1, 0), (0, 1), (0, 2), (1, 2)):
        _send(rig, frame(60), more=more)
        assert (rig.sq.kicks, rig.tx_bell.kick_count) == (kicks, kicks)


@every_era
def test_a_stopped_queue_kicks_whatever_follows(kernel: str) -> None:
    """Sheet 6.1 step 6: nothing may follow that would."""
    rig = _rig(kernel)
    for _ in range(46):
        assert rig.sq.kicks == 0
        _send(rig, frame(60), more=1)
    assert (rig.sq.stopped, rig.sq.kicks) == (1, 1)


@every_era
def test_a_device_that_wants_no_kick(kernel: str) -> None:
    """SPLIT-V-21; only notifications that were sent are counted (sheet 7.2)."""
    rig = _rig(kernel)
    rig.tx.set_used_flags(1)
    _send(rig, frame(60))
    assert (rig.sq.kicks, rig.tx_bell.kick_count) == (0, 0)


@every_era
def test_kicks_under_event_idx(kernel: str) -> None:
    """SPLIT-V-24: the device waits for the third frame."""
    rig = _rig(kernel, features=MERGEABLE | FeatureSet.of(f.EVENT_IDX))
    rig.tx.set_avail_event(2)
    seen = []
    for _ in range(4):
        _send(rig, frame(60))
        seen.append(rig.sq.kicks)
    assert seen == [0, 0, 1, 1]


@every_era
def test_received_frames_can_be_sent_and_freed(kernel: str) -> None:
    """Pages of a frame that is sent on return to the receive queue's pool once the device is done with it."""
    rig = _rig(kernel)
    rig.fill()
    for size in (60, 600, 1400, 3000):
        skb = rig.receive_frame(frame(size))
        start_xmit(rig.sq, skb.address, 0)
        head = rig.tx.take()
        assert rig.tx.read_buffer(head)[12:] == frame(size)
        rig.tx.use(head, 0)
    skb = rig.receive_frame(frame(60))
    free(skb)
    free_old_xmit_skbs(rig.sq)
    rig.assert_nothing_lost()
