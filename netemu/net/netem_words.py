"""The words of a link, as ``tc qdisc add ... netem`` takes them, and a few of netemu's own.

    delay TIME [JITTER [CORRELATION]] [distribution uniform|normal|pareto|paretonormal|FILE]
    loss [random] PERCENT [CORRELATION] | state P13 [P31 [P32 [P23 [P14]]]] | gemodel P [R [1-H [1-K]]]   [ecn]
    duplicate PERCENT [CORRELATION]      corrupt PERCENT [CORRELATION]
    reorder PERCENT [CORRELATION] [gap DISTANCE]
    rate RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]
    slot MIN [MAX] | distribution ... DELAY JITTER   [packets N] [bytes N]
    limit PACKETS      seed NUMBER

and, netemu's own:

    queue [PACKETSp | SIZE] [tail | red ... | codel ...]      mtu BYTES      gso whole|segments

`parse_words` reads a text into values, one a word; `parse_value` reads the arguments of one word, which is what a
keyword or a scenario file gives. A mistake is a `ConfigError` that names the word, what was expected, and the right
word that is nearest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from netemu.errors import ConfigError
from netemu.net.units import nearest, parse_int, parse_percent, parse_rate, parse_size, parse_time
from netemu.net.values import (
    DISTRIBUTIONS,
    GSO_WORDS,
    LOSS_MODELS,
    PACKETS_MAX,
    Codel,
    Delay,
    Distribution,
    Loss,
    Odds,
    Queue,
    Rate,
    Red,
    Reorder,
    Slot,
)

Tables = Callable[[str], tuple[int, ...]]
"""Gives the table of a distribution that is named in words and not known; raises `ConfigError` if there is none."""


class Words:
    """A text's words, taken one by one."""

    def __init__(self, text: str, tables: Tables | None = None) -> None:
        self._words = text.split()
        self._at = 0
        self.tables = tables

    def more(self) -> bool:
        """Whether words are left."""
        return self._at < len(self._words)

    def peek(self) -> str:
        """The next word, or an empty one."""
        return self._words[self._at] if self.more() else ""

    def take(self, expected: str) -> str:
        """Take the next word; ``expected`` says what it should be if there is none."""
        if not self.more():
            raise ConfigError(f"{expected} is missing at the end")
        self._at += 1
        return self._words[self._at - 1]

    def skip(self, word: str) -> bool:
        """Take the next word if it is this one."""
        if self.peek().lower() != word:
            return False
        self._at += 1
        return True

    def number_follows(self) -> bool:
        """Whether the next word begins like a number, a negative one included."""
        start = self.peek()[:2]
        return start[:1].isdigit() or (start[:1] in ("-", "+", ".") and start[1:2].isdigit())


def _percents(words: Words, most: int, expected: str) -> list[float]:
    """One chance, and up to ``most`` if more numbers follow."""
    found = [parse_percent(words.take(expected))]
    while len(found) < most and words.number_follows():
        found.append(parse_percent(words.take(expected)))
    return found


def _distribution(words: Words) -> Distribution:
    """A known distribution, or what ``tables`` has under that name, or the numbers themselves."""
    name = words.take("the name of a distribution")
    if name.lower() in DISTRIBUTIONS:
        return name.lower()
    parts = name.split(",")
    if len(parts) > 1 or name.lstrip("-").isdigit():
        return tuple(parse_int(part, "an entry of a table", -32768, 32767) for part in parts)
    if words.tables is not None:
        return words.tables(name)
    known = ", ".join(DISTRIBUTIONS)
    raise ConfigError(f"no distribution {name!r}{nearest(name, DISTRIBUTIONS)}; there are {known}")


def _delay(words: Words) -> Delay:
    time = parse_time(words.take("a time"))
    jitter, correlation = 0, 0.0
    if words.number_follows():
        jitter = parse_time(words.take("a jitter"))
        if words.number_follows():
            correlation = parse_percent(words.take("a correlation"))
    distribution: Distribution = "uniform"
    if words.skip("distribution"):
        distribution = _distribution(words)
    return Delay(time, jitter, correlation, distribution)


def _loss(words: Words) -> Loss:
    model = "random"
    if not words.number_follows():
        model = words.take("a chance, or state, or gemodel").lower()
        if model not in LOSS_MODELS:
            raise ConfigError(f"no chance and no model of loss: {model!r}{nearest(model, LOSS_MODELS)}")
    names = LOSS_MODELS[model]
    chances = _percents(words, len(names), f"{names[0]}, a chance,")
    correlation = 0.0
    if model == "random" and words.number_follows():
        correlation = parse_percent(words.take("a correlation"))
    return Loss(model, tuple(chances), correlation)


def _odds(words: Words) -> Odds:
    return Odds(*_percents(words, 2, "a chance"))


def _reorder(words: Words) -> Reorder:
    chances = _percents(words, 2, "a chance")
    gap = _gap(words) if words.skip("gap") else 1
    return Reorder(chances[0], chances[1] if len(chances) > 1 else 0.0, gap)


def _gap(words: Words) -> int:
    return parse_int(words.take("a number of packets"), "gap", 1, PACKETS_MAX - 1)


def _rate(words: Words) -> Rate:
    rate = parse_rate(words.take("a rate"))
    rest: list[int] = []
    for name, low in (("packet overhead", -(1 << 15)), ("cell size", 0), ("cell overhead", -(1 << 15))):
        if not words.number_follows():
            break
        rest.append(parse_int(words.take(name), name, low, (1 << 16) - 1))
    return Rate(rate, *rest)


