"""HyStart++ (RFC 9406): slow start ends when round trips grow, before the queue in front of a bottleneck overflows.

Theory of operation
-------------------
A *round* is the time until all is acknowledged that was sent when it began. When the shortest of a round's first round
trips exceeds that of the round before by an eighth (within 4 and 16 ms), the queue has begun to fill: *conservative*
slow start grows at a quarter of the pace. Is the round trip short again in one of its rounds, it was a false alarm and
slow start goes on; after five rounds congestion avoidance begins. All this is for the first slow start only.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.tcp.congestion import CONSERVATIVE, SLOW_START, Congestion

_MS = 1_000_000
_MIN_RTT_THRESH = 4 * _MS
_MAX_RTT_THRESH = 16 * _MS
_MIN_RTT_DIVISOR = 8
_N_RTT_SAMPLE = 8
_CSS_ROUNDS = 5


@kernel
def _begin_round(c: Congestion, snd_nxt: i64) -> None:
    c.window_end = snd_nxt
    c.last_round_rtt = c.round_rtt
    c.round_rtt = 0
    c.round_samples = 0


@kernel
def hystart_plus_ack(c: Congestion, rtt: i64, una: i64, snd_nxt: i64) -> None:
    """An ACK in slow start: up to ``una``, with a round trip of ``rtt`` ns (0: not measured) and ``snd_nxt`` sent."""
    if c.window_end == 0:
        _begin_round(c, snd_nxt)
    if rtt > 0:
        c.round_rtt = rtt if c.round_rtt == 0 else min(c.round_rtt, rtt)
        c.round_samples += 1
    if c.round_samples >= _N_RTT_SAMPLE and c.round_rtt > 0:
        if c.phase == SLOW_START and c.last_round_rtt > 0:
            threshold = max(_MIN_RTT_THRESH, min(c.last_round_rtt // _MIN_RTT_DIVISOR, _MAX_RTT_THRESH))
            if c.round_rtt >= c.last_round_rtt + threshold:
                c.baseline_rtt = c.round_rtt
                c.phase = CONSERVATIVE
                c.rounds = 0
        elif c.phase == CONSERVATIVE and c.round_rtt < c.baseline_rtt:
            c.phase = SLOW_START
    if una >= c.window_end:
        if c.phase == CONSERVATIVE:
            c.rounds += 1
            if c.rounds >= _CSS_ROUNDS:
                c.ssthresh = c.cwnd
        _begin_round(c, snd_nxt)
