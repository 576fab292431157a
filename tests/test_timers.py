"""The queue of events: order, timers that move, and nothing lost."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import NetemuError
from netemu.jit import hook
from netemu.timers import NEVER, STOPPED, Timer, TimerQueue, call_at, fire_next, next_due, timer_start, timer_stop

LOG: list[tuple[int, int]] = []


def _note(a: int, b: int) -> int:
    LOG.append((a, b))
    return 0


def note() -> int:
    LOG.clear()
    return hook(_note)


def test_events_of_one_moment_happen_in_the_order_they_were_asked_for() -> None:
    queue, log = TimerQueue(16), note()
    for n in range(8):
        call_at(queue.struct, 5, log, n, 0)
    queue.run_until(5)
    assert [a for a, _ in LOG] == list(range(8))


@given(st.lists(st.integers(0, 20), max_size=60), st.lists(st.integers(0, 20), max_size=20))
@settings(max_examples=60, deadline=None)
def test_events_happen_in_order_of_their_moment_as_a_sorted_list_has_them(first: list[int], later: list[int]) -> None:
    queue, log = TimerQueue(128), note()
    model: list[tuple[int, int]] = []
    for n, when in enumerate(first):
        call_at(queue.struct, when, log, n, when)
        heapq.heappush(model, (when, n))
    expected = []
    for n, delay in enumerate(later, start=len(first)):
        if model:
            when, number = heapq.heappop(model)
            expected.append(number)
            fire_next(queue.struct)
            assert queue.struct.now == when
        when = queue.struct.now + delay
        call_at(queue.struct, when, log, n, when)
        heapq.heappush(model, (when, n))
    while model:
        expected.append(heapq.heappop(model)[1])
    queue.run_until(1000)
    assert [a for a, _ in LOG] == expected
    assert queue.struct.now == 1000
    assert next_due(queue.struct) == NEVER


def test_an_event_in_the_past_happens_now() -> None:
    queue, log = TimerQueue(4), note()
    queue.run_until(50)
    call_at(queue.struct, 10, log, 1, 0)
    assert next_due(queue.struct) == 50


def test_a_timer_that_is_moved_expires_once_and_at_its_last_moment() -> None:
    queue = TimerQueue(16)
    timer = Timer.stopped(note(), 7)
    for when in (30, 10, 40, 20):
        timer_start(queue.struct, timer.address, when)
    queue.run_until(19)
    assert LOG == []
    queue.run_until(20)
    assert LOG == [(7, 0)]
    queue.run_until(100)
    assert LOG == [(7, 0)]
    assert timer.due == STOPPED


def test_a_timer_that_is_set_anew_each_time_costs_one_event() -> None:
    queue = TimerQueue(16)
    timer = Timer.stopped(note(), 7)
    for when in range(10, 1000):
        timer_start(queue.struct, timer.address, when)
    assert queue.struct.count == 1


def test_a_stopped_timer_does_not_expire_and_may_start_again() -> None:
    queue = TimerQueue(16)
    timer = Timer.stopped(note(), 7)
    timer_start(queue.struct, timer.address, 10)
    timer_stop(timer.address)
    queue.run_until(10)
    assert LOG == []
    timer_start(queue.struct, timer.address, 15)
    queue.run_until(20)
    assert LOG == [(7, 0)]


def test_an_event_without_room_is_counted_and_told() -> None:
    queue, log = TimerQueue(2), note()
    for _ in range(3):
        call_at(queue.struct, 1, log, 0, 0)
    assert queue.struct.lost == 1
    with pytest.raises(NetemuError, match="more than 2"):
        queue.check()
