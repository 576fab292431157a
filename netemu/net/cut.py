"""A link that impairs by segment (``gso segments``): large frames are cut as they enter it."""

from __future__ import annotations

from netemu.jit import entry, i64
from netemu.net.direction import direction_at
from netemu.net.link_send import enqueue
from netemu.net.pieces import finished, pieces_at
from netemu.net.wire_frame import wire_frame_at


@entry
def cut_and_send(direction: i64, wire_frame: i64) -> i64:
    """`Direction.cutter`: the pieces of a large frame go into the link one after the other."""
    d = direction_at(direction)
    p = pieces_at(d.cutting)
    piece = finished(p, wire_frame)
    d.cut += 1
    d.pieces += p.lost
    d.dropped_buffer += p.lost
    if piece == 0 and p.lost == 0:
        d.cut -= 1
        d.dropped_header += 1
    while piece != 0:
        following = wire_frame_at(piece).next
        d.pieces += 1
        enqueue(direction, piece)
        piece = following
    return 0
