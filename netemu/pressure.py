"""Memory pressure: allocations of the guest that fail by a rule.

Theory of operation
-------------------
A rule such as ``pages:p=0.2,after=1,until=3,seed=7`` says which kind of allocation fails (`KINDS`), and when: with what
probability, every how many, between which allocations or moments, how often at most. What is given holds together; a
rule without any of these refuses everything. Each queue's pool gets a `Pressure` of its own, with its own generator, so
that queues do not disturb each other and a run with the same seed does the same.

A pool asks through a hook, so that those who are not under pressure neither compile nor pay for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from netemu.chance import CERTAIN, next_random, seeded
from netemu.errors import ConfigError
from netemu.jit import Struct, call1, entry, hook, i64, kernel, load64_any, pointer, struct

Kind = Literal["pages", "skbs", "tables"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What can fail: pages of receive buffers, skbs, indirect tables."""

_SECOND = 1_000_000_000


@struct
class Pressure(Struct):
    """When one pool's allocations fail."""

    hook: i64
    """Address of `pressure_refuses`."""
    clock: i64
    """Address of the guest's clock, ns; a clock that says 0 is not running yet."""
    chance: i64
    """Out of 2^32 allocations, how many fail."""
    every: i64
    """Only each so-manyth fails; 0: no such rule."""
    first: i64
    last: i64
    """Numbers of the first and last allocation that may fail, from 1; 0: no last."""
    after: i64
    until: i64
    """ns from the first allocation with the clock running, between which they may fail; 0: no end."""
    count: i64
    """How many fail at most; 0: no limit."""
    state: i64
    """The generator's, 32 bits, not 0."""
    start: i64
    """Time of the first allocation with the clock running; -1 before there was one."""
    asked: i64
    refused: i64
    """Allocations so far, and those that failed."""


pressure_at = pointer(Pressure)


@entry
def pressure_refuses(address: i64) -> i64:
    """1 if the allocation that is asked for now fails."""
    rule = pressure_at(address)
    rule.asked += 1
    now = load64_any(rule.clock)
    if rule.start < 0 and now > 0:
        rule.start = now
    if rule.asked < rule.first or (rule.last != 0 and rule.asked > rule.last):
        return 0
    elapsed = now - rule.start if rule.start >= 0 else 0
    if elapsed < rule.after or (rule.until != 0 and elapsed >= rule.until):
        return 0
    if rule.count != 0 and rule.refused >= rule.count:
        return 0
    if rule.every != 0 and rule.asked % rule.every != 0:
        return 0
    if rule.chance < CERTAIN:
        rule.state = next_random(rule.state)
        if rule.state >= rule.chance:
            return 0
    rule.refused += 1
    return 1


@kernel
def allocation_refused(address: i64) -> i64:
    """Ask the `Pressure` at an address; 1 if the allocation fails."""
    return call1(pressure_at(address).hook, address)


@dataclass(frozen=True, slots=True)
class PressureRule:
    """A rule as it was written, for one kind of allocation; `pressure` makes the struct that pools ask."""

    kind: Kind
    chance: int = CERTAIN
    every: int = 0
    first: int = 1
    last: int = 0
    after: int = 0
    until: int = 0
    count: int = 0
    seed: int = 1

    def pressure(self, queue: int, clock: int) -> Pressure:
        """The rule for a queue's pool, under the clock at host address ``clock``."""
        return Pressure(
            hook=hook(pressure_refuses),
            clock=clock,
            chance=self.chance,
            every=self.every,
            first=self.first,
            last=self.last,
            after=self.after,
            until=self.until,
            count=self.count,
            state=seeded(self.seed + queue),
            start=-1,
        )


_OPTIONS = ("p", "every", "first", "last", "after", "until", "count", "seed")


def parse_pressure(text: str) -> PressureRule:
    """Read ``KIND[:KEY=VALUE,...]``: p (probability), every, first, last, count (allocations), after, until (s), seed.

    Raises `ConfigError` for a kind or a key there is not, and for a value that cannot be.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise ConfigError(f"no allocation is called {kind!r}; there are {', '.join(KINDS)}")
    values: dict[str, int] = {}
    for item in rest.split(",") if rest else []:
        key, _, value = item.partition("=")
        if key not in _OPTIONS:
            raise ConfigError(f"pressure on {kind}: no option is called {key!r}; there are {', '.join(_OPTIONS)}")
        try:
            values["chance" if key == "p" else key] = _number(key, value)
        except ValueError:
            raise ConfigError(f"pressure on {kind}: {key} cannot be {value!r}") from None
    return PressureRule(kind=kind, **values)


def _number(key: str, text: str) -> int:
    """The value of an option as the struct keeps it; raises ValueError for one that cannot be."""
    if key == "p":
        probability = float(text)
        if not 0 <= probability <= 1:
            raise ValueError(text)
        return round(probability * CERTAIN)
    if key in ("after", "until"):
        seconds = float(text)
        if not 0 <= seconds <= 1 << 32:
            raise ValueError(text)
        return round(seconds * _SECOND)
    number = int(text)
    if not 1 <= number < 1 << 62:
        raise ValueError(text)
    return number


def parse_pressures(texts: Iterable[str]) -> dict[Kind, PressureRule]:
    """Rules by kind; raises `ConfigError` for a text that is none, and for two of one kind."""
    rules: dict[Kind, PressureRule] = {}
    for text in texts:
        rule = parse_pressure(text)
        if rule.kind in rules:
            raise ConfigError(f"two rules for allocations of {rule.kind}")
        rules[rule.kind] = rule
    return rules
