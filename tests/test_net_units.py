"""Times, rates, sizes and chances as tc reads and writes them: tc(8), PARAMETERS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.net.units import (
    format_percent,
    format_rate,
    format_size,
    format_time,
    parse_percent,
    parse_rate,
    parse_size,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1s", 10**9),
        ("1sec", 10**9),
        ("2secs", 2 * 10**9),
        ("10ms", 10**7),
        ("10msec", 10**7),
        ("10msecs", 10**7),
        ("5us", 5000),
        ("5usec", 5000),
        ("5usecs", 5000),
        ("7ns", 7),
        ("100", 100_000),  # "a bare number: microseconds"
        ("0.5ms", 500_000),
        (".5ms", 500_000),
        ("1e2ms", 10**8),
        ("10MS", 10**7),
        ("10 ms", 10**7),
        ("0", 0),
    ],
)
def test_times(text: str, ns: int) -> None:
    assert parse_time(text) == ns


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("64", 64),  # "bit or a bare number: bits per second"
        ("64bit", 64),
        ("10kbit", 10_000),
        ("10mbit", 10_000_000),
        ("10Mbit", 10_000_000),
        ("2gbit", 2 * 10**9),
        ("1tbit", 10**12),
        ("3bps", 24),
        ("1kbps", 8000),
        ("1mbps", 8 * 10**6),
        ("1gbps", 8 * 10**9),
        ("1tbps", 8 * 10**12),
        ("1kibit", 1024),
        ("1mibit", 1 << 20),
        ("1gibps", 8 << 30),
        ("1tibit", 1 << 40),
        ("1.5mbit", 1_500_000),
    ],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1500", 1500),
        ("1500b", 1500),
        ("64k", 64 << 10),
        ("64kb", 64 << 10),
        ("1mb", 1 << 20),
        ("1m", 1 << 20),
        ("1gb", 1 << 30),
        ("1g", 1 << 30),
        ("8kbit", 1 << 10),
        ("8mbit", 1 << 20),
        ("8gbit", 1 << 30),
        ("1.5kb", 1536),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "percent"), [("25%", 25.0), ("0.1%", 0.1), ("3", 3.0), ("100%", 100.0), ("0", 0.0)])
def test_chances(text: str, percent: float) -> None:
    assert parse_percent(text) == percent


def test_numbers_that_are_no_texts_are_in_the_units_that_netemu_counts_in() -> None:
    assert (parse_time(5), parse_rate(5), parse_size(5), parse_percent(5)) == (5, 5, 5, 5.0)


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_time, "10mss", "did you mean 'ms'"),
        (parse_time, "", "is no time"),
        (parse_time, "ten", 'is no time, such as "10ms"'),
        (parse_time, "-1ms", "not negative"),
        (parse_time, "1e99s", "too much"),
        (parse_time, "9" * 50, "is no time"),
        (parse_rate, "10mbits", "did you mean 'mbit'"),
        (parse_rate, "nan", "is no rate"),
        (parse_size, "1kilo", "no unit 'kilo'"),
        (parse_percent, "101%", "from 0% to 100%"),
        (parse_percent, "-1%", "from 0% to 100%"),
        (parse_percent, "1 percent", "no unit"),
        (parse_percent, float("nan"), "from 0% to 100%"),
    ],
)
def test_what_is_none_is_told(parse: object, text: str, said: str) -> None:
    assert callable(parse)
    with pytest.raises(ConfigError) as told:
        parse(text)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("ns", "text"), [(0, "0s"), (7, "7ns"), (1500, "1.5us"), (10**7, "10ms"), (1_234_567, "1.234567ms"), (10**9, "1s")]
)
def test_times_are_written_short(ns: int, text: str) -> None:
    assert format_time(ns) == text


@pytest.mark.parametrize(("rate", "text"), [(5, "5bit"), (10**7, "10mbit"), (1_500_000, "1.5mbit"), (10**12, "1tbit")])
def test_rates_are_written_short(rate: int, text: str) -> None:
    assert format_rate(rate) == text


@given(st.integers(0, 1 << 60))
def test_what_is_written_is_read_back(number: int) -> None:
    assert parse_time(format_time(number)) == number
    assert parse_rate(format_rate(number)) == number
    assert parse_size(format_size(number)) == number


@given(st.floats(0, 100))
def test_chances_are_read_back(percent: float) -> None:
    assert parse_percent(format_percent(percent)) == percent


@pytest.mark.parametrize(("text", "meant"), [("10Mb/s", "'mbit'"), ("10MB/s", "'mbps'"), ("1Gb/s", "'gbit'")])
def test_a_rate_with_a_slash_is_answered_with_the_unit_of_tc(text: str, meant: str) -> None:
    """In tc mbps are megabytes a second: no answer to who wrote Mb/s."""
    with pytest.raises(ConfigError, match=f"did you mean {meant}"):
        parse_rate(text)
