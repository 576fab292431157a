"""The words of a link: all that tc-netem(8) documents, what tc fills in, what a mistake is told with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.net.options import LinkOptions
from netemu.net.values import Codel, Delay, Loss, Odds, Queue, Rate, Red, Reorder, Slot

MS = 1_000_000


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("limit 100", "limit", 100),
        ("delay 10ms", "delay", Delay(10 * MS)),
        ("delay 10ms 2ms", "delay", Delay(10 * MS, 2 * MS)),
        ("delay 10ms 2ms 25%", "delay", Delay(10 * MS, 2 * MS, 25.0)),
        ("delay 10ms 2ms distribution normal", "delay", Delay(10 * MS, 2 * MS, 0.0, "normal")),
        ("delay 10ms 2ms 5% distribution pareto", "delay", Delay(10 * MS, 2 * MS, 5.0, "pareto")),
        ("delay 10ms 2ms distribution paretonormal", "delay", Delay(10 * MS, 2 * MS, 0.0, "paretonormal")),
        ("delay 10ms 2ms distribution uniform", "delay", Delay(10 * MS, 2 * MS)),
        ("latency 100", "delay", Delay(100_000)),
        ("loss 1%", "loss", Loss("random", (1.0,))),
        ("loss random 1%", "loss", Loss("random", (1.0,))),
        ("loss 1% 25%", "loss", Loss("random", (1.0,), 25.0)),
        ("loss random 0.3% 25%", "loss", Loss("random", (0.3,), 25.0)),
        ("drop 1", "loss", Loss("random", (1.0,))),
        # p31 is 100% - p13, p32 0%, p23 100%, p14 0% unless said.
        ("loss state 10%", "loss", Loss("state", (10.0, 90.0, 0.0, 100.0, 0.0))),
        ("loss state 10% 20%", "loss", Loss("state", (10.0, 20.0, 0.0, 100.0, 0.0))),
        ("loss state 10% 20% 30%", "loss", Loss("state", (10.0, 20.0, 30.0, 100.0, 0.0))),
        ("loss state 10% 20% 30% 40%", "loss", Loss("state", (10.0, 20.0, 30.0, 40.0, 0.0))),
        ("loss state 10% 20% 30% 40% 5%", "loss", Loss("state", (10.0, 20.0, 30.0, 40.0, 5.0))),
        # "r=1-p, 1-h=1 and 1-k=0"
        ("loss gemodel 1%", "loss", Loss("gemodel", (1.0, 99.0, 100.0, 0.0))),
        ("loss gemodel 1% 10%", "loss", Loss("gemodel", (1.0, 10.0, 100.0, 0.0))),
        ("loss gemodel 1% 10% 70%", "loss", Loss("gemodel", (1.0, 10.0, 70.0, 0.0))),
        ("loss gemodel 1% 10% 70% 0.1%", "loss", Loss("gemodel", (1.0, 10.0, 70.0, 0.1))),
        ("loss 1% ecn", "ecn", True),
        ("corrupt 0.1%", "corrupt", Odds(0.1)),
        ("corrupt 0.1% 10%", "corrupt", Odds(0.1, 10.0)),
        ("duplicate 1%", "duplicate", Odds(1.0)),
        ("duplicate 1% 10%", "duplicate", Odds(1.0, 10.0)),
        ("delay 10ms reorder 25% 50% gap 5", "reorder", Reorder(25.0, 50.0, 5)),
        ("delay 10ms reorder 25% 50%", "reorder", Reorder(25.0, 50.0)),
        ("delay 10ms reorder 25%", "reorder", Reorder(25.0)),
        ("delay 10ms gap 5", "reorder", Reorder(100.0, 0.0, 5)),  # as for netem: certain
        ("gap 5 reorder 25% delay 10ms", "reorder", Reorder(25.0, 0.0, 5)),
        ("delay 1ms 1ms loss 1% distribution normal", "delay", Delay(MS, MS, 0.0, "normal")),
        ("rate 5kbit", "rate", Rate(5000)),
        ("rate 5kbit 20", "rate", Rate(5000, 20)),
        ("rate 5kbit 20 100", "rate", Rate(5000, 20, 100)),
        ("rate 5kbit 20 100 5", "rate", Rate(5000, 20, 100, 5)),
        ("rate 5kbit -14 48 -3", "rate", Rate(5000, -14, 48, -3)),
        ("slot 800us", "slot", Slot(800_000, 800_000)),
        ("slot 1ms 2ms", "slot", Slot(MS, 2 * MS)),
        ("slot 1ms 2ms packets 10 bytes 64kb", "slot", Slot(MS, 2 * MS, None, 10, 65536)),
        ("slot 1ms bytes 1000", "slot", Slot(MS, MS, None, 0, 1000)),
        ("slot distribution normal 5ms 1ms", "slot", Slot(5 * MS, MS, "normal")),
        ("slot distribution pareto 5ms 1ms packets 3", "slot", Slot(5 * MS, MS, "pareto", 3)),
        ("seed 42", "seed", 42),
        ("queue 100p", "queue", Queue(100)),
        ("queue 64kb", "queue", Queue(0, 65536)),
        ("queue codel", "queue", Queue(policy=Codel())),
        ("queue 50p codel target 4ms interval 30ms ecn", "queue", Queue(50, 0, Codel(4 * MS, 30 * MS, True))),
        ("queue codel ce_threshold 1ms", "queue", Queue(policy=Codel(ce_threshold=MS))),
        ("queue tail", "queue", Queue()),
        (
            "queue 400000b red min 30000 max 90000 avpkt 1000 burst 55 ecn adaptive bandwidth 10Mbit",
            "queue",
            Queue(0, 400_000, Red(30_000, 90_000, 1000, 55, ecn=True, adaptive=True, bandwidth=10_000_000)),
        ),
        ("queue red probability 0.1 gentle", "queue", Queue(policy=Red(probability=0.1, gentle=True))),
        ("queue red ecn harddrop nodrop", "queue", Queue(policy=Red(ecn=True, harddrop=True, nodrop=True))),
        ("mtu 1500", "mtu", 1500),
        ("gso segments", "gso", "segments"),
    ],
)
def test_a_word_means_what_tc_takes_it_for(words: str, field: str, value: Any) -> None:
    options = LinkOptions.of(words)
    assert getattr(options, field) == value
    assert LinkOptions.of(str(options)) == options


def test_words_stand_in_any_order_and_the_last_one_counts() -> None:
    options = LinkOptions.of("loss 1% delay 5ms rate 1mbit LOSS 2%")
    assert (options.loss, options.delay) == (Loss("random", (2.0,)), Delay(5 * MS))


def test_the_issue_example_is_read_whole() -> None:
    options = LinkOptions.of("delay 10ms 2ms 25% distribution normal loss gemodel 1% 10% rate 10mbit limit 1000")
    assert options == LinkOptions(
        delay=Delay(10 * MS, 2 * MS, 25.0, "normal"),
        loss=Loss("gemodel", (1.0, 10.0)),
        rate=Rate(10_000_000),
        limit=1000,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dealy 10ms", "'dealy' is no word of a link; did you mean 'delay'?"),
        ("frob 10ms", "the words are limit, delay, loss"),
        ("delay", "delay: a time is missing at the end"),
        ("delay fast", "delay: 'fast' is no time, such as \"10ms\""),
        ("delay 10mz", "delay: '10mz' is no time, such as \"10ms\": no unit 'mz'; units are s, ms"),
        ("delay 10ms 2ms distribution nromal", "did you mean 'normal'"),
        ("delay 10ms distribution normal", "delay: a distribution needs a jitter"),
        ("distribution normal", "distribution: needs a delay"),
        ("loss 101%", "loss: a chance is from 0% to 100%, not '101%'"),
        ("loss gemodell 1%", "did you mean 'gemodel'"),
        ("loss state", "loss: p13, a chance, is missing at the end"),
        ("loss state 60% 10% 20% 30% 50%", "p13 and p14"),
        ("ecn", "it needs a loss"),
        ("reorder 10%", "reorder: needs a delay"),
        ("delay 1ms reorder 10% gap 0", "reorder: gap is from 1"),
        ("rate 10mbits", "did you mean 'mbit'"),
        ("rate 1mbit 0 48 -48", "rate: "),
        ("rate 1mbit 70000", "packet overhead is from"),
        ("slot 5ms 1ms", "slot: a slot's longest time"),
        ("slot 10000s", "slot: times between slots"),
        ("limit -1", "limit: a number of packets is from 0"),
        ("limit many", "limit: 'many' is no whole number"),
        ("queue lifo", "queue: 'lifo' is no size of a queue and no policy"),
        ("queue 10x", "no unit 'x'"),
        ("queue red probability 2", "queue: red: probability"),
        ("queue red probability big", "'big' is no probability"),
        ("queue codel target 200ms", "codel: interval"),
        ("gso half", "gso: a large frame is impaired whole or by segments, not 'half'"),
        ("mtu 70000", "mtu: an MTU is from 0 to 65535"),
        ("seed x", "seed: 'x' is no whole number"),
    ],
)
def test_a_mistake_is_told_with_the_word_and_what_was_expected(words: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        LinkOptions.of(words)
    assert said in str(told.value)


# Keywords, as a scenario file gives them.


@pytest.mark.parametrize(
    ("keyword", "value", "same"),
    [
        ("delay", "10ms 2ms 25%", "delay 10ms 2ms 25%"),
        ("delay", 5, "delay 5ns"),
        ("delay", Delay(5), "delay 5ns"),
        ("loss", 1, "loss 1%"),
        ("loss", 0.5, "loss 0.5%"),
        ("loss", "gemodel 1% 10%", "loss gemodel 1% 10%"),
        ("duplicate", 1.5, "duplicate 1.5%"),
        ("corrupt", "1% 2%", "corrupt 1% 2%"),
        ("rate", "10mbit", "rate 10mbit"),
        ("rate", 10_000_000, "rate 10mbit"),
        ("slot", 1000, "slot 1us"),
        ("queue", 50, "queue 50p"),
        ("queue", "64kb codel", "queue 64kb codel"),
        ("limit", 10, "limit 10"),
        ("limit", "10", "limit 10"),
        ("mtu", 1500, "mtu 1500"),
        ("seed", 7, "seed 7"),
        ("gso", "whole", "gso whole"),
    ],
)
def test_a_keyword_takes_what_its_word_takes(keyword: str, value: Any, same: str) -> None:
    assert LinkOptions(**{keyword: value}) == LinkOptions.of(same)
    assert LinkOptions.of(**{keyword: value}) == LinkOptions.of(same)


def test_a_keyword_overrules_the_text_and_none_takes_a_word_away() -> None:
    options = LinkOptions.of("delay 10ms loss 1%", loss="2%")
    assert options.loss == Loss("random", (2.0,))
    assert options.changed(loss=None).loss is None
    assert options.changed("loss 0%").delay == Delay(10 * MS)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"dely": "1ms"}, "dely: no word of a link; did you mean 'delay'?"),
        ({"loss": True}, "loss: True is neither a text nor a number"),
        ({"rate": [1]}, "rate: [1] is neither"),
        ({"loss": 101}, "loss: "),
        ({"delay": -1}, "delay: a time is not negative"),
        ({"loss": "1% 2% 3%"}, "loss: '3%' is one word too many"),
        ({"loss": "1%", "ecn": 1}, "ecn: true or false"),
        ({"limit": 1.5}, "limit: "),
    ],
)
def test_a_keyword_that_is_wrong_is_told(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as told:
        LinkOptions.of(**keywords)
    assert said in str(told.value)


def test_a_distribution_of_a_file_is_asked_for_by_its_name() -> None:
    def tables(name: str) -> tuple[int, ...]:
        assert name == "mine.dist"
        return (-100, 0, 100)

    options = LinkOptions.of("delay 10ms 1ms distribution mine.dist", tables=tables)
    assert options.delay == Delay(10 * MS, MS, 0.0, (-100, 0, 100))
    assert LinkOptions.of(str(options)) == options
    assert LinkOptions.of(delay="10ms 1ms distribution mine.dist", tables=tables) == options


PERCENTS = st.floats(0, 100)
NAMES = st.sampled_from(["normal", "uniform", "pareto"])
OPTIONS = st.builds(
    LinkOptions,
    delay=st.builds(Delay, st.integers(1, 1 << 60), st.integers(1, 1 << 37), PERCENTS, NAMES),
    loss=st.none() | st.builds(lambda p, r: Loss("gemodel", (p, r)), PERCENTS, PERCENTS),
    duplicate=st.builds(Odds, PERCENTS, PERCENTS),
    reorder=st.builds(Reorder, PERCENTS, PERCENTS, st.integers(1, 100)),
    rate=st.builds(Rate, st.integers(0, 10**14), st.integers(-100, 100), st.integers(10, 100), st.integers(-9, 100)),
    slot=st.none() | st.builds(Slot, st.integers(1, 10**9), st.integers(10**9, 10**10), packets=st.integers(0, 9)),
    queue=st.builds(Queue, st.integers(0, 99))
    | st.builds(Queue, st.just(0), st.integers(20_000, 1 << 30), st.builds(Red, ecn=st.booleans())),
    limit=st.none() | st.integers(0, 1000),
)


@given(OPTIONS)
@settings(max_examples=100, deadline=None)
def test_options_are_written_as_words_that_say_the_same(options: LinkOptions) -> None:
    assert LinkOptions.of(str(options)) == options


SOME = ("delay", "loss", "1%", "10ms", "x", "-5", "gemodel", "state", "queue", "red", "codel", "slot", "gap", "ecn")


@given(st.lists(st.sampled_from((*SOME, "distribution", "0x9", "1e999", "\xe9")), max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_words_are_read_or_told_to_be_wrong(words: list[str]) -> None:
    text = " ".join(words)
    try:
        options = LinkOptions.of(text)
    except ConfigError:
        return
    assert LinkOptions.of(str(options)) == options
