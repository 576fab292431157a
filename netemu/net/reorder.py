"""Which frames go ahead of those that left before them: netem's ``reorder PERCENT CORRELATION gap N``.

Of each run of frames the first N - 1 are delayed like all; each one that follows goes at once with the chance given,
and after one that did the run begins again.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.net.randomness import Chance, draw


@kernel
def goes_ahead(chance: Chance, gap: i64) -> i64:
    """Whether the next frame goes without delay; the chance's counter counts those that did not."""
    if chance.counter < gap - 1 or draw(chance) >= chance.odds:
        chance.counter += 1
        return 0
    chance.counter = 0
    return 1
