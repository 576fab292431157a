"""HyStart as Linux's CUBIC has it: slow start ends before the queue in front of a bottleneck overflows.

Theory of operation
-------------------
A *round* is the time until all is acknowledged that was sent when it began. Two signs end slow start, at once:

* an *ACK train*: acknowledgements that follow each other within 2 ms have gone on for half of the shortest round trip.
  As much as lies between the first and the last of them is under way, so the path is full (Ha and Rhee, 2011);
* *delay*: the shortest of a round's first eight round trips exceeds the shortest ever by an eighth, within 4 and 16 ms.

Windows under 16 segments are left alone. `netemu.stack.tcp.hystart_plus` is what RFC 9406 made of it.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.tcp.congestion import Congestion

_MS = 1_000_000
_LOW_WINDOW = 16
_ACK_DELTA = 2 * _MS
_MIN_SAMPLES = 8
_DELAY_MIN = 4 * _MS
_DELAY_MAX = 16 * _MS


@kernel
def hystart_ack(c: Congestion, rtt: i64, una: i64, snd_nxt: i64, now: i64) -> None:
    """An ACK in slow start: up to ``una``, with a round trip of ``rtt`` ns (0: not measured) and ``snd_nxt`` sent."""
    if rtt > 0:
        c.min_rtt = rtt if c.min_rtt == 0 else min(c.min_rtt, rtt)
    if una > c.window_end:
        c.window_end = snd_nxt
        c.round_start = now
        c.train_ack = now
        c.round_rtt = 0
        c.round_samples = 0
    if c.cwnd < _LOW_WINDOW * c.smss or c.min_rtt == 0:
        return
    if now - c.train_ack <= _ACK_DELTA:
        c.train_ack = now
        if now - c.round_start > c.min_rtt >> 1:
            c.ssthresh = c.cwnd
            return
    if rtt > 0:
        c.round_rtt = rtt if c.round_rtt == 0 else min(c.round_rtt, rtt)
        if c.round_samples < _MIN_SAMPLES:
            c.round_samples += 1
        elif c.round_rtt > c.min_rtt + min(max(c.min_rtt >> 3, _DELAY_MIN), _DELAY_MAX):
            c.ssthresh = c.cwnd
