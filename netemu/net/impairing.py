"""The impairments of a direction as a Python object: what the options say, as structs, and hooks for what is used."""

from __future__ import annotations

from typing import Any

from netemu.jit import hook
from netemu.net.corrupt import corrupt_frame
from netemu.net.cut import cut_and_send
from netemu.net.delay import Delays
from netemu.net.direction import Direction
from netemu.net.impair import Impairments, impair
from netemu.net.loss import LossModel
from netemu.net.options import LinkOptions
from netemu.net.pieces import Finishing
from netemu.net.randomness import Chance, seed_chance, set_chance
from netemu.net.slotting import Slotting
from netemu.net.values import Delay, Odds

_CHANCES = 16
"""Seeds between two directions' seeds."""


class Impairing:
    """All that changes what comes out of a direction, and the memory it needs.

    Only what the options name costs anything: hooks are set, and compiled, when they are first needed.
    """

    def __init__(self, direction: Direction) -> None:
        """Impair nothing yet."""
        self._direction = direction
        self._duplicate, self._corrupt, self._reorder = Chance(), Chance(), Chance()
        self._loss = LossModel()
        self._delays = Delays()
        self._slots = Slotting(direction)
        self._finishing: Finishing | None = None
        self.struct = Impairments(spread=self._delays.struct.address)

    def seed(self, seed: int) -> None:
        """Start all generators anew, each concept's own from ``seed``."""
        seed *= _CHANCES
        for number, chance in enumerate((self._duplicate, self._corrupt, self._reorder)):
            seed_chance(chance, seed + number)
        self._loss.seed(seed + 3)
        self._delays.seed(seed + 5)
        self._slots.seed(seed + 6)

    def use(self, old: Any, new: LinkOptions) -> None:
        """Do as ``new`` says; what is as in ``old`` goes on as it was."""
        im, d = self.struct, self._direction
        im.duplicate = _use_odds(self._duplicate, new.duplicate)
        im.corrupt = _use_odds(self._corrupt, new.corrupt)
        reorder: Any = new.reorder
        im.reorder = 0
        if reorder is not None and reorder.percent > 0:
            set_chance(self._reorder, reorder.percent, reorder.correlation)
            im.reorder, im.gap = self._reorder.address, reorder.gap
        if new.loss != old.loss:
            self._loss.set(new.loss)  # type: ignore[arg-type]
        im.loss = self._loss.struct.address if new.loss is not None else 0
        im.ecn = int(new.ecn)
        delay: Any = new.delay or Delay(0)
        self._delays.set(delay.time, delay.jitter, delay.correlation, delay.distribution)
        im.corrupt_hook = hook(corrupt_frame) if im.corrupt else 0
        needed = im.duplicate or im.corrupt or im.reorder or im.loss or delay.jitter
        if self._finishing is None and (im.corrupt or new.gso == "segments"):
            self._finishing = Finishing(d.pool)
            d.cutting = self._finishing.struct.address
        d.cutter = hook(cut_and_send) if new.gso == "segments" else 0
        d.impairments = im.address
        d.impair = hook(impair) if needed else 0
        if new.slot != old.slot:
            self._slots.set(new.slot)


def _use_odds(chance: Chance, odds: Any) -> int:
    """Set a chance; its address, or 0 if it never comes true."""
    set_chance(chance, odds.percent if isinstance(odds, Odds) else 0, odds.correlation if odds else 0)
    return chance.address if chance.odds else 0
