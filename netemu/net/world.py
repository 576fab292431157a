"""The loop of emulated time: events happen one after the other until somebody outside has something to do.

Theory of operation
-------------------
`run_world` lets events happen (`netemu.timers`) and looks around after each one. It returns when the time it was given
is reached, when a socket is ready that Python waits for, or when Python has to make room: frame buffers run low, or a
capture's buffer is filled beyond a half. All its state is in structs, so it goes on where it stopped. It also returns
after a number of events, which is when Ctrl-C is heard and progress is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from netemu.capture.sink import Sink, sink_at
from netemu.errors import NetemuError
from netemu.jit import Buffer, Struct, allocate, entry, i64, load64, pointer, store64, struct
from netemu.net.wire_frame import LARGE, LOW_WATER, SMALL, WireFrames, wire_pool_at
from netemu.stack.host import ready_at
from netemu.stack.host_stack import ReadyList
from netemu.timers import NEVER, TimerQueue, fire_next, next_due, timers_at

# Why `run_world` returned.
REACHED = 0
READY = 1
ROOM = 2
"""Buffers are to be added, or captures to be emptied."""
PAUSE = 3
"""So many events happened as were allowed."""

STANDSTILL = 1 << 27
"""Events at one and the same moment after which there is no hope that time goes on."""
_SINKS = 64
_SLICE = 1 << 16
_LOW_SMALL = LOW_WATER[SMALL]
_LOW_LARGE = LOW_WATER[LARGE]


@struct
class WorldState(Struct):
    """What the loop looks at."""

    timers: i64
    ready: i64
    pool: i64
    sinks: i64
    """Address of ``sink_count`` addresses of `netemu.capture.sink.Sink` structs."""
    sink_count: i64


world_at = pointer(WorldState)


@entry
def run_world(address: i64, until: i64, most: i64) -> i64:
    """Let what is due by ``until`` (ns) happen, ``most`` events of it; why it stopped."""
    world = world_at(address)
    timers = timers_at(world.timers)
    ready = ready_at(world.ready)
    pool = wire_pool_at(world.pool)
    for _ in range(most):
        if ready.count > 0:
            return READY
        if ready.short != 0:
            return ROOM
        if pool.small_count < _LOW_SMALL or pool.large_count < _LOW_LARGE:
            return ROOM
        for n in range(world.sink_count):
            sink = sink_at(load64(world.sinks + n * 8))
            if 2 * sink.used > sink.size:
                return ROOM
        if timers.count == 0 or next_due(timers) > until:
            if until != NEVER:
                timers.now = max(timers.now, until)
            return REACHED
        fire_next(timers)
    return PAUSE


class Flushable(Protocol):
    """A capture in the making: `netemu.capture.CaptureWriter`, say."""

    sink: Sink

    def flush(self) -> None:
        """Write what the sink holds, and empty it."""


class World:
    """The clock, the frame buffers and the captures that everything in a lab shares."""

    def __init__(self) -> None:
        """Time 0, and nothing there."""
        self.timers = TimerQueue()
        self.wires = WireFrames()
        self.ready = ReadyList()
        self.on_pause: Callable[[], None] | None = None
        """Called every so often while time goes by without Python."""
        self._captures: list[Flushable] = []
        self._moment = self._fired = 0
        self._sinks: Buffer = allocate(8 * _SINKS)
        self._state = WorldState(
            timers=self.timers.struct.address,
            ready=self.ready.struct.address,
            pool=self.wires.pool.address,
            sinks=self._sinks.address,
        )

    @property
    def now(self) -> int:
        """Emulated time, ns."""
        return self.timers.struct.now

    @property
    def next_due(self) -> int:
        """When the next event happens, ns; `netemu.timers.NEVER` if there is none."""
        return next_due(self.timers.struct)

    def add_capture(self, capture: Flushable) -> None:
        """See to it that a capture has room, from now on."""
        if 8 * len(self._captures) == self._sinks.size:
            wider = allocate(2 * self._sinks.size)
            wider.array[: self._sinks.size] = self._sinks.array
            self._sinks, self._state.sinks = wider, wider.address
        store64(self._sinks.address + 8 * len(self._captures), capture.sink.address)
        self._captures.append(capture)
        self._state.sink_count = len(self._captures)

    def take_ready(self) -> list[int]:
        """The handles of sockets that something happened to since the last call."""
        return self.ready.take()

    def run_until(self, when: int) -> bool:
        """Let time go by until ``when`` (ns); False if a socket is ready before that, and the time is that moment.

        ``NEVER`` means until then, or until nothing is left to happen; time stays that of the last event.
        Raises `NetemuError` when more is under way than there is room for, or time does not go on.
        """
        while True:
            outcome = run_world(self._state.address, when, _SLICE)
            self.timers.check()
            if outcome in (REACHED, READY):
                return outcome == REACHED
            self._mind_standstill()
            if outcome == ROOM:
                self.wires.grow()
                self.ready.make_room()
                for capture in self._captures:
                    capture.flush()
            elif self.on_pause is not None:
                self.on_pause()

    def _mind_standstill(self) -> None:
        """Give up where events cause events of the same moment without end."""
        timers = self.timers.struct
        if timers.now != self._moment:
            self._moment, self._fired = timers.now, timers.fired
        elif timers.fired - self._fired > STANDSTILL:
            raise NetemuError(
                f"time does not go on: {STANDSTILL} things happened at {timers.now / 1e9:.9f} s. Is there a loop of "
                "switches? A link with a delay or a rate lets time go by"
            )
