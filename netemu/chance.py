"""Chance that repeats: one generator for whatever happens to some frames and not to others.

Its state is a number in the struct that asks, so each rule has its own and a run with the same seed does the same.
"""

from __future__ import annotations

from netemu.jit import i64, kernel

CERTAIN = 1 << 32
"""A chance is out of so many; this one always comes true, and asks no generator."""

_WORD = 0xFFFFFFFF
_MIX = 0x9E3779B1


@kernel
def next_random(state: i64) -> i64:
    """The 32 bits that follow ``state``, never 0, and the generator's next state (Marsaglia's xorshift)."""
    x = state
    x ^= (x << 13) & _WORD
    x ^= x >> 17
    x ^= (x << 5) & _WORD
    return x


def seeded(seed: int) -> int:
    """The first state for a seed; small seeds as they are would give small first numbers."""
    return (seed * _MIX) & _WORD or 1
