"""ping: echo requests at an interval, and what came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netemu.aio.endpoint import MessageEndpoint
from netemu.aio.failures import icmp_failure, send_failure
from netemu.samples import Samples
from netemu.stack.addresses import Halves, halves_text
from netemu.stack.messages.ping_and_raw import PingSocket

_PATTERN = bytes(range(256)) * 256


@dataclass
class PingStats:
    """What a series of echo requests came to."""

    target: str
    """The address that was asked."""
    sent: int = 0
    received: int = 0
    """Requests that were answered."""
    duplicates: int = 0
    """Further answers to the same request."""
    corrupted: int = 0
    """Answers that carried other bytes than the request; they count as received, too."""
    rtt: Samples = field(default_factory=Samples)
    """Round-trip times of the first answers, in the order in which they came."""
    errors: dict[int, str] = field(default_factory=dict)
    """What ICMP told of a request, by its sequence number."""
    duration: int = 0
    """ns from the first request to the end."""

    @property
    def lost(self) -> int:
        """Requests that were not answered in time."""
        return self.sent - self.received

    @property
    def loss(self) -> float:
        """The same in percent; 0 if nothing was sent."""
        return 100 * self.lost / self.sent if self.sent else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "target": self.target,
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "loss_percent": self.loss,
            "duplicates": self.duplicates,
            "corrupted": self.corrupted,
            "errors": {str(sequence): text for sequence, text in self.errors.items()},
            "rtt_ns": self.rtt.to_dict(),
        }

    def __str__(self) -> str:
        """As ping says it in the end."""
        more = f", +{self.duplicates} duplicates" if self.duplicates else ""
        more += f", +{len(self.errors)} errors" if self.errors else ""
        more += f", {self.corrupted} corrupted" if self.corrupted else ""
        text = f"{self.sent} requests to {self.target}, {self.received} answered{more}, {self.loss:g}% loss"
        return f"{text}\nrtt {self.rtt}" if self.rtt else text


class Pinger(MessageEndpoint):
    """One series of echo requests."""

    socket: PingSocket

    def __init__(self, name: str, open_socket: Any, address: Halves, size: int) -> None:
        """``open_socket`` gets the handle and gives the socket; ``size`` bytes go with each request."""
        self._name, self._address = name, address
        super().__init__(open_socket)
        self._payload = (_PATTERN * (size // len(_PATTERN) + 1))[:size]
        self._sent_at: list[int] = []
        self._answered: set[int] = set()
        self.stats = PingStats(halves_text(*address))

    async def run(self, count: int, interval: int, patience: int) -> PingStats:
        """Send ``count`` requests, one each ``interval`` ns, and wait ``patience`` ns for the answer to the last."""
        start = self.loop.now
        for number in range(count):
            await self._collect(start + number * interval, stop_early=False)
            self._send(number)
        await self._collect(self.loop.now + patience, stop_early=True)
        self.stats.duration = self.loop.now - start
        return self.stats

    def _send(self, number: int) -> None:
        problem = send_failure(self.socket.send(self._address, number + 1 & 0xFFFF, self._payload), str(self))
        if problem is not None and number == 0:
            raise problem
        self._sent_at.append(self.loop.now)
        self.stats.sent += 1
        if problem is not None:
            self.stats.errors[number + 1] = str(problem.strerror)

    async def _collect(self, until: int, *, stop_early: bool) -> None:
        """Take answers until a moment, or until there is one to each request."""
        while True:
            self._drain()
            settled = len(self._answered) + len(self.stats.errors) >= len(self._sent_at)
            if self.loop.now >= until or (stop_early and settled):
                return
            await self.wait(until)

    def _number_of(self, sequence: int) -> int:
        """Which request, from 0, has a sequence number of 16 bits: the last one that can."""
        last = len(self._sent_at)
        return last - ((last - sequence) & 0xFFFF) - 1

    def _drain(self) -> None:
        error, sequence = self.socket.take_error()
        if error:
            self.stats.errors[self._number_of(sequence) + 1] = str(icmp_failure(error, str(self)).strerror)
        while (message := self.socket.receive()) is not None:
            number = self._number_of(message.port)
            if number < 0:
                continue
            if message.data != self._payload:
                self.stats.corrupted += 1
            if number in self._answered:
                self.stats.duplicates += 1
                continue
            self._answered.add(number)
            self.stats.errors.pop(number + 1, None)
            self.stats.received += 1
            self.stats.rtt.add(message.time - self._sent_at[number])

    def __str__(self) -> str:
        """Who asks whom."""
        return f"{self._name}: ping {self.stats.target}"
