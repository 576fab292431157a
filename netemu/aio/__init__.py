"""Sockets in asyncio's manner, in the time of the emulated world.

`EmulatedLoop` is an event loop whose clock is the lab's, `AsyncHost` has the sockets of one host. All that asyncio
builds on a loop (tasks, timeouts, streams, third parties' protocols) works on it as it is.
"""

from __future__ import annotations

from netemu.aio.host import AsyncHost
from netemu.aio.loop import DeadlockError, EmulatedLoop
from netemu.aio.names import Names
from netemu.aio.ping import PingStats
from netemu.aio.world import World

__all__ = ["AsyncHost", "DeadlockError", "EmulatedLoop", "Names", "PingStats", "World"]
