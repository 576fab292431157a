"""What happens to a frame on the wire: duplicated, lost, corrupted, delayed, reordered, in that order, as netem has it.

* Whether it is duplicated and whether it is lost are drawn apart: a frame that is both comes once. The duplicate goes
  through the rest on its own, is lost or corrupted by its own chance, and not duplicated again. It leaves first.
* A frame that is lost has used its time of the rate (`netemu.net.direction`).
* Reordering lets one frame in ``gap`` go without delay, with the chance given.
* Jitter lets frames overtake each other, but not on a link with a rate: there one that is late holds up those behind.

Every concept has its own generator, seeded from the direction's seed, so that turning one on does not change what the
others draw.
"""

from __future__ import annotations

from netemu.frame import frame_at
from netemu.jit import Struct, call2, entry, i64, kernel, pointer, struct
from netemu.net.delay import drawn_delay, spread_at
from netemu.net.direction import Direction, direction_at, drop
from netemu.net.ecn import mark_ce
from netemu.net.line import enter_line
from netemu.net.loss import is_lost, loss_at
from netemu.net.randomness import Chance, comes_true
from netemu.net.reorder import goes_ahead
from netemu.net.wire_frame import copied_frame, wire_frame_at, wire_pool_at
from netemu.timers import timers_at


@struct
class Impairments(Struct):
    """Addresses of what each impairment needs; 0: it is left out."""

    duplicate: i64
    """A `Chance`."""
    loss: i64
    """A `LossState`."""
    ecn: i64
    """1: mark instead of losing."""
    corrupt: i64
    """A `Chance`."""
    corrupt_hook: i64
    """Hook ``(direction, wire frame)`` that changes a bit: see `netemu.net.corrupt`."""
    reorder: i64
    """A `Chance`, whose ``counter`` counts frames since one went ahead."""
    gap: i64
    spread: i64
    """A `Spread`."""


impairments_at = pointer(Impairments)
chance_at = pointer(Chance)


@kernel
def _is_lost(im: Impairments, wire_frame: i64) -> i64:
    """Whether the wire loses the frame; one that can be marked is not lost, but 2 is said of it."""
    if im.loss == 0 or is_lost(loss_at(im.loss)) == 0:
        return 0
    return 2 if im.ecn != 0 and mark_ce(frame_at(wire_frame_at(wire_frame).frame)) else 1


@kernel
def _lose(d: Direction, wire_frame: i64) -> None:
    d.dropped_loss += 1
    drop(d, wire_frame)


@kernel
def _send_on(direction: i64, im: Impairments, wire_frame: i64) -> None:
    """Corruption, reordering and delay."""
    d = direction_at(direction)
    now = timers_at(d.timers).now
    others = 0
    if im.corrupt != 0 and comes_true(chance_at(im.corrupt)):
        wire_frame = call2(im.corrupt_hook, direction, wire_frame)
        if wire_frame == 0:
            return
        others = wire_frame_at(wire_frame).next
    if im.reorder != 0 and goes_ahead(chance_at(im.reorder), im.gap):
        d.reordered += 1
        enter_line(direction, wire_frame, now)
    else:
        when = now + drawn_delay(spread_at(im.spread))
        if d.rate != 0 and d.line_first != 0:
            when = max(when, wire_frame_at(d.line_last).when)
        enter_line(direction, wire_frame, when)
    while others != 0:
        following = wire_frame_at(others).next
        call2(d.impair, direction, others)
        others = following


@kernel
def _send_twin(direction: i64, im: Impairments, wire_frame: i64) -> None:
    """A duplicate of the frame goes its own way."""
    d = direction_at(direction)
    twin = copied_frame(wire_pool_at(d.pool), wire_frame_at(wire_frame).frame)
    d.duplicated += 1
    if twin == 0:
        d.dropped_buffer += 1
        return
    d.held += 1
    lost = _is_lost(im, twin)
    if lost == 1:
        _lose(d, twin)
        return
    d.marked += lost >> 1
    _send_on(direction, im, twin)


@entry
def impair(direction: i64, wire_frame: i64) -> i64:
    """`Direction.impair`: a frame comes on the wire."""
    d = direction_at(direction)
    im = impairments_at(d.impairments)
    twice = im.duplicate != 0 and comes_true(chance_at(im.duplicate)) != 0
    lost = _is_lost(im, wire_frame)
    if lost == 1 and not twice:
        _lose(d, wire_frame)
        return 0
    d.marked += lost >> 1
    if twice and lost != 1:
        _send_twin(direction, im, wire_frame)
    _send_on(direction, im, wire_frame)
    return 0
