"""Expectations as texts: what is understood, what is refused in which words; and what is written is read back."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.expect import Quantity, Sighting, parse_expectation, parse_predicate
from netemu.expect import fields as f
from netemu.expect.expectation import SIGNS, STATISTICS
from netemu.expect.metrics import METRICS
from netemu.expect.predicate import AllOf, Among, AnyOf, Compare, Contains, Has, Not, Predicate
from netemu.expect.units import UNITS

UNDERSTOOD = {
    "loss <= 1 %": (None, "loss", None, "<=", Fraction(1, 100)),
    "loss==0": (None, "loss", None, "==", Fraction(0)),
    "rtt p99 < 25 ms": (None, "rtt", "p99", "<", Fraction(25_000_000)),
    "rtt p99.9 < 1.5 s": (None, "rtt", "p99.9", "<", Fraction(1_500_000_000)),
    "rx_drops == 0": (None, "rx_drops", None, "==", Fraction(0)),
    "goodput > 8 Mbit/s": (None, "goodput", None, ">", Fraction(8_000_000)),
    "goodput > 1MB/s": (None, "goodput", None, ">", Fraction(8_000_000)),
    "bytes >= 1 MiB": (None, "bytes", None, ">=", Fraction(1 << 20)),
    "bytes != 1_000": (None, "bytes", None, "!=", Fraction(1000)),
    "download: goodput > 8 kbit/s": ("download", "goodput", None, ">", Fraction(8000)),
    "guest.b : rx_bytes >= 2 kB": ("guest.b", "rx_bytes", None, ">=", Fraction(2000)),
    "link.a-b.forward: dropped == 3": ("link.a-b.forward", "dropped", None, "==", Fraction(3)),
}


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_a_quantity_is_understood(text: str) -> None:
    wanted = parse_expectation(text)
    assert isinstance(wanted, Quantity)
    assert (wanted.scope, wanted.metric, wanted.statistic, wanted.sign, wanted.bound) == UNDERSTOOD[text]


SEEN = {
    "seen at a: tcp": (1, None),
    "seen 1 time at a: tcp": (1, 1),
    "seen 3 times at a: tcp": (3, 3),
    "seen 0 times at a: tcp": (0, 0),
    "seen at least 3 times at a: tcp": (3, None),
    "seen at most 3 times at a: tcp": (0, 3),
    "never  seen in a :tcp": (0, 0),
}


@pytest.mark.parametrize("text", SEEN)
def test_a_sighting_says_how_often(text: str) -> None:
    wanted = parse_expectation(text)
    assert isinstance(wanted, Sighting)
    assert (wanted.place, wanted.predicate) == ("a", Has("tcp"))
    low, high = SEEN[text]
    assert wanted.at_least == low
    assert wanted.at_most == high or (high is None and wanted.at_most > 10**18)


REFUSED = {
    "loss": "'loss' is not of the form 'METRIC <= NUMBER UNIT', as in 'rtt p99 < 25 ms'",
    "loss = 1 %": "'loss = 1 %' compares with =, which is written ==",
    "loss <= 1": "loss is a share: 1 needs a unit, one of %",
    "loss < 1 ms": "loss is a share, and ms a unit of time: its unit is %",
    "goodput > 8": "goodput is a rate: 8 needs a unit, one of bit/s, kbit/s, Mbit/s or Gbit/s",
    "goodput > 8 Mbits": "'Mbits' is no unit; did you mean Mbit/s?",
    "goodput > -8 Mbit/s": "'goodput > -8 Mbit/s' is not of the form 'METRIC <= NUMBER UNIT', as in 'rtt p99 < 25 ms'",
    "rtt < 25 ms": "rtt has a value for each packet: say which, as rtt min, avg, max, mdev, p50 or p99",
    "rtt p101 < 25 ms": "'p101' is no statistic; there is min, avg, max, mdev, p50, p90 and p99",
    "rtt average < 25 ms": "'average' is no statistic; did you mean avg?",
    "loss p99 < 1 %": "loss is one value: 'loss p99' does not exist, 'loss' alone does",
    "rx_drops p99 == 0": "'rx_drops' is no metric that 'p99' could be taken of",
    "rx_drops < 1 ms": "rx_drops is a count, and ms a unit of time: it is a number without a unit",
    "rx_drops < 1 packet": "'packet' is no unit",
    "seen: tcp": "'seen: tcp' is not of the form 'never seen at PLACE: PREDICATE' or 'seen ...'",
    "never seen at a: ": "expected a field, not its end, in the predicate ''",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_expectation_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_expectation(text)
    assert str(refused.value) == REFUSED[text]


REFUSED_PREDICATES = {
    "tcp.flag.syn == 1": "no field is called 'tcp.flag.syn'; did you mean tcp.flags.syn?",
    "tcp.flags.syn": "tcp.flags.syn has to be compared, as in tcp.flags.syn == 1",
    "tcp.flags.syn == 2": "tcp.flags.syn is 0 or 1, and not 2",
    "tcp == 1": "tcp is there or not, and has no value to compare: 'tcp' alone asks that",
    "ip.src > 10.0.0.1": "ip.src is an address: it is compared with == or !=, not >",
    "ip.src == 10.0.0.256": "ip.src is compared with an IPv4 address, not with '10.0.0.256'",
    "ip.src == fd00::1": "ip.src is compared with an IPv4 address, not with 'fd00::1'",
    "eth.src == 02:00": "eth.src is compared with a MAC address, not with '02:00'",
    "tcp.port == http": "tcp.port is compared with a number, not with 'http'",
    "tcp.port == -1": "tcp.port is never negative, and not -1",
    "tcp.port in {80": "expected '}', not its end, in the predicate 'tcp.port in {80'",
    "tcp.port in 80": "expected '{', not '80', in the predicate 'tcp.port in 80'",
    "tcp.port ==": "tcp.port is compared with a number, not with nothing",
    "frame": 'frame is a piece of the frame: frame contains "TEXT" asks what is in it',
    "frame contains GET": "expected a text \"in quotes\", not 'GET', in the predicate 'frame contains GET'",
    'frame contains "\u00e4"': "a text of a predicate is written in ASCII; other bytes as \\xHH",
    "(tcp": "expected ')', not its end, in the predicate '(tcp'",
    "tcp udp": "expected 'and' or 'or', not 'udp', in the predicate 'tcp udp'",
    "tcp and @": "the predicate 'tcp and @' cannot be read from '@' on",
    "(" * 60 + "tcp" + ")" * 60: "a predicate has at most 50 parentheses within each other",
}


@pytest.mark.parametrize("text", REFUSED_PREDICATES, ids=lambda text: text[:30])
def test_what_is_no_predicate_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_predicate(text)
    assert str(refused.value) == REFUSED_PREDICATES[text]


def test_not_binds_closer_than_and_and_and_than_or() -> None:
    assert parse_predicate("not tcp and udp or arp") == AnyOf((AllOf((Not(Has("tcp")), Has("udp"))), Has("arp")))
    assert parse_predicate("!tcp && (udp || arp)") == AllOf((Not(Has("tcp")), AnyOf((Has("udp"), Has("arp")))))
    assert parse_predicate("tcp.port eq 0x50") == Compare("tcp.port", "==", 80)


# Round trips.


def values(name: str) -> st.SearchStrategy[int | IPv4Network | IPv6Network]:
    kind = f.FIELDS[name]
    if kind == f.IPV4:
        return st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
            lambda pair: IPv4Network(pair, strict=False)
        )
    if kind == f.IPV6:
        return st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
            lambda pair: IPv6Network(pair, strict=False)
        )
    return st.integers(0, {f.FLAG: 1, f.MAC: 2**48 - 1}.get(kind, 2**32 - 1))


def named(*kinds: str) -> st.SearchStrategy[str]:
    return st.sampled_from([name for name, kind in f.FIELDS.items() if kind in kinds])


COMPARED = named(f.NUMBER, f.FLAG, f.IPV4, f.IPV6, f.MAC)


@st.composite
def comparisons(draw: st.DrawFn) -> Predicate:
    name = draw(COMPARED)
    signs = ["==", "!=", "<", "<=", ">", ">="] if f.FIELDS[name] in {f.NUMBER, f.FLAG} else ["==", "!="]
    return Compare(name, draw(st.sampled_from(signs)), draw(values(name)))


LEAVES = st.one_of(
    named(f.LAYER).map(Has),
    comparisons(),
    COMPARED.flatmap(
        lambda name: st.lists(values(name), min_size=1, max_size=3).map(lambda found: Among(name, tuple(found)))
    ),
    st.builds(Contains, named(f.BYTES), st.binary(max_size=8)),
)
PREDICATES = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        part.map(Not),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: AllOf(tuple(parts))),
        st.lists(part, min_size=2, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=8,
)


@given(PREDICATES)
def test_a_predicate_is_read_as_it_was_written(predicate: Predicate) -> None:
    assert parse_predicate(str(predicate)) == predicate


@st.composite
def quantities(draw: st.DrawFn) -> Quantity:
    metric = draw(st.sampled_from([*METRICS, "rx_drops", "rx_bytes", "TcpRetransSegs"]))
    sampled = metric in METRICS and METRICS[metric].sampled
    statistic = draw(st.sampled_from([*STATISTICS, "p0", "p50", "p99.9", "p100"])) if sampled else None
    scope = draw(st.sampled_from([None, "a", "guest.a", "link.a-b.forward"]))
    number = draw(st.decimals(0, 10**6, places=draw(st.integers(0, 3))).map(lambda value: f"{value:f}"))
    bare = Quantity(scope, metric, statistic, draw(st.sampled_from(SIGNS)), number, "")
    units = list(UNITS[bare.dimension]) or [""]
    return Quantity(scope, metric, statistic, bare.sign, number, draw(st.sampled_from(units)))


@given(quantities() | st.builds(lambda p, low: Sighting("link.ab", p, low, low), PREDICATES, st.integers(0, 9)))
def test_an_expectation_is_read_as_it_was_written(expectation: Quantity | Sighting) -> None:
    assert parse_expectation(str(expectation)) == expectation


@given(st.text(max_size=60))
def test_any_text_is_understood_or_refused(text: str) -> None:
    for parse in (parse_expectation, parse_predicate, lambda rest: parse_expectation("seen at a: " + rest)):
        with suppress(ConfigError):
            assert parse(text)
