"""The device's half of a split virtqueue against rings written by hand (section 2.7 of VIRTIO 1.4)."""

from __future__ import annotations

import struct

import pytest

from netemu.device import queue as q
from netemu.device.queue import chain_at, flush, notify, segment_at, unpop
from netemu.jit import load64
from netemu.memory import DEFAULT_BASE
from tests.device_kit import (
    EVENT_IDX,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    VERSION_1,
    WRITE,
    Hand,
    Part,
    descriptor,
    differs_outside,
)

PLAIN = (VERSION_1,)
TABLES = (VERSION_1, INDIRECT_DESC)
EVENTS = (VERSION_1, EVENT_IDX)


# What a chain may look like.


def test_nothing_is_taken_from_an_empty_ring() -> None:
    assert Hand(*PLAIN).pop() == 0


def test_one_descriptor() -> None:
    hand = Hand(*PLAIN)
    part = hand.buffer(100)
    hand.rx.post(part)
    assert hand.pop() == 1
    assert hand.taken() == (0, [part])
    assert hand.pop() == 0


def test_segments_know_where_their_bytes_are_in_host_memory() -> None:
    hand = Hand(*PLAIN)
    part = hand.buffer(100, fill=0x5C)
    hand.rx.post(part)
    hand.pop()
    assert load64(segment_at(hand.rx_queue.segments).address) == 0x5C5C_5C5C_5C5C_5C5C


def test_a_chain_goes_where_next_says_in_any_order() -> None:
    hand = Hand(*PLAIN)
    parts = [hand.buffer(10), hand.buffer(20), hand.buffer(30)]
    hand.rx.expose(hand.rx.chain(parts, [6, 1, 3]))
    assert hand.pop() == 1
    assert hand.taken() == (6, parts)


def test_readable_then_writable_in_one_chain() -> None:
    hand = Hand(*PLAIN)
    parts = [hand.buffer(10, writable=False), hand.buffer(20)]
    hand.rx.post(*parts)
    assert hand.pop() == 1
    assert hand.taken() == (0, parts)
    assert chain_at(hand.rx_queue.chains).writable_bytes == 20


def test_a_chain_through_an_indirect_table() -> None:
    """SPLIT-B-04: entries from 0 on, readable and writable ones in the same table."""
    hand = Hand(*TABLES)
    parts = [hand.buffer(10, writable=False), hand.buffer(20), hand.buffer(30)]
    head = hand.rx.post_indirect(*parts)
    assert hand.pop() == 1
    assert hand.taken() == (head, parts)


def test_split_d_06_write_on_the_descriptor_of_a_table_is_ignored() -> None:
    """SPLIT-D-06."""
    hand = Hand(*TABLES)
    parts = [hand.buffer(10, writable=False), hand.buffer(20)]
    hand.rx.post_indirect(*parts, flags=WRITE)
    assert hand.pop() == 1
    assert hand.taken()[1] == parts


def test_split_d_07_plain_descriptors_then_an_indirect_one() -> None:
    """SPLIT-D-07."""
    hand = Hand(*TABLES)
    parts = [hand.buffer(10, writable=False), hand.buffer(20), hand.buffer(30), hand.buffer(40)]
    gpa, size = hand.rx.table(parts[2:])
    hand.rx.describe(0, parts[0].gpa, 10, NEXT, 1)
    hand.rx.describe(1, parts[1].gpa, 20, NEXT | WRITE, 5)
    hand.rx.describe(5, gpa, size, INDIRECT)
    hand.rx.expose(0)
    assert hand.pop() == 1
    assert hand.taken() == (0, parts)


def test_next_may_jump_about_inside_an_indirect_table() -> None:
    hand = Hand(*TABLES)
    first, second = hand.buffer(10), hand.buffer(20)
    gpa, size = hand.rx.table([first, Part(0, 0), second])
    hand.memory.write(gpa, descriptor(first.gpa, first.size, WRITE | NEXT, 2))
    hand.rx.describe(0, gpa, size, INDIRECT)
    hand.rx.expose(0)
    assert hand.pop() == 1
    assert hand.taken()[1] == [first, second]


