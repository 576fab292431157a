"""Frames from the guest, sent by hand (section 5.1.6.1 of VIRTIO 1.4)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device import chain
from netemu.device.stats import count_frame
from netemu.device.transmit import BROKEN, FRAME_MAX, NO_ROOM, NOTHING, TAKEN, Egress, give_back, take_frame
from netemu.device.transmit_header import ACCEPTED, TOO_LONG, TOO_SHORT
from netemu.frame import Frame
from netemu.jit import hook
from tests.device_kit import (
    CTRL_VQ,
    EVENT_IDX,
    INDIRECT_DESC,
    MQ,
    VERSION_1,
    Hand,
    Part,
    differs_outside,
    pattern,
)

HDR_LEN = 12
MTU = 3
HEADER = bytes(HDR_LEN)


class Wire:
    """What leaves a guest: the egress of its device, emptied frame by frame."""

    def __init__(self, hand: Hand, **room: int) -> None:
        device = hand.device
        self.hand = hand
        self.egress = Egress(device.transmit_features.address, device.transmit_outcomes.address, **room)
        self.side = self.egress.struct

    def pop(self) -> int:
        """Have the device take the next chain; what `take_frame` says."""
        return int(take_frame(self.hand.tx_queue, self.side))

    def take(self) -> tuple[int, bytes]:
        """The same, with the buffer given back and the egress emptied: outcome, and the bytes that came out."""
        got = self.pop()
        give_back(self.hand.tx_queue)
        if got != TAKEN:
            return got, b""
        frames = self.frames()
        self.egress.empty()
        assert len(frames) == int(self.side.outcome == ACCEPTED)
        return int(self.side.outcome), frames[0] if frames else b""

    def frames(self) -> list[bytes]:
        """What is in the egress."""
        return [self.egress.bytes_of(frame) for frame in self.rows()]

    def rows(self) -> list[Frame]:
        return self.egress.frames[: self.side.count]


def hand_with(size: int) -> Hand:
    """A device with a driver by hand that has ``size`` bytes of memory."""
    return Hand(VERSION_1, INDIRECT_DESC, size=size)


def put(hand: Hand, data: bytes, *cuts: int) -> list[Part]:
    """``data`` in readable buffers of the guest, cut at these offsets."""
    parts = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        part = hand.buffer(end - start, writable=False)
        hand.memory.write(part.gpa, data[start:end])
        parts.append(part)
    return parts


def test_nothing_was_sent() -> None:
    assert Wire(Hand(VERSION_1)).take() == (NOTHING, b"")


def test_a_queue_that_was_not_set_up_sends_nothing() -> None:
    hand = Hand(VERSION_1)
    hand.tx.post(*put(hand, HEADER + pattern(60)))
    hand.device.set_status(0)
    assert Wire(hand).take() == (NOTHING, b"")
    assert hand.tx.used_idx == 0


@pytest.mark.parametrize("cuts", [(), (12,), (5, 12, 13), (0, 0, 12), tuple(range(1, 60))], ids=str)
@pytest.mark.parametrize("indirect", [False, True])
def test_split_d_01_header_and_frame_in_any_cut(cuts: tuple[int, ...], *, indirect: bool) -> None:
    """SPLIT-D-01."""
    hand = Hand(VERSION_1, INDIRECT_DESC, num=64)
    data = HEADER + pattern(60)
    parts = put(hand, data, *cuts)
    head = hand.tx.post_indirect(*parts) if indirect else hand.tx.post(*parts)
    assert Wire(hand).take() == (ACCEPTED, pattern(60))
    # Trap T3, SPLIT-B-06: the device wrote nothing, so the length is 0.
    assert hand.tx.take_used() == [(head, 0)]


def test_frames_come_out_in_the_order_they_were_sent() -> None:
    hand = Hand(VERSION_1)
    frames = [pattern(60 + n) for n in range(5)]
    heads = [hand.tx.post(*put(hand, HEADER + frame)) for frame in frames]
    wire = Wire(hand)
    for n, frame in enumerate(frames):
        assert wire.take() == (ACCEPTED, frame)
        assert hand.tx.take_used() == [(heads[n], 0)]
    assert wire.take() == (NOTHING, b"")


def test_a_batch_is_published_together_and_the_driver_called_once() -> None:
    hand = Hand(VERSION_1)
    heads = [hand.tx.post(*put(hand, HEADER + pattern(60 + n))) for n in range(5)]
    wire = Wire(hand)
    for _ in range(5):
        assert wire.pop() == TAKEN
        assert hand.tx.used_idx == 0
    assert wire.frames() == [pattern(60 + n) for n in range(5)]
    assert give_back(hand.tx_queue) == 1
    assert hand.tx.take_used() == [(head, 0) for head in heads]
    assert hand.bells[1].call_count == 1
    assert give_back(hand.tx_queue) == 0
    assert hand.bells[1].call_count == 1


def test_a_frame_says_which_queue_it_came_from_and_how_long_it_is() -> None:
    hand = Hand(VERSION_1, MQ, CTRL_VQ, pairs=3)
    hand.rings[5].post(*put(hand, HEADER + pattern(77)))
    wire = Wire(hand)
    assert take_frame(hand.device.queues[5], wire.side) == TAKEN
    [row] = wire.rows()
    assert (row.interface, row.len, row.wire_len, row.vnet) == (2, 77, 77, 0)


def test_split_d_04_writable_descriptors_behind_a_frame_are_neither_read_nor_written() -> None:
    """SPLIT-D-04."""
    hand = Hand(VERSION_1)
    parts = [*put(hand, HEADER + pattern(60)), hand.buffer(100)]
    hand.tx.post(*parts)
    before = hand.memory.snapshot()
    assert Wire(hand).take() == (ACCEPTED, pattern(60))
    assert not differs_outside(before, hand.memory.snapshot(), [hand.tx.used_range])


@pytest.mark.parametrize(
    ("size", "outcome"), [(26, ACCEPTED), (25, TOO_SHORT), (12, TOO_SHORT), (3, TOO_SHORT), (0, TOO_SHORT)]
)
def test_a_chain_without_whole_headers_is_given_back_and_counted(size: int, outcome: int) -> None:
    """14 bytes are an Ethernet header; hosts that took less crashed (CVE-2024-41090)."""
    hand = Hand(VERSION_1)
    head = hand.tx.post(*put(hand, bytes(size)))
    assert Wire(hand).take()[0] == outcome
    assert hand.tx.take_used() == [(head, 0)]
    assert hand.bells[1].call_count == 1
    counts = hand.device.transmit_outcomes.array.view("<i8")
    assert counts[outcome] == 1
    assert counts.sum() == 1


def test_a_chain_of_writable_descriptors_only_is_given_back_untouched() -> None:
    hand = Hand(VERSION_1)
    part = hand.buffer(100)
    hand.tx.post(part)
    assert Wire(hand).take() == (TOO_SHORT, b"")
    assert hand.content([part], 100) == b"\xaa" * 100


@pytest.mark.parametrize("cuts", [(), (12,), (70000,)], ids=str)
@pytest.mark.parametrize(("size", "outcome"), [(FRAME_MAX, ACCEPTED), (FRAME_MAX + 1, TOO_LONG)])
def test_a_frame_longer_than_any_is_given_back(cuts: tuple[int, ...], size: int, outcome: int) -> None:
    """65535 bytes of IP behind 14 of Ethernet and two tags: sheet 9, number 38."""
    hand = hand_with(1 << 18)
    data = HEADER + bytes(size)
    head = hand.tx.post(*put(hand, data, *(cut for cut in cuts if cut < len(data))))
    assert FRAME_MAX == 65557
    assert Wire(hand).take() == (outcome, bytes(size) if outcome == ACCEPTED else b"")
    assert hand.tx.take_used() == [(head, 0)]


def test_split_v_04_lengths_that_add_up_to_more_than_memory_do_not_overflow() -> None:
    """SPLIT-V-04."""
    hand = Hand(VERSION_1, INDIRECT_DESC)
    gpa, size = hand.memory.regions[0]
    hand.tx.post_indirect(*[Part(gpa, size, writable=False)] * 1000)
    assert Wire(hand).take() == (TOO_LONG, b"")


def test_a_broken_chain_breaks_the_queue() -> None:
    hand = Hand(VERSION_1)
    hand.tx.post(Part(0, 100, writable=False))
    before = hand.memory.snapshot()
    wire = Wire(hand)
    assert wire.take() == (BROKEN, b"")
    assert wire.take() == (BROKEN, b"")
    assert hand.memory.snapshot() == before
    assert hand.device.broken == ["virtqueue 1: a descriptor points outside guest memory"]


def test_frames_wait_in_the_ring_while_the_egress_is_full() -> None:
    """Nothing is taken, nothing lost; two frames here, or so many bytes that the longest frame would not fit."""
    for room in ({"capacity": 2}, {"size": FRAME_MAX + 64 + 2 * (32 + 12 + 60) - 1}):
        hand = Hand(VERSION_1)
        for n in range(3):
            hand.tx.post(*put(hand, HEADER + bytes([n]) * 60))
        wire = Wire(hand, **room)
        assert [wire.pop() for _ in range(4)] == [TAKEN, TAKEN, NO_ROOM, NO_ROOM]
        give_back(hand.tx_queue)
        assert len(hand.tx.take_used()) == 2
        assert wire.frames() == [bytes(60), b"\1" * 60]
        wire.egress.empty()
        assert wire.take() == (ACCEPTED, b"\2" * 60)


def test_chains_of_many_segments_are_given_back_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for 2048 segments two chains of 1024 fill it, and the third waits for the others to be returned."""
    monkeypatch.setattr(chain, "SEGMENTS_MAX", 2048)
    hand = hand_with(1 << 18)
    part = hand.buffer(1, writable=False, fill=0)
    for _ in range(3):
        hand.tx.post_indirect(*[part] * 1024)
    wire = Wire(hand)
    assert [wire.pop() for _ in range(3)] == [TAKEN, TAKEN, NOTHING]
    assert hand.tx_queue.broken == 0
    give_back(hand.tx_queue)
    assert wire.pop() == TAKEN
    assert wire.frames() == [bytes(1012)] * 3


