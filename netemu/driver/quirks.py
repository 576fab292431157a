"""What a driver may do wrong on purpose, to see whether a device survives it.

Theory of operation
-------------------
A queue with quirks has a `QueueQuirks` behind ``Virtqueue.quirks``. The ring calls `spoil` with each buffer when its
descriptors are written and before the device can see them; the rules are asked, and those that fire change what the
device will read. The driver's own book stays right, so that what comes back of a spoilt buffer is handled as of any
other: the misdeed is in memory alone.

Buffers are numbered from 1 in each queue, in the order in which they are made available; a rule's ``at`` counts them.
"""

from __future__ import annotations

from collections.abc import Iterable

from netemu.driver.indirect import table_at
from netemu.driver.vring import STATE_SIZE, QueueQuirks, Virtqueue, desc_state_at, queue_quirks_at, virtqueue_at
from netemu.jit import entry, hook, i64, kernel, load16, load32, load64, load64_any, store16, store32, store64
from netemu.memory import GuestMemory, memory_at, translate
from netemu.quirks import Quirk, QuirkSet, quirk_asked, quirk_rules_at
from netemu.virtio import packed
from netemu.virtio.split import DESC_FLAGS, DESC_LEN, DESC_NEXT, DESC_SIZE, INDIRECT, NEXT, WRITE

CHAIN_LOOP = 1
NEXT_OUT_OF_RANGE = 2
ADDRESS_OUTSIDE = 3
LENGTH_WRAPS = 4
LENGTH_ZERO = 5
WRONG_DIRECTION = 6
AVAIL_TOO_FAR = 7
INDIRECT_INSIDE = 8
SHORT_LAST = 9

QUIRKS = (
    Quirk("chain-loop", "driver", "SPLIT-V-04, PACK-V-11", "a chain has no end", CHAIN_LOOP),
    Quirk(
        "next-out-of-range", "driver", "SPLIT-B-03", "a descriptor's next is no descriptor (split)", NEXT_OUT_OF_RANGE
    ),
    Quirk(
        "address-outside", "driver", "SPLIT-B-03, PACK-B-11", "a buffer lies where there is no memory", ADDRESS_OUTSIDE
    ),
    Quirk("length-wraps", "driver", "SPLIT-V-04", "address and length pass 2^64", LENGTH_WRAPS),
    Quirk("length-zero", "driver", "RXB-V-03", "a buffer's first segment has no bytes", LENGTH_ZERO),
    Quirk("wrong-direction", "driver", "SPLIT-V-02, PACK-V-12", "writable and readable are exchanged", WRONG_DIRECTION),
    Quirk("avail-too-far", "driver", "SPLIT-B-05, PACK-V-15", "more is made available than there is", AVAIL_TOO_FAR),
    Quirk("indirect-inside", "driver", "SPLIT-V-07, PACK-V-17", "an indirect table names another", INDIRECT_INSIDE),
    Quirk("short-last", "driver", "RXB-V-02, RXB-V-03", "a buffer's last segment has one byte", SHORT_LAST),
)
"""The driver's quirks; `netemu quirks` lists them."""

OUTSIDE = 0x7FFF_FFFF_FFFF_0000
"""An address at which no guest has memory."""
NEAR_THE_END = -4096
"""2^64 - 4096, as a signed number."""


@kernel
def _flags_at(vq: Virtqueue) -> i64:
    """Where in a descriptor its flags are."""
    return packed.DESC_FLAGS if vq.packed != 0 else DESC_FLAGS


@kernel
def _last_of(vq: Virtqueue, first: i64) -> i64:
    """Address of the last descriptor of the chain that starts at ring slot ``first``."""
    slot = first
    at = vq.desc + slot * DESC_SIZE
    for _ in range(vq.num):
        if load16(at + _flags_at(vq)) & NEXT == 0:
            break
        slot = (slot + 1) % vq.num if vq.packed != 0 else load16(at + DESC_NEXT)
        at = vq.desc + slot * DESC_SIZE
    return at


@kernel
def _nest(quirks: QueueQuirks, vq: Virtqueue, head: i64, table: i64, flags: i64) -> i64:
    """Have a table name another: the buffer's own, or one made in its memory. The head's flags that go with it."""
    if table != 0:
        inside = table_at(table).host
        store16(inside + _flags_at(vq), load16(inside + _flags_at(vq)) | INDIRECT)
        return flags
    gpa = load64(head)
    host = translate(memory_at(quirks.memory), gpa, DESC_SIZE)
    if host == 0:
        return flags
    store64(host, gpa)
    store64(host + DESC_LEN, DESC_SIZE)
    store16(host + _flags_at(vq), INDIRECT | WRITE)
    store32(head + DESC_LEN, DESC_SIZE)
    return (flags & ~(NEXT | WRITE)) | INDIRECT


