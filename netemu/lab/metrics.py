"""What flows measured, under the names that expectations use (`netemu.expect.metrics`)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from netemu.aio.ping import PingStats
from netemu.errors import ConfigError
from netemu.expect.measured import Value
from netemu.traffic.udp import FlowStats


def metrics_of(measured: Any) -> dict[str, Value]:
    """The metrics of what `ping`, `netemu.traffic.udp.udp_flow` and others give back.

    What has a method ``metrics`` is asked. Raises `ConfigError` for what measured nothing.
    """
    if isinstance(measured, PingStats):
        return _of_ping(measured)
    if isinstance(measured, FlowStats):
        return _of_udp(measured)
    asked = getattr(measured, "metrics", None)
    if asked is None:
        raise ConfigError(f"{type(measured).__name__} says nothing of what it measured")
    found: dict[str, Value] = asked()
    return found


def _share(part: int, whole: int) -> Fraction | None:
    return Fraction(part, whole) if whole else None


def _of_ping(stats: PingStats) -> dict[str, Value]:
    return {
        "sent": stats.sent,
        "received": stats.received,
        "lost": stats.lost,
        "loss": _share(stats.lost, stats.sent),
        "duplicates": stats.duplicates,
        "errors": len(stats.errors),
        "rtt": stats.rtt,
        "duration": stats.duration,
    }


def _of_udp(stats: FlowStats) -> dict[str, Value]:
    return {
        "sent": stats.sent,
        "received": stats.received,
        "lost": stats.lost,
        "loss": _share(stats.lost, stats.sent),
        "duplicates": stats.duplicates,
        "reordered": stats.reordered,
        "delay": stats.delay,
        "jitter": Fraction(stats.jitter) if stats.received else None,
        "bytes": stats.received_bytes,
        "goodput": Fraction(stats.goodput) if stats.goodput else None,
        "duration": stats.duration,
    }
