"""CUBIC (RFC 9438), in whole numbers: bytes for windows, 1/1024 s for the cubic function's time.

Theory of operation
-------------------
After a reduction the window follows W(t) = C * (t - K)^3 + W_max: fast back towards the window at which something was
lost, slowly around it, then faster and faster. Where that is less than Reno would have (short round trips, small
windows) it follows Reno's estimate W_est instead. A *stage* of congestion avoidance begins with the first ACK in it;
time in which the sender had not enough to fill its window does not count (section 5.8), so ``epoch`` moves with it.

With t in units of 1/1024 s, (t - K)^3 has 30 fraction bits. K is the cube root of (W_max - cwnd) / C in the same unit,
found by Newton's method.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.tcp.congestion import Congestion, grow

# C is 0.4 segments a second cubed: 2 / 5. Beta is 0.7. Alpha, 3 * (1 - beta) / (1 + beta), is 9 / 17.
_C_OVER, _C_UNDER = 2, 5
_BETA_OVER, _BETA_UNDER = 7, 10
_ALPHA_OVER, _ALPHA_UNDER = 9, 17
_SECOND = 1_000_000_000
_TICKS = 10
"""Bits of a second's fraction in the cubic function."""
_TICKS_MAX = 1 << 18
"""Farther than 256 s from K the function counts as it does there, which is more than a window can be."""


@kernel
def cube_root(value: i64) -> i64:
    """The largest number whose cube is at most ``value``, which is not negative."""
    if value == 0:
        return 0
    bits = 0
    while bits < 21 and value >> (3 * bits) > 0:
        bits += 1
    root = 1 << bits
    while True:
        better = (2 * root + value // (root * root)) // 3
        if better >= root:
            return root
        root = better


@kernel
def _ticks(time: i64) -> i64:
    """A time in ns, in units of 1/1024 s."""
    return (time << _TICKS) // _SECOND


@kernel
def w_cubic(c: Congestion, time: i64) -> i64:
    """The window that the cubic function has ``time`` ns after the stage began, in bytes (equation 1)."""
    offset = min(max(_ticks(time) - c.origin, -_TICKS_MAX), _TICKS_MAX)
    cube = offset * offset * offset >> _TICKS
    return c.w_max + (cube * c.smss * _C_OVER // _C_UNDER >> 2 * _TICKS)


@kernel
def _begin_stage(c: Congestion, now: i64) -> None:
    """Congestion avoidance begins (section 4.2); after a slow start without loss, at the middle of the curve (4.10)."""
    c.epoch = max(now, 1)
    c.w_est = c.cwnd
    c.w_est_rest = 0
    c.acked = 0
    c.last_ack = now
    if c.cwnd < c.w_max:
        behind = (c.w_max - c.cwnd) * _C_UNDER << 3 * _TICKS - 1
        c.origin = cube_root(behind // c.smss)
    else:
        c.w_max = c.cwnd
        c.origin = 0


@kernel
def _follow_reno(c: Congestion, acked: i64) -> None:
    """Let Reno's estimate grow (section 4.3): by alpha segments a window, by one once it is where it was before."""
    over = _ALPHA_OVER if c.w_est < c.cwnd_prior else _ALPHA_UNDER
    growth = acked * c.smss * over + c.w_est_rest
    per_byte = c.cwnd * _ALPHA_UNDER
    c.w_est += growth // per_byte
    c.w_est_rest = growth % per_byte


@kernel
def cubic_avoid(c: Congestion, acked: i64, rtt: i64, limited: i64, now: i64) -> None:
    """Congestion avoidance: ``acked`` bytes were acknowledged; ``rtt`` is the smoothed round trip, ns.

    ``limited`` 0: the sender did not fill its window, which stays as it is.
    """
    if c.epoch == 0:
        _begin_stage(c, now)
    since = now - c.last_ack
    c.last_ack = now
    if limited == 0:
        c.epoch += since
        return
    _follow_reno(c, acked)
    elapsed = now - c.epoch
    if w_cubic(c, elapsed) < c.w_est:
        if c.cwnd < c.w_est:
            grow(c, c.w_est - c.cwnd)
        return
    target = min(max(w_cubic(c, elapsed + rtt), c.cwnd), c.cwnd + (c.cwnd >> 1))
    growth = (target - c.cwnd) * acked + c.acked
    c.acked = growth % c.cwnd
    grow(c, growth // c.cwnd)


@kernel
def cubic_ssthresh(c: Congestion, flight: i64) -> i64:
    """The threshold after a loss with ``flight`` bytes outstanding (section 4.6); remembers the window it was at."""
    c.epoch = 0
    c.cwnd_prior = c.cwnd
    if c.cwnd < c.w_max:  # fast convergence (section 4.7)
        c.w_max = c.cwnd * (_BETA_UNDER + _BETA_OVER) // (2 * _BETA_UNDER)
    else:
        c.w_max = c.cwnd
    return max(flight * _BETA_OVER // _BETA_UNDER, 2 * c.smss)
