"""Both kinds of ring against a device held by hand that takes, uses and shows buffers in any order it may."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from netemu.driver.virtio_ring import (
    virtqueue_detach_unused_buf,
    virtqueue_disable_cb,
    virtqueue_enable_cb_delayed,
    virtqueue_enable_cb_prepare,
    virtqueue_get_buf_ctx,
    virtqueue_kick,
    virtqueue_poll,
)
from tests.driver_kit import ERAS, V6_1, V7_0, RingRig
from tests.driver_packed_kit import PackedRig

ENOSPC = -28
Segments = list[tuple[int, int, int]]


class RingMachine(RuleBasedStateMachine):
    """What a driver's ring promises, whichever kind it is; the model keeps tokens in lists."""

    rig: RingRig | PackedRig

    @initialize(
        packed=st.booleans(),
        num=st.sampled_from([1, 2, 4, 8, 16, 32]),
        less=st.integers(0, 1),
        kernel=st.sampled_from(ERAS),
        event=st.booleans(),
        indirect=st.booleans(),
        in_order=st.booleans(),
        start=st.sampled_from([0, 32767, 65530]),
    )
    def begin(
        self,
        packed: bool,
        num: int,
        less: int,
        kernel: str,
        event: bool,
        indirect: bool,
        in_order: bool,
        start: int,
    ) -> None:
        if packed:
            # Sizes that are no powers of two, too, and kernels that know packed rings.
            num = max(1, num - less)
            kernel = V6_1 if kernel == V6_1 else V7_0
            self.rig = PackedRig(num, kernel, event=event, indirect=indirect, in_order=in_order)
            for token in range(start % (2 * num)):
                self.rig.cycle(1 + token, 1)
        else:
            self.rig = RingRig(num, kernel, event=event, indirect=indirect, in_order=in_order, start=start)
        self.num = num
        self.indirect = indirect
        self.in_order = in_order
        self.start = start
        self.added = 0
        self.slots: dict[int, int] = {}
        """Descriptors each token in flight occupies."""
        self.posted: deque[tuple[int, Segments]] = deque()
        """Tokens made available and not yet taken, with their segments."""
        self.taken: list[tuple[int, int, int]] = []
        """(token, id, writable bytes) the device holds."""
        self.shown: deque[tuple[int, int]] = deque()
        """(token, length) used and not yet got."""

    @rule(out=st.integers(0, 3), into=st.integers(0, 3), length=st.integers(0, 0x3FFFFFFF))
    def add(self, out: int, into: int, length: int) -> None:
        total = out + into
        if total == 0:
            return
        token = self.added + 1
        segments = [(0x100000 * token + 0x100 * n, length + n) for n in range(total)]
        slots = 1 if self.indirect and total > 1 else total
        free = self.num - sum(self.slots.values())
        result = self.rig.add(segments[:out], segments[out:], token, ctx=token)
        if slots > free:
            assert result == ENOSPC
            return
        assert result == 0
        self.added = token
        self.slots[token] = slots
        self.posted.append((token, [(*segment, 0 if n < out else 2) for n, segment in enumerate(segments)]))

    @precondition(lambda self: self.posted)
    @rule()
    def take(self) -> None:
        token, segments = self.posted.popleft()
        if isinstance(self.rig, PackedRig):
            buffer_id, slots, found = self.rig.device.take()
            assert slots == self.slots[token]
        else:
            buffer_id = self.rig.device.take()
            found = self.rig.device.chain(buffer_id)
        assert found == segments
        self.taken.append((token, buffer_id, sum(length for _, length, flags in segments if flags)))

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 31), length=st.integers(0, 0xFFFFFFFF))
    def use(self, which: int, length: int) -> None:
        """A buffer; or, in order, all up to one, by one element that names it."""
        which %= len(self.taken)
        if self.in_order:
            batch = self.taken[: which + 1]
            del self.taken[: which + 1]
        else:
            batch = [self.taken.pop(which)]
        last = batch[-1][1]
        if isinstance(self.rig, PackedRig):
            self.rig.device.use(last, length, sum(self.slots[token] for token, _, _ in batch))
        else:
            self.rig.device.place_used(last, length)
            self.rig.device.next_used = (self.rig.device.next_used + len(batch) - 1) & 0xFFFF
            self.rig.device.publish()
        self.shown.extend((token, writable) for token, _, writable in batch[:-1])
        self.shown.append((batch[-1][0], length))

    @rule()
    def get(self) -> None:
        token, length, ctx = virtqueue_get_buf_ctx(self.rig.vq)
        if not self.shown:
            assert token == 0
            return
        assert (token, length) == self.shown.popleft()
        assert ctx == token
        del self.slots[token]

    @rule()
    def callbacks_off(self) -> None:
        virtqueue_disable_cb(self.rig.vq)

    @precondition(lambda self: not self.in_order or not self.shown)
    @rule()
    def callbacks_on(self) -> None:
        """A driver turns them on when it has got all there was, which in order means whole batches."""
        opaque = virtqueue_enable_cb_prepare(self.rig.vq)
        assert virtqueue_poll(self.rig.vq, opaque) == (1 if self.shown else 0)

    @precondition(lambda self: not self.shown)
    @rule()
    def callbacks_on_later(self) -> None:
        assert virtqueue_enable_cb_delayed(self.rig.vq) == 1

    @rule()
    def kick(self) -> None:
        assert virtqueue_kick(self.rig.vq) == 1

    @invariant()
    def nothing_is_lost(self) -> None:
        vq = self.rig.vq
        assert vq.num_free + sum(self.slots.values()) == self.num
        assert vq.broken == 0
        if isinstance(self.rig, RingRig):
            # SPLIT-V-11: the index counts what was made available, and never goes back.
            assert self.rig.device.avail_idx == (self.start + self.added) & 0xFFFF

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        tokens = set()
        while self.shown:
            self.get()
        while token := virtqueue_detach_unused_buf(self.rig.vq):
            tokens.add(token)
        assert tokens == set(self.slots)
        assert (self.rig.vq.num_free, self.rig.vq.mapped) == (self.num, 0)
        if self.indirect:
            assert self.rig.ring.tables.pool.free_count == self.num


RingMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestRingInAnyOrder = RingMachine.TestCase
