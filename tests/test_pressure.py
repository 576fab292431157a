"""Rules for allocations that fail: what they say, when they hold, and that a seed makes them repeat."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.jit import allocate, store64
from netemu.memory import GuestMemory
from netemu.pages import Pages, alloc_pages, put_page
from netemu.pressure import Pressure, PressureRule, parse_pressure, parse_pressures, pressure_refuses
from netemu.skb import Skbs, alloc_skb
from tests.driver_kit import plain

SECOND = 1_000_000_000
asked = plain(pressure_refuses)


class Asked:
    """A rule and a clock of its own."""

    def __init__(self, text: str, queue: int = 0) -> None:
        self.clock = allocate(8)
        self.pressure: Pressure = parse_pressure(text).pressure(queue, self.clock.address)

    def at(self, seconds: float) -> int:
        """Ask at a moment."""
        store64(self.clock.address, round(seconds * SECOND))
        return asked(self.pressure.address)

    def times(self, count: int) -> list[int]:
        """Ask so many times; the numbers of those that failed, from 1."""
        return [n for n in range(1, count + 1) if asked(self.pressure.address)]


# When a rule holds


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("pages", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("pages:every=3", [3, 6, 9]),
        ("pages:first=4", [4, 5, 6, 7, 8, 9, 10]),
        ("pages:last=2", [1, 2]),
        ("pages:first=3,last=5", [3, 4, 5]),
        ("pages:count=2", [1, 2]),
        ("pages:first=5,every=2,count=2", [6, 8]),
        ("pages:p=0", []),
        ("pages:p=1", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_which_allocations_fail(text: str, failed: list[int]) -> None:
    rule = Asked(text)
    assert rule.times(10) == failed
    assert (rule.pressure.asked, rule.pressure.refused) == (10, len(failed))


def test_a_window_of_time_counts_from_the_clocks_start() -> None:
    """A clock at 0 is not running yet: what comes before the first frame has no time."""
    rule = Asked("skbs:after=1,until=2.5")
    assert [rule.at(t) for t in (0, 0)] == [0, 0]
    start = 1_700_000_000
    moments = (0, 0.999, 1, 2.4, 2.5, 9)
    assert [rule.at(start + t) for t in moments] == [0, 0, 1, 1, 0, 0]


def test_a_window_without_a_beginning_is_open_before_the_clock_runs() -> None:
    rule = Asked("skbs:until=1")
    assert [rule.at(t) for t in (0, 5, 5.9, 6)] == [1, 1, 1, 0]


@given(st.integers(1, 1 << 40), st.sampled_from([0.1, 0.5, 0.9]))
def test_a_seed_makes_chance_repeat(seed: int, chance: float) -> None:
    """The same numbers again, and about as many as the probability says: 6 sigma of 400 trials are 0.15 at most."""
    text = f"pages:p={chance},seed={seed}"
    failed = Asked(text).times(400)
    assert failed == Asked(text).times(400)
    assert abs(len(failed) / 400 - chance) < 0.15


def test_seeds_and_queues_differ() -> None:
    runs = [Asked(f"pages:p=0.5,seed={seed}", queue).times(64) for seed, queue in ((1, 0), (2, 0), (1, 4))]
    assert len({tuple(run) for run in runs}) == 3


# What a rule may say


def test_a_rule_in_numbers() -> None:
    text = "tables:p=0.25,every=2,first=3,last=9,after=0.5,until=1.5,count=4,seed=7"
    assert parse_pressure(text) == PressureRule("tables", 1 << 30, 2, 3, 9, 500_000_000, 1_500_000_000, 4, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bytes", "no allocation is called 'bytes'; there are pages, skbs, tables"),
        ("", "no allocation is called ''"),
        ("pages:q=1", "pressure on pages: no option is called 'q'; there are p, every"),
        ("pages:p", "pressure on pages: p cannot be ''"),
        ("pages:p=1.5", "p cannot be '1.5'"),
        ("pages:p=nan", "p cannot be 'nan'"),
        ("pages:every=0", "every cannot be '0'"),
        ("pages:after=-1", "after cannot be '-1'"),
        ("pages:after=inf", "after cannot be 'inf'"),
        ("pages:count=2.5", "count cannot be '2.5'"),
        ("pages:seed=99999999999999999999", "seed cannot be"),
    ],
)
def test_a_rule_that_is_none_says_why(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_pressure(text)
    assert words in str(caught.value)


@given(st.text(max_size=40) | st.from_regex(r"(pages|skbs|tables):[a-z]{1,6}=[0-9.e-]{0,12}", fullmatch=True))
def test_any_text_is_a_rule_or_a_config_error(text: str) -> None:
    try:
        rule = parse_pressure(text)
    except ConfigError:
        return
    clock = allocate(8)
    assert asked(rule.pressure(0, clock.address).address) in (0, 1)


def test_one_rule_a_kind() -> None:
    assert set(parse_pressures(["pages:p=0.1", "skbs:count=2"])) == {"pages", "skbs"}
    with pytest.raises(ConfigError, match="two rules for allocations of pages"):
        parse_pressures(["pages:p=0.1", "pages"])


# What it does to a pool


def test_a_pool_under_pressure_fails_and_counts() -> None:
    rule = Asked("pages:every=2")
    pages = Pages(GuestMemory(1 << 20), 4, 0)
    pages.pool.pressure = rule.pressure.address
    taken = [alloc_pages(pages.pool) for _ in range(6)]
    assert [page != 0 for page in taken] == [True, False, True, False, True, False]
    assert (pages.pool.alloc_failed, pages.pool.free_count) == (3, 1)
    for page in filter(None, taken):
        put_page(page)
    assert pages.pool.free_count == 4


def test_an_empty_pool_does_not_ask() -> None:
    """What has no memory fails anyhow: the rule's count is for those that would have succeeded."""
    rule = Asked("skbs:count=1,first=3")
    skbs = Skbs(GuestMemory(1 << 20), 2)
    skbs.pool.pressure = rule.pressure.address
    assert [alloc_skb(skbs.pool) != 0 for _ in range(4)] == [True, True, False, False]
    assert rule.pressure.asked == 2
