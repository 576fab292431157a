"""What an event loop asks of the emulated world."""

from __future__ import annotations

from typing import Protocol


class World(Protocol):
    """Everything that happens without Python: hosts, links and timers, in time that somebody has to let go by."""

    @property
    def now(self) -> int:
        """The time, ns."""

    @property
    def next_due(self) -> int:
        """When the next thing is to happen, ns; `netemu.timers.NEVER` if nothing is."""

    def run_until(self, when: int) -> bool:
        """Let everything happen that is due by ``when`` (ns), which is the time afterwards; True.

        It returns sooner, False and with time where it is, once something happened to a socket that Python waits for.
        ``NEVER`` means until that, or until nothing is left to happen; time then stays that of the last event.
        """

    def take_ready(self) -> list[int]:
        """The handles of sockets that something happened to since the last call."""
