"""Controlled delay: the schedule of RFC 8289's pseudocode, worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.net.codel import CodelState, control_law, isqrt
from tests.net_kit import MS, Rig, balance
from tests.offload_kit import ether, ip4, tcp

FRAME = 125
"""1 ms at 1 Mbit/s."""


def burst(rig: Rig, count: int, at: int = 0) -> None:
    rig.timers.run_until(at)
    for _ in range(count):
        rig.send(FRAME)


def drops(rig: Rig, until: int, counter: str = "dropped_early") -> list[int]:
    """Milliseconds at which frames were dropped."""
    found = []
    for ms in range(rig.timers.struct.now // MS, until + 1):
        before = getattr(rig.forward, counter)
        rig.timers.run_until(ms * MS)
        found += [ms] * (getattr(rig.forward, counter) - before)
    return found


# All frames came at moment 0, so the one that leaves at t has waited t. At 5 ms that is the target: 105 ms is an
# interval later, and the first is dropped. From there: interval / sqrt(count) with count 1, 2, 3 ...: 100, 70.711,
# 57.735, 50, 44.721, 40.825, 37.796, 35.355, 33.333. A frame leaves each ms, so a drop is due at the next whole one of
# 105, 205, 275.711, 333.446, 383.446, 428.167, 468.992, 506.788, 542.143, 575.477.
SCHEDULE = [105, 205, 276, 334, 384, 429, 469, 507, 543, 576]


def test_drops_come_at_the_inverse_square_root_of_their_number() -> None:
    rig = Rig("rate 1mbit queue 0p codel")
    burst(rig, 1000)
    assert drops(rig, 600) == SCHEDULE
    assert balance(rig.forward) == 0


def test_target_and_interval_are_what_is_said() -> None:
    """First above 10 ms at 10, an interval of 20: 30, then 20 / sqrt(1) = 20, 14.142, 11.547: 50, 64.142, 75.689."""
    rig = Rig("rate 1mbit queue 0p codel target 10ms interval 20ms")
    burst(rig, 200)
    assert drops(rig, 80) == [30, 50, 65, 76]


def test_a_short_queue_is_left_alone() -> None:
    """Nobody waits for more than the target."""
    rig = Rig("rate 1mbit queue 0p codel")
    for at in range(0, 400, 4):
        burst(rig, 4, at * MS)
    assert drops(rig, 500) == []


def test_a_burst_that_is_gone_within_an_interval_is_left_alone() -> None:
    rig = Rig("rate 1mbit queue 0p codel")
    burst(rig, 100)
    assert drops(rig, 200) == []


def test_no_more_than_a_packet_waiting_is_no_standing_queue() -> None:
    """At 8 kbit/s a frame of 125 bytes waits longer than the target behind another one, and must not be dropped."""
    rig = Rig("rate 8kbit queue 0p codel")
    for at in range(0, 5000, 125):
        burst(rig, 1, at * MS)
    assert drops(rig, 6000) == []


def drained(rig: Rig) -> None:
    """A first spell: four drops until 334 ms, after which the last of 345 frames leave."""
    burst(rig, 345)
    assert drops(rig, 400) == SCHEDULE[:4]
    assert rig.forward.backlog == 0


def test_a_spell_soon_after_another_goes_on_at_its_pace() -> None:
    """Four drops, less the one it began with: count is 3, and intervals are 57.735 and 50: 505, 562.735, 612.735."""
    rig = Rig("rate 1mbit queue 0p codel")
    drained(rig)
    burst(rig, 300, 400 * MS)
    assert drops(rig, 620) == [505, 563, 613]


def test_a_spell_long_after_another_begins_anew() -> None:
    """drop_next of the first was 383.446; 16 intervals later it is forgotten: 2105, and 100 later 2205."""
    rig = Rig("rate 1mbit queue 0p codel")
    drained(rig)
    burst(rig, 300, 2000 * MS)
    assert drops(rig, 2210) == [2105, 2205]


def test_with_ecn_packets_are_marked_at_the_same_moments() -> None:
    rig = Rig("rate 1mbit queue 0p codel ecn")
    frame = ether(ip4(tcp(bytes(FRAME - 54)), tos=2))
    for _ in range(1000):
        rig.send(frame)
    # None is dropped in front of those that leave, so nothing is ahead of the schedule.
    assert drops(rig, 600, "marked") == SCHEDULE
    assert rig.forward.dropped_early == 0


def test_above_a_threshold_all_are_marked() -> None:
    """The frame that leaves at 3 ms has waited 3 ms: the first over 2.5."""
    rig = Rig("rate 1mbit queue 0p codel ce_threshold 2500us")
    frame = ether(ip4(tcp(bytes(FRAME - 54)), tos=2))
    for _ in range(10):
        rig.send(frame)
    assert drops(rig, 20, "marked") == [3, 4, 5, 6, 7, 8, 9]


def test_its_queue_is_bounded_all_the_same() -> None:
    rig = Rig("rate 1mbit queue 10p codel")
    burst(rig, 20)
    assert rig.forward.dropped_queue == 9


@given(st.integers(0, (1 << 62) - 1))
def test_the_root_is_whole_and_right(number: int) -> None:
    assert isqrt(number) == math.isqrt(number)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000, 10**9])
def test_the_control_law_is_right_to_a_nanosecond(count: int) -> None:
    state = CodelState(interval=100 * MS)
    assert control_law(state, 7, count) == pytest.approx(7 + 100 * MS / math.sqrt(count), abs=1)
