"""When a quirk happens: the words a user writes, and what kernels are told at each occasion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.quirks import Quirk, QuirkSet, parse_quirk, quirk_asked, quirk_fires

KNOWN = [Quirk("late", "device", "RX-D-04", "comes late", 3), Quirk("dirty", "device", "RX-D-05", "is dirty", 4)]
SECOND = 1_000_000_000


def times(text: str, occasions: int = 1000, step: int = 0) -> list[int]:
    """The numbers of the occasions at which a quirk happens; one every ``step`` ns."""
    _, rule = parse_quirk(text, KNOWN)
    return [n for n in range(1, occasions + 1) if quirk_fires(rule, n, 5 * SECOND + n * step)]


def test_a_name_alone_means_always() -> None:
    assert times("late", 10) == list(range(1, 11))


def test_at_is_the_number_of_the_first_and_count_how_many() -> None:
    assert times("late:at=100,count=3") == [100, 101, 102]


def test_after_is_counted_from_the_first_occasion() -> None:
    assert times("late:after=0.5", 20, step=SECOND // 10) == list(range(6, 21))


def test_p_is_a_share_of_the_occasions_and_the_seed_says_which() -> None:
    few, other = times("late:p=0.1,seed=7", 10_000), times("late:p=0.1,seed=8", 10_000)
    # Five standard deviations (30) around the mean.
    assert 850 < len(few) < 1150
    assert 850 < len(other) < 1150
    assert few != other
    assert few == times("late:seed=7,p=0.1", 10_000)


def test_p_0_is_never_and_p_1_always() -> None:
    assert times("late:p=0") == []
    assert len(times("late:p=1")) == 1000


@pytest.mark.parametrize("seed", [1, 2, 3, 1 << 31, 1 << 62])
def test_every_seed_makes_a_generator_that_goes_on(seed: int) -> None:
    assert len(times(f"late:p=0.5,seed={seed}")) > 400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "early",
        "late:p",
        "late:p=2",
        "late:p=-0.1",
        "late:p=nan",
        "late:at=0",
        "late:at=1.5",
        "late:count=0",
        "late:seed=0",
        "late:after=-1",
        "late:after=inf",
        "late:when=3",
        "late:at=9999999999999999999999",
        "late:,",
    ],
)
def test_what_cannot_be_is_refused_with_a_message(text: str) -> None:
    with pytest.raises(ConfigError, match="quirk"):
        parse_quirk(text, KNOWN)


@given(st.text(max_size=30) | st.text("late:p=1,0.at", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        quirk, _ = parse_quirk(text, KNOWN)
    except ConfigError:
        return
    assert text.startswith(quirk.name)


def test_a_set_asks_every_rule_of_a_quirk_and_counts_by_name() -> None:
    rules = QuirkSet(["late:at=2,count=1", "dirty:at=3", "late:at=5"], KNOWN)
    happened = []
    for number in range(1, 7):
        rules.struct.number = number
        happened.append([bool(quirk_asked(rules.struct, quirk.number)) for quirk in KNOWN])
    assert [late for late, _ in happened] == [False, True, False, False, True, True]
    assert [dirty for _, dirty in happened] == [False, False, True, True, True, True]
    assert rules.fired == {"late": 3, "dirty": 4}


def test_an_empty_set_never_asks() -> None:
    rules = QuirkSet([], KNOWN)
    assert (len(rules), quirk_asked(rules.struct, 3), rules.fired) == (0, 0, {})
