"""Frames from the guest, sent by hand (section 5.1.6.1 of VIRTIO 1.4)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device.transmit import transmit_frame
from netemu.jit import allocate
from tests.device_kit import (
    EVENT_IDX,
    INDIRECT_DESC,
    VERSION_1,
    Hand,
    Part,
    differs_outside,
    pattern,
)

HDR_LEN = 12
ROOM = 4096
HEADER = bytes(range(1, 13))


class Wire:
    """Where transmitted bytes go: ``room`` bytes of host memory, and a guard that shows what was written behind."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._block = allocate(room + 64)
        self._block.array[:] = 0xEE

    def take(self, hand: Hand, hdr_len: int = HDR_LEN) -> tuple[int, bytes]:
        """What `transmit_frame` says, and the bytes that came out of the guest."""
        got = int(transmit_frame(hand.tx_queue, hdr_len, self._block.address, self._room))
        data = self._block.array.tobytes()
        assert data[self._room :] == b"\xee" * 64
        return got, data[: max(0, got)]


def put(hand: Hand, data: bytes, *cuts: int) -> list[Part]:
    """``data`` in readable buffers of the guest, cut at these offsets."""
    parts = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        part = hand.buffer(end - start, writable=False)
        hand.memory.write(part.gpa, data[start:end])
        parts.append(part)
    return parts


def test_nothing_was_sent() -> None:
    assert Wire().take(Hand(VERSION_1)) == (0, b"")


def test_a_queue_that_was_not_set_up_sends_nothing() -> None:
    hand = Hand(VERSION_1)
    hand.tx.post(*put(hand, HEADER + pattern(60)))
    hand.device.set_status(0)
    assert Wire().take(hand) == (0, b"")
    assert hand.tx.used_idx == 0


@pytest.mark.parametrize("cuts", [(), (12,), (5, 12, 13), (0, 0, 12), tuple(range(1, 60))], ids=str)
@pytest.mark.parametrize("indirect", [False, True])
def test_split_d_01_header_and_frame_in_any_cut(cuts: tuple[int, ...], *, indirect: bool) -> None:
    hand = Hand(VERSION_1, INDIRECT_DESC, num=64)
    data = HEADER + pattern(60)
    parts = put(hand, data, *cuts)
    head = hand.tx.post_indirect(*parts) if indirect else hand.tx.post(*parts)
    assert Wire().take(hand) == (72, data)
    # Trap T3, SPLIT-B-06: the device wrote nothing, so the length is 0.
    assert hand.tx.take_used() == [(head, 0)]


def test_frames_come_out_in_the_order_they_were_sent() -> None:
    hand = Hand(VERSION_1)
    frames = [HEADER + pattern(60 + n) for n in range(5)]
    heads = [hand.tx.post(*put(hand, frame)) for frame in frames]
    wire = Wire()
    for n, frame in enumerate(frames):
        assert wire.take(hand) == (len(frame), frame)
        assert hand.tx.take_used() == [(heads[n], 0)]
    assert wire.take(hand) == (0, b"")


def test_split_d_04_writable_descriptors_behind_a_frame_are_neither_read_nor_written() -> None:
    hand = Hand(VERSION_1)
    data = HEADER + pattern(60)
    parts = [*put(hand, data), hand.buffer(100)]
    hand.tx.post(*parts)
    before = hand.memory.snapshot()
    assert Wire().take(hand) == (72, data)
    assert not differs_outside(before, hand.memory.snapshot(), [hand.tx.used_range])


@pytest.mark.parametrize(
    ("size", "hdr_len", "got"), [(26, 12, 26), (25, 12, -2), (24, 10, 24), (23, 10, -2), (0, 12, -2)]
)
def test_a_chain_without_whole_headers_is_given_back_and_skipped(size: int, hdr_len: int, got: int) -> None:
    """14 bytes are an Ethernet header."""
    hand = Hand(VERSION_1)
    head = hand.tx.post(*put(hand, pattern(size)))
    assert Wire().take(hand, hdr_len)[0] == got
    assert hand.tx.take_used() == [(head, 0)]
    assert hand.bells[1].call_count == 1


def test_a_chain_of_writable_descriptors_only_is_given_back_untouched() -> None:
    hand = Hand(VERSION_1)
    part = hand.buffer(100)
    hand.tx.post(part)
    assert Wire().take(hand) == (-2, b"")
    assert hand.content([part], 100) == b"\xaa" * 100


@pytest.mark.parametrize("cuts", [(), (12,), (71,)], ids=str)
def test_a_frame_longer_than_the_room_is_given_back(cuts: tuple[int, ...]) -> None:
    hand = Hand(VERSION_1)
    data = HEADER + pattern(60)
    for _ in range(2):
        hand.tx.post(*put(hand, data, *cuts))
    assert Wire(71).take(hand) == (-2, b"")
    assert Wire(72).take(hand) == (72, data)
    assert len(hand.tx.take_used()) == 2


def test_split_v_04_lengths_that_add_up_to_more_than_memory_do_not_overflow() -> None:
    hand = Hand(VERSION_1, INDIRECT_DESC)
    gpa, size = hand.memory.regions[0]
    hand.tx.post_indirect(*[Part(gpa, size, writable=False)] * 1000)
    assert Wire().take(hand) == (-2, b"")


def test_a_broken_chain_breaks_the_queue() -> None:
    hand = Hand(VERSION_1)
    hand.tx.post(Part(0, 100, writable=False))
    before = hand.memory.snapshot()
    assert Wire().take(hand) == (-1, b"")
    assert Wire().take(hand) == (-1, b"")
    assert hand.memory.snapshot() == before
    assert hand.device.broken == ["virtqueue 1: a descriptor points outside guest memory"]


def test_split_d_12_with_event_idx_the_driver_hears_when_it_asked_to() -> None:
    hand = Hand(VERSION_1, EVENT_IDX)
    hand.tx.set_used_event(1)
    for n, calls in enumerate((0, 1, 1)):
        hand.tx.post(*put(hand, HEADER + pattern(60)))
        Wire().take(hand)
        assert hand.bells[1].call_count == calls, n


@given(
    sizes=st.lists(st.integers(0, 700), max_size=6),
    tail=st.integers(0, 2),
    hdr_len=st.sampled_from([10, 12, 20, 24, 32]),
    room=st.integers(0, 3000),
)
@settings(max_examples=150, deadline=None)
def test_what_was_sent_comes_out_or_is_given_back(sizes: list[int], tail: int, hdr_len: int, room: int) -> None:
    hand = Hand(VERSION_1)
    data = pattern(sum(sizes))
    cuts = [sum(sizes[:n]) for n in range(1, len(sizes))]
    parts = put(hand, data, *cuts) + [hand.buffer(8) for _ in range(tail)]
    head = hand.tx.post(*parts)
    before = hand.memory.snapshot()
    got, out = Wire(room).take(hand, hdr_len)
    if len(data) <= room and len(data) >= hdr_len + 14:
        assert (got, out) == (len(data), data)
    else:
        assert got == -2
    assert hand.tx.take_used() == [(head, 0)]
    assert not differs_outside(before, hand.memory.snapshot(), [hand.tx.used_range])
