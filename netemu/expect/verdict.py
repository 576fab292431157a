"""Whether an expectation held, and what was measured."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from netemu.expect.expectation import Expectation, Quantity, Sighting
from netemu.expect.measured import Measured, statistic
from netemu.expect.units import written
from netemu.samples import Samples

_SIGNS: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_MOST_DIGITS = 17


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an expectation."""

    expectation: Expectation
    held: bool
    measured: str
    """What was measured, in the unit of the expectation; or why nothing was."""
    scope: str | None
    """Where: the thing that decided, of all that the expectation is about."""
    value: float | int | None
    """The same in base units: ns, bit/s, bytes, shares of 1, pieces."""

    def __bool__(self) -> bool:
        """Whether it held."""
        return self.held


def judge(expectation: Expectation, measured: Measured) -> Verdict:
    """Look at what was measured."""
    if isinstance(expectation, Sighting):
        return _judge_sighting(expectation, measured)
    return _judge_quantity(expectation, measured)


def _judge_sighting(wanted: Sighting, measured: Measured) -> Verdict:
    place = measured.place(wanted.place)
    if place is None:
        return Verdict(wanted, held=False, measured="nothing was captured there", scope=None, value=None)
    seen, total = measured.count(place, wanted.predicate)
    held = wanted.at_least <= seen <= wanted.at_most
    return Verdict(wanted, held, f"{seen:,} of {total:,} frames", place, seen)


def _judge_quantity(wanted: Quantity, measured: Measured) -> Verdict:
    """The scope that decides is the first that fails, or else the one that is nearest to failing."""
    decided: tuple[Fraction, str] | None = None
    scopes = measured.scopes(wanted.scope, wanted.metric)
    if not scopes:
        return Verdict(wanted, held=False, measured="nothing has it", scope=None, value=None)
    for scope in scopes:
        found = measured.values[scope][wanted.metric]
        value = statistic(found, wanted.statistic or "avg") if isinstance(found, Samples) else found
        if value is None:
            return Verdict(wanted, held=False, measured="nothing to measure it of", scope=scope, value=None)
        value = Fraction(value)
        if not _SIGNS[wanted.sign](value, wanted.bound):
            return _told(wanted, scope, value, held=False)
        if decided is None or _nearer(wanted.sign, value, decided[0]):
            decided = (value, scope)
    assert decided is not None
    return _told(wanted, decided[1], decided[0], held=True)


def _nearer(sign: str, value: Fraction, other: Fraction) -> bool:
    return value > other if sign in {"<", "<="} else value < other if sign in {">", ">="} else False


def _told(wanted: Quantity, scope: str, value: Fraction, *, held: bool) -> Verdict:
    plain = int(value) if value.denominator == 1 else float(value)
    return Verdict(wanted, held, _exact_enough(wanted, value), scope, plain)


def _exact_enough(wanted: Quantity, value: Fraction) -> str:
    """The value in words that do not look like the bound unless it is the bound."""
    bound = written(wanted.bound, wanted.unit)
    for digits in range(4, _MOST_DIGITS):
        text = written(value, wanted.unit, digits)
        if text != bound or value == wanted.bound:
            break
    return text
