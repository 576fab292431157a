"""What a run measured: for each thing in the lab and each piece of traffic, values in base units by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from netemu.expect.predicate import Predicate, true_of
from netemu.samples import Samples


def statistic(samples: Samples, name: str) -> Fraction | None:
    """One number for all of them, in ns; None if there are none.

    ``min``, ``avg``, ``max``; ``mdev`` is the standard deviation, as ping's; ``p99`` the least value that 99 of a
    hundred do not exceed (nearest rank).
    """
    if not len(samples):
        return None
    if name == "avg":
        return Fraction(sum(samples), len(samples))
    if name == "mdev":
        return Fraction(round(samples.deviation or 0))
    percent = {"min": "0", "max": "100"}.get(name, name.removeprefix("p"))
    return Fraction(samples.percentile(Fraction(percent)) or 0)


Value = int | Fraction | Samples | None
"""None: there was nothing to measure it of."""


@dataclass
class Measured:
    """Everything that expectations are about."""

    values: dict[str, dict[str, Value]] = field(default_factory=dict)
    """By scope (``traffic.NAME``, ``guest.NAME``, ``link.NAME``, ``link.NAME.forward``, ...) and metric or counter."""
    frames: dict[str, Iterable[bytes]] = field(default_factory=dict)
    """By place: the frames that passed there; can be gone through again and again."""

    def scopes(self, name: str | None, metric: str) -> list[str]:
        """The full scopes that a scope of an expectation means, of those that have a metric.

        Without a name, a word that traffic is measured by (``sent``) is about traffic, though a link counts that, too.
        """
        found = [scope for scope in self.values if self._is(scope, name) and metric in self.values[scope]]
        of_traffic = [scope for scope in found if scope.startswith("traffic.")] if name is None else []
        return of_traffic or found

    def place(self, name: str) -> str | None:
        """The full name of a place."""
        return next((place for place in self.frames if self._is(place, name)), None)

    def count(self, place: str, predicate: Predicate) -> tuple[int, int]:
        """How many frames passed a place for which a predicate is true, and how many in all."""
        seen = total = 0
        for frame in self.frames[place]:
            total += 1
            seen += true_of(predicate, frame)
        return seen, total

    @staticmethod
    def _is(scope: str, name: str | None) -> bool:
        """Whether a name means a scope; without a name all are meant, except one direction of a link."""
        if name is None:
            return scope.count(".") == 1
        return name in {scope, scope.partition(".")[2]}
