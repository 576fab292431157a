"""Slots as a Python object."""

from __future__ import annotations

from typing import Any

from netemu.chance import seeded
from netemu.jit import hook
from netemu.net.delay import Delays
from netemu.net.direction import Direction
from netemu.net.slots import Slots, slot_frame, slot_opens

_ANY = 1 << 62


class Slotting:
    """A `Slots` with the distribution of its times, for Python."""

    def __init__(self, direction: Direction) -> None:
        """No slots yet."""
        self._direction = direction
        self._delays = Delays()
        self.struct = Slots()
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Start the generators anew."""
        self._delays.seed(seed)
        self.struct.random = seeded(seed + 1)

    def set(self, slot: Any) -> None:
        """Have slots as a `netemu.net.values.Slot` says, or none; frames that wait for one still get it."""
        s, d = self.struct, self._direction
        if slot is None:
            d.slots = 0
            return
        s.spread, s.least, s.most = 0, slot.least, slot.most
        if slot.distribution is not None:
            self._delays.set(slot.least, slot.most, 0.0, slot.distribution)
            s.spread = self._delays.struct.address
        s.packets, s.bytes = slot.packets or _ANY, slot.bytes or _ANY
        s.packets_left, s.bytes_left = s.packets, s.bytes
        s.on_open = hook(slot_opens)
        d.slots, d.slotted = hook(slot_frame), s.address