def test_split_d_12_with_event_idx_the_driver_hears_when_it_asked_to() -> None:
    """SPLIT-D-12."""
    hand = Hand(VERSION_1, EVENT_IDX)
    hand.tx.set_used_event(1)
    wire = Wire(hand)
    for n, calls in enumerate((0, 1, 1)):
        hand.tx.post(*put(hand, HEADER + pattern(60)))
        wire.take()
        assert hand.bells[1].call_count == calls, n


def test_netc_d_06_frames_up_to_the_mtu_leave_whole() -> None:
    """NETC-D-06: 9000 bytes and the link header, not fragmented."""
    hand = Hand(VERSION_1, MTU, size=1 << 18)
    hand.tx.post(*put(hand, HEADER + pattern(9014), 12, 4000))
    assert Wire(hand).take() == (ACCEPTED, pattern(9014))


def test_statistics_tell_sent_frames_from_malformed_ones() -> None:
    """Counters of TX_BASIC and TX_CSUM, where they were asked for (DST)."""
    hand = Hand(VERSION_1)
    wire = Wire(hand)
    wire.side.stats = hand.device.stats.counts.address
    wire.side.count_frame = hook(count_frame)
    for size in (60, 100, 10):
        hand.tx.post(*put(hand, HEADER + pattern(size)))
        wire.take()
    counts = hand.device.stats.counts[1]
    assert (counts.packets, counts.bytes, counts.csum_none) == (2, 160, 2)
    assert (counts.drops, counts.drop_malformed) == (1, 1)


@given(
    sizes=st.lists(st.integers(0, 700), max_size=6),
    tail=st.integers(0, 2),
    hdr_len=st.sampled_from([10, 12, 20, 24, 32]),
)
@settings(max_examples=150, deadline=None)
def test_what_was_sent_comes_out_or_is_given_back(sizes: list[int], tail: int, hdr_len: int) -> None:
    hand = Hand(VERSION_1)
    hand.device.transmit_features.hdr_len = hdr_len
    data = bytes(hdr_len) + pattern(sum(sizes))
    data = data[: sum(sizes)]
    cuts = [sum(sizes[:n]) for n in range(1, len(sizes))]
    parts = put(hand, data, *cuts) + [hand.buffer(8) for _ in range(tail)]
    head = hand.tx.post(*parts)
    before = hand.memory.snapshot()
    outcome, out = Wire(hand, size=FRAME_MAX + 64).take()
    if len(data) >= hdr_len + 14:
        assert (outcome, out) == (ACCEPTED, data[hdr_len:])
    else:
        assert outcome == TOO_SHORT
    assert hand.tx.take_used() == [(head, 0)]
    assert not differs_outside(before, hand.memory.snapshot(), [hand.tx.used_range])
