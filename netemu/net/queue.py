"""A direction's queue: frames in order, a bound in packets and in bytes, and tail drop."""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.net.direction import Direction, size_of
from netemu.net.wire_frame import wire_frame_at
from netemu.timers import timers_at


@kernel
def has_room(d: Direction, size: i64) -> i64:
    """Whether a frame of ``size`` bytes on the wire finds room in the queue."""
    if d.queue_limit != 0 and d.backlog >= d.queue_limit:
        return 0
    return 0 if d.queue_limit_bytes != 0 and d.backlog_bytes + size > d.queue_limit_bytes else 1


@kernel
def push(d: Direction, wire_frame: i64, size: i64) -> None:
    """Put a frame at the end, where its time in the queue begins."""
    wf = wire_frame_at(wire_frame)
    wf.next = 0
    wf.when = timers_at(d.timers).now
    if d.first == 0:
        d.first = wire_frame
    else:
        wire_frame_at(d.last).next = wire_frame
    d.last = wire_frame
    d.backlog += 1
    d.backlog_bytes += size
    d.queued_most = max(d.queued_most, d.backlog)


@kernel
def pop(d: Direction) -> i64:
    """Take the frame that has waited longest; 0: there is none."""
    wire_frame = d.first
    if wire_frame == 0:
        return 0
    wf = wire_frame_at(wire_frame)
    d.first = wf.next
    wf.next = 0
    d.backlog -= 1
    d.backlog_bytes -= size_of(wire_frame)
    d.queued_ns += timers_at(d.timers).now - wf.when
    return wire_frame