def test_a_table_ends_at_the_entry_without_next() -> None:
    """SPLIT-B-04: what stands behind that entry is nobody's business."""
    hand = Hand(*TABLES)
    part = hand.buffer(10)
    gpa, size = hand.rx.table([part, Part(0, 0), Part(0, 0)])
    hand.memory.write(gpa, descriptor(part.gpa, part.size, WRITE))
    hand.rx.describe(0, gpa, size, INDIRECT)
    hand.rx.expose(0)
    assert hand.pop() == 1
    assert hand.taken()[1] == [part]


def test_segments_of_no_length_are_taken_as_they_are() -> None:
    """Trap T21: lengths may be 0."""
    hand = Hand(*PLAIN)
    parts = [hand.buffer(0), hand.buffer(20), hand.buffer(0)]
    hand.rx.post(*parts)
    assert hand.pop() == 1
    assert hand.taken()[1] == parts


def test_linux_posts_19_segments_through_a_table_on_a_ring_of_16() -> None:
    """SPLIT-V-08 forbids it, Linux's big receive buffers do it, and QEMU takes it."""
    hand = Hand(*TABLES, num=16)
    parts = [hand.buffer(12), hand.buffer(84), *(hand.buffer(64) for _ in range(17))]
    hand.rx.post_indirect(*parts)
    assert hand.pop() == 1
    assert hand.taken()[1] == parts


def test_a_table_may_have_1024_entries_and_not_one_more() -> None:
    """SPLIT-D-02: a limit on chains, where QEMU has it."""
    for entries, outcome in ((1024, 1), (1025, -1)):
        hand = Hand(*TABLES, size=1 << 18)
        part = hand.buffer(8)
        hand.rx.post_indirect(*[part] * entries)
        assert hand.pop() == outcome
        assert hand.rx_queue.broken == (0 if outcome == 1 else q.CHAIN_TOO_LONG)


def test_chains_are_taken_in_the_order_of_the_available_ring() -> None:
    hand = Hand(*PLAIN)
    parts = [hand.buffer(10 + n) for n in range(8)]
    heads = [3, 0, 7, 1, 2, 6, 5, 4]
    for head, part in zip(heads, parts, strict=True):
        hand.rx.describe(head, part.gpa, part.size, WRITE)
    hand.rx.expose(*heads)
    for n, head in enumerate(heads):
        assert hand.pop() == 1
        assert hand.taken(n) == (head, [parts[n]])
    assert hand.pop() == 0


# Giving back.


def test_unpop_gives_all_back_and_publishes_nothing() -> None:
    hand = Hand(*PLAIN)
    for _ in range(3):
        hand.rx.post(hand.buffer(10))
    before = hand.memory.snapshot()
    for _ in range(2):
        hand.pop()
    unpop(hand.rx_queue)
    assert hand.memory.snapshot() == before
    for n in range(3):
        assert hand.pop() == 1
        assert hand.taken(n)[0] == n


def test_flush_publishes_ids_and_lengths_then_idx() -> None:
    """SPLIT-B-06: id le32 and len le32 from byte 4 on, idx le16 at byte 2; nothing else moves."""
    hand = Hand(*PLAIN, num=4)
    for head in (2, 0, 3):
        part = hand.buffer(500)
        hand.rx.describe(head, part.gpa, part.size, WRITE)
    hand.rx.expose(2, 0, 3)
    for n, written in enumerate((7, 0, 300)):
        hand.pop()
        chain_at(hand.rx_queue.chains + n * q.CHAIN_SIZE).written = written
    before = hand.memory.snapshot()
    flags = hand.rx.no_notify
    flush(hand.rx_queue)
    elements = bytes.fromhex("02000000 07000000  00000000 00000000  03000000 2c010000  00000000 00000000")
    ring = struct.pack("<HH", flags, 3) + elements + b"\0\0"
    assert hand.memory.read(hand.rx.used, len(ring)) == ring
    assert not differs_outside(before, hand.memory.snapshot(), [hand.rx.used_range])


def test_flush_of_nothing_leaves_the_used_ring_as_it_is() -> None:
    hand = Hand(*PLAIN)
    before = hand.memory.snapshot()
    flush(hand.rx_queue)
    assert hand.memory.snapshot() == before


