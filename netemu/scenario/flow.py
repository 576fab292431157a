"""A piece of traffic as it runs. It can be cut short at any time, and says what became of it so far."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable
from typing import Any, Protocol

from netemu.aio.endpoint import running_loop
from netemu.aio.host import SECOND, AsyncHost
from netemu.aio.names import Target
from netemu.aio.ping import Pinger, PingStats
from netemu.expect.measured import Value
from netemu.lab.metrics import metrics_of
from netemu.traffic.udp import FlowStats, UdpReceiver, UdpSender


class Flow(Protocol):
    """A piece of traffic."""

    async def run(self) -> None:
        """Do all of it. Raises `OSError` or `netemu.errors.NetemuError` where it cannot go on."""

    def metrics(self) -> dict[str, Value]:
        """What was measured so far (`netemu.expect.metrics`)."""


async def sleep_until(when: int) -> None:
    """Let emulated time go by until ``when`` (ns)."""
    await asyncio.sleep(max(when - running_loop().now, 0) / SECOND)


class PingFlow:
    """``count`` echo requests of ``size`` bytes, one each ``interval`` ns; the last waits ``timeout`` ns."""

    def __init__(
        self, source: AsyncHost, target: Target, *, count: int, interval: int, size: int, timeout: int
    ) -> None:
        """From a guest to a guest or an address."""
        self._source, self._target = source, target
        self._count, self._interval, self._size, self._timeout = count, interval, size, timeout
        self._stats = PingStats("")

    async def run(self) -> None:
        """Send all, and wait for the answers."""
        address = await self._source.resolve(self._target)

        def opened(handle: int) -> Any:
            return self._source.stack.ping.open(handle=handle)

        with Pinger(self._source.name, opened, address, self._size) as pinger:
            self._stats = pinger.stats
            start = pinger.loop.now
            try:
                await pinger.run(self._count, self._interval, self._timeout)
            finally:
                pinger.stats.duration = pinger.loop.now - start

    def metrics(self) -> dict[str, Value]:
        """Of requests and answers."""
        return metrics_of(self._stats)


class UdpFlow:
    """A flow of datagrams (`netemu.traffic.udp.UdpSender`); what is under way at its end has ``drain`` ns to arrive."""

    def __init__(self, source: AsyncHost, target: AsyncHost, *, port: int, drain: int = SECOND, **flow: Any) -> None:
        """From a guest to another, where it opens a socket on ``port`` (0: a free one)."""
        self._source, self._target, self._port, self._drain, self._flow = source, target, port, drain, flow
        self._ends: tuple[UdpReceiver, UdpSender] | None = None
        self._stats = FlowStats()

    async def run(self) -> None:
        """Send all, and wait for what is under way."""
        address = await self._source.resolve(self._target)
        with (
            UdpReceiver(self._target, self._port) as receiver,
            UdpSender(self._source, address, receiver.port, **self._flow) as sender,
        ):
            self._ends = receiver, sender
            try:
                await sender.run()
                end = receiver.loop.now + self._drain
                while receiver.stats().received < sender.flow.sent and receiver.loop.now < end:
                    await sleep_until(min(receiver.loop.now + self._drain // 20 + 1, end))
            finally:
                sender.stop()
                self._stats = sender.add_to(receiver.stats())
                self._ends = None

    def metrics(self) -> dict[str, Value]:
        """Of datagrams and their payload."""
        if self._ends is not None:
            receiver, sender = self._ends
            return metrics_of(sender.add_to(receiver.stats()))
        return metrics_of(self._stats)


def _unsent(number: int, size: int, error: OSError) -> str:
    """Why a frame is not sent."""
    if error.errno == errno.EMSGSIZE:
        return f"frame {number} of {size:,} bytes is longer than the card takes ('netemu to-wire' cuts such ones)"
    return f"frame {number} of {size:,} bytes: {error.strerror}"


class FrameFlow:
    """Frames as they are, each with its moment after the start (ns), in order; sent by a guest's device.

    The last of them, and what answers it, has ``drain`` ns to arrive: the flow is not over before.
    """

    def __init__(self, source: AsyncHost, frames: Iterable[tuple[int, Any]], *, drain: int = SECOND) -> None:
        """From a guest: bytes, or packets of scapy's."""
        self._source, self._frames, self._drain = source, frames, drain
        self._sent, self._duration = 0, 0

    async def run(self) -> None:
        """Send them all."""
        start = running_loop().now
        with await self._source.raw() as raw:
            for after, frame in self._frames:
                await sleep_until(start + after)
                try:
                    await raw.send(frame)
                except OSError as error:
                    raise OSError(error.errno, _unsent(self._sent + 1, len(raw.bytes_of(frame)), error)) from None
                self._sent += 1
                self._duration = raw.loop.now - start
            await sleep_until(raw.loop.now + self._drain)

    def metrics(self) -> dict[str, Value]:
        """Of frames."""
        return {"sent": self._sent, "duration": self._duration}
