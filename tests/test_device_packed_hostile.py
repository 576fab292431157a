"""Packed rings that no driver should build: the queue breaks, for a reason, and nothing else happens."""

from __future__ import annotations

import pytest

from netemu.device import queue as q
from netemu.device.queue import pop_chain, unpop
from netemu.memory import DEFAULT_BASE
from tests.device_kit import INDIRECT_DESC, VERSION_1
from tests.packed_kit import AVAIL, INDIRECT, NEXT, USED, WRITE, PackedHand

PLAIN = (VERSION_1,)
TABLES = (VERSION_1, INDIRECT_DESC)


def refused(hand: PackedHand, reason: int) -> None:
    """The next chain breaks the queue for ``reason``, and not a byte of guest memory changes, then or later."""
    before = hand.memory.snapshot()
    assert hand.pop() == -1
    assert hand.rx_queue.broken == reason
    assert hand.pop() == -1
    assert hand.memory.snapshot() == before
    assert hand.device.broken == [f"virtqueue 0: {q.BROKEN_REASONS[reason]}"]


@pytest.mark.parametrize("num", [1, 4, 8])
def test_pack_v_11_a_list_that_never_ends(num: int) -> None:
    """PACK-V-11."""
    hand = PackedHand(*PLAIN, num=num)
    part = hand.buffer(4)
    for slot in range(num):
        hand.rx.write(slot, part.gpa, part.size, slot, WRITE | NEXT | AVAIL)
    refused(hand, q.CHAIN_TOO_LONG)


def test_pack_v_14_a_list_that_runs_into_chains_already_taken() -> None:
    """PACK-V-14."""
    hand = PackedHand(*PLAIN, num=4)
    part = hand.buffer(4)
    hand.rx.post(part, part, part)
    hand.pop()
    hand.rx.write(3, part.gpa, part.size, 0, WRITE | NEXT | AVAIL)
    refused(hand, q.CHAIN_TOO_LONG)


def test_more_descriptors_than_the_ring_has() -> None:
    """All are taken, and one of them claims to be available in the next round already."""
    hand = PackedHand(*PLAIN, num=2)
    part = hand.buffer(4)
    hand.rx.post(part)
    hand.rx.post(part)
    assert (hand.pop(), hand.pop()) == (1, 1)
    hand.rx.write(0, part.gpa, part.size, 0, WRITE | USED)
    refused(hand, q.AVAIL_TOO_FAR)


def test_pack_v_12_readable_after_writable() -> None:
    """PACK-V-12."""
    hand = PackedHand(*PLAIN)
    hand.rx.post(hand.buffer(0), hand.buffer(10, writable=False))
    refused(hand, q.BAD_ORDER)


def test_pack_v_16_a_table_that_was_not_negotiated() -> None:
    """PACK-V-16."""
    hand = PackedHand(*PLAIN)
    hand.rx.post_indirect(hand.buffer(10))
    refused(hand, q.BAD_INDIRECT)


@pytest.mark.parametrize("first", [False, True])
def test_pack_b_05_a_table_inside_of_a_list(*, first: bool) -> None:
    """PACK-B-05. PACK-V-19: a list is all direct, or one table."""
    hand = PackedHand(*TABLES)
    part = hand.buffer(10)
    gpa, size = hand.rx.table([part])
    flags = [INDIRECT | NEXT, 0] if first else [NEXT, INDIRECT]
    for slot, (where, length, kind) in enumerate(
        zip((gpa, part.gpa) if first else (part.gpa, gpa), (size, 10) if first else (10, size), flags, strict=True)
    ):
        hand.rx.write(slot, where, length, 0, WRITE | AVAIL | kind)
    refused(hand, q.BAD_INDIRECT)


@pytest.mark.parametrize("length", [0, 1, 15, 17])
def test_a_table_whose_length_is_no_multiple_of_a_descriptor(length: int) -> None:
    hand = PackedHand(*TABLES)
    gpa, _ = hand.rx.table([hand.buffer(10)])
    hand.rx.write(0, gpa, length, 0, INDIRECT | AVAIL)
    refused(hand, q.BAD_INDIRECT)


def test_pack_v_18_a_table_longer_than_the_device_allows() -> None:
    """PACK-V-18. PACK-D-16: 1024 entries, or the size of the ring where that is larger."""
    hand = PackedHand(*TABLES, size=1 << 17)
    hand.rx.post_indirect(*[hand.buffer(1)] * 1024)
    hand.rx.post_indirect(*[hand.buffer(1)] * 1025)
    assert hand.pop() == 1
    unpop(hand.rx_queue)
    hand.rx_queue.last_avail_idx = 1
    refused(hand, q.CHAIN_TOO_LONG)


@pytest.mark.parametrize("gpa", [0, DEFAULT_BASE - 1, DEFAULT_BASE + (1 << 16) - 5, 2**63, 2**64 - 4])
@pytest.mark.parametrize("flags", [0, WRITE, INDIRECT])
def test_an_address_outside_memory(gpa: int, flags: int) -> None:
    hand = PackedHand(*TABLES)
    hand.rx.write(0, gpa, 16, 0, flags | AVAIL)
    refused(hand, q.BAD_ADDRESS)


def test_pop_chain_of_a_broken_queue() -> None:
    hand = PackedHand(*PLAIN)
    hand.rx_queue.broken = q.BAD_ORDER
    hand.rx.post(hand.buffer(10))
    assert pop_chain(hand.rx_queue) == -1