def test_indices_run_freely_and_wrap_at_65536() -> None:
    """SPLIT-B-05, SPLIT-B-06: slot is the index modulo the ring's size, on both sides of the wrap."""
    hand = Hand(*EVENTS, num=4, first_idx=65534)
    hand.rx.set_used_event(65533)
    parts = [hand.buffer(10 + n) for n in range(4)]
    for n, part in enumerate(parts):
        hand.rx.describe(n, part.gpa, part.size, WRITE)
    hand.rx.expose(1, 3, 0, 2)
    assert hand.rx.read16(hand.rx.avail + 2) == 2
    for n in range(4):
        assert hand.pop() == 1
        chain_at(hand.rx_queue.chains + n * q.CHAIN_SIZE).written = n + 1
    assert hand.pop() == 0
    assert hand.rx_queue.last_avail_idx == 2
    unpop(hand.rx_queue)
    assert hand.rx_queue.last_avail_idx == 65534
    for n in range(4):
        assert hand.pop() == 1
        chain_at(hand.rx_queue.chains + n * q.CHAIN_SIZE).written = n + 1
    flush(hand.rx_queue)
    assert hand.rx.used_idx == hand.rx_queue.used_idx == 2
    # 65534 % 4 = 2, so the first element lies in slot 2.
    slots = [struct.unpack("<II", hand.memory.read(hand.rx.used + 4 + 8 * slot, 8)) for slot in range(4)]
    assert slots == [(0, 3), (2, 4), (1, 1), (3, 2)]
    assert hand.rx.take_used() == [(1, 1), (3, 2), (0, 3), (2, 4)]


def test_a_thousand_rounds_over_a_ring_of_one() -> None:
    """SPLIT-B-02: the smallest ring has one entry; here its indices pass 65535."""
    hand = Hand(*PLAIN, num=1, first_idx=65000)
    part = hand.buffer(10)
    hand.rx.describe(0, part.gpa, part.size, WRITE)
    for _ in range(1000):
        hand.rx.expose(0)
        assert hand.pop() == 1
        assert hand.pop() == 0
        flush(hand.rx_queue)
        assert hand.rx.take_used() == [(0, 0)]
    assert hand.rx.used_idx == (65000 + 1000) % 65536


# When the driver is called.


def use(hand: Hand, chains: int) -> None:
    """Post, take and publish some chains."""
    part = Part(DEFAULT_BASE, 1)
    for _ in range(chains):
        hand.rx.post(part)
        hand.pop()
    flush(hand.rx_queue)


def test_split_d_10_without_event_idx_every_publication_is_notified() -> None:
    """SPLIT-D-10."""
    hand = Hand(*PLAIN)
    for n in range(1, 4):
        use(hand, 1)
        assert notify(hand.rx_queue) == 1
        assert (hand.bell.call, hand.bell.call_count) == (1, n)


def test_split_d_09_the_flag_stops_notifications() -> None:
    """SPLIT-D-09."""
    hand = Hand(*PLAIN)
    hand.rx.set_no_interrupt(1)
    use(hand, 1)
    assert notify(hand.rx_queue) == 0
    assert hand.bell.call == 0
    hand.rx.set_no_interrupt(0)
    use(hand, 1)
    assert notify(hand.rx_queue) == 1


@pytest.mark.parametrize("event", [0, 1, 2, 5, 65535])
def test_split_d_08_without_event_idx_used_event_means_nothing(event: int) -> None:
    """SPLIT-D-08."""
    hand = Hand(*PLAIN)
    hand.rx.set_used_event(event)
    use(hand, 1)
    assert notify(hand.rx_queue) == 1


def test_split_d_11_with_event_idx_the_flag_means_nothing() -> None:
    """SPLIT-D-11."""
    hand = Hand(*EVENTS)
    hand.rx.set_no_interrupt(1)
    use(hand, 1)
    assert notify(hand.rx_queue) == 1


# (used_event, new index, old index, is an event due): section 11.5 of the Linux sheet, as far as a ring of 8 goes.
NEED_EVENT = [
    (0, 1, 0, 1),
    (1, 1, 0, 0),
    (5, 6, 5, 1),
    (5, 7, 6, 0),
    (5, 10, 3, 1),
    (65535, 0, 65535, 1),
    (65535, 1, 65530, 1),
    (0, 1, 65535, 1),
    (2, 3, 0, 1),
    (3, 3, 0, 0),
    (7, 7, 7, 0),
    (5, 5, 3, 0),
]


