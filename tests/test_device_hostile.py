"""Rings that no driver should build: the queue breaks, for a reason, and nothing else happens.

No exception, no endless loop, and not a byte of guest memory written.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device import queue as q
from netemu.device.queue import flush
from netemu.memory import DEFAULT_BASE
from tests.device_kit import INDIRECT, INDIRECT_DESC, NEXT, VERSION_1, WRITE, Hand, Part, descriptor, walk_by_the_book

PLAIN = (VERSION_1,)
TABLES = (VERSION_1, INDIRECT_DESC)


def refused(hand: Hand, reason: int) -> None:
    """The next chain breaks the queue for ``reason``, and not a byte of guest memory changes, then or later."""
    before = hand.memory.snapshot()
    assert hand.pop() == -1
    assert hand.rx_queue.broken == reason
    assert hand.pop() == -1
    assert hand.memory.snapshot() == before
    assert hand.bell.call == 0
    assert hand.device.broken == [f"virtqueue 0: {q.BROKEN_REASONS[reason]}"]


@pytest.mark.parametrize("ahead", [9, 10, 32768, 65535])
def test_hostile_available_index_ahead_by_more_than_the_ring(ahead: int) -> None:
    hand = Hand(*PLAIN)
    hand.rx.set_avail_idx(ahead)
    refused(hand, q.AVAIL_TOO_FAR)


def test_split_v_11_hostile_available_index_that_goes_back() -> None:
    """SPLIT-V-11."""
    hand = Hand(*PLAIN)
    for _ in range(3):
        hand.rx.post(hand.buffer(1))
        hand.pop()
    flush(hand.rx_queue)
    hand.rx.set_avail_idx(2)
    refused(hand, q.AVAIL_TOO_FAR)


def test_hostile_available_index_that_runs_on_while_chains_are_taken() -> None:
    """Chains taken and not given back are still the device's: with them a ring holds no more than its size."""
    hand = Hand(*PLAIN)
    part = hand.buffer(4)
    for n in range(8):
        hand.rx.describe(n, part.gpa, part.size, WRITE)
    hand.rx.expose(*range(8))
    for _ in range(8):
        assert hand.pop() == 1
    hand.rx.expose(0)
    refused(hand, q.AVAIL_TOO_FAR)


@pytest.mark.parametrize("head", [8, 9, 32768, 65535])
def test_hostile_head_outside_the_ring(head: int) -> None:
    hand = Hand(*PLAIN)
    hand.rx.expose(head)
    refused(hand, q.HEAD_OUT_OF_RANGE)


@pytest.mark.parametrize("following", [8, 65535])
def test_hostile_next_outside_the_ring(following: int) -> None:
    hand = Hand(*PLAIN)
    hand.rx.describe(0, hand.buffer(10).gpa, 10, WRITE | NEXT, following)
    hand.rx.expose(0)
    refused(hand, q.NEXT_OUT_OF_RANGE)


@pytest.mark.parametrize("following", [2, 7, 65535])
def test_hostile_next_outside_its_table_even_where_the_ring_has_it(following: int) -> None:
    hand = Hand(*TABLES)
    part = hand.buffer(10)
    gpa, size = hand.rx.table([part, part])
    hand.memory.write(gpa, descriptor(part.gpa, part.size, WRITE | NEXT, following))
    hand.rx.describe(0, gpa, size, INDIRECT)
    hand.rx.expose(0)
    refused(hand, q.NEXT_OUT_OF_RANGE)


@pytest.mark.parametrize("slots", [[0, 0], [0, 1, 0], [0, 1, 2, 1]])
def test_split_v_04_hostile_loops_end(slots: list[int]) -> None:
    """SPLIT-V-04."""
    hand = Hand(*PLAIN)
    part = hand.buffer(10)
    for slot, following in pairwise(slots):
        hand.rx.describe(slot, part.gpa, part.size, WRITE | NEXT, following)
    hand.rx.expose(0)
    refused(hand, q.CHAIN_TOO_LONG)


