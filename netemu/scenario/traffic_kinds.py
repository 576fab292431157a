"""The kinds of traffic in a scenario: ``[[traffic]]`` with ``kind = ...``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from netemu.scenario.topology import Section
from netemu.scenario.values import Duration, Name, Rate, Size, fault, listed_or_one, one_of, shown


def _sizes(value: Any) -> str:
    """What `netemu.traffic.draws.size_table` reads: a number of bytes, or the words of a distribution."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise fault(f'expected bytes, as in 1000, or a distribution, as in "uniform 64 1400", not {shown(value)}')
    return str(value)


Sizes = Annotated[str, BeforeValidator(_sizes)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]


class Traffic(Section):
    """What all kinds have."""

    kind: str
    """Which of the kinds it is."""
    name: Name = ""
    """How it is called in reports and expectations; without it, KIND or KIND-NUMBER."""
    source: Annotated[str, Field(alias="from")]
    """The guest that starts it."""
    start: Duration = 0
    """When, in emulated time."""
    stop: Duration | None = None
    """When it is cut off if it is not done."""

    needs_target: ClassVar[bool] = True
    """Whether it is between two guests."""
    one_of_these: ClassVar[tuple[str, ...]] = ()
    """Keys of which exactly one is there."""
    service: ClassVar[str] = ""
    """What has to run at the target."""


class Targeted(Traffic):
    """Traffic that has another end."""

    target: Annotated[str, Field(alias="to")]
    """The guest, or the address, at the other end."""


class PingTraffic(Targeted):
    """``kind = "ping"``: echo requests."""

    count: Count = 4
    """Requests."""
    interval: Duration = 1_000_000_000
    """From one to the next."""
    size: Annotated[int, Field(ge=0, le=65507)] = 56
    """Bytes of data in each."""
    timeout: Duration = 1_000_000_000
    """How long the last one waits for its answer."""


class UdpTraffic(Targeted):
    """``kind = "udp"``: a flow of datagrams."""

    rate: Rate | None = None
    """Payload in a second. This, or packets a second."""
    pps: Annotated[float, Field(gt=0, strict=False)] | None = None
    """Datagrams in a second."""
    size: Sizes = "1000"
    """Bytes of payload: a number, "uniform MIN MAX", "exponential MEAN" or "imix"."""
    spacing: Annotated[str, BeforeValidator(one_of("constant", "poisson"))] = "constant"
    """Whether they come evenly, or by chance."""
    count: Count | None = None
    """Datagrams. This, or a duration."""
    duration: Duration | None = None
    """How long it sends."""
    port: Port | None = None
    """The port it sends to; a free one otherwise."""

    one_of_these: ClassVar[tuple[str, ...]] = ("count", "duration")


class TcpTraffic(Targeted):
    """``kind = "tcp"``: a transfer over a connection of its own."""

    bytes: Size | None = None
    """How much. This, or a duration."""
    duration: Duration | None = None
    """How long it sends."""
    direction: Annotated[str, BeforeValidator(one_of("upload", "download"))] = "upload"
    """Whether data go to the target, or come from it."""
    streams: Annotated[int, Field(ge=1, le=1000)] = 1
    """Connections at the same time, each with as much."""
    port: Port | None = None
    """The port of the target; a free one otherwise."""

    one_of_these: ClassVar[tuple[str, ...]] = ("bytes", "duration")


class HttpTraffic(Targeted):
    """``kind = "http"``: requests to the target's HTTP service."""

    method: Annotated[str, BeforeValidator(one_of("get", "put"))] = "get"
    """What is asked."""
    path: str = ""
    """What of: a path on the server. This, or a size."""
    size: Size | None = None
    """Bytes that the server makes up (get) or that are sent (put)."""
    count: Count = 1
    """Requests, one after the other, over one connection."""
    port: Port = 80
    """The port of the service."""

    one_of_these: ClassVar[tuple[str, ...]] = ("path", "size")
    service: ClassVar[str] = "http"


class DnsTraffic(Targeted):
    """``kind = "dns"``: questions to the target's DNS service."""

    query: str
    """The name that is asked for."""
    type: Annotated[str, BeforeValidator(one_of("A", "AAAA"))] = "A"
    """The kind of record."""
    count: Count = 1
    """Questions."""
    interval: Duration = 1_000_000_000
    """From one to the next."""
    timeout: Duration = 5_000_000_000
    """How long each waits for its answer."""

    service: ClassVar[str] = "dns"


class ScapyTraffic(Traffic):
    """``kind = "scapy"``: packets as scapy writes them, sent as they are."""

    packets: Annotated[list[str], BeforeValidator(listed_or_one)]
    """A packet, or a list: "Ether()/IP(dst='10.0.0.2')/UDP()"."""
    count: Count = 1
    """How often all of them are sent."""
    interval: Duration = 0
    """From one packet to the next."""

    needs_target: ClassVar[bool] = False


class ReplayTraffic(Traffic):
    """``kind = "replay"``: the frames of a capture, sent by the guest's device."""

    file: str
    """The capture, relative to the scenario's folder."""
    pace: Annotated[str, BeforeValidator(one_of("recorded", "at-once"))] = "recorded"
    """At the distances of the capture, or with none."""
    limit: Count | None = None
    """So many frames at most."""

    needs_target: ClassVar[bool] = False


KINDS: dict[str, type[Traffic]] = {
    "ping": PingTraffic,
    "udp": UdpTraffic,
    "tcp": TcpTraffic,
    "http": HttpTraffic,
    "dns": DnsTraffic,
    "scapy": ScapyTraffic,
    "replay": ReplayTraffic,
}
"""Every kind of traffic."""
