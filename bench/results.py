"""What a row brings home: lines with figures, and whether what is wanted holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.measure import Spread, ratios, spread


@dataclass(frozen=True)
class Limit:
    """A wanted value, for example at most 1.5 x."""

    kind: Literal["at most", "at least"]
    value: float
    unit: str

    def holds(self, measured: float) -> bool:
        """Tell whether a measured value keeps the limit."""
        return measured <= self.value if self.kind == "at most" else measured >= self.value


@dataclass(frozen=True)
class Line:
    """A line of the table.

    ``ours`` and ``theirs`` are the figures turn by turn, in ``unit``; ``theirs`` is empty where there is no rival.
    ``judged`` is False where the work is smaller than ``limit`` is meant for.
    """

    row: str
    work: str
    unit: str
    ours: Sequence[float]
    rival: str = ""
    theirs: Sequence[float] = field(default=())
    limit: Limit | None = None
    judged: bool = True

    @property
    def measured(self) -> Spread:
        """What is compared with the limit: the ratio of ours to theirs or, without a rival, our figure itself."""
        return ratios(self.ours, self.theirs) if self.rival else spread(self.ours)

    @property
    def measured_unit(self) -> str:
        """The unit of ``measured``."""
        return "x" if self.rival else self.unit

    @property
    def holds(self) -> bool | None:
        """Whether the limit holds; None where there is none, or where it is not judged."""
        return self.limit.holds(self.measured.median) if self.limit and self.judged else None


@dataclass(frozen=True)
class Unmeasured:
    """A row without figures: ``skipped`` (its rival is absent) or ``failed``."""

    row: str
    outcome: Literal["skipped", "failed"]
    reason: str