def test_hostile_loop_inside_a_table() -> None:
    hand = Hand(*TABLES)
    part = hand.buffer(10)
    gpa, size = hand.rx.table([part, part])
    hand.memory.write(gpa + 16, descriptor(part.gpa, part.size, WRITE | NEXT, 0))
    hand.rx.describe(0, gpa, size, INDIRECT)
    hand.rx.expose(0)
    refused(hand, q.CHAIN_TOO_LONG)


def test_split_v_06_hostile_table_that_was_not_negotiated() -> None:
    """SPLIT-V-06."""
    hand = Hand(*PLAIN)
    hand.rx.post_indirect(hand.buffer(10))
    refused(hand, q.BAD_INDIRECT)


def test_split_v_07_hostile_table_in_a_table() -> None:
    """SPLIT-V-07."""
    hand = Hand(*TABLES)
    inner, size = hand.rx.table([hand.buffer(10)])
    outer, _ = hand.rx.table([Part(inner, size)])
    hand.memory.write(outer, descriptor(inner, size, INDIRECT))
    hand.rx.describe(0, outer, 16, INDIRECT)
    hand.rx.expose(0)
    refused(hand, q.BAD_INDIRECT)


def test_hostile_table_that_holds_itself() -> None:
    hand = Hand(*TABLES)
    gpa, _ = hand.rx.table([hand.buffer(10)])
    hand.memory.write(gpa, descriptor(gpa, 16, INDIRECT))
    hand.rx.describe(0, gpa, 16, INDIRECT)
    hand.rx.expose(0)
    refused(hand, q.BAD_INDIRECT)


def test_split_v_09_hostile_table_with_next() -> None:
    """SPLIT-V-09."""
    hand = Hand(*TABLES)
    gpa, size = hand.rx.table([hand.buffer(10)])
    hand.rx.describe(0, gpa, size, INDIRECT | NEXT, 1)
    hand.rx.expose(0)
    refused(hand, q.BAD_INDIRECT)


@pytest.mark.parametrize("length", [0, 1, 15, 17, 40])
def test_hostile_table_length_that_is_no_multiple_of_a_descriptor(length: int) -> None:
    hand = Hand(*TABLES)
    part = hand.buffer(10)
    gpa, _ = hand.rx.table([part, part, part])
    hand.rx.describe(0, gpa, length, INDIRECT)
    hand.rx.expose(0)
    refused(hand, q.BAD_INDIRECT)


BASE, SIZE = DEFAULT_BASE, 1 << 16
OUTSIDE = [
    pytest.param(BASE - 1, 1, id="below"),
    pytest.param(BASE - 1, 2, id="straddles-the-start"),
    pytest.param(BASE + SIZE, 1, id="behind"),
    pytest.param(BASE + SIZE - 1, 2, id="straddles-the-end"),
    pytest.param(BASE, SIZE + 1, id="longer-than-memory"),
    pytest.param(BASE, 0xFFFF_FFFF, id="largest-length"),
    pytest.param(0, 1, id="null"),
    pytest.param(0, 0, id="null-of-no-length"),
    pytest.param(2**64 - 1, 1, id="last-byte"),
    pytest.param(2**64 - 16, 17, id="wraps-to-0"),
    pytest.param(2**64 - 0x8000, 0xFFFF_FFFF, id="wraps-far"),
    pytest.param(2**63, 16, id="top-bit"),
    pytest.param(2**63 + BASE, 16, id="top-bit-over-an-address"),
    pytest.param(2**32 + BASE, 16, id="4-GiB-too-far"),
]


@pytest.mark.parametrize(("gpa", "length"), OUTSIDE)
@pytest.mark.parametrize("flags", [WRITE, 0])
def test_hostile_address_outside_memory(gpa: int, length: int, flags: int) -> None:
    hand = Hand(*PLAIN, size=SIZE)
    hand.rx.describe(0, gpa, length, flags)
    hand.rx.expose(0)
    refused(hand, q.BAD_ADDRESS)


