"""Random early detection: averages and chances by hand, what tc derives, what ECN changes."""

from __future__ import annotations

from collections import Counter

import pytest

from netemu.chance import CERTAIN
from netemu.errors import ConfigError
from netemu.net.direction import ADMIT
from netemu.net.options import LinkOptions
from netemu.net.red import AVERAGE_BITS, RedPolicy, RedState, red_admit, red_at, red_odds
from netemu.net.red_tuning import wlog_for
from netemu.net.values import Queue, Red
from netemu.net.wire_frame import put_wire_frame
from tests.net_kit import MS, Rig, S, balance
from tests.offload_kit import ether, ip4, tcp

EXAMPLE = "red min 30000 max 90000 avpkt 1000 burst 55 probability 0.02"
"""Of tc-red(8), with the default probability."""


def policy(words: str, size: str = "400000b", rate: str = "10mbit") -> tuple[Rig, RedState]:
    rig = Rig(f"rate {rate} queue {size} {words}")
    return rig, red_at(rig.forward.policy)


def odds(state: RedState, average: int) -> float:
    state.average = average << AVERAGE_BITS
    return red_odds(state) / CERTAIN


def admit(rig: Rig, frame: bytes = bytes(60)) -> bool:
    """Whether a frame would be let in, for the average as it is."""
    wire_frame = rig.make(frame)
    state = red_at(rig.forward.policy)
    state.idle_since = -1  # something is being sent
    rig.forward.backlog_bytes = state.average >> AVERAGE_BITS
    verdict = getattr(red_admit, "py_func", red_admit)(rig.forward.address, wire_frame)
    put_wire_frame(wire_frame)
    return bool(verdict == ADMIT)


@pytest.mark.parametrize(
    ("average", "chance"),
    [(0, 0), (29_999, 0), (30_000, 0), (60_000, 0.01), (75_000, 0.015), (89_999, 0.02), (90_000, 1), (500_000, 1)],
)
def test_the_chance_grows_from_min_to_max(average: int, chance: float) -> None:
    _, state = policy(EXAMPLE)
    assert odds(state, average) == pytest.approx(chance, abs=1e-6)


@pytest.mark.parametrize(
    ("average", "chance"), [(60_000, 0.01), (90_000, 0.02), (135_000, 0.51), (179_999, 1.0), (180_000, 1.0)]
)
def test_gently_it_grows_on_to_twice_max(average: int, chance: float) -> None:
    _, state = policy(EXAMPLE + " gentle")
    assert odds(state, average) == pytest.approx(chance, abs=2e-5)


@pytest.mark.parametrize(
    ("least", "burst", "wlog"),
    [
        # burst + 1 - min / avpkt <= (1 - (1 - W)^burst) / W.
        # 26: 16 (1 - (15/16)^55) = 15.5, 32 (1 - (31/32)^55) = 26.4.
        (30_000, 55, 5),
        # 11: 8 (1 - (7/8)^20) = 7.4, 16 (1 - (15/16)^20) = 11.6.
        (10_000, 20, 4),
        # 1: (1 - 1/2^5) / (1/2) = 1.9.
        (5_000, 5, 1),
    ],
)
def test_the_time_constant_follows_from_the_burst_as_for_tc(least: int, burst: int, wlog: int) -> None:
    assert wlog_for(least, burst, 1000) == wlog


def test_a_burst_that_does_not_reach_min_is_refused() -> None:
    with pytest.raises(ConfigError, match="has to reach min"):
        wlog_for(30_000, 20, 1000)


def test_what_is_left_out_is_as_for_tc() -> None:
    """max = limit / 4, min = max / 3, burst = (2 min + max) / (3 avpkt); probability 2%."""
    state = RedPolicy(Red(), Queue(0, 360_000), 8_000_000, 1).struct
    assert (state.max, state.min) == (90_000, 30_000)
    assert state.wlog == wlog_for(30_000, 50, 1000)
    assert state.probability / CERTAIN == pytest.approx(0.02)
    assert state.packet_ns == 1 * MS  # 1000 bytes at the link's 8 Mbit/s


def test_a_queue_too_short_for_red_is_refused() -> None:
    with pytest.raises(ConfigError, match="min below max"):
        LinkOptions.of("rate 1mbit queue 10b red")


def test_a_change_that_is_refused_changes_neither_direction() -> None:
    rig = Rig("rate 1mbit delay 1ms")
    rig.link.backward.set("queue 100kb")
    with pytest.raises(ConfigError, match="has to reach min"):
        rig.link.set("queue red burst 1 delay 9ms")
    assert {str(direction.options.delay) for direction in rig.link.directions} == {"1ms"}


