"""Which buffers a frame came in, and which frames were lost before it: a trace's events, put together by frame."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile

from netemu.fates import Fate
from netemu.reasons import DropReason
from netemu.trace import BufferEvent, DropEvent, TraceBuffers

_OUTSTANDING = 1 << 14
"""Events kept for frames that have not come up; those of frames that never will are forgotten, oldest first."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A frame that did not come up.

    ``reason`` is NONE for frames that an XDP program sent away, as ``fate`` tells; RING_LOST where nobody noted one, as
    of a frame that was swallowed with another.
    """

    frame_id: int
    queue: int
    reason: DropReason
    fate: Fate = Fate.DROPPED


class Ways:
    """Collects events with `take`, and gives out those of a frame once its skb, or its ring record, is there."""

    def __init__(self, *, in_order: bool = True) -> None:
        """``in_order`` says that frames of a queue come up as they arrived, which they do without GRO."""
        self._in_order = in_order
        self._buffers: dict[int, dict[int, list[BufferEvent]]] = defaultdict(dict)
        self._lost: deque[Lost] = deque(maxlen=_OUTSTANDING)
        self._fates: dict[int, tuple[Fate, int]] = {}

    def take(self, trace: TraceBuffers, fates: Iterable[tuple[int, Fate, int]] = ()) -> None:
        """Copy a trace's buffer and drop events; its owner clears the trace.

        ``fates`` are those of frames that did not come up (`netemu.fates`).
        """
        self._fates.update((frame_id, (fate, other)) for frame_id, fate, other in fates)
        held = trace.struct
        for event in trace.buffers[: held.buffer_count]:
            way = self._buffers[event.queue]
            way.setdefault(event.frame_id, []).append(BufferEvent.from_buffer_copy(event))
            if len(way) > _OUTSTANDING:
                del way[next(iter(way))]
        for drop in trace.drops[: held.drop_count]:
            self._note(drop)

    def _note(self, drop: DropEvent) -> None:
        self._lost.append(Lost(drop.frame_id, drop.queue, DropReason(drop.reason)))

    def buffers_of(self, queue: int, frame_id: int) -> tuple[BufferEvent, ...]:
        """The buffers of a frame that came up on ``queue``; frames before it there that did not are lost."""
        way = self._buffers[queue]
        for passed in list(takewhile(lambda number: number < frame_id, way)):
            fate, other = self._fates.pop(passed, (None, 0))
            if fate is None and not self._in_order:
                continue  # GRO may hold it back
            del way[passed]
            if fate == Fate.MERGED:
                continue
            reason = DropReason(other) if fate == Fate.DROPPED else DropReason.NONE
            if fate is None:
                reason = DropReason.RING_LOST
            self._lost.append(Lost(passed, queue, reason, fate or Fate.DROPPED))
        return tuple(way.pop(frame_id, ()))

    def lost_before(self, frame_id: int) -> list[Lost]:
        """The frames with smaller numbers that were lost and not yet told, in order; to be asked after `buffers_of`."""
        told = sorted((lost for lost in self._lost if lost.frame_id < frame_id), key=lambda lost: lost.frame_id)
        if told:
            rest = [lost for lost in self._lost if lost.frame_id > frame_id]
            self._lost.clear()
            self._lost.extend(rest)
        return told
