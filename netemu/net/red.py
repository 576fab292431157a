"""Random early detection: a queue that drops more the longer it is on average (Floyd and Jacobson, 1993).

Theory of operation
-------------------
Each frame that comes moves the average by a 2^-wlog of the difference to the bytes that wait. Below ``min`` it is let
in; from there to ``max`` it is dropped (or marked) with a chance that grows to ``probability``, evened out over the
frames since the last one that was: p / (1 - count p). Above ``max`` all are, or, gently, with a chance that grows on to
one at twice ``max``. While nothing waits and nothing is sent, the average falls as if packets of ``avpkt`` bytes had
passed at ``bandwidth``.

Parameters are tc's, and so is how wlog follows from ``burst``: the smallest for which a burst of so many packets, into
an empty queue, leaves the average below ``min``.

Adaptive RED (Floyd, Gummadi and Shenker, 2001) moves ``probability`` every half second so that the average stays in the
middle of min and max: up by a quarter of itself or 1 %, whichever is less, down to nine tenths; from 1 % to 50 %.
"""

from __future__ import annotations

from netemu.chance import CERTAIN, next_random, seeded
from netemu.frame import frame_at
from netemu.jit import Struct, entry, hook, i64, kernel, pointer, struct
from netemu.net.direction import ADMIT, REFUSE_EARLY, direction_at
from netemu.net.ecn import mark_ce
from netemu.net.queue import pop
from netemu.net.red_tuning import tuning
from netemu.net.values import Queue, Red
from netemu.net.wire_frame import wire_frame_at
from netemu.timers import timers_at

AVERAGE_BITS = 20
"""Binary places of the average."""
ADAPT_NS = 500_000_000
_ADAPT_STEP = CERTAIN // 100
_ADAPT_MOST = CERTAIN // 2
_ADAPT_TENTHS = 9
_BUSY = -1


@struct
class RedState(Struct):
    """Bytes, ns, chances out of CERTAIN."""

    average: i64
    """Bytes that wait, on average, times 2^AVERAGE_BITS."""
    wlog: i64
    min: i64
    max: i64
    probability: i64
    gentle: i64
    ecn: i64
    harddrop: i64
    nodrop: i64
    adaptive: i64
    adapted: i64
    """When the probability was last moved."""
    count: i64
    """Frames let in between min and max since the last that was not; -1: the average was below min."""
    idle_since: i64
    """When the last frame left the queue empty; _BUSY while there is one."""
    packet_ns: i64
    """Time of a packet of ``avpkt`` bytes."""
    random: i64
    early: i64
    """Frames dropped or marked by chance, and because the average was too high."""
    forced: i64


red_at = pointer(RedState)


@kernel
def _power(fraction: i64, times: i64) -> i64:
    """``fraction`` to the power of ``times``; fractions of CERTAIN, below it."""
    result = CERTAIN - 1
    while times > 0 and result > 0:
        if times & 1:
            result = (result * (fraction >> 1)) >> 31
        fraction = (fraction * (fraction >> 1)) >> 31
        times >>= 1
    return result


@kernel
def _settle(s: RedState, backlog: i64, now: i64) -> None:
    """Bring the average up to date."""
    if s.idle_since != _BUSY:
        packets = (now - s.idle_since) // s.packet_ns
        if packets > 0:
            s.average = (s.average >> 16) * (_power(CERTAIN - (CERTAIN >> s.wlog), packets) >> 8) >> 8
        s.idle_since = _BUSY
    s.average += ((backlog << AVERAGE_BITS) - s.average) >> s.wlog


@kernel
def _adapt(s: RedState, now: i64) -> None:
    """Move the probability so that the average stays between four and six tenths of the way from min to max."""
    s.adapted = now
    average = s.average >> AVERAGE_BITS
    tenth = (s.max - s.min) // 10
    if average > s.min + 6 * tenth and s.probability <= _ADAPT_MOST:
        s.probability += min(_ADAPT_STEP, s.probability >> 2)
    elif average < s.min + 4 * tenth and s.probability >= _ADAPT_STEP:
        s.probability = s.probability * _ADAPT_TENTHS // 10


@kernel
def red_odds(s: RedState) -> i64:
    """The chance, out of CERTAIN, with which the next frame is not let in, for the average as it is."""
    average = s.average >> AVERAGE_BITS
    if average < s.min:
        return 0
    if average < s.max:
        return s.probability * (average - s.min) // (s.max - s.min)
    if s.gentle != 0 and average < 2 * s.max:
        return s.probability + (CERTAIN - s.probability) * (average - s.max) // s.max
    return CERTAIN


@kernel
def _chosen(s: RedState) -> i64:
    """Whether the next frame is not let in."""
    odds = red_odds(s)
    if odds == 0:
        s.count = -1
        return 0
    if odds >= CERTAIN:
        s.count = 0
        return 1
    s.count += 1
    left = CERTAIN - s.count * odds
    s.random = next_random(s.random)
    if left <= odds or s.random < (odds << 30) // (left >> 2):
        s.count = 0
        return 1
    return 0


@entry
def red_admit(direction: i64, wire_frame: i64) -> i64:
    """`Direction.admit`: ADMIT, perhaps with a mark, or REFUSE_EARLY."""
    d = direction_at(direction)
    s = red_at(d.policy)
    now = timers_at(d.timers).now
    _settle(s, d.backlog_bytes, now)
    if s.adaptive != 0 and now - s.adapted >= ADAPT_NS:
        _adapt(s, now)
    if _chosen(s) == 0:
        return ADMIT
    d.overlimits += 1
    forced = s.average >> AVERAGE_BITS >= s.max
    if forced:
        s.forced += 1
    else:
        s.early += 1
    if s.ecn != 0 and not (forced and s.harddrop != 0):
        if mark_ce(frame_at(wire_frame_at(wire_frame).frame)):
            d.marked += 1
            return ADMIT
        if s.nodrop != 0:
            return ADMIT
    return REFUSE_EARLY


@entry
def red_pick(direction: i64) -> i64:
    """`Direction.pick`: the first frame; without one, the link is idle from now on."""
    d = direction_at(direction)
    wire_frame = pop(d)
    if wire_frame == 0:
        red_at(d.policy).idle_since = timers_at(d.timers).now
    return wire_frame


class RedPolicy:
    """RED for a direction's queue: a `RedState` for Python."""

    def __init__(self, red: Red, queue: Queue, rate: int, seed: int) -> None:
        """RED for the queue of a link with this rate, bit/s; raises `ConfigError`."""
        tuned = tuning(red, queue, rate)
        self.struct = RedState(
            wlog=tuned.wlog,
            min=tuned.min,
            max=tuned.max,
            probability=round(red.probability * CERTAIN),
            gentle=int(red.gentle),
            ecn=int(red.ecn),
            harddrop=int(red.harddrop),
            nodrop=int(red.nodrop),
            adaptive=int(red.adaptive),
            count=-1,
            packet_ns=tuned.packet_ns,
            random=seeded(seed),
        )

    def hooks(self) -> tuple[int, int, int]:
        """What `Direction` has as admit, pick and policy."""
        return hook(red_admit), hook(red_pick), self.struct.address
