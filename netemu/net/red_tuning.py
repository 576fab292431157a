"""What RED's words leave open, as tc fills it in: thresholds from the queue's size, a time constant from the burst."""

from __future__ import annotations

from typing import NamedTuple

from netemu.errors import ConfigError
from netemu.net.values import Queue, Red

_WLOG_MAX = 31
_BANDWIDTH = 10_000_000
"""bit/s, where neither RED nor the link says any."""
_PACKET_NS = 8 * 1_000_000_000


class RedTuning(NamedTuple):
    """Bytes, and ns."""

    min: int
    max: int
    wlog: int
    """The average moves by a 2^-wlog of each difference."""
    packet_ns: int
    """Time of a packet of ``avpkt`` bytes."""


def wlog_for(least: int, burst: int, avpkt: int) -> int:
    """The binary logarithm of the averaging time constant, as tc finds it (tc_red_eval_ewma); raises `ConfigError`."""
    excess = burst + 1 - least / avpkt
    if excess < 1:
        raise ConfigError(f"red: a burst of {burst} packets of {avpkt} bytes has to reach min, {least} bytes")
    for wlog in range(1, _WLOG_MAX + 1):
        weight = 2.0**-wlog
        if excess <= (1 - (1 - weight) ** burst) / weight:
            return wlog
    raise ConfigError(f"red: a burst of {burst} packets is too long")


def tuning(red: Red, queue: Queue, rate: int) -> RedTuning:
    """RED for a queue of a link with this rate, bit/s (0: none). Raises `ConfigError`."""
    limit = queue.bytes or queue.packets * red.avpkt
    most = red.max or max(limit // 4, 2 * red.min)
    least = red.min or most // 3
    if not 0 < least < most:
        raise ConfigError("red: needs a min below max, or a queue long enough to have them")
    burst = red.burst or (2 * least + most) // (3 * red.avpkt)
    packet_ns = max(red.avpkt * _PACKET_NS // (red.bandwidth or rate or _BANDWIDTH), 1)
    return RedTuning(least, most, wlog_for(least, burst, red.avpkt), packet_ns)
