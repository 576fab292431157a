"""asyncio in emulated time: what waits, how long, and what happens when it waits in vain."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from netemu.aio import DeadlockError, EmulatedLoop
from tests.aio_kit import TimerWorld, run

SECOND = 1_000_000_000


def loop_of() -> EmulatedLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, EmulatedLoop)
    return loop


def test_sleeping_takes_emulated_time_to_the_nanosecond() -> None:
    world = TimerWorld()

    async def main() -> float:
        await asyncio.sleep(86_400)
        await asyncio.sleep(0.000_000_001)
        return loop_of().time()

    assert run(world, main()) == pytest.approx(86_400)
    assert world.now == 86_400 * SECOND + 1


def test_a_thousand_short_sleeps_add_up_exactly() -> None:
    world = TimerWorld()

    async def main() -> None:
        for _ in range(1000):
            await asyncio.sleep(0.001)

    run(world, main())
    assert world.now == SECOND


def test_a_sleep_of_nothing_takes_no_time() -> None:
    world = TimerWorld()

    async def main() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    run(world, main())
    assert world.now == 0


def test_a_timeout_is_one_of_emulated_time() -> None:
    world = TimerWorld()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.sleep(5)

    run(world, main())
    assert world.now == 3 * SECOND


def test_tasks_of_a_group_wait_side_by_side() -> None:
    world = TimerWorld()
    order: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append((name, loop_of().time()))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper("slow", 2))
            group.create_task(sleeper("quick", 1))

    run(world, main())
    assert order == [("quick", 1.0), ("slow", 2.0)]


def test_events_of_the_world_happen_while_python_sleeps() -> None:
    world = TimerWorld()
    seen: list[int] = []
    world.at(SECOND, lambda: seen.append(world.now))
    world.at(3 * SECOND, lambda: seen.append(world.now))

    async def main() -> list[int]:
        await asyncio.sleep(2)
        return list(seen)

    assert run(world, main()) == [SECOND]


def test_a_ready_socket_wakes_whoever_attached_at_that_moment() -> None:
    world = TimerWorld()

    async def main() -> float:
        loop = loop_of()
        woken: asyncio.Future[None] = loop.create_future()
        handle = loop.attach(lambda: woken.set_result(None), lambda: "a socket")
        world.ready_at(1_500_000_000, handle)
        world.at(2 * SECOND, lambda: None)
        await woken
        return loop.time()

    assert run(world, main()) == 1.5


def test_a_detached_handle_wakes_nobody() -> None:
    world = TimerWorld()
    woken: list[int] = []

    async def main() -> None:
        loop = loop_of()
        handle = loop.attach(lambda: woken.append(1), lambda: "a socket")
        world.ready_at(SECOND, handle)
        loop.detach(handle)
        assert loop.attach(lambda: woken.append(2), lambda: "another") != handle
        await asyncio.sleep(2)

    run(world, main())
    assert woken == []


def test_waiting_for_what_cannot_happen_is_an_error_that_says_who_waits() -> None:
    world = TimerWorld()

    async def helper(event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> None:
        loop_of().attach(lambda: None, lambda: "UDP 10.0.0.1:53")
        await helper(asyncio.Event())

    with pytest.raises(DeadlockError) as caught:
        run(world, main())
    text = str(caught.value)
    assert "test_aio_loop.py" in text
    assert "in helper()" in text
    assert "UDP 10.0.0.1:53" in text


def test_timers_that_tick_for_ever_do_not_hide_a_deadlock() -> None:
    world = TimerWorld()

    def tick() -> None:
        world.at(world.now + 600 * SECOND, tick)

    tick()

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="For a day of emulated time"):
        run(world, main())
    assert world.now <= 86_400 * SECOND


def test_an_event_far_away_is_waited_for() -> None:
    """A day of patience counts from what happens next, not from what was asked for long ago."""
    world = TimerWorld()

    async def main() -> float:
        loop = loop_of()
        woken = asyncio.Event()
        world.ready_at(23 * 3600 * SECOND, loop.attach(woken.set, lambda: "late"))
        await woken.wait()
        return loop.time()

    assert run(world, main()) == 23 * 3600


def test_cleaning_up_after_a_deadlock_may_take_emulated_time() -> None:
    world = TimerWorld()
    cleaned: list[float] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append(loop_of().time())

    with pytest.raises(DeadlockError):
        run(world, main())
    assert cleaned == [1.0]


def test_time_stands_still_while_a_thread_works() -> None:
    world = TimerWorld()
    world.at(SECOND, lambda: None)
    go_on = threading.Event()

    async def main() -> int:
        asyncio.get_running_loop().call_soon(go_on.set)
        waited = await asyncio.wait_for(asyncio.to_thread(go_on.wait, 30), 0.001)
        assert waited
        return world.now

    assert run(world, main()) == 0


def test_an_exception_of_the_program_comes_out_as_it_is() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(TimerWorld(), main())


def test_the_same_program_runs_the_same_way_twice() -> None:
    def trace() -> list[tuple[float, int]]:
        world, order = TimerWorld(), []

        async def worker(number: int) -> None:
            for _ in range(5):
                await asyncio.sleep(number * 0.01)
                order.append((loop_of().time(), number))

        async def main() -> None:
            await asyncio.gather(*(worker(number) for number in range(1, 8)))

        run(world, main())
        return order

    assert trace() == trace()


def test_in_real_time_the_world_follows_the_clock_and_file_descriptors_are_watched() -> None:
    world = TimerWorld()
    inside, outside = os.pipe()
    happened: list[int] = []
    world.at(20_000_000, lambda: happened.append(world.now))

    async def main() -> bytes:
        loop = loop_of()
        got: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(inside, lambda: got.set_result(os.read(inside, 9)))
        loop.call_later(0.01, os.write, outside, b"real")
        data = await got
        loop.remove_reader(inside)
        assert loop.time() >= 0.01
        await asyncio.sleep(0.02)
        return data

    start = time.monotonic()
    assert run(world, main(), realtime=True) == b"real"
    assert time.monotonic() - start >= 0.03
    assert happened
    assert world.now >= 30_000_000
    os.close(inside)
    os.close(outside)


def test_in_real_time_a_program_may_wait_for_input_alone() -> None:
    """Nothing is left in the world to happen, and yet something may come from outside."""
    inside, outside = os.pipe()

    async def main() -> bytes:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        loop_of().add_reader(inside, lambda: got.set_result(os.read(inside, 9)))
        writer = threading.Timer(0.02, os.write, (outside, b"late"))
        writer.start()
        data = await got
        loop_of().remove_reader(inside)
        writer.join()
        return data

    assert run(TimerWorld(), main(), realtime=True) == b"late"
    os.close(inside)
    os.close(outside)
