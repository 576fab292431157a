"""TCP at speed, for Python: bulk transfers whose bytes are checked, without Python being entered for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np

from netemu.aio import AsyncHost
from netemu.aio.endpoint import running_loop
from netemu.aio.host import SECOND, duration
from netemu.errors import ConfigError
from netemu.jit import Buffer, allocate, hook
from netemu.net.units import parse_size
from netemu.timers import NEVER
from netemu.traffic.tcp_bulk_apps import CHUNK, PERIOD, TcpBulk, tcp_bulk_sink, tcp_bulk_source

_SEED = 7


@dataclass
class BulkStats:
    """What a bulk transfer came to. Sizes in bytes, times in ns."""

    sent: int = 0
    """Bytes that the sender's connections took."""
    received: int = 0
    bad: int = 0
    """Bytes that arrived and are not those that were sent."""
    streams: int = 0
    ended: int = 0
    """Connections over which everything arrived."""
    failed: int = 0
    """Connections that ended by an error at the sender."""
    retransmitted: int = 0
    """Segments that were sent again."""
    duration: int = 0
    """From the opening of the connections to the last byte that was read."""

    @property
    def complete(self) -> bool:
        """Whether everything arrived as it was sent."""
        return self.ended == self.streams and self.received == self.sent and self.bad == 0

    @property
    def goodput(self) -> float:
        """What arrived, in bit/s."""
        return 8 * SECOND * self.received / self.duration if self.duration else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**vars(self), "complete": self.complete, "goodput": self.goodput}

    def __str__(self) -> str:
        """In a line."""
        end = "complete" if self.complete else f"not complete: {self.failed} connections failed, {self.bad} bytes wrong"
        return f"{self.received} of {self.sent} bytes, {self.goodput / 1e6:.3f} Mbit/s, {end}"


def bulk_pattern() -> Buffer:
    """The bytes of a stream: one period, and the beginning of the next."""
    table = allocate(PERIOD + CHUNK)
    period = np.random.default_rng(_SEED).integers(0, 256, PERIOD, dtype=np.uint8)
    table.array[:] = np.resize(period, PERIOD + CHUNK)
    return table


async def tcp_bulk(
    source: AsyncHost,
    target: AsyncHost,
    size: int | str | None = None,
    *,
    time: str | float | None = None,
    streams: int = 1,
    port: int = 0,
    version: int = 0,
) -> BulkStats:
    """Send ``size`` bytes over each of ``streams`` connections, or for a ``time``, and check what arrives.

    Returns when everything arrived, or nothing more will. Raises `ConfigError` without size and time, `OSError` if
    there is no way to ``target``.
    """
    if size is None and time is None:
        raise ConfigError("a transfer has a size or a time: say one of them, or both")
    if streams < 1:
        raise ConfigError("a transfer has one connection at least")
    loop = running_loop()
    address = await source.resolve(target, version)
    happened = asyncio.Event()
    handle = loop.attach(happened.set, lambda: f"{source.name}: bulk transfer to {target.name}")
    table = bulk_pattern()
    until = NEVER if time is None else loop.now + duration(time)
    out = TcpBulk(pattern=table.address, size=NEVER if size is None else parse_size(size), until=until, handle=handle)
    into = TcpBulk(pattern=table.address, handle=handle)
    # Connections may still have events when nobody waits for them any more.
    source.stack.udp.keep(table, out)
    target.stack.udp.keep(table, into)
    listener = target.tcp.listen(port, app=hook(tcp_bulk_sink))
    connections = []
    try:
        listener.tcb.app_state = into.address
        started = loop.now
        for _ in range(streams):
            connection = source.tcp.connect(address, listener.tcb.local_port, app=hook(tcp_bulk_source))
            connection.tcb.app_state = out.address
            connections.append(connection)
        while out.failed + into.ended + into.failed < streams:
            happened.clear()
            out.wanted = into.wanted = 1
            await happened.wait()
        return BulkStats(
            sent=out.moved,
            received=into.moved,
            bad=into.bad,
            streams=streams,
            ended=into.ended,
            failed=out.failed,
            retransmitted=sum(connection.tcb.total_retrans for connection in connections),
            duration=max(into.last_at - started, 0) if into.moved else 0,
        )
    finally:
        loop.detach(handle)
        for connection in connections:
            connection.close()
        listener.close()
