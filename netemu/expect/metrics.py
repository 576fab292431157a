"""What can be measured of traffic: names, dimensions and words. Counters of guests and links have their own names."""

from __future__ import annotations

from dataclasses import dataclass

from netemu.expect.units import COUNT, RATE, SHARE, SIZE, TIME


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that is measured of a piece of traffic."""

    dimension: str
    words: str
    sampled: bool = False
    """Whether there is a value for each packet: then a statistic says which is meant."""


METRICS = {
    "sent": Metric(COUNT, "packets or requests sent"),
    "received": Metric(COUNT, "of them, how many arrived or were answered"),
    "lost": Metric(COUNT, "of them, how many were not"),
    "loss": Metric(SHARE, "lost by sent"),
    "duplicates": Metric(COUNT, "packets that came more than once"),
    "reordered": Metric(COUNT, "packets that came after one sent later"),
    "rtt": Metric(TIME, "from a question to its answer", sampled=True),
    "delay": Metric(TIME, "one way, from a guest's socket to the other's", sampled=True),
    "jitter": Metric(TIME, "how much delays differ from one packet to the next, smoothed (RFC 3550)"),
    "bytes": Metric(SIZE, "payload that arrived"),
    "goodput": Metric(RATE, "payload that arrived, by the time that took"),
    "duration": Metric(TIME, "from the start to the end"),
    "connect": Metric(TIME, "until the connection stood", sampled=True),
    "retransmits": Metric(COUNT, "segments sent again"),
    "errors": Metric(COUNT, "what failed: connections, requests, questions"),
    "completed": Metric(COUNT, "what came to its end: transfers, requests"),
}
"""Every metric of traffic."""

OF_KIND = {
    "ping": ("sent", "received", "lost", "loss", "duplicates", "errors", "rtt", "duration"),
    "udp": (
        *("sent", "received", "lost", "loss", "duplicates", "reordered", "delay", "jitter"),
        *("bytes", "goodput", "duration"),
    ),
    "tcp": ("bytes", "goodput", "duration", "connect", "retransmits", "completed", "errors"),
    "http": ("sent", "received", "completed", "errors", "bytes", "goodput", "rtt", "duration"),
    "dns": ("sent", "received", "lost", "loss", "rtt", "duration", "errors"),
    "scapy": ("sent", "duration"),
    "replay": ("sent", "duration"),
}
"""The metrics that each kind of traffic has."""


def counter_dimension(name: str) -> str:
    """The dimension of a counter of a guest or link, by its name."""
    return SIZE if name.endswith(("bytes", "Octets")) else TIME if name.endswith("_ns") else COUNT
