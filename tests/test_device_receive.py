"""Frames into receive buffers, against buffers posted by hand (sections 5.1.6.3 and 5.1.6.4 of VIRTIO 1.4).

A frame arrives as its bytes behind a header; what the driver finds is read back from guest memory, buffer by buffer, as
the used ring says.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netemu.device import chain
from netemu.device import queue as q
from netemu.device import receive as r
from netemu.memory import DEFAULT_BASE
from tests.device_kit import (
    EVENT_IDX,
    HASH_REPORT,
    INDIRECT_DESC,
    MRG_RXBUF,
    NEXT,
    OUT_NET_HEADER,
    TUNNEL,
    VERSION_1,
    WRITE,
    AnyHand,
    Hand,
    HostFrame,
    Part,
    differs_outside,
    pattern,
)
from tests.packed_kit import PackedHand

# Feature sets and the length of the header they bring (table of section D); the last two have a num_buffers field.
LEGACY = ()
MODERN = (VERSION_1,)
MERGEABLE = (VERSION_1, MRG_RXBUF)
HEADERS = [
    pytest.param(LEGACY, 10, id="10-legacy"),
    pytest.param((MRG_RXBUF,), 12, id="12-legacy-mergeable"),
    pytest.param(MODERN, 12, id="12-modern"),
    pytest.param(MERGEABLE, 12, id="12-mergeable"),
    pytest.param((VERSION_1, HASH_REPORT), 20, id="20-hash-report"),
    pytest.param((*MERGEABLE, HASH_REPORT), 20, id="20-mergeable"),
    pytest.param((VERSION_1, *TUNNEL), 24, id="24-tunnel"),
    pytest.param((*MERGEABLE, *TUNNEL), 24, id="24-mergeable"),
    pytest.param((*MERGEABLE, OUT_NET_HEADER), 32, id="32-mergeable"),
]


def arrive(hand: AnyHand, frame: bytes, *, publish: bool = True) -> int:
    """A frame reaches the device; what became of it."""
    source = HostFrame(frame)
    outcome = int(r.receive_frame(hand.rx_queue, hand.side, source.address, source.size, 0))
    if outcome == r.RECEIVED and publish:
        r.publish(hand.rx_queue)
    return outcome


def header(length: int, buffers: int) -> bytes:
    """virtio_net_hdr with nothing offloaded: zeros, and num_buffers at byte 10 where the header reaches that far."""
    return bytes(10) + buffers.to_bytes(2, "little") + bytes(length - 12) if length > 10 else bytes(10)


@pytest.mark.parametrize(("bits", "length"), HEADERS)
@pytest.mark.parametrize("size", [0, 14, 60, 1514])
def test_rxb_v_04_a_frame_lies_behind_the_negotiated_header(bits: tuple[int, ...], length: int, size: int) -> None:
    """RXB-V-04, RX-D-01, RX-D-02: num_buffers is 1, mergeable or not; RX-D-05, RX-D-26: all else is 0."""
    hand = Hand(*bits)
    part = hand.buffer(1600)
    head = hand.rx.post(part)
    frame = pattern(size)
    assert arrive(hand, frame) == r.RECEIVED
    assert hand.rx.take_used() == [(head, length + size)]
    assert hand.content([part], length + size) == header(length, 1) + frame
    assert hand.content([part], 1600)[length + size :] == b"\xaa" * (1600 - length - size)


def test_a_header_left_over_from_before_is_zeroed() -> None:
    """Linux sheet, section 12, rule 1: the device writes the whole header."""
    hand = Hand(VERSION_1, HASH_REPORT)
    for _ in range(2):
        part = hand.buffer(100, fill=0xFF)
        hand.rx.post(part)
        assert arrive(hand, b"frame") == r.RECEIVED
        assert hand.content([part], 20) == header(20, 1)


@pytest.mark.parametrize(("bits", "length"), HEADERS)
@pytest.mark.parametrize(
    "cuts",
    [[], [1], [5, 10], [10], [11], [12], [13], [20], [24], [32], list(range(1, 60)), [0, 0, 10, 10]],
    ids=str,
)
@pytest.mark.parametrize("packed", [False, True])
def test_split_d_01_any_cut_into_descriptors_will_do(
    *, bits: tuple[int, ...], length: int, cuts: list[int], packed: bool
) -> None:
    """SPLIT-D-01, RXB-B-01: a header in a descriptor of its own, split over several, one-byte and empty ones."""
    if packed and VERSION_1 not in bits:
        bits = (*bits, VERSION_1)
        length = 12
    hand: AnyHand = PackedHand(*bits, num=64) if packed else Hand(*bits, num=64)
    ends = [*cuts, 100]
    parts = [hand.buffer(end - start) for start, end in zip([0, *cuts], ends, strict=True)]
    head = hand.rx.post(*parts)
    frame = pattern(42)
    assert arrive(hand, frame) == r.RECEIVED
    assert hand.rx.take_used() == [(head, length + 42)]
    assert hand.content(parts, length + 42) == header(length, 1) + frame


@pytest.mark.parametrize("indirect", [False, True])
def test_split_d_03_readable_descriptors_in_front_are_left_alone(*, indirect: bool) -> None:
    """SPLIT-D-03. They count for nothing: not in the room, not in the used length (SPLIT-B-06)."""
    hand = Hand(VERSION_1, INDIRECT_DESC)
    parts = [hand.buffer(50, writable=False), hand.buffer(10, writable=False), hand.buffer(6), hand.buffer(70)]
    head = hand.rx.post_indirect(*parts) if indirect else hand.rx.post(*parts)
    frame = pattern(60)
    assert arrive(hand, frame) == r.RECEIVED
    assert hand.rx.take_used() == [(head, 72)]
    assert hand.content(parts, 72) == header(12, 1) + frame
    assert hand.memory.read(parts[0].gpa, 60) == b"\xaa" * 60


def test_exactly_as_much_room_as_needed() -> None:
    for bits in (MODERN, MERGEABLE):
        hand = Hand(*bits)
        part = hand.buffer(72)
        hand.rx.post(part)
        assert arrive(hand, pattern(60)) == r.RECEIVED
        assert hand.content([part], 72) == header(12, 1) + pattern(60)


# Mergeable buffers.


def test_rx_d_02_num_buffers_and_used_lengths_over_three_buffers() -> None:
    """RX-D-02, RXB-D-01; RX-D-03: all but the last are full. The sum of the lengths is header and frame."""
    hand = Hand(*MERGEABLE)
    parts = [hand.buffer(100), hand.buffer(64), hand.buffer(100)]
    heads = [hand.rx.post(part) for part in parts]
    frame = pattern(160)
    assert arrive(hand, frame) == r.RECEIVED
    assert hand.rx.take_used() == [(heads[0], 100), (heads[1], 64), (heads[2], 8)]
    data = header(12, 3) + frame
    assert hand.memory.read(parts[0].gpa, 100) == data[:100]
    assert hand.memory.read(parts[1].gpa, 64) == data[100:164]
    assert hand.memory.read(parts[2].gpa, 100) == data[164:] + b"\xaa" * 92


def test_rx_v_14_later_buffers_carry_no_header() -> None:
    """RX-V-14."""
    hand = Hand(*MERGEABLE)
    parts = [hand.buffer(12), hand.buffer(30), hand.buffer(30)]
    for part in parts:
        hand.rx.post(part)
    assert arrive(hand, pattern(60)) == r.RECEIVED
    assert hand.content(parts, 72) == header(12, 3) + pattern(60)


@pytest.mark.parametrize(("bits", "length"), [p for p in HEADERS if "mergeable" in str(p.id)])
def test_a_header_may_lie_over_many_buffers(bits: tuple[int, ...], length: int) -> None:
    """RXB-V-03 asks the driver for more; the device copes (SPLIT-D-01)."""
    hand = Hand(*bits, num=128)
    parts = [hand.buffer(1) for _ in range(length + 20)]
    heads = [hand.rx.post(part) for part in parts]
    assert arrive(hand, pattern(20)) == r.RECEIVED
    assert hand.rx.take_used() == [(head, 1) for head in heads]
    assert hand.content(parts, length + 20) == header(length, length + 20) + pattern(20)


def test_only_as_many_buffers_are_taken_as_needed() -> None:
    hand = Hand(*MERGEABLE)
    parts = [hand.buffer(100) for _ in range(4)]
    for part in parts:
        hand.rx.post(part)
    assert arrive(hand, pattern(150)) == r.RECEIVED
    assert hand.rx.take_used() == [(0, 100), (1, 62)]
    assert arrive(hand, pattern(88)) == r.RECEIVED
    assert hand.rx.take_used() == [(2, 100)]


def test_rx_d_04_all_buffers_of_a_frame_become_used_at_once() -> None:
    """RX-D-04. Until then the driver sees nothing in the used ring, not even behind its index."""
    hand = Hand(*MERGEABLE)
    for _ in range(3):
        hand.rx.post(hand.buffer(30))
    start, end = hand.rx.used_range
    before = hand.memory.read(start, end - start)
    assert arrive(hand, pattern(60), publish=False) == r.RECEIVED
    assert hand.memory.read(start, end - start) == before
    r.publish(hand.rx_queue)
    assert hand.rx.used_idx == 3


def test_one_notification_for_all_buffers_of_a_frame() -> None:
    hand = Hand(*MERGEABLE)
    for _ in range(3):
        hand.rx.post(hand.buffer(30))
    arrive(hand, pattern(60))
    assert hand.bell.call_count == 1


def test_a_buffer_without_writable_bytes_is_used_and_counted() -> None:
    """RX-D-02 counts buffers, and this one is full from the start (RX-D-03)."""
    hand = Hand(*MERGEABLE)
    parts = [hand.buffer(40, writable=False), hand.buffer(100)]
    for part in parts:
        hand.rx.post(part)
    assert arrive(hand, pattern(60)) == r.RECEIVED
    assert hand.rx.take_used() == [(0, 0), (1, 72)]
    assert hand.content(parts, 72) == header(12, 2) + pattern(60)


def test_frames_of_64_kib_over_buffers_of_1536() -> None:
    hand = Hand(*MERGEABLE, num=64, size=1 << 18)
    parts = [hand.buffer(1536) for _ in range(64)]
    for part in parts:
        hand.rx.post(part)
    frame = pattern(65549)
    assert arrive(hand, frame) == r.RECEIVED
    used = hand.rx.take_used()
    # 65549 + 12 = 42 * 1536 + 1049
    assert used == [(n, 1536) for n in range(42)] + [(42, 1049)]
    assert hand.content(parts, 65561) == header(12, 43) + frame


@pytest.mark.parametrize("kind", [Hand, PackedHand])
def test_the_largest_ring_full_of_one_byte_buffers_holds_one_frame(kind: type[AnyHand]) -> None:
    """SPLIT-B-02, PACK-B-10: 32768 chains for one frame, header and all, and one used entry each."""
    hand = kind(*MERGEABLE, num=32768, size=3 << 20)
    gpa = hand.memory.reserve(32768, 1)
    for n in range(32768):
        hand.rx.post(Part(gpa + n, 1))
    frame = pattern(32768 - 12)
    assert arrive(hand, frame) == r.RECEIVED
    assert hand.memory.read(gpa, 32768) == header(12, 32768) + frame
    used = hand.rx.take_used()
    assert len(used) == 32768
    assert {length for _, length in used} == {1}
    assert arrive(hand, b"") == r.NO_BUFFERS


# When it does not fit.


def nothing_happened(hand: Hand, frame: bytes, outcome: int) -> None:
    """The frame does not get in, and guest memory, doorbell and the order of buffers are as before."""
    before, at = hand.memory.snapshot(), hand.rx_queue.last_avail_idx
    assert arrive(hand, frame) == outcome
    assert hand.memory.snapshot() == before
    assert hand.bell.call == 0
    assert (hand.rx_queue.last_avail_idx, hand.rx_queue.taken, hand.rx_queue.broken) == (at, 0, 0)


@pytest.mark.parametrize("bits", [MODERN, MERGEABLE])
def test_no_buffer_at_all(bits: tuple[int, ...]) -> None:
    nothing_happened(Hand(*bits), pattern(60), r.NO_BUFFERS)


def test_not_enough_mergeable_buffers_then_enough() -> None:
    hand = Hand(*MERGEABLE)
    parts = [hand.buffer(40), hand.buffer(31)]
    for part in parts:
        hand.rx.post(part)
    nothing_happened(hand, pattern(60), r.NOT_ENOUGH)
    hand.rx.post(hand.buffer(1))
    assert arrive(hand, pattern(60)) == r.RECEIVED
    assert hand.rx.take_used() == [(0, 40), (1, 31), (2, 1)]


def test_rxb_d_02_without_mergeable_buffers_a_single_one_has_to_do() -> None:
    """RXB-D-02."""
    hand = Hand(*MODERN)
    for _ in range(3):
        hand.rx.post(hand.buffer(71))
    nothing_happened(hand, pattern(60), r.DOES_NOT_FIT)
    assert arrive(hand, pattern(59)) == r.RECEIVED
    assert hand.rx.take_used() == [(0, 71)]


def test_split_d_02_a_frame_over_too_many_segments_does_not_fit_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SPLIT-D-02. Each chain keeps the rules; together they have more segments than the device collects."""
    hand = Hand(*MERGEABLE, INDIRECT_DESC, num=4, size=1 << 18)
    part = hand.buffer(1)
    for _ in range(4):
        hand.rx.post_indirect(*[part] * 1000)
    with monkeypatch.context() as patch:
        # Kernels that run as plain Python look at the module; the real limit would take this test seconds.
        patch.setattr(chain, "SEGMENTS_MAX", 2048)
        nothing_happened(hand, pattern(3000), r.DOES_NOT_FIT)
    assert arrive(hand, pattern(3000)) == r.RECEIVED
    assert hand.rx.used_idx == 4


