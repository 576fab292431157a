"""Offloads at the borders of the link: unfinished checksums, segmentation and coalescing, over frames as plain bytes.

Two stages, each of which turns a batch of frames into another one (`netemu.offload.batch`):

* `Finisher` does what a sender left undone, and leaves undone what the receiver takes over. It stands in front of a
  guest's receive queues, behind its transmit queues, and between two files (``netemu to-wire``).
* `Coalescer` merges the segments of a flow into large frames, as Linux's GRO does (``netemu to-host``).
"""

from __future__ import annotations

from netemu.offload.accepts import accepts_from_features
from netemu.offload.reasons import Why
from netemu.offload.stages import Coalescer, Finisher, Stage, pour

__all__ = ["Coalescer", "Finisher", "Stage", "Why", "accepts_from_features", "pour"]