@pytest.mark.parametrize(("gpa", "length"), OUTSIDE)
def test_hostile_table_outside_memory(gpa: int, length: int) -> None:
    hand = Hand(*TABLES, size=SIZE)
    hand.rx.describe(0, gpa, min(length // 16 * 16 + 16, 0xFFFF_FFF0), INDIRECT)
    hand.rx.expose(0)
    refused(hand, q.BAD_ADDRESS)


def test_hostile_last_segment_spoils_the_chain() -> None:
    hand = Hand(*PLAIN)
    hand.rx.post(hand.buffer(10), hand.buffer(10), Part(0, 10))
    refused(hand, q.BAD_ADDRESS)


@pytest.mark.parametrize("size", [10, 0])
def test_split_v_02_hostile_readable_after_writable(size: int) -> None:
    """SPLIT-V-02. However little the writable part holds."""
    hand = Hand(*PLAIN)
    hand.rx.post(hand.buffer(size), hand.buffer(10, writable=False))
    refused(hand, q.BAD_ORDER)


def test_split_v_02_hostile_readable_table_entry_after_a_writable_descriptor() -> None:
    """SPLIT-V-02."""
    hand = Hand(*TABLES)
    part = hand.buffer(10)
    gpa, size = hand.rx.table([hand.buffer(10, writable=False)])
    hand.rx.describe(0, part.gpa, part.size, WRITE | NEXT, 1)
    hand.rx.describe(1, gpa, size, INDIRECT)
    hand.rx.expose(0)
    refused(hand, q.BAD_ORDER)


def test_a_broken_queue_stays_broken_when_the_ring_turns_good() -> None:
    hand = Hand(*PLAIN)
    hand.rx.expose(9)
    refused(hand, q.HEAD_OUT_OF_RANGE)
    hand.rx.set_avail_idx(0)
    hand.rx.post(hand.buffer(10))
    assert hand.pop() == -1


# All the rest a driver could come up with.

ADDRESSES = st.one_of(
    st.integers(BASE, BASE + SIZE - 1),
    st.integers(BASE + SIZE - 64, BASE + SIZE + 64),
    st.sampled_from([0, 2**63, 2**64 - 1, 2**64 - 4096]),
    st.integers(0, 2**64 - 1),
)
LENGTHS = st.one_of(st.integers(0, 512), st.sampled_from([16, 32, 64, 128, 4096]), st.integers(0, 2**32 - 1))
DESCRIPTORS = st.builds(descriptor, ADDRESSES, LENGTHS, st.integers(0, 7) | st.integers(0, 65535), st.integers(0, 9))
TABLE = st.lists(DESCRIPTORS, min_size=8, max_size=8).map(b"".join) | st.binary(min_size=128, max_size=128)


@given(
    direct=TABLE,
    nested=TABLE,
    heads=st.lists(st.integers(0, 9) | st.integers(0, 65535), min_size=8, max_size=8),
    waiting=st.integers(0, 8) | st.integers(0, 65535),
    point=st.integers(0, 255),
    indirect=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_chain_is_taken_as_the_book_reads_it_or_breaks_the_queue_and_memory_stays_as_it_is(
    *, direct: bytes, nested: bytes, heads: list[int], waiting: int, point: int, indirect: bool
) -> None:
    hand = Hand(*(TABLES if indirect else PLAIN), size=SIZE)
    gpa = hand.memory.reserve(128, 16)
    hand.memory.write(gpa, nested)
    hand.memory.write(hand.rx.desc, direct)
    for slot in range(8):
        # Each bit of ``point`` turns a descriptor into one of the nested table, so that some get there.
        if point >> slot & 1:
            hand.rx.describe(slot, gpa, 128, INDIRECT)
    hand.rx.expose(*heads)
    hand.rx.set_avail_idx(waiting)
    before = hand.memory.snapshot()
    count = 0
    while (outcome := hand.pop()) == 1:
        head, parts = hand.taken(count)
        assert head == heads[count]
        assert parts == walk_by_the_book(hand.memory, hand.rx, head, indirect=indirect)
        count += 1
    if waiting > 8:
        assert (outcome, count) == (-1, 0)
    elif count < waiting:
        assert outcome == -1
        head = heads[count]
        wrong = head >= 8 or walk_by_the_book(hand.memory, hand.rx, head, indirect=indirect) is None
        assert wrong == bool(hand.rx_queue.broken)
    else:
        assert outcome == 0
    assert hand.memory.snapshot() == before
