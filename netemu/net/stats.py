"""What a direction of a link has counted, for programs and, as ``tc -s qdisc`` prints it, for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from netemu.net.direction import Direction
from netemu.net.units import format_time

REASONS = ("mtu", "limit", "queue", "early", "loss", "down", "buffer", "header")
"""Why a link drops a frame: the ``dropped_...`` of `Direction`."""


@dataclass(frozen=True)
class LinkStats:
    """Counters of one direction, in frames and bytes; see `Direction` for their meaning."""

    offered: int
    offered_bytes: int
    sent: int
    sent_bytes: int
    delivered: int
    delivered_bytes: int
    dropped: dict[str, int]
    """By reason, those of REASONS that occurred."""
    overlimits: int
    marked: int
    duplicated: int
    corrupted: int
    reordered: int
    cut: int
    pieces: int
    backlog: int
    backlog_bytes: int
    under_way: int
    """Frames at the transmitter and on the wire."""
    queued_ns: int
    """Time in the queue, summed over all frames that left it."""
    queued_most: int
    """Most frames that ever waited."""

    @classmethod
    def of(cls, d: Direction) -> LinkStats:
        """Those of a direction, as they are now."""
        dropped = {reason: getattr(d, f"dropped_{reason}") for reason in REASONS}
        return cls(
            dropped={reason: count for reason, count in dropped.items() if count},
            under_way=d.held - d.backlog,
            **{name: getattr(d, name) for name in cls.__annotations__ if name not in ("dropped", "under_way")},
        )

    @property
    def dropped_total(self) -> int:
        """Frames dropped for whatever reason."""
        return sum(self.dropped.values())

    def to_dict(self) -> dict[str, int | dict[str, int]]:
        """All by name, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Three lines, in the manner of ``tc -s qdisc``."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.dropped.items())
        waited = format_time(self.queued_ns // self.sent) if self.sent else "0s"
        return (
            f"Sent {self.sent_bytes} bytes {self.sent} pkt (dropped {self.dropped_total}"
            f"{f': {reasons}' if reasons else ''}, overlimits {self.overlimits})\n"
            f"backlog {self.backlog_bytes}b {self.backlog}p, under way {self.under_way}p, "
            f"at most {self.queued_most}p, {waited} each\n"
            f"delivered {self.delivered_bytes} bytes {self.delivered} pkt (duplicated {self.duplicated}, "
            f"corrupted {self.corrupted}, reordered {self.reordered}, marked {self.marked})"
        )
