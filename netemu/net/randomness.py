"""Correlated chance: the random numbers that netem's words with a CORRELATION draw.

Each number is the last one times the correlation, plus a fresh one times the rest: the first-order autoregression of
netem (get_crandom). Correlated numbers lie closer to the middle than fresh ones do, so that a chance of 1 % with a
correlation of 25 % comes true less often than in 1 % of cases. netem's documentation warns of that, and netemu does
as netem does; `loss gemodel` is the better word for losses in bursts.
"""

from __future__ import annotations

from netemu.chance import CERTAIN, next_random, seeded
from netemu.jit import Struct, i64, kernel, struct

_CERTAIN_FLOAT = float(CERTAIN)


@struct
class Chance(Struct):
    """A chance with a memory."""

    odds: i64
    """Out of CERTAIN; 0: never."""
    rho: i64
    """Correlation, out of CERTAIN."""
    last: i64
    """The number drawn last."""
    random: i64
    """State of the generator."""
    counter: i64
    """Free for whoever asks."""


@kernel
def draw(chance: Chance) -> i64:
    """The next number, 0 to 2^32 - 1."""
    chance.random = next_random(chance.random)
    if chance.rho == 0:
        return chance.random
    # Of each factor a bit is given up, so that the sum stays below 2^63.
    chance.last = (chance.random * ((CERTAIN - chance.rho) >> 1) + chance.last * (chance.rho >> 1)) >> 31
    return chance.last


@kernel
def comes_true(chance: Chance) -> i64:
    """Whether it happens this time; a chance of 0 draws nothing."""
    if chance.odds == 0:
        return 0
    return 1 if draw(chance) < chance.odds else 0


def odds_of(percent: float) -> int:
    """A percentage out of CERTAIN."""
    return round(percent / 100 * _CERTAIN_FLOAT)


def set_chance(chance: Chance, percent: float, correlation: float) -> None:
    """Give a chance new odds; its generator and its memory stay."""
    chance.odds = odds_of(percent)
    chance.rho = odds_of(correlation)


def seed_chance(chance: Chance, seed: int) -> None:
    """Start a chance anew: the same seed, the same numbers."""
    chance.random = seeded(seed)
    chance.last = next_random(chance.random)
    chance.counter = 0
