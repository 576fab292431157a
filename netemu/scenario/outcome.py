"""What came of a run: for people in `netemu.cli.run_report`, for programs as one JSON object.

The object (version 1; keys are added, and none is taken away or changes its meaning):

``version``       1
``file``          the scenario or script
``title``, ``seed``
``held``          whether every expectation held, nothing failed and nobody interrupted
``interrupted``   whether the run was ended before its time
``error``         what went wrong in the lab or the script, or null
``emulated_ns``   how long it was, in emulated time
``real_seconds``  and on the wall clock: the only value that differs from run to run
``expectations``  a list: ``text``, ``held``, ``measured`` (text), ``value`` (in base units: ns, bit/s, bytes, shares of
                  1, pieces; or null), ``scope`` (what decided, or null), ``why``
``traffic``       by name: ``kind``, ``from``, ``to``, ``error``, ``metrics`` by name in base units; those with a value
                  for each packet as ``count``, ``min``, ``avg``, ``max``, ``mdev``, ``p50``, ``p90``, ``p99``
``guests``, ``routers``, ``switches``, ``links``   by name: counters that moved
``captures``      a list: ``file``, ``at``, ``frames``
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from netemu.expect import Measured, Verdict
from netemu.expect.measured import Value, statistic
from netemu.samples import Samples

VERSION = 1
STATISTICS = ("min", "avg", "max", "mdev", "p50", "p90", "p99")
_KINDS = {"guest": "guests", "router": "routers", "switch": "switches", "link": "links"}


@dataclass
class TrafficOutcome:
    """What became of a piece of traffic."""

    kind: str
    source: str
    target: str | None
    metrics: dict[str, Value] = field(default_factory=dict)
    error: str | None = None
    """Why it ended before its time."""


@dataclass
class CaptureOutcome:
    """A file that was written."""

    file: str
    at: str
    frames: int


@dataclass
class Outcome:
    """Everything about a run."""

    file: str
    title: str = ""
    story: str = ""
    seed: int = 1
    interrupted: bool = False
    traceback: str = ""
    """Of an error in a script."""
    error: str | None = None
    emulated_ns: int = 0
    real_seconds: float = 0.0
    verdicts: list[tuple[Verdict, str]] = field(default_factory=list)
    """Each with the reason that the scenario gives for it."""
    traffic: dict[str, TrafficOutcome] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    captures: list[CaptureOutcome] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether everything is as it should be."""
        fine = self.error is None and not self.interrupted and not any(one.error for one in self.traffic.values())
        return fine and all(verdict.held for verdict, _ in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        counters: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS.values()}
        for scope, values in self.measured.values.items():
            kind, _, name = scope.partition(".")
            if kind in _KINDS:
                counters[_KINDS[kind]][name] = {key: _plain(value) for key, value in values.items() if value}
        return {
            "version": VERSION,
            "file": self.file,
            "title": self.title,
            "seed": self.seed,
            "held": self.held,
            "interrupted": self.interrupted,
            "error": self.error,
            "emulated_ns": self.emulated_ns,
            "real_seconds": round(self.real_seconds, 3),
            "expectations": [_verdict(verdict, why) for verdict, why in self.verdicts],
            "traffic": {name: _traffic(one) for name, one in self.traffic.items()},
            **counters,
            "captures": [vars(one) for one in self.captures],
        }


def _verdict(verdict: Verdict, why: str) -> dict[str, Any]:
    return {
        "text": str(verdict.expectation),
        "held": verdict.held,
        "measured": verdict.measured,
        "value": verdict.value,
        "scope": verdict.scope,
        "why": why,
    }


def _traffic(one: TrafficOutcome) -> dict[str, Any]:
    metrics = {name: _plain(value) for name, value in one.metrics.items()}
    return {"kind": one.kind, "from": one.source, "to": one.target, "error": one.error, "metrics": metrics}


def _plain(value: Value) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Samples):
        return {"count": len(value)} | {name: _plain(statistic(value, name)) for name in STATISTICS}
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return value
