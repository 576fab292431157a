"""What a guest's processor is like: how long it takes to hear an interrupt, and to handle frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cpu:
    """The cost of things, in ns; all 0: a processor that takes no time.

    With costs frames pile up in the ring while the processor is busy, so that the ring's size, the poll's budget and
    interrupt coalescing matter as they do under load.
    """

    interrupt_latency: int = 0
    """From an interrupt to the poll that it causes."""
    poll: int = 0
    """For each poll."""
    packet: int = 0
    """For each frame received or sent."""
    byte: float = 0.0
    """For each byte of it."""
