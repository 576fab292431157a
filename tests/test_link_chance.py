"""Chances, models of loss and distributions of delay: what theory says they do, with fixed seeds."""

from __future__ import annotations

import math
import statistics
from itertools import groupby
from pathlib import Path
from statistics import NormalDist

import pytest

from netemu.errors import ConfigError
from netemu.net.delay import Delays, drawn_delay
from netemu.net.loss import LossModel, is_lost
from netemu.net.randomness import Chance, comes_true, draw, seed_chance, set_chance
from netemu.net.reorder import goes_ahead
from netemu.net.tables import parse_table, table
from netemu.net.values import Loss

MANY = 60_000
WORD = 1 << 32


def chance(percent: float, correlation: float = 0.0, seed: int = 1) -> Chance:
    made = Chance()
    seed_chance(made, seed)
    set_chance(made, percent, correlation)
    return made


def within(found: float, expected: float, deviation: float) -> bool:
    """Whether a mean of MANY independent draws with this deviation is within four standard errors."""
    return abs(found - expected) <= 4 * deviation / math.sqrt(MANY)


# Correlated numbers.


def test_fresh_numbers_are_even_and_independent() -> None:
    it = chance(0)
    numbers = [draw(it) / WORD for _ in range(MANY)]
    assert within(statistics.fmean(numbers), 0.5, math.sqrt(1 / 12))
    assert statistics.pvariance(numbers) == pytest.approx(1 / 12, rel=0.02)
    assert abs(statistics.correlation(numbers[:-1], numbers[1:])) < 0.02


@pytest.mark.parametrize("rho", [0.25, 0.5, 0.9])
def test_correlated_numbers_are_a_first_order_autoregression(rho: float) -> None:
    """x' = (1 - rho) u + rho x: mean 1/2, variance (1 - rho) / (1 + rho) / 12, correlation rho, and rho^2 two apart."""
    it = chance(0, 100 * rho)
    numbers = [draw(it) / WORD for _ in range(MANY)]
    assert statistics.fmean(numbers) == pytest.approx(0.5, abs=0.01)
    assert statistics.pvariance(numbers) == pytest.approx((1 - rho) / (1 + rho) / 12, rel=0.05)
    assert statistics.correlation(numbers[:-1], numbers[1:]) == pytest.approx(rho, abs=0.02)
    assert statistics.correlation(numbers[:-2], numbers[2:]) == pytest.approx(rho**2, abs=0.03)


def test_one_step_of_the_autoregression_by_hand() -> None:
    """With a correlation of a half the number is the mean of the fresh one and the last."""
    it = chance(0, 50)
    it.last = 1 << 31
    it.random = 1
    # Marsaglia's xorshift of 1: 1 ^ 1<<13 = 0x2001; ^ >>17 = 0x2001; ^ <<5 = 0x2001 ^ 0x40020 = 0x42021.
    assert draw(it) == ((1 << 31) + 0x42021) // 2


def test_all_correlation_repeats_the_first_number() -> None:
    it = chance(0, 100)
    assert len({draw(it) for _ in range(10)}) == 1


@pytest.mark.parametrize("percent", [0.1, 1.0, 25.0, 99.0])
def test_a_chance_comes_true_as_often_as_it_says(percent: float) -> None:
    it, p = chance(percent), percent / 100
    assert within(sum(comes_true(it) for _ in range(MANY)) / MANY, p, math.sqrt(p * (1 - p)))


def test_never_and_always() -> None:
    never, always = chance(0), chance(100)
    before = never.random
    assert not any(comes_true(never) for _ in range(1000))
    assert never.random == before  # what cannot be draws nothing
    assert all(comes_true(always) for _ in range(1000))


# Loss.


def losses(loss: Loss, count: int = MANY, seed: int = 3) -> list[int]:
    model = LossModel()
    model.seed(seed)
    model.set(loss)
    return [is_lost(model.struct) for _ in range(count)]


def runs(lost: list[int], value: int) -> list[int]:
    """Lengths of the runs of a value."""
    return [len(list(group)) for key, group in groupby(lost) if key == value]


def test_random_loss() -> None:
    lost = losses(Loss("random", (2.0,)))
    assert within(statistics.fmean(lost), 0.02, math.sqrt(0.02 * 0.98))
    assert statistics.fmean(runs(lost, 1)) == pytest.approx(1 / 0.98, abs=0.03)


def test_a_state_model_of_one_chance_is_random_loss() -> None:
    """tc-netem(8): "p13 ... if used alone corresponds to the Bernoulli model"."""
    lost = losses(Loss("state", (5.0,)))
    assert within(statistics.fmean(lost), 0.05, math.sqrt(0.05 * 0.95))
    assert statistics.fmean(runs(lost, 1)) == pytest.approx(1 / 0.95, abs=0.03)


