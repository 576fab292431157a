"""The units of what is measured: each belongs to a dimension, and is so many of its base unit."""

from __future__ import annotations

from fractions import Fraction

TIME = "time"
"""Base unit: nanosecond."""
RATE = "rate"
"""Base unit: bit per second."""
SIZE = "size"
"""Base unit: byte."""
SHARE = "share"
"""Base unit: 1, the whole."""
COUNT = "count"
"""Base unit: 1, a piece."""

UNITS: dict[str, dict[str, int | Fraction]] = {
    TIME: {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9},
    RATE: {
        "bit/s": 1,
        "kbit/s": 10**3,
        "Mbit/s": 10**6,
        "Gbit/s": 10**9,
        "B/s": 8,
        "kB/s": 8 * 10**3,
        "MB/s": 8 * 10**6,
        "GB/s": 8 * 10**9,
    },
    SIZE: {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30},
    SHARE: {"%": Fraction(1, 100)},
    COUNT: {},
}
"""Units by dimension, each with its worth. Sizes and rates are decimal; the binary units have an i."""

BARE = {SIZE, COUNT}
"""Dimensions in which a number needs no unit; 0 needs one nowhere."""

COMMON = {
    TIME: ("ns", "us", "ms", "s"),
    RATE: ("bit/s", "kbit/s", "Mbit/s", "Gbit/s"),
    SIZE: ("B", "kB", "MB", "GB"),
    SHARE: ("%",),
    COUNT: ("",),
}
"""The units in which values are printed."""

_ALL = {unit: (dimension, Fraction(worth)) for dimension, units in UNITS.items() for unit, worth in units.items()}


def dimension_of(unit: str) -> str | None:
    """The dimension that a unit belongs to; None for a word that is no unit."""
    return _ALL[unit][0] if unit in _ALL else None


def worth(unit: str) -> Fraction:
    """How many base units one ``unit`` is; a bare number counts single ones."""
    return _ALL[unit][1] if unit else Fraction(1)


def all_units() -> list[str]:
    """Every unit there is."""
    return list(_ALL)


def written(value: Fraction | int, unit: str, digits: int = 4) -> str:
    """A value in base units as text in ``unit``: ``digits`` significant ones at least, all before the point."""
    number = Fraction(value) / worth(unit)
    if number.denominator == 1:
        text = f"{int(number):,}"
    else:
        before = len(str(abs(int(number)))) if abs(number) >= 1 else 0
        text = f"{float(number):,.{max(digits - before, 0)}f}" if before else f"{float(number):.{digits}g}"
        if "." in text and "e" not in text:
            text = text.rstrip("0").rstrip(".")
    return f"{text} {unit}" if unit else text


def suited(value: Fraction | int, dimension: str) -> str:
    """The unit in which a value of a dimension reads well: the largest that it has at least one of."""
    units = [unit for unit in COMMON[dimension] if worth(unit) <= abs(Fraction(value))]
    return (units or COMMON[dimension])[-1 if units else 0]
