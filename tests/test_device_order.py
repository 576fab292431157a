"""In-order use in batches, kicks that carry a word, and what a device does without being kicked; both kinds of ring."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device import queue as q
from netemu.device import receive as r
from netemu.device.queue import take_kick
from netemu.device.quirks import QUIRKS, device_quirks_at
from netemu.device.transmit import give_back
from netemu.jit import call5
from tests.device_kit import (
    EVENT_IDX,
    IN_ORDER,
    INDIRECT_DESC,
    MRG_RXBUF,
    NOTIFICATION_DATA,
    VERSION_1,
    AnyHand,
    Hand,
    HostFrame,
    pattern,
)
from tests.packed_kit import DISABLE, INDIRECT, NEXT, USED, WRITE, PackedHand
from tests.test_device_receive import arrive

KINDS = [pytest.param(Hand, id="split"), pytest.param(PackedHand, id="packed")]
BITS = (VERSION_1, MRG_RXBUF)


# IN_ORDER.


@pytest.mark.parametrize("kind", KINDS)
def test_rfb_d_05_frames_are_used_in_the_order_in_which_buffers_were_made_available(kind: type[AnyHand]) -> None:
    """RFB-D-05. One used entry a buffer, since each has a length of its own."""
    hand = kind(*BITS, IN_ORDER)
    heads = [hand.rx.post(hand.buffer(50)) for _ in range(6)]
    for size in (20, 100, 30):
        assert arrive(hand, pattern(size)) == r.RECEIVED
    assert hand.rx.take_used() == [(heads[0], 32), (heads[1], 50), (heads[2], 50), (heads[3], 12), (heads[4], 42)]


def sent(hand: AnyHand, frames: int, slots: int = 1) -> list[int]:
    """Chains that the device took from the send queue and has not given back; their heads."""
    heads = [hand.tx.post(*[hand.buffer(40, writable=False)] * slots) for _ in range(frames)]
    for _ in heads:
        assert q.pop_chain(hand.tx_queue) == 1
    return heads


def test_ord_d_01_a_batch_of_sent_frames_is_one_used_element_of_the_last() -> None:
    """ORD-D-01, ORD-D-02: in the slot of the first, and the index grows by all of them."""
    hand = Hand(VERSION_1, IN_ORDER, first_idx=6)
    heads = sent(hand, 4)
    hand.memory.write(hand.tx.used + 4, b"\xee" * 64)
    assert give_back(hand.tx_queue) == 1
    assert hand.tx.used_idx == 10
    used = hand.memory.read(hand.tx.used + 4, 64)
    assert used[6 * 8 : 7 * 8] == heads[-1].to_bytes(4, "little") + bytes(4)
    assert used[: 6 * 8] + used[7 * 8 :] == b"\xee" * 56


def test_ord_d_03_a_batch_of_sent_frames_is_one_used_descriptor_with_the_last_id() -> None:
    """ORD-D-03: over the first one's descriptor; then all slots of the batch are skipped."""
    hand = PackedHand(VERSION_1, IN_ORDER, num=7, first_idx=5)
    heads = sent(hand, 3, slots=2)
    before = [hand.tx.used_descriptor(slot) for slot in range(7)]
    assert give_back(hand.tx_queue) == 1
    assert hand.tx.used_descriptor(5) == (0, heads[-1], 0x8080)
    assert [hand.tx.used_descriptor(slot) for slot in (6, 0, 1, 2, 3, 4)] == [before[n] for n in (6, 0, 1, 2, 3, 4)]
    assert (hand.tx_queue.used_idx, hand.tx_queue.used_wrap) == (4, 0)
    more = sent(hand, 1)
    give_back(hand.tx_queue)
    assert hand.tx.used_descriptor(4) == (0, more[0], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_in_order_every_sent_frame_has_its_used_entry(kind: type[AnyHand]) -> None:
    """PACK-D-04: one used descriptor a chain."""
    hand = kind(VERSION_1)
    heads = sent(hand, 3)
    give_back(hand.tx_queue)
    assert hand.tx.take_used() == [(head, 0) for head in heads]


def test_a_batch_counts_whole_when_the_driver_waits_for_one_in_its_middle() -> None:
    """SPLIT-D-12, PACK-B-08: index 1 is passed, though nothing was written there."""
    split = Hand(VERSION_1, IN_ORDER, EVENT_IDX)
    split.tx.set_used_event(1)
    packed = PackedHand(VERSION_1, IN_ORDER, EVENT_IDX)
    packed.tx.set_event(2, 1, 1)
    for hand in (split, packed):
        sent(hand, 3)
        assert give_back(hand.tx_queue) == 1


# Kicks.


def kick(hand: AnyHand, word: int) -> int:
    """The driver kicks with a word; how many odd ones the device has counted."""
    hand.bell.data = word
    hand.bell.kick = 1
    assert take_kick(hand.rx_queue) == 1
    return int(hand.rx_queue.odd_kicks)


def test_notif_v_02_a_word_that_fits_a_split_ring_is_not_odd() -> None:
    """NOTIF-V-02, NOTIF-V-03: queue 0, then 16 bits of the available index, as 65535 wraps to 0."""
    hand = Hand(*BITS, NOTIFICATION_DATA, first_idx=65534)
    for _ in range(4):
        hand.rx.post(hand.buffer(10))
        assert kick(hand, hand.rx.avail_idx << 16) == 0
    assert kick(hand, 1) == 1
    assert kick(hand, 30000 << 16) == 2
    assert [hand.pop() for _ in range(5)] == [1, 1, 1, 1, 0]


def test_notif_v_04_a_word_that_fits_a_packed_ring_is_not_odd() -> None:
    """NOTIF-V-02, NOTIF-V-04: position and wrap counter; position 7 there is not."""
    hand = PackedHand(*BITS, NOTIFICATION_DATA, num=7)
    for _ in range(7):
        hand.rx.post(hand.buffer(10))
        assert kick(hand, hand.rx.at << 16 | hand.rx.wrap << 31) == 0
    assert (hand.rx.at, hand.rx.wrap) == (0, 0)
    assert kick(hand, 7 << 16) == 1
    assert kick(hand, 0xFFFF) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_split_d_21_words_mean_nothing_where_they_were_not_negotiated(kind: type[AnyHand]) -> None:
    """SPLIT-D-21, PACK-V-09: a kick needs no reason."""
    hand = kind(*BITS)
    assert kick(hand, 0xDEAD_BEEF) == 0
    assert hand.pop() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_split_d_22_buffers_are_used_as_soon_as_they_are_available_without_a_kick(kind: type[AnyHand]) -> None:
    """SPLIT-D-22, PACK-D-17; SPLIT-D-23, PACK-D-18: the device has asked for no kicks, and needs none."""
    hand = kind(*BITS)
    if isinstance(hand, PackedHand):
        assert hand.rx.kicks[0] == DISABLE
    else:
        assert hand.rx.no_notify == 1
    for _ in range(3):
        head = hand.rx.post(hand.buffer(100))
        assert hand.bell.kick == 0
        assert arrive(hand, pattern(60)) == r.RECEIVED
        assert hand.rx.take_used() == [(head, 72)]


@pytest.mark.parametrize("kind", KINDS)
def test_split_d_04_what_lies_in_a_writable_buffer_makes_no_difference(kind: type[AnyHand]) -> None:
    """SPLIT-D-04, PACK-D-12: nothing of it is read, nothing of it is left in front of the used length."""
    seen = []
    for fill in (0, 0x5A):
        hand = kind(*BITS)
        parts = [hand.buffer(100, fill=fill) for _ in range(2)]
        for part in parts:
            hand.rx.post(part)
        assert arrive(hand, pattern(150)) == r.RECEIVED
        start, end = hand.rx.used_range
        seen.append((hand.content(parts, 162), hand.memory.read(start, end - start)))
        assert hand.content(parts, 200)[162:] == bytes([fill]) * 38
    assert seen[0] == seen[1]


# Whatever lies in a packed ring.

FLAGS = st.sampled_from([0x80, 0x80 | WRITE, 0x80 | WRITE | NEXT, 0x80 | NEXT, 0x80 | INDIRECT, USED]) | st.integers(
    0, 65535
)
ENTRIES = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.integers(0, 2000) | st.integers(0, 2**32 - 1), st.integers(0, 65535), FLAGS),
    min_size=5,
    max_size=5,
)


