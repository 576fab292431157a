"""An asyncio event loop in the time of an emulated world.

Theory of operation
-------------------
asyncio's loop asks its selector to wait, for input or until a moment, and runs what that brought about. Here the
selector does not wait but lets the *world* run (`netemu.aio.world.World`) until that moment, or until something
happened to a socket that Python waits for; and `time` is the world's. So ``asyncio.sleep``, timeouts and task groups
mean emulated time, and a day that nothing happens in takes no time at all.

A socket that wants to be woken attaches a callback, and gets a *handle*, the number that kernels put on the list of
ready sockets (`netemu.stack.host.Ready`).

In virtual time the world outside does not exist, but for threads: while some of the loop's executor work, time stands
still, so what they do takes no emulated time however long it takes. If nothing is left that could happen and no task is
able to run, waiting on would be for ever: `DeadlockError` says who waits where.

In real time the world follows the wall clock, and file descriptors (a TAP device's) are watched as well.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from netemu.aio.waits import waits_in_words
from netemu.aio.world import World
from netemu.errors import NetemuError
from netemu.timers import NEVER

SECOND = 1_000_000_000
PATIENCE = 24 * 3600 * SECOND
"""ns of emulated time for which timers may go on among themselves while no task is woken and none sleeps."""
_SLICE = 3600 * SECOND
LONGEST = 90 * 24 * 3600 * SECOND
"""ns: asyncio counts seconds in a float, which then does not tell one nanosecond from the next: timers never come."""

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class DeadlockError(NetemuError):
    """Tasks wait for what cannot happen any more; the message says which, and where."""


class EmulatedLoop(asyncio.SelectorEventLoop):
    """The event loop of a lab."""

    def __init__(self, world: World, *, realtime: bool = False) -> None:
        """A loop over ``world``; ``realtime`` ties its time to the wall clock from now on."""
        self.world = world
        self.realtime = realtime
        self._wall_zero = time.monotonic_ns() - world.now
        self._attached: dict[int, tuple[Callable[[], object], Callable[[], str]]] = {}
        self._at_close: dict[int, Callable[[], object]] = {}
        self._last_handle = 0
        self._threads = 0
        super().__init__(_WorldSelector(self))

    def time(self) -> float:
        """The emulated time, in seconds."""
        return self.now / SECOND

    @property
    def now(self) -> int:
        """The emulated time, ns."""
        return time.monotonic_ns() - self._wall_zero if self.realtime else self.world.now

    def attach(
        self, callback: Callable[[], object], words: Callable[[], str], at_close: Callable[[], object] | None = None
    ) -> int:
        """A new handle; ``callback`` runs after it was put on the list of ready sockets. ``words`` says whose it is.

        ``at_close`` is called if the loop is closed while the handle is attached.
        """
        self._last_handle += 1
        self._attached[self._last_handle] = callback, words
        if at_close is not None:
            self._at_close[self._last_handle] = at_close
        return self._last_handle

    def detach(self, handle: int) -> None:
        """Forget a handle; one that is on the list of ready sockets already is passed over."""
        self._attached.pop(handle, None)
        self._at_close.pop(handle, None)

    def close(self) -> None:
        """Close it; sockets that are open still are forgotten."""
        for forget in list(self._at_close.values()):
            forget()
        self._at_close.clear()
        super().close()

    def wake_ready(self) -> bool:
        """Schedule the callbacks of sockets that something happened to; whether there were any."""
        ready = self.world.take_ready()
        for handle in ready:
            if handle in self._attached:
                self.call_soon(self._attached[handle][0])
        return bool(ready)

    @property
    def threads(self) -> int:
        """Pieces of work that the loop's threads are at."""
        return self._threads

    def deadlock(self, why: str) -> DeadlockError:
        """The error for tasks that wait in vain."""
        waits = waits_in_words(asyncio.all_tasks(self), (words() for _, words in self._attached.values()))
        return DeadlockError(f"{why}\n{waits}" if waits else why)

    # Time stands still while threads work.

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """As asyncio's; no emulated time goes by until the work is done."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._threads -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        """As asyncio's, which waits for a thread."""
        self._threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._threads -= 1


class _WorldSelector(selectors.BaseSelector):
    """What stands in the place of the loop's selector, and holds the one that watches file descriptors."""

    def __init__(self, loop: EmulatedLoop) -> None:
        self._loop, self._world = loop, loop.world
        # select() waits as long as it is told, to the microsecond; epoll() rounds up to milliseconds.
        self._files: selectors.BaseSelector = selectors.SelectSelector()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a file descriptor."""
        return self._files.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch it no longer."""
        return self._files.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch it for something else."""
        return self._files.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """The file descriptors that are watched."""
        return self._files.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """How a file descriptor is watched; what asyncio looks it up by."""
        return self._files.get_key(fileobj)

    def close(self) -> None:
        """Close it."""
        self._files.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the world run for ``timeout`` seconds of its time (None: for ever), or until there is something to do."""
        loop = self._loop
        if timeout is not None and timeout <= 0:
            loop.wake_ready()
            return self._files.select(0) if loop.realtime or loop.threads else []
        if loop.wake_ready():
            return []
        if loop.realtime:
            return self._select_real(NEVER if timeout is None else loop.now + round(timeout * SECOND))
        if loop.threads:
            return self._files.select()
        if timeout is not None:
            self._refuse_after(self._world.now + round(timeout * SECOND))
            self._world.run_until(self._world.now + round(timeout * SECOND))
            loop.wake_ready()
        else:
            self._run_until_ready()
        return []

    def _refuse_after(self, when: int) -> None:
        """Raise `NetemuError` for a moment (ns) that is too late."""
        if when > LONGEST:
            raise NetemuError("emulated time has come to its end, which is after 90 days: asyncio's clock is not finer")

    def _run_until_ready(self) -> None:
        """Let the world run until a socket is ready; no task sleeps, so time alone brings nothing."""
        world = self._world
        self._refuse_after(world.now)
        end = world.now + PATIENCE
        while True:
            if world.next_due == NEVER:
                raise self._loop.deadlock("Nothing is left that could happen, and the program is not done.")
            if world.next_due > end:
                raise self._loop.deadlock("For a day of emulated time nothing happened that the program waits for.")
            world.run_until(min(max(world.now + _SLICE, world.next_due), end))
            if self._loop.wake_ready():
                return

    def _select_real(self, end: int) -> list[tuple[selectors.SelectorKey, int]]:
        """Follow the wall clock until ``end`` (ns of the loop's time), a file descriptor or a socket."""
        loop = self._loop
        while True:
            now = loop.now
            self._world.run_until(now)
            if loop.wake_ready():
                return self._files.select(0)
            until = min(end, self._world.next_due)
            events = self._files.select(None if until == NEVER else max(0.0, (until - loop.now) / SECOND))
            if events or now >= end:
                return events
