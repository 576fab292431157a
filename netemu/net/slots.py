"""Slots: frames that are due wait for the next moment at which the medium may be used, and then come in a burst.

netem's word ``slot``. A slot opens some time after the one before was used up, or after the frame that found it gone: a
fixed time, one between two bounds, or one drawn from a distribution. It carries a number of packets and of bytes, and
is used up with the packet that takes the last of either.
"""

from __future__ import annotations

from netemu.chance import next_random
from netemu.jit import Struct, entry, i64, kernel, pointer, struct
from netemu.net.delay import drawn_delay, spread_at
from netemu.net.direction import direction_at, size_of
from netemu.net.line import deliver
from netemu.net.wire_frame import wire_frame_at
from netemu.timers import call_at, timers_at


@struct
class Slots(Struct):
    """When slots open, and what waits for the next one. ns, bytes."""

    first: i64
    """Wire frames that wait, in order."""
    last: i64
    waiting: i64
    """1: an event will open the slot."""
    open_at: i64
    """When the slot opens, or opened."""
    packets_left: i64
    bytes_left: i64
    packets: i64
    """What a slot carries."""
    bytes: i64
    spread: i64
    """Address of the `Spread` of times between slots; 0: evenly from ``least`` to ``most``."""
    least: i64
    most: i64
    random: i64
    opened: i64
    """Slots so far."""
    on_open: i64
    """Hook of `slot_opens`."""


slots_at = pointer(Slots)


@kernel
def _next_slot(s: Slots, now: i64) -> None:
    """There will be another slot."""
    if s.spread != 0:
        wait = drawn_delay(spread_at(s.spread))
    else:
        s.random = next_random(s.random)
        wait = s.least + (((s.most - s.least) * (s.random >> 8)) >> 24)
    s.open_at = now + wait
    s.packets_left = s.packets
    s.bytes_left = s.bytes
    s.opened += 1


@kernel
def _expect(direction: i64, s: Slots) -> None:
    """Have the slot opened, or gone on with, if frames wait."""
    if s.first != 0 and s.waiting == 0:
        d = direction_at(direction)
        s.waiting = 1
        call_at(timers_at(d.timers), s.open_at, s.on_open, direction, d.epoch)


@entry
def slot_frame(direction: i64, wire_frame: i64) -> i64:
    """`Direction.slots`: a frame is due, and takes its turn."""
    d = direction_at(direction)
    s = slots_at(d.slotted)
    wf = wire_frame_at(wire_frame)
    wf.next = 0
    if s.first == 0:
        s.first = wire_frame
    else:
        wire_frame_at(s.last).next = wire_frame
    s.last = wire_frame
    now = timers_at(d.timers).now
    if s.open_at < now and s.waiting == 0:
        _next_slot(s, now)
    _expect(direction, s)
    return 0


@entry
def slot_opens(direction: i64, epoch: i64) -> i64:
    """Event: the slot is open, and the first frame that waits uses it."""
    d = direction_at(direction)
    if epoch != d.epoch:
        return 0
    s = slots_at(d.slotted)
    s.waiting = 0
    wire_frame = s.first
    s.first = wire_frame_at(wire_frame).next
    s.packets_left -= 1
    s.bytes_left -= size_of(wire_frame)
    if s.packets_left <= 0 or s.bytes_left <= 0:
        _next_slot(s, timers_at(d.timers).now)
    _expect(direction, s)
    deliver(d, wire_frame)
    return 0