@pytest.mark.parametrize("bits", [MODERN, MERGEABLE])
def test_a_bad_second_buffer_breaks_the_queue_before_the_first_is_touched(bits: tuple[int, ...]) -> None:
    hand = Hand(*bits)
    hand.rx.post(hand.buffer(50))
    hand.rx.post(Part(0, 1000))
    before = hand.memory.snapshot()
    mergeable = MRG_RXBUF in bits
    assert arrive(hand, pattern(60)) == (r.BROKEN if mergeable else r.DOES_NOT_FIT)
    assert hand.rx_queue.broken == (q.BAD_ADDRESS if mergeable else 0)
    assert hand.memory.snapshot() == before
    if mergeable:
        assert arrive(hand, b"") == r.BROKEN
        assert hand.memory.snapshot() == before


def test_stat_d_01_a_queue_that_was_not_set_up_takes_nothing() -> None:
    """STAT-D-01."""
    hand = Hand(*MODERN)
    hand.rx.post(hand.buffer(100))
    hand.device.set_status(0)
    before = hand.memory.snapshot()
    assert arrive(hand, pattern(60)) == r.BROKEN
    assert hand.memory.snapshot() == before


# Waiting for buffers.


def test_waiting_asks_for_a_kick_and_finds_none() -> None:
    for bits in (MODERN, (VERSION_1, EVENT_IDX)):
        hand = Hand(*bits)
        assert arrive(hand, b"frame") == r.NO_BUFFERS
        assert r.wait_for_buffers(hand.rx_queue) == 0
        assert hand.rx.no_notify == 0
        assert hand.rx.avail_event == 0


