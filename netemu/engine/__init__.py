"""The loop in which a device and a driver meet: frames arrive, interrupts are raised, polls run, skbs go up.

Theory of operation
-------------------
One call of `run` plays a batch of frames; everything happens in one thread, in this order:

1. *Hand up*: the skbs that the last polls received go to the taps and to the protocol stack, and are freed.
2. *The guest's turn* (softirq): each scheduled NAPI is polled once, then its skbs are handed up, for as long as polls
   find anything. Refill work that is due runs here too.
3. *A frame arrives*: it is steered to a queue, the device collects, fills, flushes and notifies. An interrupt reaches
   the driver at once and schedules its NAPI; the poll waits for the guest's turn, which comes when ``burst`` frames
   have arrived, or when the device is short of buffers and may wait for them (``may_wait``).

So ``burst`` says how many frames come in between the interrupt and the moment the guest's CPU gets to it: with 1 every
frame has its own interrupt and poll, with 64 a poll finds a full budget.

A frame the device has no room for waits for one turn of the guest; if that brought no buffers, and no refill work is
pending, it never will: the frame is dropped with a reason. The loop stops (FLUSH) when a tap has no room left, and
goes on at the very same point when it is called again: all of its state is in `Engine`.
"""

from __future__ import annotations

from netemu.engine.loop import run
from netemu.engine.state import DONE, FLUSH, Engine, engine_at

__all__ = ["DONE", "FLUSH", "Engine", "engine_at", "run"]