def _slot(words: Words) -> Slot:
    distribution: Distribution | None = None
    if words.skip("distribution"):
        distribution = _distribution(words)
        times = [parse_time(words.take("a mean time between slots")), parse_time(words.take("a jitter"))]
    else:
        times = [parse_time(words.take("a time between slots"))]
        if words.number_follows():
            times.append(parse_time(words.take("a longest time between slots")))
    counts = {"packets": 0, "bytes": 0}
    while words.peek().lower() in counts:
        name = words.take("packets or bytes").lower()
        counts[name] = parse_size(words.take("a number")) if name == "bytes" else _packets(words)
    return Slot(times[0], times[1] if len(times) > 1 else 0, distribution, counts["packets"], counts["bytes"])


def _packets(words: Words) -> int:
    return parse_int(words.take("a number of packets"), "a number of packets", 0, PACKETS_MAX - 1)


_POLICY_WORDS: dict[str, Callable[[Words], Any]] = {
    "min": lambda words: parse_size(words.take("a size")),
    "max": lambda words: parse_size(words.take("a size")),
    "avpkt": lambda words: parse_size(words.take("a size")),
    "burst": _packets,
    "probability": lambda words: _probability(words.take("a probability")),
    "bandwidth": lambda words: parse_rate(words.take("a rate")),
    "target": lambda words: parse_time(words.take("a time")),
    "interval": lambda words: parse_time(words.take("a time")),
    "ce_threshold": lambda words: parse_time(words.take("a time")),
}


def _probability(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no probability, such as 0.02") from None


def _policy(words: Words, kind: type[Red | Codel]) -> Red | Codel:
    """The parameters of a policy, in any order, as long as they are words of it."""
    known = {field.name for field in fields(kind)}
    values: dict[str, Any] = {}
    while words.peek().lower() in known:
        name = words.take("a parameter").lower()
        values[name] = _POLICY_WORDS[name](words) if name in _POLICY_WORDS else True
    return kind(**values)


def _queue(words: Words) -> Queue:
    packets, size = 0, 0
    bounded = words.number_follows()
    if bounded:
        word = words.take("a size").lower()
        if word.endswith("p"):
            packets = parse_int(word[:-1], "a queue's number of packets", 0, PACKETS_MAX - 1)
        else:
            size = parse_size(word)
    policy: Red | Codel | None = None
    if words.skip("red"):
        policy = _policy(words, Red)
    elif words.skip("codel"):
        policy = _policy(words, Codel)
    elif not words.skip("tail") and not bounded:
        word = words.take("a size, such as 100p or 64kb,")
        raise ConfigError(f"{word!r} is no size of a queue and no policy{nearest(word, ('tail', 'red', 'codel'))}")
    return Queue(packets, size, policy) if bounded else Queue(policy=policy)


def _gso(words: Words) -> str:
    word = words.take("whole or segments").lower()
    if word not in GSO_WORDS:
        raise ConfigError(f"a large frame is impaired whole or by segments, not {word!r}{nearest(word, GSO_WORDS)}")
    return word


WORDS: dict[str, Callable[[Words], Any]] = {
    "limit": _packets,
    "delay": _delay,
    "loss": _loss,
    "duplicate": _odds,
    "corrupt": _odds,
    "reorder": _reorder,
    "rate": _rate,
    "slot": _slot,
    "seed": lambda words: parse_int(words.take("a number"), "a seed", 0, (1 << 64) - 1),
    "queue": _queue,
    "mtu": lambda words: parse_int(words.take("a number of bytes"), "an MTU", 0, 65535),
    "gso": _gso,
}
"""The words that have arguments, and what reads them."""

SYNONYMS = {"latency": "delay", "drop": "loss", "dup": "duplicate"}
"""What tc also understands."""

FLAGS = ("ecn",)
APART: dict[str, Callable[[Words], Any]] = {"distribution": _distribution, "gap": _gap}
"""Words that belong to ``delay`` and ``reorder``, and may stand anywhere, as for tc."""


def parse_words(text: str, tables: Tables | None = None) -> dict[str, Any]:
    """The values that a text of words says, by word; of a word that comes twice the last one counts.

    ``tables`` finds distributions that are files. Raises `ConfigError`.
    """
    words = Words(text, tables)
    found: dict[str, Any] = {}
    apart: dict[str, Any] = {}
    known = (*WORDS, *FLAGS, *APART, *SYNONYMS)
    while words.more():
        said = words.take("a word")
        word = SYNONYMS.get(said.lower(), said.lower())
        if word not in known:
            hint = nearest(said, known) or f"; the words are {', '.join((*WORDS, *FLAGS))}"
            raise ConfigError(f"{said!r} is no word of a link{hint}")
        try:
            if word in FLAGS:
                found[word] = True
            elif word in WORDS:
                found[word] = WORDS[word](words)
            else:
                apart[word] = APART[word](words)
        except ConfigError as error:
            raise ConfigError(f"{said}: {error}") from None
    _join(found, apart)
    return found


def _join(found: dict[str, Any], apart: dict[str, Any]) -> None:
    """Put what stood apart where it belongs; a gap of its own is a reordering that is certain, as in netem."""
    if "distribution" in apart:
        if "delay" not in found:
            raise ConfigError("distribution: needs a delay with a jitter: delay 10ms 2ms distribution normal")
        found["delay"] = replace(found["delay"], distribution=apart["distribution"])
    if "gap" in apart:
        found["reorder"] = replace(found.get("reorder", Reorder(100.0)), gap=apart["gap"])


def parse_value(word: str, text: str, tables: Tables | None = None) -> Any:
    """The value that the arguments of ``word`` say: ``parse_value("loss", "gemodel 1% 10%")``."""
    words = Words(text, tables)
    try:
        value = WORDS[word](words)
    except ConfigError as error:
        raise ConfigError(f"{word}: {error}") from None
    if words.more():
        raise ConfigError(f"{word}: {words.peek()!r} is one word too many")
    return value