@pytest.mark.parametrize("bits", [MODERN, (VERSION_1, EVENT_IDX)])
def test_waiting_sees_a_buffer_that_came_between_the_look_and_the_wait(bits: tuple[int, ...]) -> None:
    """Trap T5: the driver read the old suppression fields and did not kick."""
    hand = Hand(*bits)
    assert arrive(hand, b"frame") == r.NO_BUFFERS
    hand.rx.post(hand.buffer(100))
    assert r.wait_for_buffers(hand.rx_queue) == 1
    # SPLIT-D-18, SPLIT-D-19
    assert hand.rx.no_notify == (0 if EVENT_IDX in bits else 1)


def test_waiting_for_more_than_too_few_buffers_asks_for_the_next_one() -> None:
    """SPLIT-D-20: of the entries that wait already the driver will not tell again."""
    hand = Hand(*MERGEABLE, EVENT_IDX)
    hand.rx.post(hand.buffer(20))
    hand.rx.post(hand.buffer(20))
    assert arrive(hand, pattern(60)) == r.NOT_ENOUGH
    assert r.wait_for_buffers(hand.rx_queue) == 0
    assert hand.rx.avail_event == 2
    hand.rx.post(hand.buffer(100))
    assert r.wait_for_buffers(hand.rx_queue) == 1