def test_the_average_follows_by_its_weight() -> None:
    """After n frames that find B bytes it is B (1 - (1 - W)^n): with W = 1/32 and 64 of them, 0.8689 B."""
    rig, state = policy(EXAMPLE)
    state.idle_since = -1
    rig.forward.backlog_bytes = 10_000
    for _ in range(64):
        getattr(red_admit, "py_func", red_admit)(rig.forward.address, rig.make(bytes(60)))
    assert state.average >> AVERAGE_BITS == pytest.approx(10_000 * (1 - (31 / 32) ** 64), abs=2)


def test_while_idle_the_average_falls_as_if_packets_had_passed() -> None:
    """1000 bytes at 8 Mbit/s take 1 ms: after 64 ms it is (31/32)^64 of what it was, and one arrival more."""
    rig, state = policy(EXAMPLE, rate="8mbit")
    state.average = 20_000 << AVERAGE_BITS
    state.idle_since = 0
    rig.timers.run_until(64 * MS)
    getattr(red_admit, "py_func", red_admit)(rig.forward.address, rig.make(bytes(60)))
    assert state.average >> AVERAGE_BITS == pytest.approx(20_000 * (31 / 32) ** 65, rel=0.001)
    assert state.idle_since == -1


def test_a_link_that_has_sent_all_is_idle() -> None:
    rig, state = policy(EXAMPLE, rate="8mbit")
    rig.send(1000, at=5 * MS)
    assert state.idle_since == -1
    rig.run(20 * MS)
    assert state.idle_since == 6 * MS


def test_drops_are_evened_out() -> None:
    """At a chance of 1 in 10 each gap between two drops from 1 to 9 is as likely: p / (1 - count p), count from 1."""
    rig, state = policy("red min 30000 max 90000 avpkt 1000 burst 55 probability 0.2")
    state.average = 60_000 << AVERAGE_BITS
    gaps: Counter[int] = Counter()
    since = 0
    for _ in range(9000):
        since += 1
        if not admit(rig):
            gaps[since] += 1
            since = 0
    total = sum(gaps.values())
    assert set(gaps) <= set(range(1, 11))
    assert total == pytest.approx(9000 / 5, rel=0.05)
    for gap in range(1, 10):
        assert gaps[gap] == pytest.approx(total / 9, rel=0.25)
    assert state.early == rig.forward.overlimits == total


def test_above_max_all_are_dropped() -> None:
    rig, state = policy(EXAMPLE)
    state.average = 95_000 << AVERAGE_BITS
    assert not any(admit(rig) for _ in range(20))
    assert state.forced == 20


ECT = ether(ip4(tcp(b"x"), tos=2))


def test_with_ecn_those_that_can_be_are_marked() -> None:
    rig, state = policy(EXAMPLE + " ecn")
    state.average = 95_000 << AVERAGE_BITS
    assert admit(rig, ECT)
    assert not admit(rig)
    assert rig.forward.marked == 1


def test_harddrop_drops_above_max_in_spite_of_ecn() -> None:
    rig, state = policy(EXAMPLE + " ecn harddrop")
    state.average = 95_000 << AVERAGE_BITS
    assert not admit(rig, ECT)


def test_nodrop_lets_in_what_cannot_be_marked() -> None:
    rig, state = policy(EXAMPLE + " ecn nodrop")
    state.average = 95_000 << AVERAGE_BITS
    assert admit(rig)
    assert rig.forward.marked == 0


def test_adaptive_red_moves_its_chance_every_half_second() -> None:
    """Up by a quarter of itself, at most 1%, above 66,000; down to nine tenths below 54,000 (Floyd and others)."""
    rig, state = policy(EXAMPLE + " adaptive")
    found = []
    for step, average in enumerate((80_000, 80_000, 60_000, 40_000), start=1):
        state.average = average << AVERAGE_BITS
        rig.timers.run_until(step * S // 2)
        admit(rig)
        admit(rig)  # once each half second
        found.append(state.probability / CERTAIN)
    assert found == pytest.approx([0.025, 0.03125, 0.03125, 0.028125], rel=1e-4)


def test_a_long_queue_is_kept_between_min_and_max() -> None:
    """A sender of 20% too much: RED drops about a sixth, and tail drop nothing."""
    rig, state = policy("red min 10000 max 30000 avpkt 1000 burst 20 probability 0.5 gentle", rate="8mbit")
    for n in range(4000):
        rig.send(1000, at=n * 833_333)  # 1000 bytes take 1 ms
    assert rig.forward.dropped_queue == 0
    assert rig.forward.dropped_early / 4000 == pytest.approx(1 / 6, abs=0.04)
    assert 10_000 < state.average >> AVERAGE_BITS < 40_000
    rig.run()
    assert balance(rig.forward) == 0
