"""A world that consists of a queue of timers and a list of ready sockets, all of it plain Python."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from netemu.aio import EmulatedLoop
from netemu.jit import hook
from netemu.stack.host import is_ready
from netemu.stack.host_stack import ReadyList
from netemu.timers import TimerQueue, call_at, fire_next, next_due

T = TypeVar("T")


class TimerWorld:
    """A `netemu.aio.World` without networks."""

    def __init__(self) -> None:
        self.timers = TimerQueue(1 << 12)
        self.ready = ReadyList(256)

    @property
    def now(self) -> int:
        return self.timers.struct.now

    @property
    def next_due(self) -> int:
        return next_due(self.timers.struct)

    def run_until(self, when: int) -> bool:
        timers, ready = self.timers.struct, self.ready.struct
        while ready.count == 0 and timers.count and next_due(timers) <= when:
            fire_next(timers)
        if ready.count == 0:
            timers.now = max(timers.now, when)
        return ready.count == 0

    def take_ready(self) -> list[int]:
        return self.ready.take()

    def at(self, when: int, action: Callable[[], object]) -> None:
        """Have a Python function called by an event."""

        def happen(_a: int, _b: int) -> int:
            action()
            return 0

        call_at(self.timers.struct, when, hook(happen), 0, 0)

    def ready_at(self, when: int, handle: int) -> None:
        """Have a socket become ready by an event."""
        self.at(when, lambda: is_ready(self.ready.struct.address, handle))


def run(world: Any, main: Coroutine[Any, Any, T], *, realtime: bool = False) -> T:
    """What a lab does with a coroutine."""
    with asyncio.Runner(loop_factory=lambda: EmulatedLoop(world, realtime=realtime)) as runner:
        return runner.run(main)