# All layouts.

PARTS = st.tuples(
    st.lists(st.integers(0, 50), max_size=2),
    st.lists(
        st.integers(0, 3) | st.integers(0, 300) | st.sampled_from([1526, 1536, 4096, 65550]), min_size=1, max_size=6
    ),
)


@given(
    chains=st.lists(PARTS, max_size=8),
    kind=st.sampled_from([p.values for p in HEADERS]),
    size=st.integers(0, 300) | st.integers(0, 70_000),
    indirect=st.lists(st.booleans(), min_size=8, max_size=8),
    first_idx=st.sampled_from([0, 60, 65530]),
    packed=st.booleans(),
)
@example(
    chains=[([], [65550])] * 2,
    kind=((*MERGEABLE, *TUNNEL), 24),
    size=70_000,
    indirect=[False] * 8,
    first_idx=0,
    packed=False,
)
@settings(max_examples=300, deadline=None)
def test_a_driver_reassembles_header_and_frame_and_nothing_else_was_written(
    *,
    chains: list[tuple[list[int], list[int]]],
    kind: tuple[tuple[int, ...], int],
    size: int,
    indirect: list[bool],
    first_idx: int,
    packed: bool,
) -> None:
    """RXB-B-01, RX-D-02, RX-D-03, SPLIT-D-01, SPLIT-D-03, PACK-D-11; a packed ring is for modern drivers."""
    bits, length = kind
    make: type[AnyHand] = PackedHand if packed and VERSION_1 in bits else Hand
    hand = make(*bits, INDIRECT_DESC, num=64, size=1 << 22, first_idx=first_idx)
    posted: dict[int, list[Part]] = {}
    for (readable, writable), through_table in zip(chains, indirect, strict=False):
        parts = [hand.buffer(n, writable=False) for n in readable] + [hand.buffer(n) for n in writable]
        post = hand.rx.post_indirect if through_table else hand.rx.post
        posted[post(*parts)] = parts
    rooms = [sum(part.size for part in parts if part.writable) for parts in posted.values()]
    frame = pattern(size)
    before = hand.memory.snapshot()

    outcome = arrive(hand, frame)

    if MRG_RXBUF in bits:
        fits = sum(rooms) >= length + size
        assert outcome == (r.RECEIVED if fits else r.NOT_ENOUGH if rooms else r.NO_BUFFERS)
    else:
        fits = bool(rooms) and rooms[0] >= length + size
        assert outcome == (r.RECEIVED if fits else r.DOES_NOT_FIT if rooms else r.NO_BUFFERS)
    after = hand.memory.snapshot()
    if not fits:
        assert after == before
        return
    used = hand.rx.take_used()
    assert [head for head, _ in used] == list(posted)[: len(used)]
    assert [written for _, written in used[:-1]] == rooms[: len(used) - 1]
    assert b"".join(hand.content(posted[head], written) for head, written in used) == header(length, len(used)) + frame
    filled = [(part.gpa, part.gpa + part.size) for head, _ in used for part in posted[head] if part.writable]
    assert not differs_outside(before, after, [hand.rx.used_range, *filled])


