"""Expectations as texts: what a quantity has to be, or which frames must be seen, or not.

    expectation = quantity | sighting
    quantity    = [SCOPE ":"] METRIC [STATISTIC] ("<=" | ">=" | "==" | "!=" | "<" | ">") NUMBER [UNIT]
    sighting    = ("seen" [often "times"] | "never seen") "at" PLACE ":" predicate
    often       = ["at least" | "at most"] NUMBER

A METRIC is one of traffic (`netemu.expect.metrics`) or a counter of a guest or link; a STATISTIC is min, avg, max, mdev
or a percentile such as p99, for metrics that have a value for each packet. A SCOPE names a piece of traffic, a guest, a
link...: as NAME, or as traffic.NAME, guest.NAME, link.NAME and so on. Without one, the expectation is about all traffic
that has this metric, or else about everything that has this counter, and holds if it does for each of them. A PLACE is
a guest or a link; for predicates see `netemu.expect.predicate`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from netemu.errors import ConfigError
from netemu.expect.metrics import METRICS, counter_dimension
from netemu.expect.predicate import Predicate, parse_predicate
from netemu.expect.units import BARE, COMMON, UNITS, all_units, dimension_of, worth
from netemu.expect.words import did_you_mean, listed, nearest

STATISTICS = ("min", "avg", "max", "mdev")
"""Beside percentiles."""
SIGNS = ("<=", ">=", "==", "!=", "<", ">")

_QUANTITY = re.compile(
    r"""\s*(?:(?P<scope>[^\s:<>=!]+)\s*:\s*)?(?P<metric>[A-Za-z_][A-Za-z0-9_.-]*)(?:\s+(?P<statistic>[A-Za-z][\w.]*))?
    \s*(?P<sign><=|>=|==|!=|<|>|=)\s*(?P<number>[0-9][0-9_]*(?:\.[0-9]+)?)\s*(?P<unit>[^\s0-9]\S*)?\s*""",
    re.VERBOSE,
)
_SIGHTING = re.compile(
    r"""\s*(?:(?P<never>never\s+seen)|seen(?:\s+(?:at\s+(?P<bound>least|most)\s+)?(?P<count>[0-9]+)\s+times?)?)
    \s+(?:at|in|on)\s+(?P<place>[^\s:]+)\s*:(?P<predicate>.*)""",
    re.VERBOSE | re.DOTALL,
)
_PERCENTILE = re.compile(r"p(?:100|[0-9]{1,2}(?:\.[0-9]+)?)")
_MANY = 1 << 62


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured value stands in a relation to a number."""

    scope: str | None
    metric: str
    statistic: str | None
    sign: str
    number: str
    """As it was written, without underscores."""
    unit: str
    """Empty for a bare number."""

    @property
    def bound(self) -> Fraction:
        """The number in base units (`netemu.expect.units`)."""
        return Fraction(self.number) * worth(self.unit)

    @property
    def dimension(self) -> str:
        """The dimension of the metric."""
        return METRICS[self.metric].dimension if self.metric in METRICS else counter_dimension(self.metric)

    def __str__(self) -> str:
        """As `parse_expectation` reads it."""
        scope = f"{self.scope}: " if self.scope else ""
        statistic = f" {self.statistic}" if self.statistic else ""
        return f"{scope}{self.metric}{statistic} {self.sign} {self.number}{' ' if self.unit else ''}{self.unit}"


@dataclass(frozen=True, slots=True)
class Sighting:
    """Frames for which a predicate is true pass a place, so often."""

    place: str
    predicate: Predicate
    at_least: int = 1
    at_most: int = _MANY

    @property
    def often(self) -> str:
        """How often, in words."""
        low, high = self.at_least, self.at_most
        if high == 0:
            return "never seen"
        if high >= _MANY:
            return "seen" if low == 1 else f"seen at least {low} times"
        return f"seen {low} times" if low == high else f"seen at most {high} times"

    def __str__(self) -> str:
        """As `parse_expectation` reads it."""
        return f"{self.often} at {self.place}: {self.predicate}"


Expectation = Quantity | Sighting


def parse_expectation(text: str) -> Expectation:
    """Read an expectation; raises `ConfigError` for what is none, with what was expected."""
    return _sighting(text) if re.match(r"\s*(?:seen|never)\b", text) else _quantity(text)


def _sighting(text: str) -> Sighting:
    found = _SIGHTING.fullmatch(text)
    if found is None:
        raise ConfigError(f"'{text.strip()}' is not of the form 'never seen at PLACE: PREDICATE' or 'seen ...'")
    predicate = parse_predicate(found["predicate"])
    if found["never"]:
        return Sighting(found["place"], predicate, 0, 0)
    if found["count"] is None:
        return Sighting(found["place"], predicate)
    count = int(found["count"])
    if found["bound"] == "least":
        return Sighting(found["place"], predicate, at_least=max(count, 1))
    return Sighting(found["place"], predicate, 0 if found["bound"] == "most" else count, count)


def _quantity(text: str) -> Quantity:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ConfigError(f"'{text.strip()}' is not of the form 'METRIC <= NUMBER UNIT', as in 'rtt p99 < 25 ms'")
    scope, metric, statistic, sign = found["scope"], found["metric"], found["statistic"], found["sign"]
    number, unit = found["number"].replace("_", ""), found["unit"] or ""
    if sign == "=":
        raise ConfigError(f"'{text.strip()}' compares with =, which is written ==")
    if metric in METRICS:
        _check_statistic(metric, statistic)
    elif statistic is not None:
        near = did_you_mean(metric, METRICS)
        raise ConfigError(f"{metric!r} is no metric that {statistic!r} could be taken of{near}")
    wanted = Quantity(scope, metric, statistic, sign, number, unit)
    _check_unit(wanted)
    return wanted


def _check_statistic(metric: str, statistic: str | None) -> None:
    if not METRICS[metric].sampled:
        if statistic is not None:
            raise ConfigError(f"{metric} is one value: '{metric} {statistic}' does not exist, {metric!r} alone does")
        return
    choice = f"{metric} {listed([*STATISTICS, 'p50', 'p99'], 'or')}"
    if statistic is None:
        raise ConfigError(f"{metric} has a value for each packet: say which, as {choice}")
    if statistic not in STATISTICS and not _PERCENTILE.fullmatch(statistic):
        raise ConfigError(f"{statistic!r} is no statistic{did_you_mean(statistic, [*STATISTICS, 'p50', 'p90', 'p99'])}")


def _check_unit(wanted: Quantity) -> None:
    dimension, unit, metric = wanted.dimension, wanted.unit, wanted.metric
    choice = listed(filter(None, COMMON[dimension]), "or")
    if not unit:
        if dimension not in BARE and Fraction(wanted.number):
            raise ConfigError(f"{metric} is a {dimension}: {wanted.number} needs a unit, one of {choice}")
        return
    if dimension_of(unit) is None:
        known = UNITS[dimension] or all_units()
        raise ConfigError(f"{unit!r} is no unit{did_you_mean(unit, known) if UNITS[dimension] else ''}")
    if dimension_of(unit) != dimension:
        near = nearest(metric, METRICS)
        if metric not in METRICS and near is not None and METRICS[near].dimension == dimension_of(unit):
            raise ConfigError(f"nothing is called {metric!r}; did you mean {near}?")
        rest = f"its unit is {choice}" if choice else "it is a number without a unit"
        raise ConfigError(f"{metric} is a {dimension}, and {unit} a unit of {dimension_of(unit)}: {rest}")
