"""How long a frame is under way: a fixed time, and jitter around it, evenly or by a table.

A table is netem's: numbers that say by how many 8192ths of the jitter a delay differs from its mean, in ascending
order, so that a random number picks one and correlated numbers pick neighbours (`netemu.net.tables` makes them).
Without a table jitter is spread evenly over both sides. A delay that comes out negative is none.
"""

from __future__ import annotations

from netemu.jit import Buffer, Struct, allocate, i64, kernel, load64, pointer, struct
from netemu.net.randomness import Chance, draw, seed_chance, set_chance
from netemu.net.tables import table
from netemu.net.values import Distribution

SCALE_BITS = 13
"""A standard deviation is 1 << 13 in a table (NETEM_DIST_SCALE)."""


@struct
class Spread(Struct):
    """Delays, and where the next one comes from. ns."""

    mean: i64
    jitter: i64
    table: i64
    """Address of ``size`` numbers of 64 bits; 0: evenly."""
    size: i64
    chance: i64
    """Address of the `Chance` that random numbers come from."""


spread_at = pointer(Spread)
chance_at = pointer(Chance)


@kernel
def drawn_delay(spread: Spread) -> i64:
    """The next delay, not negative."""
    if spread.jitter == 0:
        return spread.mean
    number = draw(chance_at(spread.chance))
    if spread.table == 0:
        delay = spread.mean - spread.jitter + ((2 * spread.jitter * (number >> 8)) >> 24)
    else:
        sigmas = load64(spread.table + ((number * spread.size) >> 32) * 8)
        delay = spread.mean + ((spread.jitter * sigmas + (1 << (SCALE_BITS - 1))) >> SCALE_BITS)
    return max(delay, 0)


class Delays:
    """A `Spread` with its memory, for Python."""

    def __init__(self) -> None:
        """No delay yet."""
        self._chance = Chance()
        self._table: Buffer | None = None
        self.struct = Spread(chance=self._chance.address)
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Start the generator anew."""
        seed_chance(self._chance, seed)

    def set(self, mean: int, jitter: int, correlation: float, distribution: Distribution) -> None:
        """Draw from another distribution from now on; the generator goes on."""
        numbers = table(distribution) if isinstance(distribution, str) else distribution
        spread = self.struct
        spread.mean, spread.jitter, spread.size, spread.table = mean, jitter, len(numbers), 0
        set_chance(self._chance, 0, correlation)
        if numbers:
            memory = allocate(8 * len(numbers))
            memory.array.view("<i8")[:] = numbers
            self._table = memory
            spread.table = memory.address
