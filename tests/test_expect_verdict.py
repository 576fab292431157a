"""Whether expectations hold: statistics, scopes, and what is told of what was measured."""

from __future__ import annotations

import statistics
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.expect import Measured, Verdict, judge, parse_expectation
from netemu.expect.measured import statistic
from netemu.expect.units import suited, written
from netemu.samples import Samples

MS = 1_000_000
FRAME = bytes.fromhex("020000000001 020000000002 0806 0001 0800 06 04 0001") + bytes(20)


def measured() -> Measured:
    return Measured(
        values={
            "traffic.ping": {"loss": Fraction(1, 100), "rtt": Samples(MS * n for n in range(1, 101)), "sent": 100},
            "traffic.silent": {"loss": Fraction(1), "rtt": Samples(), "sent": 3},
            "traffic.bulk": {"goodput": Fraction(24_000_001, 3)},
            "guest.a": {"rx_drops": 0, "rx_bytes": 1500},
            "guest.b": {"rx_drops": 7, "rx_bytes": 3000},
            "link.a-b": {"dropped": 3},
            "link.a-b.forward": {"dropped": 1},
        },
        frames={"guest.a": [FRAME, FRAME, bytes(60)]},
    )


def verdict(text: str) -> Verdict:
    return judge(parse_expectation(text), measured())


HOLDS = {
    "ping: loss <= 1 %": "1 %",
    "traffic.ping: loss == 1 %": "1 %",
    "ping: rtt min >= 1 ms": "1 ms",
    "ping: rtt avg == 50.5 ms": "50.5 ms",
    "ping: rtt p99 == 99 ms": "99 ms",
    "ping: rtt p50 == 50 ms": "50 ms",
    "ping: rtt p100 < 1 s": "0.1 s",
    "ping: rtt p0 == 1 ms": "1 ms",
    "ping: rtt mdev < 29 ms": "28.87 ms",
    "goodput > 8 Mbit/s": "8.0000003 Mbit/s",
    "goodput < 8000.001 kbit/s": "8,000.0003 kbit/s",
    "a: rx_drops == 0": "0",
    "rx_bytes <= 3 kB": "3 kB",
    "rx_bytes >= 1500": "1,500",
    "dropped == 3": "3",
    "a-b.forward: dropped == 1": "1",
    "link.a-b: dropped < 4": "3",
    "seen at a: arp": "2 of 3 frames",
    "seen 2 times at guest.a: arp.opcode == 1": "2 of 3 frames",
    "never seen at a: tcp": "0 of 3 frames",
    "seen at most 2 times at a: arp": "2 of 3 frames",
}


@pytest.mark.parametrize("text", HOLDS)
def test_it_holds_and_the_measured_value_is_told(text: str) -> None:
    told = verdict(text)
    assert (told.held, told.measured) == (True, HOLDS[text])


FAILS = {
    "loss <= 1 %": ("100 %", "traffic.silent"),
    "ping: loss < 1 %": ("1 %", "traffic.ping"),
    "ping: rtt p99 < 99 ms": ("99 ms", "traffic.ping"),
    "silent: rtt max < 1 s": ("nothing to measure it of", "traffic.silent"),
    "rx_drops == 0": ("7", "guest.b"),
    "rx_bytes > 1500": ("1,500", "guest.a"),
    "goodput <= 8 Mbit/s": ("8.0000003 Mbit/s", "traffic.bulk"),
    "tx_drops == 0": ("nothing has it", None),
    "ping: goodput > 1 Mbit/s": ("nothing has it", None),
    "never seen at a: arp": ("2 of 3 frames", "guest.a"),
    "seen 3 times at a: arp": ("2 of 3 frames", "guest.a"),
    "seen at b: arp": ("nothing was captured there", None),
}


@pytest.mark.parametrize("text", FAILS)
def test_it_fails_and_the_one_that_fails_is_named(text: str) -> None:
    told = verdict(text)
    assert (told.held, told.measured, told.scope) == (False, *FAILS[text])


def test_of_all_that_hold_the_nearest_to_failing_is_told() -> None:
    assert verdict("rx_drops <= 7").scope == "guest.b"
    assert verdict("rx_bytes >= 1 kB").scope == "guest.a"
    assert verdict("rx_drops != 8").scope == "guest.a"


def test_the_value_is_in_base_units() -> None:
    assert verdict("ping: rtt p99 == 99 ms").value == 99 * MS
    assert verdict("ping: loss <= 1 %").value == 0.01
    assert verdict("seen at a: arp").value == 2


@given(st.lists(st.integers(0, 10**10), min_size=1))
def test_statistics_are_those_of_python(values: list[int]) -> None:
    samples = Samples(values)
    assert statistic(samples, "avg") == statistics.mean(map(Fraction, values))
    assert statistic(samples, "p50") == statistics.median_low(values)
    assert statistic(samples, "min") == statistic(samples, "p0") == min(values)
    assert statistic(samples, "max") == statistic(samples, "p100") == max(values)


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(0, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[int], percent: int) -> None:
    found = statistic(Samples(values), f"p{percent}")
    enough = [one for one in values if 100 * sum(other <= one for other in values) >= percent * len(values)]
    assert found == min(enough)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_234_567, "ms", "1.235 ms"),
        (123, "ms", "0.000123 ms"),
        (12_345_678, "Mbit/s", "12.35 Mbit/s"),
        (Fraction(1, 3), "%", "33.33 %"),
        (Fraction(1, 30000), "%", "0.003333 %"),
        (0, "ms", "0 ms"),
        (1_234_567, "", "1,234,567"),
        (Fraction(12_345_678, 10), "", "1,234,568"),
    ],
)
def test_values_are_written_with_four_digits(value: Fraction | int, unit: str, text: str) -> None:
    assert written(value, unit) == text


def test_values_are_written_in_a_unit_of_which_there_is_one() -> None:
    assert [suited(v, "time") for v in (0, 999, 1000, 10**9, 10**12)] == ["ns", "ns", "us", "s", "s"]
    assert [suited(v, "rate") for v in (Fraction(1, 2), 1500, 10**10)] == ["bit/s", "kbit/s", "Gbit/s"]
    assert [suited(v, "size") for v in (0, 1500, 10**6)] == ["B", "kB", "MB"]
    assert (suited(5, "count"), suited(Fraction(1, 2), "share")) == ("", "%")


def test_without_a_scope_what_traffic_is_measured_by_is_about_traffic() -> None:
    """A link counts what it sent, too: ARP requests and answers among it."""
    measured = Measured({"traffic.udp": {"sent": 100}, "link.a-b": {"sent": 104}, "guest.a": {"rx_drops": 0}})
    assert measured.scopes(None, "sent") == ["traffic.udp"]
    assert measured.scopes("a-b", "sent") == ["link.a-b"]
    assert measured.scopes(None, "rx_drops") == ["guest.a"]
    assert Measured({"link.a-b": {"sent": 104}}).scopes(None, "sent") == ["link.a-b"]
