"""Corruption: one bit of a frame is changed, after what its sender left undone is done, as netem does it.

A large frame is cut first: its first segment is corrupted, and the others come on the wire on their own.
"""

from __future__ import annotations

from netemu.chance import next_random
from netemu.frame import frame_at
from netemu.jit import entry, i64, kernel, load8, store8
from netemu.net.direction import direction_at
from netemu.net.impair import chance_at, impairments_at
from netemu.net.pieces import finished, pieces_at
from netemu.net.wire_frame import wire_frame_at


@kernel
def _first_piece(direction: i64, wire_frame: i64) -> i64:
    """The frame, finished, with the others it was cut into behind it by ``next``; 0: none, and that is counted."""
    d = direction_at(direction)
    p = pieces_at(d.cutting)
    first = finished(p, wire_frame)
    count = p.lost
    piece = first
    while piece != 0:
        count += 1
        piece = wire_frame_at(piece).next
    if count == 0:
        d.dropped_header += 1
        d.held -= 1
        return 0
    if count > 1:
        d.cut += 1
        d.pieces += count
    d.dropped_buffer += p.lost
    d.held += count - p.lost - 1
    return first


@entry
def corrupt_frame(direction: i64, wire_frame: i64) -> i64:
    """`Impairments.corrupt_hook`: the frame with a bit changed, by ``next`` the others it was cut into; 0: none."""
    d = direction_at(direction)
    wire_frame_at(wire_frame).next = 0
    if frame_at(wire_frame_at(wire_frame).frame).vnet != 0:
        wire_frame = _first_piece(direction, wire_frame)
        if wire_frame == 0:
            return 0
    chance = chance_at(impairments_at(d.impairments).corrupt)
    frame = frame_at(wire_frame_at(wire_frame).frame)
    chance.random = next_random(chance.random)
    at = frame.address + ((chance.random * frame.len) >> 32)
    chance.random = next_random(chance.random)
    store8(at, load8(at) ^ (1 << (chance.random >> 29)))
    d.corrupted += 1
    return wire_frame
