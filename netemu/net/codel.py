"""Controlled delay: a queue that drops when frames have waited too long for too long (RFC 8289).

Theory of operation
-------------------
What counts is how long the frame that leaves has waited, its sojourn time. Below ``target``, or with no more than a
packet waiting, all is well. Once it has stayed above for an ``interval``, a frame is dropped as it is about to leave,
and then another one at intervals that shrink with the square root of how many were: interval / sqrt(count). The first
time below target ends that. A spell of dropping that begins soon after another one goes on at the pace that one had.

Names are those of the RFC's pseudocode, section 5. With ``ecn`` packets that can carry the mark are marked instead of
dropped, and all that waited longer than ``ce_threshold`` are.
"""

from __future__ import annotations

from netemu.frame import frame_at
from netemu.jit import Struct, entry, hook, i64, kernel, pointer, struct
from netemu.net.direction import Direction, direction_at, drop, size_of
from netemu.net.ecn import mark_ce
from netemu.net.queue import pop
from netemu.net.values import Codel
from netemu.net.wire_frame import wire_frame_at
from netemu.timers import timers_at

_AGAIN = 16
"""Intervals after which the last spell of dropping says nothing about the next one."""


@struct
class CodelState(Struct):
    """ns."""

    target: i64
    interval: i64
    ecn: i64
    ce_threshold: i64
    """0: none."""
    first_above_time: i64
    """When the sojourn time will have been above target for an interval; 0: it is not above."""
    drop_next: i64
    count: i64
    lastcount: i64
    dropping: i64
    maxpacket: i64
    """The longest packet seen."""
    ok_to_drop: i64
    """Whether the frame taken last may be dropped."""


codel_at = pointer(CodelState)


@kernel
def isqrt(number: i64) -> i64:
    """The whole part of a square root, by Newton's method from above."""
    if number < 2:
        return number
    guess = number
    bits = 0
    while guess > 0:
        guess >>= 2
        bits += 1
    root = 1 << bits
    while True:
        better = (root + number // root) >> 1
        if better >= root:
            return root
        root = better


@kernel
def control_law(s: CodelState, time: i64, count: i64) -> i64:
    """When the next frame is to be dropped: ``time`` plus interval / sqrt(count)."""
    return time + isqrt(s.interval * s.interval // count)


@kernel
def _dodequeue(s: CodelState, d: Direction, now: i64) -> i64:
    """Take a frame, and find out whether it may be dropped."""
    s.ok_to_drop = 0
    wire_frame = pop(d)
    if wire_frame == 0:
        s.first_above_time = 0
        return 0
    s.maxpacket = max(s.maxpacket, size_of(wire_frame))
    if now - wire_frame_at(wire_frame).when < s.target or d.backlog_bytes <= s.maxpacket:
        s.first_above_time = 0
    elif s.first_above_time == 0:
        s.first_above_time = now + s.interval
    elif now >= s.first_above_time:
        s.ok_to_drop = 1
    return wire_frame


@kernel
def _marked(s: CodelState, d: Direction, wire_frame: i64) -> i64:
    """Whether the frame carries the mark now, in place of being dropped."""
    if s.ecn == 0 or mark_ce(frame_at(wire_frame_at(wire_frame).frame)) == 0:
        return 0
    d.marked += 1
    return 1


@kernel
def _drop(d: Direction, wire_frame: i64) -> None:
    d.dropped_early += 1
    drop(d, wire_frame)


@kernel
def _dequeue(s: CodelState, d: Direction, now: i64) -> i64:
    """The frame that leaves, after those that were dropped before it."""
    wire_frame = _dodequeue(s, d, now)
    if wire_frame == 0:
        s.dropping = 0
        return 0
    if s.dropping:
        if s.ok_to_drop == 0:
            s.dropping = 0
        while s.dropping and now >= s.drop_next:
            s.count += 1
            if _marked(s, d, wire_frame):
                s.drop_next = control_law(s, s.drop_next, s.count)
                break
            _drop(d, wire_frame)
            wire_frame = _dodequeue(s, d, now)
            if s.ok_to_drop == 0:
                s.dropping = 0
            else:
                s.drop_next = control_law(s, s.drop_next, s.count)
    elif s.ok_to_drop:
        if _marked(s, d, wire_frame) == 0:
            _drop(d, wire_frame)
            wire_frame = _dodequeue(s, d, now)
        s.dropping = 1
        delta = s.count - s.lastcount
        s.count = 1
        if delta > 1 and now - s.drop_next < _AGAIN * s.interval:
            s.count = delta
        s.drop_next = control_law(s, now, s.count)
        s.lastcount = s.count
    return wire_frame


@entry
def codel_pick(direction: i64) -> i64:
    """`Direction.pick`: the next frame; 0: there is none (any more)."""
    d = direction_at(direction)
    s = codel_at(d.policy)
    now = timers_at(d.timers).now
    wire_frame = _dequeue(s, d, now)
    if wire_frame != 0 and s.ce_threshold != 0 and now - wire_frame_at(wire_frame).when > s.ce_threshold:
        if mark_ce(frame_at(wire_frame_at(wire_frame).frame)):
            d.marked += 1
    return wire_frame


class CodelPolicy:
    """CoDel for a direction's queue: a `CodelState` for Python."""

    def __init__(self, codel: Codel) -> None:
        self.struct = CodelState(
            target=codel.target, interval=codel.interval, ecn=int(codel.ecn), ce_threshold=codel.ce_threshold
        )

    def hooks(self) -> tuple[int, int, int]:
        """What `Direction` has as admit, pick and policy."""
        return 0, hook(codel_pick), self.struct.address
