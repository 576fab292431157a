"""Which frames the wire loses: netem's three models.

* ``random``: each on its own, with a correlation if one likes.
* ``state``: a Markov chain of four states. 1: received in a gap between bursts; 4: lost, on its own, in a gap; 3: lost
  in a burst; 2: received in a burst. p13, p31, p32, p23, p14 are the chances to go from one to another; from 4 it goes
  back to 1. A frame's fate is that of the state it takes the chain to.
* ``gemodel`` (Gilbert and Elliott): a good state and a bad one, p and r the chances to go to the bad and back, 1-h and
  1-k the chances that a frame is lost in the bad and in the good state. The chain moves first, and the frame is lost by
  the chance of the state it was in.

As in the General and Intuitive model of Salsano, Ludovici and Ordine, and in netem's loss_4state and loss_gilb_ell.
"""

from __future__ import annotations

from netemu.chance import next_random, seeded
from netemu.jit import Struct, i64, kernel, pointer, struct
from netemu.net.randomness import Chance, comes_true, odds_of, seed_chance, set_chance
from netemu.net.values import Loss

RANDOM = 1
STATE = 2
GEMODEL = 3
_MODELS = {"random": RANDOM, "state": STATE, "gemodel": GEMODEL}

GAP = 1
BURST_RECEIVED = 2
BURST_LOST = 3
GAP_LOST = 4
GOOD = 1
BAD = 2


@struct
class LossState(Struct):
    """A model with its chances, out of CERTAIN, and where it stands."""

    model: i64
    """RANDOM, STATE, GEMODEL; 0: nothing is lost."""
    chance: i64
    """Address of the `Chance` of RANDOM."""
    state: i64
    random: i64
    p13: i64
    p31: i64
    p32: i64
    p23: i64
    p14: i64
    p: i64
    r: i64
    lost_bad: i64
    """1-h: lost in the bad state."""
    lost_good: i64
    """1-k: lost in the good state."""


loss_at = pointer(LossState)
_chance_at = pointer(Chance)


@kernel
def _four_states(s: LossState) -> i64:
    number = s.random
    if s.state == GAP:
        if number < s.p14:
            s.state = GAP_LOST
        elif number < s.p14 + s.p13:
            s.state = BURST_LOST
    elif s.state == BURST_RECEIVED:
        if number < s.p23:
            s.state = BURST_LOST
    elif s.state == BURST_LOST:
        if number < s.p32:
            s.state = BURST_RECEIVED
        elif number < s.p32 + s.p31:
            s.state = GAP
    else:
        s.state = GAP
    return 1 if s.state >= BURST_LOST else 0


@kernel
def _gilbert_elliott(s: LossState) -> i64:
    was_good = s.state == GOOD
    if s.random < (s.p if was_good else s.r):
        s.state = BAD if was_good else GOOD
    s.random = next_random(s.random)
    return 1 if s.random < (s.lost_good if was_good else s.lost_bad) else 0


@kernel
def is_lost(s: LossState) -> i64:
    """Whether the wire loses the next frame."""
    if s.model == RANDOM:
        return comes_true(_chance_at(s.chance))
    s.random = next_random(s.random)
    return _four_states(s) if s.model == STATE else _gilbert_elliott(s)


class LossModel:
    """A `LossState` for Python."""

    def __init__(self) -> None:
        """Lose nothing yet."""
        self._chance = Chance()
        self.struct = LossState(chance=self._chance.address, state=GAP)
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Start the generators anew."""
        seed_chance(self._chance, seed)
        self.struct.random = seeded(seed + 1)

    def set(self, loss: Loss | None) -> None:
        """Lose by another model, or with other chances; a chain begins anew in its first state."""
        s = self.struct
        s.model = _MODELS[loss.model] if loss is not None else 0
        s.state = GAP
        if loss is None:
            return
        odds = [odds_of(chance) for chance in loss.chances]
        if s.model == RANDOM:
            set_chance(self._chance, loss.chances[0], loss.correlation)
        elif s.model == STATE:
            s.p13, s.p31, s.p32, s.p23, s.p14 = odds
        else:
            s.p, s.r, s.lost_bad, s.lost_good = odds