@given(
    table=st.binary(min_size=128, max_size=128),
    links=st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), min_size=8, max_size=8),
    waiting=st.integers(0, 10),
    mergeable=st.booleans(),
    size=st.integers(0, 2000),
)
@settings(max_examples=150, deadline=None)
def test_whatever_lies_in_the_ring_only_posted_buffers_are_written_and_the_call_returns(
    *,
    table: bytes,
    links: list[tuple[int, bool, bool]],
    waiting: int,
    mergeable: bool,
    size: int,
) -> None:
    """Descriptors point anywhere in memory, the ring's own parts included."""
    hand = Hand(*(MERGEABLE if mergeable else MODERN), INDIRECT_DESC)
    allowed = [hand.rx.used_range]
    for slot, (following, more, is_random) in enumerate(links):
        raw = table[16 * slot : 16 * slot + 16]
        if is_random:
            hand.memory.write(hand.rx.desc + 16 * slot, raw)
            continue
        gpa = DEFAULT_BASE + int.from_bytes(raw[:2], "little")
        length = raw[2] * 8
        hand.rx.describe(slot, gpa, length, WRITE | (NEXT if more else 0), following)
        if gpa + length <= DEFAULT_BASE + 0x10000:
            allowed.append((gpa, gpa + length))
    hand.rx.expose(*range(8))
    hand.rx.set_avail_idx(waiting)
    before = hand.memory.snapshot()
    outcome = arrive(hand, pattern(size))
    after = hand.memory.snapshot()
    if outcome == r.RECEIVED:
        assert not differs_outside(before, after, allowed)
    else:
        assert after == before
    if outcome == r.BROKEN:
        assert hand.rx_queue.broken


# Headers that say something.


def test_a_header_is_copied_in_front_of_its_frame_and_only_of_that_frame() -> None:
    """RX-D-02, HREP-D-02: num_buffers and the hash are the device's own, whatever the frame's own header says."""
    hand = Hand(*MERGEABLE, HASH_REPORT)
    for _ in range(2):
        hand.rx.post(hand.buffer(200))
    words = bytes(range(1, 33))
    template, frame = HostFrame(words), HostFrame(pattern(100))
    for vnet in (template.address, 0):
        assert r.receive_frame(hand.rx_queue, hand.side, frame.address, frame.size, vnet) == r.RECEIVED
        r.publish(hand.rx_queue)
    first, second = (hand.memory.read(gpa, 120) for gpa in hand.rx.posted[:2])
    assert first == words[:10] + b"\1\0" + bytes(6) + words[18:20] + pattern(100)
    assert second == header(20, 1) + pattern(100)
