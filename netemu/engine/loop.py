"""The order of things: hand up, the guest's turn, the next frame."""

from __future__ import annotations

from netemu.engine.arrive import arrive
from netemu.engine.guest import guest_turn, hand_up
from netemu.engine.state import DONE, FLUSH, engine_at
from netemu.jit import call1, entry, i64


@entry
def run(address: i64) -> i64:
    """Play the frames of the batch; DONE when all have arrived, FLUSH when a tap has to be emptied first.

    Frames may still lie in the ring afterwards, for a guest whose turn has not come; with ``softirq`` set and no
    frame left, a call lets the guest take all it has.
    """
    e = engine_at(address)
    while True:
        if hand_up(address) == FLUSH:
            return FLUSH
        if e.turn_due != 0 and call1(e.turn, address) == FLUSH:
            return FLUSH
        if e.softirq != 0:
            if guest_turn(e) == 0 or e.one_turn != 0:
                e.softirq = 0
            e.turn_due = 1 if e.turn != 0 else 0
            continue
        if e.next == e.count:
            return DONE
        if e.send != 0:
            call1(e.send, address)
        elif arrive(e) == FLUSH:
            return FLUSH
