"""Reno: additive increase, multiplicative decrease (RFC 5681), counting bytes (RFC 3465)."""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.tcp.congestion import Congestion, grow


@kernel
def reno_avoid(c: Congestion, acked: i64) -> None:
    """Congestion avoidance: one segment for each window of bytes that is acknowledged."""
    c.acked += acked
    while c.acked >= c.cwnd:
        c.acked -= c.cwnd
        grow(c, c.smss)


@kernel
def reno_ssthresh(c: Congestion, flight: i64) -> i64:
    """The threshold after a loss with ``flight`` bytes outstanding (equation 4)."""
    return max(flight >> 1, 2 * c.smss)
