"""When data was sent, for measuring round trips: some of the segments of a window, in a small ring.

A measurement is the time from sending a segment to the acknowledgement that covers it. By Karn's rule it counts only if
that segment was sent once; since an acknowledgement after a retransmission may have waited for that, all that is noted
is dropped when anything is retransmitted, and noting begins anew with what is sent next.

Windows may have thousands of segments and the ring has room for few: a segment is noted if it lies ``spacing`` bytes
behind the last one, which the caller sets by its window (`note_sent`).
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load64, pointer, store64, struct

SEND_TIMES = 32
"""Segments that can be noted at a time: samples in a round trip, about. A power of two."""
SEND_TIMES_BYTES = SEND_TIMES * 16
NO_SAMPLE = -1


@struct
class SendTimes(Struct):
    """Segments under way, oldest first."""

    items: i64
    """Host address of SEND_TIMES_BYTES: a right edge and a moment (ns) for each."""
    head: i64
    """Noted so far; the newest lies at ``head - 1``, modulo SEND_TIMES."""
    tail: i64
    """Acknowledged, or dropped, so far."""
    last: i64
    """Right edge of the last one."""


send_times_at = pointer(SendTimes)
SEND_TIMES_SIZE = SendTimes.dtype.itemsize


@kernel
def start_send_times(times: SendTimes, items: i64, position: i64) -> None:
    """Nothing is noted, and nothing before ``position`` will be."""
    times.items = items
    times.head = 0
    times.tail = 0
    times.last = position


@kernel
def note_sent(times: SendTimes, right: i64, window: i64, now: i64) -> None:
    """New data up to ``right`` is sent at ``now``, while ``window`` bytes may be under way."""
    count = times.head - times.tail
    if count == SEND_TIMES or (count > 0 and right - times.last < window // (SEND_TIMES - 1)):
        return
    item = times.items + (times.head & (SEND_TIMES - 1)) * 16
    store64(item, right)
    store64(item + 8, now)
    times.head += 1
    times.last = right


@kernel
def forget_sent(times: SendTimes) -> None:
    """Something is retransmitted: what is under way cannot be measured any more (Karn)."""
    times.tail = times.head


@kernel
def measure_acked(times: SendTimes, una: i64, now: i64) -> i64:
    """All before ``una`` is acknowledged at ``now``: the round trip of the latest part that was noted, or NO_SAMPLE."""
    sample = NO_SAMPLE
    while times.tail < times.head:
        item = times.items + (times.tail & (SEND_TIMES - 1)) * 16
        if load64(item) > una:
            break
        sample = now - load64(item + 8)
        times.tail += 1
    return sample
