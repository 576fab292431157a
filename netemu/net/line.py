"""A direction's line: frames under way, each until its moment.

Theory of operation
-------------------
Most frames arrive in the order in which they left, so the line is a list with an event for its first frame alone: the
queue of events stays short however long the line is. A frame that is to arrive before one that left earlier (jitter,
reordering, a delay that became shorter) has an event of its own. Events remember the direction's epoch: what a line
lost when it went down does not arrive.
"""

from __future__ import annotations

from netemu.frame import frame_at
from netemu.jit import call2, entry, i64, kernel
from netemu.net.direction import Direction, direction_at
from netemu.net.port import port_receive
from netemu.net.wire_frame import put_wire_frame, wire_frame_at
from netemu.offload.large import wire_size
from netemu.timers import call_at, timers_at


@kernel
def deliver(d: Direction, wire_frame: i64) -> None:
    """A frame arrives at the other end."""
    d.held -= 1
    d.delivered += 1
    d.delivered_bytes += wire_size(frame_at(wire_frame_at(wire_frame).frame))
    port_receive(d.port, wire_frame)


@kernel
def enter_line(direction: i64, wire_frame: i64, when: i64) -> None:
    """Have a frame arrive at ``when``, ns."""
    d = direction_at(direction)
    wf = wire_frame_at(wire_frame)
    wf.when = when
    if d.line_first == 0:
        wf.next = 0
        d.line_first = wire_frame
        d.line_last = wire_frame
        call_at(timers_at(d.timers), when, d.on_due, direction, d.epoch)
    elif when >= wire_frame_at(d.line_last).when:
        wf.next = 0
        wire_frame_at(d.line_last).next = wire_frame
        d.line_last = wire_frame
    else:
        wf.next = d.epoch
        call_at(timers_at(d.timers), when, d.on_single, direction, wire_frame)


@kernel
def _arrive(direction: i64, wire_frame: i64) -> None:
    d = direction_at(direction)
    if d.slots != 0:
        call2(d.slots, direction, wire_frame)
    else:
        deliver(d, wire_frame)


@entry
def line_due(direction: i64, epoch: i64) -> i64:
    """Event: the first frame of the line arrives."""
    d = direction_at(direction)
    if epoch != d.epoch:
        return 0
    wire_frame = d.line_first
    d.line_first = wire_frame_at(wire_frame).next
    if d.line_first != 0:
        call_at(timers_at(d.timers), wire_frame_at(d.line_first).when, d.on_due, direction, epoch)
    _arrive(direction, wire_frame)
    return 0


@entry
def single_due(direction: i64, wire_frame: i64) -> i64:
    """Event: a frame that is ahead of others arrives, unless the link went down meanwhile."""
    d = direction_at(direction)
    if wire_frame_at(wire_frame).next != d.epoch:
        put_wire_frame(wire_frame)  # counted when it was lost
    else:
        _arrive(direction, wire_frame)
    return 0
