"""Sizes and gaps that vary: a distribution is a table of values that are equally likely.

One value is a constant, twelve are an Internet mix, some thousands a curve. A kernel that draws takes a random number
and one load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from netemu.errors import ConfigError
from netemu.jit import Buffer, Struct, allocate, i64, kernel, load64, pointer, struct

ONE = 1 << 16
"""1 in a table of factors."""

_STEPS = 4096
"""Values of a table that stands for a curve."""
IMIX = (40,) * 7 + (576,) * 4 + (1500,)
"""IP packets of the simple Internet mix: seven short ones to four middling and one full."""
_IP_UDP = 28


@struct
class Draw(Struct):
    """A distribution."""

    values: i64
    """Host address of ``count`` 64-bit values."""
    count: i64


draw_at = pointer(Draw)


@kernel
def drawn(draw: Draw, random: i64) -> i64:
    """The value for a random number of 32 bits."""
    return load64(draw.values + ((random * draw.count) >> 32) * 8)


class Table:
    """A `Draw` with its values."""

    def __init__(self, values: Sequence[int]) -> None:
        """Equally likely values; at least one."""
        self._buffer: Buffer = allocate(8 * len(values))
        self._buffer.array.view("<i8")[:] = values
        self.struct = Draw(values=self._buffer.address, count=len(values))
        self.mean = sum(values) / len(values)
        """Of all values."""

    @property
    def address(self) -> int:
        """For a kernel."""
        return self.struct.address


def _exponential(mean: float) -> list[float]:
    """Values of an exponential distribution, one in the middle of each step of its probability."""
    values = [-math.log(1 - (step + 0.5) / _STEPS) for step in range(_STEPS)]
    scale = mean * _STEPS / sum(values)
    return [value * scale for value in values]


def size_table(size: int | str, least: int, most: int) -> Table:
    """Payload sizes, in bytes: a number, "uniform 64 1400", "exponential 500" or "imix", none outside of the bounds.

    An Internet mix means sizes of IP packets: what is left of one for the payload of UDP over IPv4, or the least there
    can be. Raises `ConfigError` for other words.
    """
    kind, *rest = str(size).split() or [""]
    numbers = [int(word) for word in rest if word.isdigit()]
    values: list[int] = []
    if kind.isdigit() and not rest:
        values = [int(kind)]
    elif kind == "uniform" and len(numbers) == len(rest) == 2:
        values = list(range(numbers[0], numbers[1] + 1))
    elif kind == "exponential" and len(numbers) == len(rest) == 1:
        values = [min(max(round(value), least), most) for value in _exponential(numbers[0])]
    elif kind == "imix" and not rest:
        values = [max(packet - _IP_UDP, least) for packet in IMIX]
    if not values:
        raise ConfigError(f'{size!r} is no size: 1000, "uniform 64 1400", "exponential 500" and "imix" are some')
    if not least <= min(values) <= max(values) <= most:
        raise ConfigError(f"sizes here are from {least} to {most} bytes, which {size!r} exceeds")
    return Table(values)


def gap_table(spacing: str) -> Table:
    """Factors (in units of ONE) that gaps are multiplied by: "constant", or "poisson", whose gaps are exponential.

    Raises `ConfigError` for other words.
    """
    if spacing == "constant":
        return Table([ONE])
    if spacing == "poisson":
        return Table([round(value) for value in _exponential(ONE)])
    raise ConfigError(f"spacing is constant or poisson, not {spacing!r}")
