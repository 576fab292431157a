"""Tables of distributions, as netem has them, made from the mathematics; and the text form that iproute2 keeps them in.

A table is the inverse of a distribution function at evenly spaced points: entry ``i`` of ``n`` is the value below which
``(i + 1/2) / n`` of all delays lie, in 8192ths of a standard deviation from the mean. Entries are 16 bits, so tails end
four standard deviations from the mean, as iproute2's do.

* ``normal``: the normal distribution.
* ``pareto``: Pareto's with exponent 3, less its mean of 3/2 and divided by its variance of 3/4, as iproute2 has it, and
  not by its deviation. With the tail cut off, delays deviate by 0.82 of the jitter.
* ``paretonormal``: at each point a quarter of the normal and three quarters of Pareto's value, as iproute2 has it.
"""

from __future__ import annotations

import functools
from statistics import NormalDist

from netemu.errors import ConfigError
from netemu.net.values import TABLE_MAX

SCALE = 8192
ENTRIES = 4096
_LEAST, _MOST = -32768, 32767
_ALPHA = 3.0


def _entry(sigmas: float) -> int:
    return min(max(round(sigmas * SCALE), _LEAST), _MOST)


def _points(count: int) -> list[float]:
    return [(n + 0.5) / count for n in range(count)]


def _normal(count: int) -> list[float]:
    return [NormalDist().inv_cdf(point) for point in _points(count)]


def _pareto(count: int) -> list[float]:
    mean, variance = _ALPHA / (_ALPHA - 1), _ALPHA / ((_ALPHA - 1) ** 2 * (_ALPHA - 2))
    return [((1 - point) ** (-1 / _ALPHA) - mean) / variance for point in _points(count)]


def _paretonormal(count: int) -> list[float]:
    return [0.25 * normal + 0.75 * pareto for normal, pareto in zip(_normal(count), _pareto(count), strict=True)]


@functools.cache
def table(name: str) -> tuple[int, ...]:
    """The table of "normal", "pareto" or "paretonormal"; empty for "uniform", which needs none."""
    make = {"normal": _normal, "pareto": _pareto, "paretonormal": _paretonormal}.get(name)
    return tuple(_entry(sigmas) for sigmas in make(ENTRIES)) if make is not None else ()


def parse_table(text: str, name: str = "a table") -> tuple[int, ...]:
    """The numbers of a file of the kind of iproute2's .dist: numbers between blanks, lines with # are comments.

    Raises `ConfigError`, which calls it ``name``.
    """
    numbers: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.partition("#")[0].split():
            try:
                numbers.append(int(word))
            except ValueError:
                raise ConfigError(f"{name}, line {number}: {word[:20]!r} is no number") from None
            if not _LEAST <= numbers[-1] <= _MOST:
                raise ConfigError(f"{name}, line {number}: {word[:20]} is not from {_LEAST} to {_MOST}")
    if not 0 < len(numbers) <= TABLE_MAX:
        raise ConfigError(f"{name}: has {len(numbers)} numbers; a distribution has 1 to {TABLE_MAX}")
    return tuple(numbers)