@entry
def spoil_buffer(address: i64, slot: i64, buffer_id: i64, flags: i64) -> i64:
    """Ask the rules about the buffer that heads at a ring slot, and do what they say.

    Of a packed ring ``flags`` are those its head is to get, and the value is what it gets instead. Of a split ring the
    value is how much too far the available index goes.
    """
    quirks = queue_quirks_at(address)
    vq = virtqueue_at(quirks.vq)
    rules = quirk_rules_at(quirks.rules)
    rules.number += 1
    rules.now = load64_any(quirks.clock)
    head = vq.desc + slot * DESC_SIZE
    table = desc_state_at(vq.state + buffer_id * STATE_SIZE).table
    split = vq.packed == 0
    # The head's flags lie in memory while it is spoilt; a packed ring's device does not see them by its AVAIL bit.
    place = head + _flags_at(vq)
    shown = packed.AVAIL | packed.USED
    if not split:
        hidden = load16(place) & shown
        store16(place, (flags & ~shown) | hidden)
    last = _last_of(vq, slot)
    first = head
    if table != 0:
        first = table_at(table).host
        last = first + (load32(head + DESC_LEN) // DESC_SIZE - 1) * DESC_SIZE
    too_far = 0
    if quirk_asked(rules, CHAIN_LOOP) != 0:
        store16(last + _flags_at(vq), load16(last + _flags_at(vq)) | NEXT)
        if split:
            store16(last + DESC_NEXT, 0 if table != 0 else slot)
    if split and quirk_asked(rules, NEXT_OUT_OF_RANGE) != 0:
        store16(last + DESC_FLAGS, load16(last + DESC_FLAGS) | NEXT)
        store16(last + DESC_NEXT, 0xFFFF)
    if quirk_asked(rules, ADDRESS_OUTSIDE) != 0:
        store64(first, OUTSIDE)
    if quirk_asked(rules, LENGTH_WRAPS) != 0:
        store64(first, NEAR_THE_END)
        store32(first + DESC_LEN, 0xFFFF_FFFF)
    if quirk_asked(rules, LENGTH_ZERO) != 0:
        store32(first + DESC_LEN, 0)
    if quirk_asked(rules, WRONG_DIRECTION) != 0:
        store16(first + _flags_at(vq), load16(first + _flags_at(vq)) ^ WRITE)
    if quirk_asked(rules, SHORT_LAST) != 0:
        store32(last + DESC_LEN, 1)
    if quirk_asked(rules, INDIRECT_INSIDE) != 0:
        store16(place, _nest(quirks, vq, head, table, load16(place)))
    if quirk_asked(rules, AVAIL_TOO_FAR) != 0:
        if split:
            too_far = vq.num + 1
        else:
            _show_nothing(vq)
    if split:
        return too_far
    return (load16(place) & ~shown) | (flags & shown)


@kernel
def _show_nothing(vq: Virtqueue) -> None:
    """Make available, in a packed ring, the slot that nothing was put into: it is all zeros but for that."""
    at = vq.desc + vq.next_avail_idx * DESC_SIZE
    store64(at, 0)
    store64(at + DESC_LEN, (WRITE | vq.avail_used_flags) << 48)


class DriverQuirks:
    """Quirks that are switched on for the rings of one driver."""

    def __init__(self, texts: Iterable[str], memory: GuestMemory, rings: Iterable[Virtqueue], clock: int) -> None:
        """Read the rules and put them into the rings; every ring has its own count and chance.

        ``clock`` is the host address of the guest's clock. Raises `ConfigError` as `netemu.quirks.parse_quirk` does.
        """
        texts = list(texts)
        self.sets: list[QuirkSet] = []
        self._queues: list[QueueQuirks] = []
        for vq in rings:
            rules = QuirkSet(texts, QUIRKS)
            queue = QueueQuirks(vq=vq.address, rules=rules.struct.address, clock=clock, memory=memory.struct.address)
            if texts:
                queue.spoil = hook(spoil_buffer)
            vq.quirks = queue.address if texts else 0
            self.sets.append(rules)
            self._queues.append(queue)

    @property
    def fired(self) -> dict[str, int]:
        """How often each happened, by name."""
        counts: dict[str, int] = {}
        for rules in self.sets:
            for name, times in rules.fired.items():
                counts[name] = counts.get(name, 0) + times
        return counts
