"""A frame enters a direction of a link, and a direction that goes down loses what it holds."""

from __future__ import annotations

from netemu.frame import frame_at
from netemu.jit import call2, entry, i64, kernel
from netemu.net.direction import ADMIT, direction_at, drop, over_mtu
from netemu.net.queue import has_room, push
from netemu.net.slots import slots_at
from netemu.net.transmitter import on_wire, start_sending
from netemu.net.wire_frame import put_wire_frame, unshared, wire_frame_at, wire_pool_at
from netemu.offload.large import is_large, wire_size


@kernel
def enqueue(direction: i64, wire_frame: i64) -> None:
    """A frame that is as it will be on the wire goes to the transmitter, or waits for it."""
    d = direction_at(direction)
    if d.limit != 0 and d.held >= d.limit:
        d.dropped_limit += 1
        d.overlimits += 1
        put_wire_frame(wire_frame)
        return
    d.held += 1
    size = wire_size(frame_at(wire_frame_at(wire_frame).frame))
    if d.rate == 0 and d.sending == 0:
        on_wire(direction, wire_frame, size)
        return
    if d.admit != 0 and call2(d.admit, direction, wire_frame) != ADMIT:
        d.dropped_early += 1
        drop(d, wire_frame)
    elif d.sending == 0:
        start_sending(direction, wire_frame, size)
    elif has_room(d, size) == 0:
        d.dropped_queue += 1
        d.overlimits += 1
        drop(d, wire_frame)
    else:
        push(d, wire_frame, size)


@entry
def link_send(direction: i64, wire_frame: i64) -> i64:
    """`Port.send` of both ports of a link: a node sends a frame into it."""
    d = direction_at(direction)
    frame = frame_at(wire_frame_at(wire_frame).frame)
    d.offered += 1
    d.offered_bytes += frame.len
    if d.up == 0:
        d.dropped_down += 1
        put_wire_frame(wire_frame)
        return 0
    if d.mtu != 0 and over_mtu(d, frame):
        d.dropped_mtu += 1
        put_wire_frame(wire_frame)
        return 0
    if d.cutter != 0 and is_large(frame):
        call2(d.cutter, direction, wire_frame)
        return 0
    if wire_frame_at(wire_frame).users > 1:
        # It hangs in one list of this link at a time; what a switch floods is in several links.
        wire_frame = unshared(wire_pool_at(d.pool), wire_frame)
        if wire_frame == 0:
            d.dropped_buffer += 1
            return 0
    enqueue(direction, wire_frame)
    return 0


@kernel
def _free_list(wire_frame: i64) -> None:
    while wire_frame != 0:
        following = wire_frame_at(wire_frame).next
        put_wire_frame(wire_frame)
        wire_frame = following


@entry
def lose_all(direction: i64) -> i64:
    """All that a direction holds is lost, as when it goes down; frames that are ahead of others have yet to come."""
    d = direction_at(direction)
    d.epoch += 1
    d.dropped_down += d.held
    d.held = 0
    _free_list(d.first)
    if d.sending != 0:
        put_wire_frame(d.sending)
    _free_list(d.line_first)
    d.first = 0
    d.sending = 0
    d.line_first = 0
    d.backlog = 0
    d.backlog_bytes = 0
    d.rest = 0
    if d.slotted != 0:
        s = slots_at(d.slotted)
        _free_list(s.first)
        s.first = 0
        s.waiting = 0
    return 0