def test_two_states_lose_in_bursts() -> None:
    """p13 1%, p31 20%: lost in p13 / (p13 + p31) of the time, bursts of 1 / p31 = 5, gaps of 1 / p13 = 100."""
    lost = losses(Loss("state", (1.0, 20.0)))
    assert statistics.fmean(lost) == pytest.approx(1 / 21, rel=0.15)
    assert statistics.fmean(runs(lost, 1)) == pytest.approx(5, rel=0.1)
    assert statistics.fmean(runs(lost, 0)) == pytest.approx(100, rel=0.12)


def test_four_states_have_the_stationary_distribution_of_their_chain() -> None:
    """Balance: pi4 = p14 pi1, p31 pi3 = p13 pi1, p23 pi2 = p32 pi3; states 3 and 4 lose."""
    p13, p31, p32, p23, p14 = 0.02, 0.10, 0.30, 0.60, 0.05
    lost = losses(Loss("state", (2.0, 10.0, 30.0, 60.0, 5.0)))
    pi1 = 1 / (1 + p14 + p13 / p31 * (1 + p32 / p23))
    assert statistics.fmean(lost) == pytest.approx(pi1 * (p14 + p13 / p31), rel=0.06)


def test_the_four_states_step_by_step() -> None:
    """Chances of nought and one leave no choice."""
    assert losses(Loss("state", (0.0, 0.0, 0.0, 0.0, 100.0)), 6) == [1, 0, 1, 0, 1, 0]  # 1 -> 4 -> 1
    assert losses(Loss("state", (100.0, 100.0)), 6) == [1, 0, 1, 0, 1, 0]  # 1 -> 3 -> 1
    assert losses(Loss("state", (100.0, 0.0, 100.0, 100.0)), 6) == [1, 0, 1, 0, 1, 0]  # 1 -> 3 -> 2 -> 3
    assert losses(Loss("state", (100.0, 0.0, 0.0)), 4) == [1, 1, 1, 1]  # 1 -> 3, and it stays
    assert losses(Loss("state", (100.0, 0.0, 100.0, 0.0)), 5) == [1, 0, 0, 0, 0]  # 1 -> 3 -> 2, and it stays


def test_gilbert_loses_in_bursts() -> None:
    """p 1%, r 25%: bad for p / (p + r) of the time, bursts of 1 / r = 4."""
    lost = losses(Loss("gemodel", (1.0, 25.0)))
    assert statistics.fmean(lost) == pytest.approx(1 / 26, rel=0.12)
    assert statistics.fmean(runs(lost, 1)) == pytest.approx(4, rel=0.1)


def test_gilbert_and_elliott_lose_in_both_states() -> None:
    """(1-h) in the bad state and (1-k) in the good one."""
    p, r, lost_bad, lost_good = 0.02, 0.10, 0.70, 0.01
    lost = losses(Loss("gemodel", (2.0, 10.0, 70.0, 1.0)))
    bad = p / (p + r)
    assert statistics.fmean(lost) == pytest.approx(lost_bad * bad + lost_good * (1 - bad), rel=0.08)


def test_a_gemodel_of_one_chance_is_random_loss() -> None:
    """r is 1 - p then: whichever state it is in, the next is bad with p."""
    lost = losses(Loss("gemodel", (5.0,)))
    assert within(statistics.fmean(lost), 0.05, math.sqrt(0.05 * 0.95))


def test_the_first_frame_meets_the_good_state() -> None:
    """The chain moves, and the frame is lost by the chance of the state it was in."""
    assert losses(Loss("gemodel", (100.0, 100.0)), 4) == [0, 1, 0, 1]


def test_the_same_seed_loses_the_same_frames() -> None:
    loss = Loss("gemodel", (1.0, 10.0))
    assert losses(loss, 5000, seed=1) == losses(loss, 5000, seed=1)
    assert losses(loss, 5000, seed=1) != losses(loss, 5000, seed=2)


# Reordering.


def test_every_fifth_frame_goes_ahead_reliably() -> None:
    """tc-netem(8): "a reorder probability of 100% can be used" to "cause ... every 5th packet" to be reordered."""
    it = chance(100)
    assert [goes_ahead(it, 5) for _ in range(15)] == [0, 0, 0, 0, 1] * 3


def test_after_the_gap_each_frame_has_its_chance() -> None:
    """Runs of 4, then as many more as a chance of a quarter takes: (1 - p) / p = 3 on average."""
    it = chance(25)
    ahead = [goes_ahead(it, 5) for _ in range(MANY)]
    assert statistics.fmean(runs(ahead, 0)) == pytest.approx(4 + 3, rel=0.03)
    assert min(runs(ahead, 0)) == 4


def test_a_gap_of_one_is_a_chance_for_each() -> None:
    it = chance(25)
    assert within(sum(goes_ahead(it, 1) for _ in range(MANY)) / MANY, 0.25, math.sqrt(0.25 * 0.75))


# Delay.


