"""Quirks: rules of the specification that one half of the link breaks on purpose, and when.

Theory of operation
-------------------
A `Quirk` is a name for a misdeed, with the clause it breaks; the device's and the driver's are listed where they are
done (``device/quirks.py``, ``driver/quirks.py``). A user switches one on with a text such as
``num-buffers-zero:p=0.1,at=100,count=3,seed=7``, which becomes a `QuirkRule`: a struct that kernels ask with
`quirk_fires` at each occasion. A half's rules stand side by side in a `QuirkSet`. Chance comes from a generator in the
rule itself, so a run with the same seed does the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from netemu.chance import CERTAIN, next_random, seeded
from netemu.errors import ConfigError
from netemu.jit import Struct, StructArray, array_of, i64, kernel, pointer, struct

Side = Literal["device", "driver"]

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Quirk:
    """One misdeed: its name, who does it, the clause it breaks, what happens in words, and its number for kernels."""

    name: str
    side: Side
    clause: str
    words: str
    number: int


@struct
class QuirkRule(Struct):
    """When a quirk happens."""

    quirk: i64
    """`Quirk.number`."""
    chance: i64
    """Out of 2^32 occasions, how many."""
    at: i64
    """Number of the first frame (device) or buffer (driver) it may happen to, from 1."""
    after: i64
    """ns from the first occasion seen until it may happen."""
    count: i64
    """How often at most; 0: no limit."""
    state: i64
    """The generator's, 32 bits, not 0."""
    start: i64
    """Time of the first occasion, ns; -1 before there was one."""
    fired: i64
    """How often it happened."""


@struct
class QuirkRules(Struct):
    """The rules of one half, one after the other."""

    rules: i64
    """Address of ``count`` `QuirkRule` structs."""
    count: i64
    number: i64
    """Number of the frame or buffer at hand, from 1; its half counts it."""
    now: i64
    """Time of the occasion, ns."""


quirk_rule_at = pointer(QuirkRule)
quirk_rules_at = pointer(QuirkRules)
RULE_SIZE = QuirkRule.dtype.itemsize


@kernel
def quirk_random(rule: QuirkRule) -> i64:
    """The next 32 bits of the rule's generator ; never 0."""
    rule.state = next_random(rule.state)
    return rule.state


@kernel
def quirk_fires(rule: QuirkRule, number: i64, now: i64) -> i64:
    """1 if the quirk happens to frame or buffer ``number`` (from 1) at time ``now`` (ns); counted then."""
    if rule.start < 0:
        rule.start = now
    if number < rule.at or now - rule.start < rule.after:
        return 0
    if rule.count != 0 and rule.fired >= rule.count:
        return 0
    if rule.chance < CERTAIN and quirk_random(rule) >= rule.chance:
        return 0
    rule.fired += 1
    return 1


@kernel
def quirk_asked(rules: QuirkRules, quirk: i64) -> i64:
    """Address of the first rule of a quirk that happens now, or 0."""
    at = rules.rules
    for _ in range(rules.count):
        rule = quirk_rule_at(at)
        at += RULE_SIZE
        if rule.quirk == quirk and quirk_fires(rule, rules.number, rules.now) != 0:
            return at - RULE_SIZE
    return 0


def parse_quirk(text: str, known: Iterable[Quirk]) -> tuple[Quirk, QuirkRule]:
    """Read ``NAME[:KEY=VALUE,...]``: p (probability), at (number), after (seconds), count (times), seed.

    Raises `ConfigError` for a name that is not among ``known``, a key there is not, and a value that cannot be.
    """
    name, _, rest = text.partition(":")
    quirks = {quirk.name: quirk for quirk in known}
    if name not in quirks:
        near = difflib.get_close_matches(name, quirks, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"no quirk is called {name!r}; {hint}'netemu quirks' lists them")
    rule = QuirkRule(quirk=quirks[name].number, chance=CERTAIN, at=1, start=-1)
    seed = 1
    for item in rest.split(",") if rest else []:
        key, _, value = item.partition("=")
        try:
            if key == "p":
                probability = float(value)
                if not 0 <= probability <= 1:
                    raise ValueError(value)  # noqa: TRY301 - worded with the other values that cannot be
                rule.chance = round(probability * CERTAIN)
            elif key == "at":
                rule.at = _positive(value)
            elif key == "after":
                rule.after = _nanoseconds(value)
            elif key == "count":
                rule.count = _positive(value)
            elif key == "seed":
                seed = _positive(value)
            else:
                raise ConfigError(f"quirk {name}: no option is called {key!r}; there are p, at, after, count and seed")
        except ValueError:
            raise ConfigError(f"quirk {name}: {key} cannot be {value!r}") from None
    rule.state = seeded(seed)
    return quirks[name], rule


def _positive(text: str) -> int:
    """A whole number from 1 to 2^62; raises ValueError for any other text."""
    number = int(text)
    if not 1 <= number <= 1 << 62:
        raise ValueError(text)
    return number


def _nanoseconds(text: str) -> int:
    """Seconds, not negative, as ns; raises ValueError for any other text."""
    seconds = float(text)
    if not 0 <= seconds <= 1 << 32:
        raise ValueError(text)
    return round(seconds * _SECOND)


class QuirkSet:
    """The quirks of one half that are switched on; `struct` is what its kernels look at."""

    def __init__(self, texts: Iterable[str], known: Iterable[Quirk]) -> None:
        """Read each text with `parse_quirk`, in order; raises `ConfigError` as that does."""
        known = list(known)
        parsed = [parse_quirk(text, known) for text in texts]
        self.quirks = [quirk for quirk, _ in parsed]
        self.rules: StructArray[QuirkRule] = array_of(QuirkRule, len(parsed))
        for n, (_, rule) in enumerate(parsed):
            self.rules.view[n] = tuple(rule.to_dict().values())
        self.struct = QuirkRules(rules=self.rules.address, count=len(parsed))

    def __len__(self) -> int:
        """How many rules there are."""
        return len(self.quirks)

    @property
    def fired(self) -> dict[str, int]:
        """How often each happened, by name."""
        times: dict[str, int] = {}
        for quirk, rule in zip(self.quirks, self.rules, strict=True):
            times[quirk.name] = times.get(quirk.name, 0) + rule.fired
        return times
