"""One thread per queue pair: the lanes of `netemu.engine.lanes`, and the threads that run them.

What queues share is made each lane's own: its loop with its counters, protocol stack, trace and sink; the device's
`ReceiveSide`, whose header every frame passes through; and the driver's `VirtnetInfo`, whose clock and refill work are
then about one queue. After each run the counters are added to those of the card, which stay the ones to look at.

Compiled loops run without Python's global lock; steering and merging are between them, in one thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from netemu import engine
from netemu.capture.sink import SINK_NONE, Sink
from netemu.device.receive import ReceiveSide
from netemu.device.stats import QUEUE_STATS_SIZE
from netemu.device.steering import Steering
from netemu.driver.virtnet import RQ_SIZE, SQ_SIZE, ReceiveQueue, SendQueue, VirtnetInfo
from netemu.engine.lanes import NO_NUMBER, Lane, Lanes, deal, merge
from netemu.engine.state import QUEUE_PAIR, Engine
from netemu.frame import Frame
from netemu.jit import Buffer, Struct, StructArray, allocate, array_of
from netemu.reasons import REASON_COUNT
from netemu.stack import ProtocolStack
from netemu.trace import TraceBuffers
from netemu.virtio.net import HDR_LEN_MAX

_EVENTS = 8192
_BYTES = 4 << 20


def _copy(target: Struct, source: Struct) -> None:
    ctypes.memmove(ctypes.addressof(target), ctypes.addressof(source), ctypes.sizeof(source))


class QueueLane:
    """One queue pair's loop, with all that is its own."""

    def __init__(self, number: int) -> None:
        """The lane of queue pair ``number``."""
        self.number = number
        self.engine = Engine()
        self.vi = VirtnetInfo(refill_due=-1)
        self.stack = ProtocolStack()
        self.trace = TraceBuffers()
        self.done = True
        self._side = ReceiveSide()
        self._header = allocate(HDR_LEN_MAX)
        self._places = allocate(2)
        self._steering = Steering(pairs=1, places=self._places.address)
        self._sink = Sink(kind=SINK_NONE)
        self._drops = allocate(REASON_COUNT * 8)
        self._frames: StructArray[Frame] = array_of(Frame, 0)

    def prepare(self, whole: Engine, side: ReceiveSide, vi: VirtnetInfo, room: int) -> None:
        """Take over what has changed in the card since the last batch, and make room for ``room`` frames."""
        if len(self._frames) < room:
            self._frames = array_of(Frame, room)
        _copy(self._side, side)
        self._side.header, self._side.header_used, self._side.hashes = self._header.address, 1, 0
        due = self.vi.refill_due if self.vi.refill_due >= 0 else vi.refill_due
        now = max(self.vi.now, vi.now)
        _copy(self.vi, vi)
        self.vi.now, self.vi.refill_due, self.vi.refill_runs = now, due, 0
        self.vi.rq, self.vi.sq = vi.rq + self.number * RQ_SIZE, vi.sq + self.number * SQ_SIZE
        self.vi.curr_queue_pairs = self.vi.max_queue_pairs = 1
        e = self.engine
        _copy(e, whole)
        e.frames, e.count, e.next, e.softirq, e.waited = self._frames.address, 0, 0, 0, 0
        e.queues, e.lane, e.first_queue = 1, 1, self.number
        e.vi, e.side, e.steering = self.vi.address, self._side.address, self._steering.address
        e.device_queues = whole.device_queues + self.number * QUEUE_PAIR
        e.stack, e.sink, e.trace = self.stack.address, self._sink.address, self.trace.struct.address
        e.device_drops = self._drops.address
        if e.stats:
            e.stats += 2 * self.number * QUEUE_STATS_SIZE
        e.frames_in = e.bytes_in = e.frames_out = e.bytes_out = e.lost = 0
        self.done = False

    def hand_over(self, whole: Engine, sink: Sink) -> None:
        """Add what was counted to the card's counters."""
        e = self.engine
        for name in ("frames_in", "bytes_in", "frames_out", "bytes_out", "lost"):
            setattr(whole, name, getattr(whole, name) + getattr(e, name))
            setattr(e, name, 0)
        if self.trace.struct.capacity == 0:
            sink.frames += self._sink.frames
            sink.bytes += self._sink.bytes
        self._sink.frames = self._sink.bytes = 0

    def take_drops(self) -> Sequence[int]:
        """Frames that the device could not bring to the driver, by reason, since the last call."""
        counts = self._drops.array.view("<i8")
        taken = [int(count) for count in counts]
        counts[:] = 0
        return taken


