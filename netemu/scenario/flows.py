"""The flows of a scenario's traffic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from netemu.aio.host import SECOND
from netemu.capture import read_capture
from netemu.scenario.flow import Flow, FrameFlow, PingFlow, UdpFlow
from netemu.scenario.flow_requests import DnsFlow, HttpFlow
from netemu.scenario.flow_tcp import TcpFlow
from netemu.scenario.packets import parse_packets
from netemu.scenario.services import MADE_UP
from netemu.scenario.traffic_kinds import (
    DnsTraffic,
    HttpTraffic,
    PingTraffic,
    ReplayTraffic,
    ScapyTraffic,
    Targeted,
    TcpTraffic,
    Traffic,
    UdpTraffic,
)
from netemu.scenario.whole import Scenario


def flow_of(scenario: Scenario, traffic: Traffic, nodes: dict[str, Any]) -> Flow:
    """The flow that a table describes; ``nodes`` are the lab's."""
    source = nodes[traffic.source]
    target: Any = nodes.get(traffic.target, traffic.target) if isinstance(traffic, Targeted) else None
    left = None if traffic.stop is None else traffic.stop - traffic.start
    match traffic:
        case PingTraffic():
            count = traffic.count if left is None else min(traffic.count, -(-left // max(traffic.interval, 1)))
            return PingFlow(
                source,
                target,
                count=count,
                interval=traffic.interval,
                size=traffic.size,
                timeout=traffic.timeout,
            )
        case UdpTraffic():
            times = [time for time in (traffic.duration, left) if time is not None]
            return UdpFlow(
                source,
                target,
                port=traffic.port or 0,
                rate=traffic.rate,
                interval=None if traffic.pps is None else 1 / traffic.pps,
                size=traffic.size,
                spacing=traffic.spacing,
                count=traffic.count,
                time=min(times) / SECOND if times else None,
            )
        case TcpTraffic():
            return TcpFlow(
                source,
                target,
                size=traffic.bytes,
                time=traffic.duration,
                download=traffic.direction == "download",
                streams=traffic.streams,
                port=traffic.port or 0,
            )
        case HttpTraffic():
            made_up = 0 if traffic.size is None else traffic.size
            is_put = traffic.method == "put"
            return HttpFlow(
                source,
                target,
                method=traffic.method.upper(),
                path=traffic.path or ("/" if is_put else f"{MADE_UP}{made_up}"),
                body=bytes(made_up) if is_put else b"",
                count=traffic.count,
                port=traffic.port,
            )
        case DnsTraffic():
            return DnsFlow(
                source,
                target,
                query=traffic.query,
                kind=traffic.type,
                count=traffic.count,
                interval=traffic.interval,
                timeout=traffic.timeout,
            )
        case ScapyTraffic():
            return FrameFlow(source, _repeated(traffic))
        case ReplayTraffic():
            return FrameFlow(source, _recorded(scenario, traffic))
    raise AssertionError(traffic.kind)


def _repeated(traffic: ScapyTraffic) -> Iterator[tuple[int, Any]]:
    """The packets, all of them as often as is asked, at their interval."""
    packets = [packet for text in traffic.packets for packet in parse_packets(text)]
    for number in range(traffic.count * len(packets)):
        yield number * traffic.interval, packets[number % len(packets)]


def _recorded(scenario: Scenario, traffic: ReplayTraffic) -> Iterator[tuple[int, bytes]]:
    """The frames of a capture, at their distances or with none. What was not recorded whole is left out."""
    first: int | None = None
    frames = read_capture(str(scenario.folder / traffic.file))
    for frame in itertools.islice(frames, traffic.limit):
        first = frame.tstamp if first is None else first
        yield (max(frame.tstamp - first, 0) if traffic.pace == "recorded" else 0), frame.data