def delays(mean: int, jitter: int, distribution: str | tuple[int, ...] = "uniform", rho: float = 0.0) -> list[int]:
    it = Delays()
    it.seed(5)
    it.set(mean, jitter, rho, distribution)
    return sorted(drawn_delay(it.struct) for _ in range(MANY // 2))


def quantile(values: list[int], part: float) -> int:
    return values[int(part * len(values))]


def test_jitter_without_a_distribution_is_even() -> None:
    found = delays(100_000, 10_000)
    assert 90_000 <= found[0] < 90_010
    assert 109_990 < found[-1] <= 110_000
    for part in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert quantile(found, part) == pytest.approx(90_000 + 20_000 * part, abs=300)


def test_normal_jitter_has_the_quantiles_of_the_normal_distribution() -> None:
    found = delays(100_000, 10_000, "normal")
    for part in (0.01, 0.1587, 0.5, 0.8413, 0.99):
        assert quantile(found, part) == pytest.approx(100_000 + 10_000 * NormalDist().inv_cdf(part), abs=500)
    assert statistics.pstdev(found) == pytest.approx(10_000, rel=0.02)


def test_pareto_jitter_has_the_quantiles_of_paretos_distribution() -> None:
    """Of exponent 3: x = (1 - q)^(-1/3), less its mean of 3/2, over its variance of 3/4."""
    found = delays(100_000, 10_000, "pareto")
    for part in (0.1, 0.5, 0.9, 0.97):
        sigmas = ((1 - part) ** (-1 / 3) - 1.5) / 0.75
        assert quantile(found, part) == pytest.approx(100_000 + 10_000 * sigmas, abs=600)
    assert found[0] == pytest.approx(100_000 - 10_000 * 0.5 / 0.75, abs=20)


def test_a_delay_is_not_negative() -> None:
    assert delays(1_000, 10_000)[0] == 0
    assert delays(1_000, 10_000, "normal")[0] == 0


def test_without_jitter_nothing_is_drawn() -> None:
    assert set(delays(5_000, 0, "uniform")) == {5_000}


def test_a_table_of_ones_own() -> None:
    """8192 is a jitter above the mean."""
    found = delays(100_000, 10_000, (-8192, 0, 0, 16384))
    assert {delay: round(4 * found.count(delay) / len(found), 1) for delay in set(found)} == {
        90_000: 1.0,
        100_000: 2.0,
        120_000: 1.0,
    }


# Tables.


@pytest.mark.parametrize("name", ["normal", "pareto", "paretonormal"])
def test_a_table_ascends(name: str) -> None:
    numbers = table(name)
    assert list(numbers) == sorted(numbers)
    assert len(numbers) == 4096


def test_tables_have_their_moments() -> None:
    """Pareto's is cut off at four: at c = 3/2 + 4 * 3/4, where the mean is 3/2 - 1/(2 c^2) and the square's 3 - 2/c."""
    assert statistics.fmean(table("normal")) == pytest.approx(0, abs=1)
    assert statistics.pstdev(table("normal")) == pytest.approx(8192, rel=0.001)
    c = 1.5 + 4 * 0.75
    mean = 1.5 - 1 / (2 * c * c)
    assert statistics.fmean(table("pareto")) == pytest.approx(8192 * (mean - 1.5) / 0.75, abs=1)
    assert statistics.pstdev(table("pareto")) == pytest.approx(8192 * math.sqrt(3 - 2 / c - mean**2) / 0.75, rel=0.001)


def test_the_normal_table_is_symmetric() -> None:
    numbers = table("normal")
    assert [-number for number in reversed(numbers)] == list(numbers)
    assert numbers[4096 * 3 // 4] == pytest.approx(8192 * 0.6745, abs=8)  # the upper quartile


def test_a_file_of_numbers_is_read_as_iproute2_writes_it() -> None:
    assert parse_table("# a comment\n -32768 -10\t0\n\n 10 32767 # and one more\n") == (-32768, -10, 0, 10, 32767)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2\n3 x\n", "mine, line 2: 'x' is no number"),
        ("1.5", "is no number"),
        ("40000", "mine, line 1: 40000 is not from -32768 to 32767"),
        ("# nothing\n", "mine: has 0 numbers"),
        ("1 " * 20000, "has 20000 numbers"),
    ],
)
def test_a_file_that_is_no_table_is_told(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse_table(text, "mine")
    assert said in str(told.value)


DIST = sorted(path for pattern in ("*/tc", "tc") for path in Path("/usr/lib").glob(f"{pattern}/*.dist"))


@pytest.mark.skipif(not DIST, reason="no tables of iproute2 on this machine")
@pytest.mark.parametrize("name", ["normal", "pareto", "paretonormal"])
def test_tables_are_close_to_those_of_iproute2(name: str) -> None:
    (path,) = (path for path in DIST if path.stem == name)
    theirs, ours = sorted(parse_table(path.read_text())), table(name)
    for part in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98):
        assert ours[int(part * len(ours))] == pytest.approx(theirs[int(part * len(theirs))], abs=8192 * 0.02)