@pytest.mark.parametrize(("event", "new", "old", "due"), NEED_EVENT)
def test_split_d_12_13_with_event_idx_only_passing_used_event_calls(event: int, new: int, old: int, due: int) -> None:
    """SPLIT-D-12, SPLIT-D-13."""
    hand = Hand(*EVENTS, first_idx=old)
    hand.rx.set_used_event(event)
    use(hand, (new - old) % 65536)
    assert hand.rx.used_idx == new
    assert notify(hand.rx_queue) == due
    assert hand.bell.call_count == due


def test_split_d_12_a_decision_covers_all_that_was_published_since_the_last() -> None:
    """SPLIT-D-12. Trap T4: the whole stretch counts, not the last index alone."""
    hand = Hand(*EVENTS)
    hand.rx.set_used_event(1)
    use(hand, 1)
    use(hand, 1)
    use(hand, 1)
    assert notify(hand.rx_queue) == 1
    assert notify(hand.rx_queue) == 0


# When the driver is asked to kick.


def test_split_d_17_18_disable_kicks_without_event_idx_sets_the_flag_to_1() -> None:
    """SPLIT-D-17, SPLIT-D-18."""
    hand = Hand(*PLAIN)
    hand.rx.write16(hand.rx.used, 0)
    q.disable_kicks(hand.rx_queue)
    assert hand.rx.no_notify == 1
    q.enable_kicks(hand.rx_queue, 0)
    assert hand.rx.no_notify == 0


def test_split_d_17_a_receive_queue_begins_without_kicks() -> None:
    """SPLIT-D-17. The device looks for buffers when a frame comes; only a send queue waits for kicks from the start."""
    hand = Hand(*PLAIN)
    assert (hand.rx.no_notify, hand.tx.no_notify) == (1, 0)


def test_split_d_19_with_event_idx_the_flags_stay_0() -> None:
    """SPLIT-D-19."""
    hand = Hand(*EVENTS)
    q.disable_kicks(hand.rx_queue)
    assert hand.rx.no_notify == 0
    q.enable_kicks(hand.rx_queue, 0)
    assert hand.rx.no_notify == 0


def test_split_d_20_enable_kicks_names_the_next_chain_in_avail_event() -> None:
    """SPLIT-D-20."""
    hand = Hand(*EVENTS, first_idx=65535)
    use(hand, 3)
    q.enable_kicks(hand.rx_queue, 0)
    assert hand.rx.avail_event == 2


def test_split_d_20_chains_that_do_not_suffice_are_not_waited_for_again() -> None:
    """SPLIT-D-20, SPLIT-V-24: the driver kicks when it adds the entry that avail_event names, and these it has."""
    hand = Hand(*EVENTS, first_idx=65535)
    hand.rx.post(hand.buffer(10))
    hand.rx.post(hand.buffer(10))
    assert q.enable_kicks(hand.rx_queue, 2) == 2
    assert hand.rx.avail_event == 1


def test_without_event_idx_avail_event_is_left_alone() -> None:
    hand = Hand(*PLAIN)
    use(hand, 3)
    before = hand.rx.avail_event
    q.enable_kicks(hand.rx_queue, 2)
    assert hand.rx.avail_event == before


@pytest.mark.parametrize("bits", [PLAIN, EVENTS])
def test_enable_kicks_looks_again_for_chains_that_slipped_in(bits: tuple[int, ...]) -> None:
    """Trap T5."""
    hand = Hand(*bits)
    assert q.enable_kicks(hand.rx_queue, 0) == 0
    hand.rx.post(hand.buffer(10))
    hand.rx.post(hand.buffer(10))
    assert q.enable_kicks(hand.rx_queue, 0) == 2


def test_split_d_21_a_kick_is_seen_once_and_needs_no_reason() -> None:
    """SPLIT-D-21."""
    hand = Hand(*PLAIN)
    assert q.take_kick(hand.rx_queue) == 0
    hand.bell.kick = 1
    assert q.take_kick(hand.rx_queue) == 1
    assert q.take_kick(hand.rx_queue) == 0
    assert hand.pop() == 0
