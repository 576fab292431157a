"""What is to happen, and when: a queue of events in virtual time.

Theory of operation
-------------------
An *event* is a hook and two numbers to call it with, at a moment (ns). Events lie in a binary heap, ordered by moment
and, at the same moment, by the order in which they were asked for; so a run with the same causes has the same effects
in the same order. Nothing here knows what a hook does.

A `Timer` is an event that can be moved and stopped, as protocols do at every packet. Moving it later, or stopping it,
does not touch the heap: the event that is queued finds out when its moment comes, and is queued again or forgotten.
So a timer that is set anew for each segment, and never expires, costs one event per expiry time.

`fire_next` pops the first event, sets ``now`` to its moment and calls its hook. Time never goes back: an event that is
asked for in the past happens now.
"""

from __future__ import annotations

from netemu.errors import NetemuError
from netemu.jit import Struct, StructArray, array_of, call2, i64, kernel, pointer, struct

NEVER = (1 << 63) - 1
"""A moment that does not come."""
STOPPED = -1
"""`Timer.due` of a timer that does not run."""

CAPACITY = 1 << 20
"""Events that a queue has room for unless told otherwise; room that is never used costs no memory."""


@struct
class Event(Struct):
    """Something that is to happen."""

    when: i64
    """ns."""
    order: i64
    """Events of the same moment happen in this order."""
    hook: i64
    """What to call with ``a`` and ``b``; 0: ``a`` is the address of a `Timer`."""
    a: i64
    b: i64


@struct
class Timer(Struct):
    """An event that can be moved and stopped."""

    due: i64
    """When it expires, ns; STOPPED while it does not run. A new one has to be set to that first (`Timer.stopped`)."""
    queued: i64
    """Moment of the event that is queued for it, ns; STOPPED if there is none."""
    hook: i64
    """What is called with ``a`` and ``b`` when it expires; it may start the timer again."""
    a: i64
    b: i64

    @classmethod
    def stopped(cls, hook: int, a: int, b: int = 0) -> Timer:
        """A timer that does not run yet."""
        return cls(due=STOPPED, queued=STOPPED, hook=hook, a=a, b=b)


@struct
class Timers(Struct):
    """A queue of events."""

    now: i64
    """ns; the moment of the event that happened last, or to which time was advanced."""
    events: i64
    """Address of ``capacity`` `Event` structs, of which ``count`` form the heap; one more lies behind them."""
    capacity: i64
    count: i64
    order: i64
    """Events asked for so far."""
    fired: i64
    """Events that happened."""
    lost: i64
    """Events for which there was no room. That is an error of whoever made the queue: see `TimerQueue.check`."""


timers_at = pointer(Timers)
timer_at = pointer(Timer)
event_at = pointer(Event)
EVENT_SIZE = Event.dtype.itemsize
TIMER_SIZE = Timer.dtype.itemsize


@kernel
def _move(target: Event, source: Event) -> None:
    target.when = source.when
    target.order = source.order
    target.hook = source.hook
    target.a = source.a
    target.b = source.b


@kernel
def call_at(timers: Timers, when: i64, hook: i64, a: i64, b: i64) -> None:
    """Have ``hook`` called with ``a`` and ``b`` at ``when`` (ns), or now if that has passed."""
    if timers.count >= timers.capacity:
        timers.lost += 1
        return
    when = max(when, timers.now)
    base = timers.events
    at = timers.count
    timers.count += 1
    timers.order += 1
    while at > 0:
        parent = (at - 1) >> 1
        above = event_at(base + parent * EVENT_SIZE)
        # The new event has the highest order of all: it stays below those of the same moment.
        if above.when <= when:
            break
        _move(event_at(base + at * EVENT_SIZE), above)
        at = parent
    event = event_at(base + at * EVENT_SIZE)
    event.when = when
    event.order = timers.order
    event.hook = hook
    event.a = a
    event.b = b


@kernel
def _pop(timers: Timers) -> i64:
    """Take the first event off the heap; the address where it lies until the next one is taken."""
    base = timers.events
    out = base + timers.capacity * EVENT_SIZE
    _move(event_at(out), event_at(base))
    timers.count -= 1
    count = timers.count
    last = event_at(base + count * EVENT_SIZE)
    when = last.when
    order = last.order
    at = 0
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        below = event_at(base + child * EVENT_SIZE)
        if child + 1 < count:
            right = event_at(base + (child + 1) * EVENT_SIZE)
            if right.when < below.when or (right.when == below.when and right.order < below.order):
                child += 1
                below = right
        if when < below.when or (when == below.when and order < below.order):
            break
        _move(event_at(base + at * EVENT_SIZE), below)
        at = child
    if at != count:
        _move(event_at(base + at * EVENT_SIZE), last)
    return out


@kernel
def next_due(timers: Timers) -> i64:
    """The moment of the first event, ns; NEVER when there is none. A timer that was moved may not be due then yet."""
    return event_at(timers.events).when if timers.count > 0 else NEVER


@kernel
def timer_start(timers: Timers, address: i64, when: i64) -> None:
    """Have the `Timer` at ``address`` expire at ``when`` (ns), whether it runs already or not."""
    timer = timer_at(address)
    when = max(when, timers.now)
    timer.due = when
    if timer.queued == STOPPED or when < timer.queued:
        timer.queued = when
        call_at(timers, when, 0, address, 0)


@kernel
def timer_stop(address: i64) -> None:
    """Stop the `Timer` at ``address``; its hook is not called unless it is started again."""
    timer_at(address).due = STOPPED


@kernel
def _expire(timers: Timers, address: i64, when: i64) -> None:
    """The moment of an event that was queued for a timer has come."""
    timer = timer_at(address)
    if timer.queued != when:
        return  # it was moved to an earlier moment since, which has an event of its own
    timer.queued = STOPPED
    if timer.due == STOPPED:
        return
    if timer.due > when:
        timer.queued = timer.due
        call_at(timers, timer.due, 0, address, 0)
        return
    timer.due = STOPPED
    call2(timer.hook, timer.a, timer.b)


@kernel
def fire_next(timers: Timers) -> None:
    """Let the first event happen; there is one."""
    event = event_at(_pop(timers))
    timers.now = max(timers.now, event.when)
    timers.fired += 1
    if event.hook != 0:
        call2(event.hook, event.a, event.b)
    else:
        _expire(timers, event.a, event.when)


class TimerQueue:
    """A `Timers` together with the memory of its heap, for Python."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Make an empty queue with room for ``capacity`` events, at time 0."""
        self._events: StructArray[Event] = array_of(Event, capacity + 1)
        self.struct = Timers(events=self._events.address, capacity=capacity)

    def check(self) -> None:
        """Raise `NetemuError` if there was no room for an event."""
        if self.struct.lost:
            raise NetemuError(
                f"more than {self.struct.capacity} things are under way at once: use fewer hosts, or shorter queues"
            )

    def run_until(self, when: int) -> None:
        """Let everything happen that is due by ``when`` (ns), which is the time afterwards."""
        timers = self.struct
        while next_due(timers) <= when:
            fire_next(timers)
        timers.now = max(timers.now, when)