class QueueLanes:
    """All lanes of a card; `play` and `let_guest_run` queue work, `run` does it."""

    def __init__(
        self,
        whole: Engine,
        side: ReceiveSide,
        vi: VirtnetInfo,
        receive_queues: Sequence[ReceiveQueue],
        send_queues: Sequence[SendQueue],
    ) -> None:
        """Lanes for the card whose loop is ``whole``, one for each pair."""
        self._whole = whole
        self._side = side
        self._vi = vi
        self._queues = [*zip(receive_queues, send_queues, strict=True)]
        self.lanes = [QueueLane(number) for number in range(len(self._queues))]
        self._structs: StructArray[Lane] = array_of(Lane, len(self.lanes))
        for struct, lane in zip(self._structs, self.lanes, strict=True):
            struct.engine = lane.engine.address
        self._state = Lanes(lanes=self._structs.address, count=len(self.lanes), all=whole.address)
        self._headers: Buffer = allocate(0)
        self._sink: Sink = Sink(kind=SINK_NONE)
        self._unmerged = False
        self._safe = 0
        self._pool = ThreadPoolExecutor(len(self.lanes), thread_name_prefix="netemu-queue")

    def attach(self, sink: Sink, trace: TraceBuffers) -> None:
        """What is received goes to ``sink`` and ``trace``; lanes note it only where one of them wants it."""
        self._sink = sink
        wanted = sink.kind != SINK_NONE or trace.struct.capacity > 0
        for lane in self.lanes:
            if wanted:
                lane.trace = TraceBuffers(_EVENTS, _BYTES, with_buffers=trace.struct.buffers != 0)
            else:
                lane.trace = TraceBuffers()

    def _prepare(self, room: int) -> None:
        for lane, (rq, sq) in zip(self.lanes, self._queues, strict=True):
            lane.prepare(self._whole, self._side, self._vi, room)
            rq.vi = sq.vi = lane.vi.address
        self._vi.refill_due = -1

    def play(self, address: int, count: int) -> None:
        """Deal ``count`` frames at host ``address`` out to the lanes."""
        self._prepare(count)
        state = self._state
        if self._side.hashes and self._headers.size < count * HDR_LEN_MAX:
            self._headers = allocate(count * HDR_LEN_MAX)
        state.headers = self._headers.address if self._side.hashes else 0
        state.frames, state.frame_count = address, count
        state.number = self._whole.frames_in
        state.now = max(state.now, self._vi.now)
        number = deal(state.address)
        # Turns of the guest hand up all frames in front of them; what came behind the last one may still lie in rings.
        self._safe = number // self._whole.burst * self._whole.burst

    def let_guest_run(self) -> None:
        """Have every lane's guest take all that lies in its ring."""
        self._prepare(0)
        for lane in self.lanes:
            lane.engine.softirq = 1
        self._safe = NO_NUMBER - 1

    def run(self) -> bool:
        """Run what was queued, each lane in its thread; False when a tap has to be emptied before the next call."""
        while True:
            if self._unmerged and not self._merge():
                return False
            waiting = [lane for lane in self.lanes if not lane.done]
            if not waiting:
                return True
            for lane, outcome in zip(
                waiting, self._pool.map(engine.run, [lane.engine.address for lane in waiting]), strict=True
            ):
                lane.done = outcome == engine.DONE
            self._gather()

    def _gather(self) -> None:
        """The lanes stand still: add up what they counted, and see how far their skbs may be merged."""
        limit = NO_NUMBER - 1
        for lane in self.lanes:
            lane.hand_over(self._whole, self._sink)
            noted = lane.trace.struct
            if lane.done:
                limit = min(limit, self._safe)
            elif noted.skb_count:
                limit = min(limit, lane.trace.skbs[noted.skb_count - 1].frame_id)
            else:
                limit = 0
            self._vi.now = max(self._vi.now, lane.vi.now)
            self._vi.refill_runs += lane.vi.refill_runs
            lane.vi.refill_runs = 0
        self._state.limit = limit
        self._unmerged = any(lane.trace.struct.capacity for lane in self.lanes)

    def _merge(self) -> bool:
        """Merge what may be; False when a tap is full."""
        if merge(self._state.address) == engine.FLUSH:
            return False
        if not self._state.taken and any(not lane.done and lane.trace.struct.skb_count for lane in self.lanes):
            # A lane is full of skbs that others, who are done, might still have some in front of: they come too late.
            self._state.limit = NO_NUMBER - 1
            if merge(self._state.address) == engine.FLUSH:
                return False
        self._unmerged = False
        return True

    def take_drops(self) -> list[Sequence[int]]:
        """Of each lane: frames the device could not bring to the driver, by reason, since the last call."""
        return [lane.take_drops() for lane in self.lanes]
