"""UDP at speed, for Python: senders, receivers, and what a flow between two hosts came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netemu.aio import AsyncHost
from netemu.aio.endpoint import MessageEndpoint
from netemu.aio.host import SECOND, duration
from netemu.chance import next_random, seeded
from netemu.errors import ConfigError
from netemu.jit import allocate, hook
from netemu.net.units import parse_rate
from netemu.samples import Samples
from netemu.stack.addresses import Halves, halves_text
from netemu.stack.messages.socket import MessageSocket
from netemu.stack.udp.output import PAYLOAD_MAX_V4
from netemu.stack.udp.sockets import UdpSocket
from netemu.timers import NEVER, call_at, timers_at
from netemu.traffic.draws import ONE, gap_table, size_table
from netemu.traffic.ping_source import ping_tick
from netemu.traffic.udp_sink import SAMPLES, WINDOW, UdpSink, udp_sink_app
from netemu.traffic.udp_source import HEADER, UdpFlow, flow_tick

BYTE_BITS = 8


@dataclass
class FlowStats:
    """What a flow of datagrams came to. Sizes in bytes of payload, times in ns."""

    sent: int = 0
    """Datagrams that went out."""
    sent_bytes: int = 0
    refused: int = 0
    """Datagrams that did not even leave: no room at the interface, or no way."""
    received: int = 0
    """Datagrams that arrived, each counted once."""
    received_bytes: int = 0
    """Of all that arrived."""
    duplicates: int = 0
    reordered: int = 0
    """Datagrams that were overtaken."""
    strange: int = 0
    """Datagrams at the same port that no flow sent, or whose header was changed on the way."""
    duration: int = 0
    """From the first arrival to the last."""
    delay: Samples = field(default_factory=Samples)
    """One-way delays; of more than 65,536 a sample."""
    delay_mean: float | None = None
    """Of all of them."""
    jitter: float = 0.0
    """Smoothed change of the delay, as RTP has it (RFC 3550 section 6.4.1)."""

    @property
    def lost(self) -> int:
        """Datagrams that went out and did not arrive."""
        return max(self.sent - self.received, 0)

    @property
    def loss(self) -> float:
        """The same in percent; 0 if nothing was sent."""
        return 100 * self.lost / self.sent if self.sent else 0.0

    @property
    def goodput(self) -> float:
        """Payload that arrived, bit/s, from the first arrival to the last, which ends it and is not in it."""
        if self.received < 2 or self.duration == 0:
            return 0.0
        mean = self.received_bytes / (self.received + self.duplicates)
        return (self.received_bytes - mean) * BYTE_BITS * SECOND / self.duration

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        own = {name: value for name, value in vars(self).items() if name != "delay"}
        more = {"lost": self.lost, "loss_percent": self.loss, "goodput": self.goodput}
        return {**own, **more, "delay_ns": self.delay.to_dict()}

    def __str__(self) -> str:
        """In a line."""
        return (
            f"{self.sent} datagrams, {self.received} arrived, {self.loss:g}% loss, {self.duplicates} twice, "
            f"{self.reordered} late, {self.goodput / 1e6:.3f} Mbit/s"
        )


class Measured:
    """A socket's sink, with its memory."""

    def __init__(self, socket: MessageSocket) -> None:
        """Count and measure what comes to ``socket`` from now on."""
        self._seen, self._delays = allocate(WINDOW // 8), allocate(SAMPLES * 8)
        self.sink = UdpSink(
            seen=self._seen.address, delays=self._delays.address, random=seeded(socket.struct.local_port)
        )
        socket.set_app(hook(udp_sink_app), self.sink.address, self.sink, self._seen, self._delays)

    def stats(self) -> FlowStats:
        """What has come so far."""
        sink = self.sink
        kept = min(sink.measured, SAMPLES)
        return FlowStats(
            received=sink.received - sink.duplicates - sink.strange,
            received_bytes=sink.received_bytes,
            duplicates=sink.duplicates,
            reordered=sink.reordered,
            strange=sink.strange,
            duration=sink.last_at - sink.first_at,
            delay=Samples(self._delays.array.view("<i8")[:kept].tolist()),
            delay_mean=sink.delay_sum / sink.measured if sink.measured else None,
            jitter=sink.jitter / 16,
        )


class UdpReceiver(MessageEndpoint):
    """A socket that counts and measures what flows send to it."""

    socket: UdpSocket

    def __init__(self, host: AsyncHost, port: int = 0) -> None:
        """Open it at ``port`` (0: a free one). Raises `ConfigError` if that is in use."""
        self._name = host.name
        super().__init__(lambda handle: host.stack.udp.open(port=port, handle=handle, rcvbuf=0))
        self._measured = Measured(self.socket)

    @property
    def port(self) -> int:
        """The port it is bound to."""
        return self.socket.local[1]

    def stats(self) -> FlowStats:
        """What has arrived so far; who sent it adds what was sent."""
        return self._measured.stats()

    def __str__(self) -> str:
        """Whose it is."""
        return f"{self._name}: UDP sink at port {self.port}"


class UdpSender(MessageEndpoint):
    """A flow of datagrams from a host."""

    def __init__(
        self,
        host: AsyncHost,
        target: Halves,
        port: int,
        *,
        rate: str | float | None = None,
        interval: str | float | None = None,
        size: int | str = 1000,
        spacing: str = "constant",
        count: int | None = None,
        time: str | float | None = None,
    ) -> None:
        """Datagrams to ``port`` of ``target``: one each ``interval``, or as many as make a ``rate`` of payload.

        ``size`` and ``spacing`` are those of `netemu.traffic.draws`; the flow ends after ``count`` datagrams or after
        ``time``, whichever comes first. Raises `ConfigError` for what does not go together.
        """
        if (rate is None) == (interval is None):
            raise ConfigError("a flow has a rate or an interval, one of them")
        if count is None and time is None:
            raise ConfigError("a flow ends after a count of datagrams or a time: say one of them, or both")
        self._sizes, self._gaps = size_table(size, HEADER, PAYLOAD_MAX_V4), gap_table(spacing)
        gap = duration(interval) * ONE if interval is not None else 0
        per_byte = 0
        if rate is not None:
            bits = parse_rate(rate)
            if bits <= 0:
                raise ConfigError(f"a flow has a rate above 0, not {rate!r}")
            per_byte = BYTE_BITS * SECOND * ONE // bits
        if gap <= 0 and per_byte <= 0:
            raise ConfigError("a flow has an interval above 0, and a rate below a terabit a second")
        self._name, self._to = host.name, f"{halves_text(*target)} port {port}"
        super().__init__(lambda handle: self._open(host, handle))
        self._host, self._sockets = host.stack.host, host.stack.udp
        self._time = None if time is None else duration(time)
        self._payload = allocate(PAYLOAD_MAX_V4)
        self._host.random = next_random(self._host.random)
        self.flow = UdpFlow(
            host=self._host.address,
            socket=self.socket.address,
            hook=self._tick(),
            target_hi=target[0],
            target_lo=target[1],
            target_port=port,
            sizes=self._sizes.address,
            gaps=self._gaps.address,
            gap=gap,
            per_byte=per_byte,
            random=self._host.random,
            payload=self._payload.address,
            remaining=NEVER if count is None else count,
        )

    def _open(self, host: AsyncHost, handle: int) -> Any:
        """The socket that sends."""
        return host.stack.udp.open(handle=handle)

    def _tick(self) -> int:
        """The hook of the event that sends the next one."""
        return hook(flow_tick)

    def start(self) -> None:
        """Send the first datagram now, and the others as time goes by."""
        timers = timers_at(self._host.timers)
        self.flow.next_at = timers.now
        self.flow.until = NEVER if self._time is None else timers.now + self._time
        self.flow.running = 1
        self.socket.struct.wanted = 1
        # Its next event may come when nobody holds the flow any more.
        self._sockets.keep(self.flow, self.socket, self._payload, self._sizes, self._gaps)
        call_at(timers, timers.now, self.flow.hook, self.flow.address, 0)

    def stop(self) -> None:
        """Send no more."""
        self.flow.running = 0

    def close(self) -> None:
        """Send no more, and let go of the socket."""
        self.stop()
        super().close()

    async def run(self) -> None:
        """Start, and wait until all is sent."""
        self.start()
        while self.flow.running:
            await self.wait()

    def add_to(self, stats: FlowStats) -> FlowStats:
        """Enter what was sent."""
        stats.sent, stats.sent_bytes, stats.refused = self.flow.sent, self.flow.sent_bytes, self.flow.refused
        return stats

    def __str__(self) -> str:
        """Whose it is, and where it goes."""
        return f"{self._name}: UDP flow to {self._to}"


class PingSender(UdpSender):
    """Echo requests from a host, and what comes back to them."""

    def __init__(self, host: AsyncHost, target: Halves, **flow: Any) -> None:
        """Requests to ``target``; ``interval``, ``size``, ``count`` and ``time`` as of a flow."""
        super().__init__(host, target, 0, **flow)
        self._measured = Measured(self.socket)

    def _open(self, host: AsyncHost, handle: int) -> Any:
        return host.stack.ping.open(handle=handle)

    def _tick(self) -> int:
        return hook(ping_tick)

    def stats(self) -> FlowStats:
        """What was sent, and answered; delays are round trips."""
        return self.add_to(self._measured.stats())

    def __str__(self) -> str:
        """Who asks whom."""
        return f"{self._name}: ping flow to {self._to}"


async def udp_flow(
    source: AsyncHost, target: AsyncHost, *, port: int = 0, version: int = 0, drain: str | float = 1.0, **flow: Any
) -> FlowStats:
    """Send a flow (`UdpSender` says what it may be) from one host to another, and tell what arrived.

    ``drain`` is how long what is still on its way is waited for in the end.
    """
    address = await source.resolve(target, version)
    with UdpReceiver(target, port) as receiver, UdpSender(source, address, receiver.port, **flow) as sender:
        await sender.run()
        await receiver.wait(receiver.loop.now + duration(drain))
        return sender.add_to(receiver.stats())


async def ping_flow(
    source: AsyncHost,
    target: AsyncHost,
    *,
    interval: str | float = 1.0,
    size: int = 56,
    count: int | None = None,
    time: str | float | None = None,
    drain: str | float = 1.0,
    version: int = 0,
) -> FlowStats:
    """Ping a host from a kernel: as `AsyncHost.ping`, for many requests or many hosts at once.

    Delays are round trips; ``drain`` is how long the last answers are waited for. Raises `ConfigError` for what makes
    no sense.
    """
    address = await source.resolve(target, version)
    with PingSender(source, address, interval=interval, size=size, count=count, time=time) as sender:
        await sender.run()
        await sender.wait(sender.loop.now + duration(drain))
        return sender.stats()
