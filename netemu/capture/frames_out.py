"""Frames that lie in memory, as an array of `netemu.frame.Frame`, into a capture."""

from __future__ import annotations

from netemu.capture.formats import FLAG_OUTBOUND, MAX_FRAME
from netemu.capture.sink import sink_at, sink_record
from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import entry, i64, memcpy


@entry
def write_frames(sink: i64, frames: i64, start: i64, count: i64) -> i64:
    """Record the frames from number ``start`` on as outbound; the number of the first for which there was no room.

    That is ``count`` when all are written. A frame's ``interface`` is the queue it was sent on.
    """
    into = sink_at(sink)
    for n in range(start, count):
        frame = frame_at(frames + n * FRAME_SIZE)
        size = min(frame.len, MAX_FRAME)
        wire_len = max(frame.wire_len, size)
        at = sink_record(into, frame.tstamp, size, wire_len, frame.interface, frame.id, FLAG_OUTBOUND)
        if at == 0:
            return n
        memcpy(at, frame.address, size)
    return count
