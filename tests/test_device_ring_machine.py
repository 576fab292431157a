"""The device's half of both rings against a model: any order of posting, taking, putting back and giving back.

The driver is held by hand (`tests.device_kit`, `tests.packed_kit`), the model is lists of Python. Positions are counted
without wrapping, so that what wraps in the rings is judged by numbers that do not.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from netemu.device.queue import CHAIN_SIZE, available, chain_at, flush, flush_batch, notify, unpop
from netemu.memory import GuestMemory
from tests.device_kit import EVENT_IDX, IN_ORDER, INDIRECT_DESC, VERSION_1, AnyHand, Hand, Part
from tests.packed_kit import DESC, DISABLE, ENABLE, PackedHand

PARTS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=4)


class RingMachine(RuleBasedStateMachine):
    """One receive queue; subclasses say of which kind and with which features."""

    kind: type[AnyHand] = Hand
    num = 8
    first = 0
    bits: tuple[int, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.hand: Any = self.kind(
            VERSION_1, INDIRECT_DESC, *self.bits, num=self.num, first_idx=self.first, memory=GuestMemory(1 << 15)
        )
        self.packed = self.kind is PackedHand
        self.waiting: list[tuple[int, list[Part], int]] = []
        self.taken: list[tuple[int, list[Part], int]] = []
        self.used: list[tuple[int, int]] = []
        self.slots_used: list[int] = []
        """Ring slots of each used entry that the driver has not looked at."""
        self.out = 0
        """Descriptors of the ring that are not the driver's."""
        self.at = self.decided = self.first
        """Used entries (packed: slots) ever published, and how many at the last decision to call."""
        # Rings of zeros: always, but for a split ring with EVENT_IDX, which names index 0, the next time it comes.
        self.event: int | None = -1
        if EVENT_IDX in self.bits and not self.packed:
            self.event = -(-self.first // 65536) * 65536
        self.data = self.hand.buffer(64)
        self.table_room = 200

    @rule(shape=PARTS, table=st.booleans())
    def post(self, shape: list[tuple[int, bool]], *, table: bool) -> None:
        """Readable parts first (SPLIT-V-02, PACK-V-12), as many as the ring has room for."""
        needed = 1 if table else len(shape)
        if self.out + needed > self.num or (table and self.table_room < len(shape)):
            return
        shape = sorted(shape, key=lambda part: part[1])
        parts = [Part(self.data.gpa + 4 * n, size, writable) for n, (size, writable) in enumerate(shape)]
        if table:
            self.table_room -= len(shape)
            head = self.hand.rx.post_indirect(*parts)
        else:
            head = self.hand.rx.post(*parts)
        self.out += needed
        self.waiting.append((head, parts, needed))

    @rule()
    def pop(self) -> None:
        got = self.hand.pop()
        assert got == (1 if self.waiting else 0)
        if got:
            self.taken.append(self.waiting.pop(0))
            head, parts = self.hand.taken(len(self.taken) - 1)
            assert (head, parts) == self.taken[-1][:2]

    @rule()
    def unpop(self) -> None:
        unpop(self.hand.rx_queue)
        self.waiting = self.taken + self.waiting
        self.taken = []

    @rule(written=st.lists(st.integers(0, 1 << 20), min_size=8, max_size=8), batch=st.booleans())
    def flush(self, written: list[int], *, batch: bool) -> None:
        """RX-D-04: all at once, in the order taken (RFB-D-05); a batch with the last one's entry alone (ORD-D-01)."""
        dq = self.hand.rx_queue
        alone = batch and IN_ORDER in self.bits and len(self.taken) > 1
        if alone:
            self.look()
        before = self.hand.memory.snapshot()
        for n, size in enumerate(written[: len(self.taken)]):
            chain_at(dq.chains + n * CHAIN_SIZE).written = size
        lengths = [written[n % 8] if n < 8 else 0 for n in range(len(self.taken))]
        if batch:
            flush_batch(dq)
        else:
            flush(dq)
        self._only_the_ring_changed(before)
        entries = [(head, length) for (head, _, _), length in zip(self.taken, lengths, strict=True)]
        slots = [needed for _, _, needed in self.taken]
        if alone:
            # One entry; the driver works the others out. The hand does not: it is told.
            self._check_batch(entries, slots)
        else:
            self.used += entries
            self.slots_used += slots
        self.at += sum(slots) if self.packed else len(slots)
        self.taken = []

    def _check_batch(self, entries: list[tuple[int, int]], slots: list[int]) -> None:
        """ORD-D-01, ORD-D-02, ORD-D-03: id and length of the last, in the slot of the first."""
        rx = self.hand.rx
        head, length = entries[-1]
        if self.packed:
            said, buffer, flags = rx.used_descriptor(rx.used_at)
            assert (buffer, said if flags & 2 else 0) == (head, length)
            assert flags & 0x8080 == (0x8080 if rx.used_wrap else 0)
            for one, _ in entries:
                rx.free_ids.append(one)
                rx.slots.pop(one)
            rx.used_at += sum(slots)
            if rx.used_at >= self.num:
                rx.used_at -= self.num
                rx.used_wrap ^= 1
        else:
            at = rx.used + 4 + 8 * (rx.seen_idx % self.num)
            raw = self.hand.memory.read(at, 8)
            assert (int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")) == (head, length)
            assert rx.used_idx == (rx.seen_idx + len(entries)) % 65536
            rx.seen_idx = rx.used_idx
        self.out -= sum(slots)

    @rule()
    def look(self) -> None:
        """The driver takes what is used: exactly that, in that order."""
        assert self.hand.rx.take_used() == self.used
        self.out -= sum(self.slots_used)
        self.used, self.slots_used = [], []

    @rule(ahead=st.integers(0, 7), mode=st.sampled_from(["off", "on", "event"]))
    def want(self, ahead: int, mode: str) -> None:
        """The driver says when it wants to be called."""
        if self.packed:
            where = self.at + ahead % self.num
            offset, wrap = where % self.num, 1 ^ (where // self.num & 1)
            kind = {"off": DISABLE, "on": ENABLE, "event": DESC}[mode]
            if EVENT_IDX not in self.bits and mode == "event":
                kind = ENABLE
            self.hand.rx.set_event(kind, offset, wrap)
            self.event = None if kind == DISABLE else where if kind == DESC else -1
        elif EVENT_IDX in self.bits:
            self.event = self.at + ahead
            self.hand.rx.set_used_event(self.event)
        else:
            self.hand.rx.set_no_interrupt(int(mode == "off"))
            self.event = None if mode == "off" else -1

    @rule()
    def decide(self) -> None:
        """SPLIT-D-09 to SPLIT-D-13, PACK-B-07, PACK-B-08: -1 stands for always, None for never."""
        due = notify(self.hand.rx_queue)
        if self.event is None:
            assert due == 0
        elif self.event < 0:
            assert due == 1
        else:
            assert due == int(self.decided <= self.event < self.at)
        self.decided = self.at
        if self.event is not None and 0 <= self.event < self.at:
            self.want(3, "event")

    @precondition(lambda self: not self.taken)
    @rule()
    def count(self) -> None:
        """What waits: chains of a split ring, slots of a packed one."""
        waiting = sum(needed for _, _, needed in self.waiting) if self.packed else len(self.waiting)
        assert available(self.hand.rx_queue) == waiting

    @invariant()
    def descriptors_are_conserved(self) -> None:
        held = sum(needed for _, _, needed in self.waiting + self.taken) + sum(self.slots_used)
        assert held == self.out
        assert self.hand.rx_queue.taken == len(self.taken)
        assert not self.hand.rx_queue.broken

    def _only_the_ring_changed(self, before: bytes) -> None:
        start, end = self.hand.rx.used_range
        base = self.hand.memory.regions[0][0]
        after = self.hand.memory.snapshot()
        assert after[: start - base] == before[: start - base]
        assert after[end - base :] == before[end - base :]


class InOrder(RingMachine):
    bits = (IN_ORDER,)


class Events(RingMachine):
    bits = (EVENT_IDX,)
    first = 65530


class Packed(RingMachine):
    kind = PackedHand
    num = 7


class PackedInOrderEvents(RingMachine):
    kind = PackedHand
    num = 5
    first = 9
    bits = (IN_ORDER, EVENT_IDX)


class PackedOfOne(RingMachine):
    kind = PackedHand
    num = 1
    bits = (EVENT_IDX,)


@pytest.mark.parametrize("machine", [RingMachine, InOrder, Events, Packed, PackedInOrderEvents, PackedOfOne])
def test_any_order_of_operations_agrees_with_the_model(machine: type[RingMachine]) -> None:
    """RFB-D-05, ORD-D-01 to ORD-D-03, SPLIT-D-12, PACK-B-08, PACK-D-04, PACK-D-08, PACK-D-09."""
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
