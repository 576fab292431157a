"""Times that were measured, and what is said of them: `Samples`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

MS = 1_000_000
"""ns in a millisecond."""


class Samples:
    """Times in ns, in the order in which they were taken."""

    def __init__(self, values: Iterable[int] = ()) -> None:
        """Begin with ``values``."""
        self.values: list[int] = list(values)
        self._sorted: list[int] = []

    def add(self, value: int) -> None:
        """One more."""
        self.values.append(value)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.values)

    def __iter__(self) -> Iterator[int]:
        """All of them."""
        return iter(self.values)

    def __eq__(self, other: object) -> bool:
        """Whether the times are the same, in the same order."""
        return isinstance(other, Samples) and self.values == other.values

    __hash__ = None  # type: ignore[assignment]  # they change

    def percentile(self, percent: float | Fraction) -> int | None:
        """The time that ``percent`` of all do not exceed (nearest rank); None while there are none.

        Raises `ValueError` for what is not from 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is from 0 to 100, not {percent}")
        if len(self._sorted) != len(self.values):
            self._sorted = sorted(self.values)
        if not self._sorted:
            return None
        rank = -(-len(self._sorted) * percent // 100)
        return self._sorted[max(int(rank), 1) - 1]

    @property
    def min(self) -> int | None:
        """The shortest."""
        return self.percentile(0)

    @property
    def max(self) -> int | None:
        """The longest."""
        return self.percentile(100)

    @property
    def p50(self) -> int | None:
        """The median."""
        return self.percentile(50)

    @property
    def p99(self) -> int | None:
        """The time that 99 of 100 do not exceed."""
        return self.percentile(99)

    @property
    def mean(self) -> float | None:
        """The average."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation, as ping's mdev."""
        mean = self.mean
        if mean is None:
            return None
        squares = sum(value * value for value in self.values) / len(self.values)
        return math.sqrt(max(squares - mean * mean, 0.0))

    def to_dict(self) -> dict[str, float | int | None]:
        """Number, extremes, mean and percentiles, in ns, for JSON."""
        return {
            "count": len(self),
            "min": self.min,
            "mean": self.mean,
            "max": self.max,
            **{f"p{percent}": self.percentile(percent) for percent in (50, 90, 95, 99)},
        }

    def __str__(self) -> str:
        """As ping says it."""
        if not self.values:
            return "no times"
        parts: Sequence[float | int | None] = (self.min, self.mean, self.max, self.deviation)
        return "min/avg/max/mdev = " + "/".join(f"{(part or 0) / MS:.3f}" for part in parts) + " ms"

    def __repr__(self) -> str:
        """How many, and what they say."""
        return f"Samples({len(self)}: {self})"