@given(ENTRIES, st.booleans(), st.integers(0, 3000))
@settings(max_examples=250, deadline=None)
def test_whatever_lies_in_a_packed_ring_only_ring_and_posted_buffers_are_written(
    entries: list[tuple[int, int, int, int]],
    indirect: bool,
    size: int,
) -> None:
    """PACK-D-11, T21: descriptors that point anywhere, the ring itself included; the call returns."""
    hand = PackedHand(*BITS, *([INDIRECT_DESC] if indirect else []), num=5)
    base, end = hand.memory.regions[0][0], hand.memory.regions[0][0] + hand.memory.regions[0][1]
    allowed = [hand.rx.used_range]
    for slot, (offset, length, buffer, flags) in enumerate(entries):
        hand.rx.write(slot, base + offset, length, buffer, flags)
        if base + offset + length <= end:
            allowed.append((base + offset, base + offset + length))
    before = hand.memory.snapshot()
    outcome = arrive(hand, pattern(size))
    after = bytearray(hand.memory.snapshot())
    if outcome != r.RECEIVED:
        assert after == before
        assert bool(hand.rx_queue.broken) == (outcome == r.BROKEN)
        return
    if not any(flags & INDIRECT for *_, flags in entries):
        for start, stop in allowed:
            after[start - base : stop - base] = before[start - base : stop - base]
        assert after == before


# Quirks keep to the ring and the header.


@given(
    st.lists(st.sampled_from([quirk.name for quirk in QUIRKS]), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 250), min_size=1, max_size=6),
    st.integers(1, 1000),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_no_quirk_writes_outside_of_ring_and_posted_buffers(
    names: list[str],
    sizes: list[int],
    seed: int,
    packed: bool,
) -> None:
    """Nor over the frame: behind the header its bytes lie where they belong."""
    make: type[AnyHand] = PackedHand if packed else Hand
    hand = make(*BITS, num=8, quirks=[f"{name}:p=0.5,seed={seed}" for name in names])
    parts = [hand.buffer(100) for _ in range(8)]
    for part in parts:
        hand.rx.post(part)
    dq = hand.rx_queue
    before = hand.memory.snapshot()
    base = hand.memory.regions[0][0]
    at = 0
    for number, size in enumerate(sizes, start=1):
        frame = HostFrame(pattern(size))
        if r.receive_frame(dq, hand.side, frame.address, frame.size, 0) != r.RECEIVED:
            break
        count = dq.taken
        whole = b"".join(hand.memory.read(part.gpa, part.size) for part in parts[at : at + count])
        call5(device_quirks_at(dq.quirks).spoil, dq.quirks, number, number, 0, 0)
        assert b"".join(hand.memory.read(part.gpa, part.size) for part in parts[at : at + count])[12:] == whole[12:]
        at += count
        r.publish(dq)
    hand.device.settle()
    after = bytearray(hand.memory.snapshot())
    for start, stop in [hand.rx.used_range, *((part.gpa, part.gpa + part.size) for part in parts[:at])]:
        after[start - base : stop - base] = before[start - base : stop - base]
    assert after == before
