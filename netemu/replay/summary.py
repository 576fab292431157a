"""What a replay counted, as one object: what ``--json`` prints and the report is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netemu.offload.report import finishing, merging

if TYPE_CHECKING:
    from netemu.nic import Nic
    from netemu.offload import Coalescer, Finisher


def summary(
    nic: Nic,
    *,
    seconds: float,
    interrupted: bool,
    coalescer: Coalescer | None,
    finisher: Finisher | None,
    takes_sent: bool,
) -> dict[str, Any]:
    """Everything that was counted at a card and in the stages before it; ``takes_sent``: also what the guest sent."""
    e = nic.engine
    return {
        "frames_in": e.frames_in,
        "bytes_in": e.bytes_in,
        "frames_out": e.frames_out,
        "bytes_out": e.bytes_out,
        "dropped": nic.dropped,
        "merged": nic.guest.merged,
        "sent_by_xdp": nic.guest.sent_away,
        "seconds": round(seconds, 6),
        "frames_per_second": round(e.frames_in / seconds) if seconds else 0,
        "interrupted": interrupted,
        "mode": nic.mode,
        "driver": nic.driver.facts.name,
        "queue_size": nic.driver.rings[0].num,
        "features": [*str(nic.driver.features).split(", ")],
        "queues": nic.queue_counters(),
        "coalesce": nic.control.coalescing(),
        "ethtool": nic.ethtool,
        "netdev": nic.netdev,
        "snmp": nic.stack.snmp(),
        "broken": nic.device.broken + nic.driver.broken,
        "refused": nic.driver.refused,
        "quirks": nic.quirks_fired,
        "made_up": nic.made_up,
        "offloads": _offloads(coalescer, finisher),
        "sent": _sent_figures(nic) if takes_sent else {},
    }


def _sent_figures(nic: Nic) -> dict[str, Any]:
    """What the guest sent."""
    return {
        "frames": nic.engine.sent_out,
        "bytes": nic.engine.sent_bytes,
        "queues": nic.send_counters(),
        "stack": finishing(nic.sending.above if nic.role == "send" else nic.sending.segmenting),
        "wire": finishing(nic.sending.wire),
    }


def _offloads(coalescer: Coalescer | None, finisher: Finisher | None) -> dict[str, Any]:
    """What the host and the device did to frames, empty where they were taken as they are."""
    figures: dict[str, Any] = {}
    if coalescer is not None:
        figures["merging"] = merging(coalescer)
    if finisher is not None:
        figures["finishing"] = finishing(finisher)
    return figures
