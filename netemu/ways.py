"""Which buffers a frame came in, and which frames were lost before it: a trace's events, put together by frame."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from netemu.reasons import DropReason
from netemu.trace import BufferEvent, DropEvent, TraceBuffers

_OUTSTANDING = 1 << 14
"""Events kept for frames that have not come up; those of frames that never will are forgotten, oldest first."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A frame that did not come up; ``reason`` is None where the driver dropped it, whose counters say why."""

    frame_id: int
    queue: int
    reason: DropReason | None


class Ways:
    """Collects events with `take`, and gives out those of a frame once its skb, or its ring record, is there."""

    def __init__(self) -> None:
        self._buffers: dict[int, deque[BufferEvent]] = defaultdict(lambda: deque(maxlen=_OUTSTANDING))
        self._lost: deque[Lost] = deque(maxlen=_OUTSTANDING)

    def take(self, trace: TraceBuffers) -> None:
        """Copy a trace's buffer and drop events; its owner clears the trace."""
        held = trace.struct
        for event in trace.buffers[: held.buffer_count]:
            self._buffers[event.queue].append(BufferEvent.from_buffer_copy(event))
        for drop in trace.drops[: held.drop_count]:
            self._note(drop)

    def _note(self, drop: DropEvent) -> None:
        self._lost.append(Lost(drop.frame_id, drop.queue, DropReason(drop.reason)))

    def buffers_of(self, queue: int, frame_id: int) -> tuple[BufferEvent, ...]:
        """The buffers of a frame that came up on ``queue``; frames before it there that did not are lost."""
        way = self._buffers[queue]
        while way and way[0].frame_id < frame_id:
            passed = way.popleft().frame_id
            if not self._lost or self._lost[-1].frame_id != passed:
                self._lost.append(Lost(passed, queue, None))
        mine = []
        while way and way[0].frame_id == frame_id:
            mine.append(way.popleft())
        return tuple(mine)

    def lost_before(self, frame_id: int) -> list[Lost]:
        """The frames with smaller numbers that were lost and not yet told, in order; to be asked after `buffers_of`."""
        told = sorted((lost for lost in self._lost if lost.frame_id < frame_id), key=lambda lost: lost.frame_id)
        if told:
            rest = [lost for lost in self._lost if lost.frame_id > frame_id]
            self._lost.clear()
            self._lost.extend(rest)
        return told
