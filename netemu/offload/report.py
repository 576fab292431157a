"""What the stages counted, as the commands print it."""

from __future__ import annotations

from typing import Any

from netemu.offload.reasons import Why
from netemu.offload.stages import Coalescer, Finisher


def finishing(stage: Finisher) -> dict[str, Any]:
    """The counters of a `Finisher` by name, and under ``unchanged`` how many frames it left as they are, by reason."""
    job, batch = stage.job, stage.batch
    return {
        "frames_in": batch.frames_in,
        "frames_out": batch.frames_out,
        "segmented": job.segmented,
        "segments": job.segments,
        "fragmented": job.fragmented,
        "fragments": job.fragments,
        "completed": job.completed,
        "handed_on": job.handed_on,
        "over_mtu": job.over_mtu,
        "unchanged": _by_key(stage.reasons),
    }


def merging(stage: Coalescer) -> dict[str, Any]:
    """The same for a `Coalescer`: ``merged`` frames became ``large`` ones."""
    job, batch = stage.job, stage.batch
    return {
        "frames_in": batch.frames_in,
        "frames_out": batch.frames_out,
        "merged": job.merged,
        "large": job.large,
        "unchanged": _by_key(stage.reasons),
    }


def _by_key(reasons: dict[Why, int]) -> dict[str, int]:
    return {why.key: count for why, count in reasons.items()}
