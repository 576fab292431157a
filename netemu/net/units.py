"""Times, rates, sizes and chances as tc writes them: "10ms", "1.5mbit", "64kb", "0.3%".

In a text each has tc's units and what tc takes for granted: a bare time is in microseconds, a bare rate in bits a
second, a bare size in bytes, a bare chance in percent. A number that is no text is what netemu itself counts in: ns,
bit/s, bytes, percent. What `format_time` and its kin write is read back as the same number.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fractions import Fraction

from netemu.errors import ConfigError

NS_PER_S = 1_000_000_000

TIME_UNITS = {
    "": 1_000,
    **dict.fromkeys(("s", "sec", "secs"), NS_PER_S),
    **dict.fromkeys(("ms", "msec", "msecs"), 1_000_000),
    **dict.fromkeys(("us", "usec", "usecs"), 1_000),
    **dict.fromkeys(("ns", "nsec", "nsecs"), 1),
}
"""Nanoseconds in each unit of time."""

RATE_UNITS: dict[str, int] = {"": 1, "bit": 1, "bps": 8}
"""Bits a second in each unit of rate: bits or bytes, in steps of 1000 or 1024."""
for _step, _name in enumerate("kmgt", start=1):
    for _prefix, _base in ((_name, 1000), (_name + "i", 1024)):
        RATE_UNITS[_prefix + "bit"] = _base**_step
        RATE_UNITS[_prefix + "bps"] = 8 * _base**_step

SIZE_UNITS = {
    "": Fraction(1),
    "b": Fraction(1),
    "bit": Fraction(1, 8),
    **{name + end: Fraction(1024**step) for step, name in enumerate("kmg", 1) for end in ("", "b")},
    **{name + "bit": Fraction(1024**step, 8) for step, name in enumerate("kmg", 1)},
}
"""Bytes in each unit of size; tc's kilobyte has 1024."""

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?)\s*([a-z%/]*)", re.IGNORECASE)
_UNITS = {
    "time": "s, ms, us, ns",
    "rate": "bit, kbit, mbit, gbit, bps, kbps, mbps, gbps",
    "size": "b, kb, mb, gb",
    "percentage": "%",
}
_LONGEST = 40
"""Characters of a text that can be a quantity."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` with the known word that is most like ``word``, or nothing if none is."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _of_a_rate(unit: str) -> str:
    """What is meant by Mb/s, and by MB/s: tc's mbps are bytes."""
    return f"; did you mean {unit[:-3].lower() + ('bps' if unit[-3] == 'B' else 'bit')!r}?"


def _quantity(text: str, what: str, example: str, units: dict[str, int] | dict[str, Fraction]) -> Fraction:
    """The number that ``text`` says, in the smallest unit."""
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        raise ConfigError(f"{text[:_LONGEST]!r} is no {what}, such as {example}")
    number, unit = match[1], match[2].lower()
    if unit not in units:
        hint = _of_a_rate(match[2]) if unit.endswith("b/s") and what == "rate" else nearest(unit, units)
        hint = hint or f"; units are {_UNITS[what]}"
        raise ConfigError(f"{text!r} is no {what}, such as {example}: no unit {unit!r}{hint}")
    return Fraction(number) * units[unit]


def _count(value: str | float, what: str, example: str, units: dict[str, int] | dict[str, Fraction]) -> int:
    """A quantity that is a whole number, and not negative."""
    number = Fraction(value) if isinstance(value, int | float) else _quantity(value, what, example, units)
    if number < 0:
        raise ConfigError(f"a {what} is not negative, as {value!r} is")
    if number >= 1 << 62:
        raise ConfigError(f"{value!r} is too much for a {what}")
    return round(number)


def parse_time(value: str | float) -> int:
    """A duration in ns: of a text as tc has it, bare numbers being microseconds, or of a number of ns."""
    return _count(value, "time", '"10ms"', TIME_UNITS)


def parse_rate(value: str | float) -> int:
    """A rate in bit/s: of a text as tc has it, or of a number of bit/s."""
    return _count(value, "rate", '"10mbit"', RATE_UNITS)


def parse_size(value: str | float) -> int:
    """A size in bytes: of a text as tc has it, or of a number of bytes."""
    return _count(value, "size", '"64kb"', SIZE_UNITS)


def parse_percent(value: str | float) -> float:
    """A chance in percent, 0 to 100: of a text, with or without its sign, or of a number of percent."""
    number = _quantity(value, "percentage", '"0.5%"', {"": 1, "%": 1}) if isinstance(value, str) else value
    if not 0 <= number <= 100:
        raise ConfigError(f"a chance is from 0% to 100%, not {value!r}")
    return float(number)


def parse_int(value: str | int, what: str, low: int, high: int) -> int:
    """A whole number of ``low`` to ``high``, decimal or hexadecimal (0x...)."""
    try:
        number = int(value, 0) if isinstance(value, str) else int(value)
    except ValueError:
        raise ConfigError(f"{value!r} is no whole number, as {what} has to be") from None
    if not low <= number <= high:
        raise ConfigError(f"{what} is from {low} to {high}, not {value}")
    return number


def _decimal(value: int, unit: int) -> str:
    """``value`` divided by a power of ten, exactly and as short as can be."""
    whole, rest = divmod(value, unit)
    return str(whole) if rest == 0 else f"{whole}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}"


def format_time(ns: int) -> str:
    """A duration with the largest unit of which there is at least one: "1.5ms"."""
    for name, unit in (("s", NS_PER_S), ("ms", 1_000_000), ("us", 1_000)):
        if ns >= unit:
            return _decimal(ns, unit) + name
    return f"{ns}ns" if ns else "0s"


def format_rate(rate: int) -> str:
    """A rate in bit/s with the largest unit of which there is at least one: "1.5mbit"."""
    for step, name in ((4, "tbit"), (3, "gbit"), (2, "mbit"), (1, "kbit")):
        if rate >= 1000**step:
            return _decimal(rate, 1000**step) + name
    return f"{rate}bit"


def format_size(size: int) -> str:
    """A size in bytes with the largest unit that divides it: "64kb"."""
    for step, name in ((3, "gb"), (2, "mb"), (1, "kb")):
        if size and size % 1024**step == 0:
            return f"{size // 1024**step}{name}"
    return f"{size}b"


def format_percent(percent: float) -> str:
    """A chance in percent: "0.5%"."""
    return f"{int(percent)}%" if percent == int(percent) else f"{percent!r}%"
