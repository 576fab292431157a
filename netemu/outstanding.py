"""Frames on their way through a ring that may lose them: each is there once, and comes out once, or is lost.

Theory of operation
-------------------
With quirks at work nobody's counters can be believed: a frame may vanish with another's buffers, or come up twice. So
each frame that is written into a ring is entered under its number, and taken out when the driver hands up, drops,
merges or sends away a frame of that number. What is still there at the end was lost in the ring. A frame that is taken
out and is not there was made up: out of buffers that were used twice, or under a number that had its turn.

There is a place for each number of the last `WINDOW`; who is still there when his place is needed again, is lost.
"""

from __future__ import annotations

import numpy as np

from netemu.jit import Struct, allocate, i64, kernel, load64, pointer, store64, struct

WINDOW = 1 << 20
"""Frames; many times as many as all rings hold. Places that are never used cost no memory."""


@struct
class OutstandingState(Struct):
    """The places, and what was counted."""

    places: i64
    """Address of WINDOW numbers; 0: nobody is there."""
    passed: i64
    """Frames that came out under the number they went in with."""
    made_up: i64
    """Frames that came out and were not there."""
    evicted: i64
    """Frames that are lost, and whose place was given to another."""


outstanding_at = pointer(OutstandingState)


@kernel
def note_entered(address: i64, number: i64) -> None:
    """Frame ``number`` (from 1) was written into a ring; ``address`` is that of an `OutstandingState`."""
    state = outstanding_at(address)
    place = state.places + (number & (WINDOW - 1)) * 8
    if load64(place) != 0:
        state.evicted += 1
    store64(place, number)


@kernel
def note_left(address: i64, number: i64) -> None:
    """A frame that says it is ``number`` has come out of a ring."""
    state = outstanding_at(address)
    place = state.places + (number & (WINDOW - 1)) * 8
    if number > 0 and load64(place) == number:
        store64(place, 0)
        state.passed += 1
    else:
        state.made_up += 1


class Outstanding:
    """An `OutstandingState` with its memory."""

    def __init__(self) -> None:
        """Nobody is there."""
        self._places = allocate(WINDOW * 8)
        self.struct = OutstandingState(places=self._places.address)
        self.address = self.struct.address

    @property
    def lost(self) -> int:
        """Frames that went in and did not come out, as of now: true while nothing is under way."""
        return self.struct.evicted + int(np.count_nonzero(self._places.array.view(np.int64)))
