"""The parts of a scenario that are there: the lab itself, guests, switches, routers, links, captures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from netemu.scenario.values import (
    Address4,
    Address6,
    AnyAddress,
    AnyInterface,
    Duration,
    Interface4,
    Interface6,
    Mac,
    Name,
    Route,
    fault,
    listed_or_one,
    one_of,
)


class Section(BaseModel):
    """A table of the file: keys it does not know are mistakes, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class LabSection(Section):
    """``[lab]``: what is true of the whole run."""

    title: str = ""
    """One line: what this scenario shows."""
    story: str = ""
    """What to look at, in a few sentences; printed before the report."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 1
    """Of everything that happens by chance."""
    duration: Duration | None = None
    """When the run ends, in emulated time; without it, when all traffic is done."""


class CpuSection(Section):
    """``[guest.NAME.cpu]``: how long the guest's processor takes."""

    interrupt_latency: Duration = 0
    """From an interrupt to the poll that it causes."""
    poll: Duration = 0
    """For each poll."""
    packet: Duration = 0
    """For each frame received or sent."""
    byte: Annotated[float, Field(ge=0, strict=False)] = 0.0
    """For each byte of it, ns."""


class TcpSection(Section):
    """``[guest.NAME.tcp]``: what its connections do other than Linux's by default."""

    timestamps: bool = True
    """Whether it offers timestamps (RFC 7323)."""
    sack: bool = True
    """Whether it offers selective acknowledgements (RFC 2018)."""
    window_scaling: bool = True
    """Whether it offers windows of more than 64 kB (RFC 7323)."""
    nodelay: bool = False
    """Whether small segments do not wait for an acknowledgement (Nagle)."""
    delayed_ack: Duration = 40_000_000
    """How long an acknowledgement may wait."""
    rto_min: Duration = 200_000_000
    """The shortest retransmission timeout."""
    mtu_probing: bool = False
    """Whether it sends smaller segments where none are acknowledged (RFC 4821)."""


class GuestSection(Section):
    """``[guest.NAME]``: a machine with a virtio-net card, protocols and sockets."""

    ip: Annotated[list[Interface4], BeforeValidator(listed_or_one)] = []
    """IPv4 address with the length of its network; also several."""
    ipv6: Annotated[list[Interface6], BeforeValidator(listed_or_one)] = []
    """IPv6 address beside the link-local one; also several."""
    gateway: Address4 | None = None
    """The router for everything else, of IPv4."""
    gateway6: Address6 | None = None
    """The same of IPv6."""
    dhcp: bool = False
    """Whether it asks a DHCP server for its address, before its traffic starts."""
    dns: AnyAddress | None = None
    """The server that it asks for names."""
    driver: Annotated[str, BeforeValidator(one_of("linux-4.19", "linux-6.1", "linux-7.0"))] = "linux-7.0"
    """The kernel that the driver follows."""
    mode: Annotated[str, BeforeValidator(one_of("mergeable", "small", "big"))] = "mergeable"
    """The receive buffers that it posts."""
    ring: Annotated[str, BeforeValidator(one_of("split", "packed"))] = "split"
    """The layout of its rings."""
    queues: Annotated[int, Field(ge=1, le=64)] = 1
    """Queue pairs."""
    queue_size: Annotated[int, Field(ge=1, le=32768)] = 256
    """Entries of each ring."""
    features: str = ""
    """A change of what the device offers, as in "+RING_PACKED,-GUEST_TSO4" (`netemu features`)."""
    offloads: Annotated[str, BeforeValidator(one_of("on", "csum", "off"))] = "on"
    """What the guest leaves to the device: checksums and segmentation, checksums alone, nothing."""
    gro: bool = False
    """Whether the guest merges TCP segments of one poll."""
    rss: str = ""
    """Receive-side scaling, as `netemu replay --rss` takes it."""
    coalesce: str = ""
    """Calls that are held back, as in "rx-usecs=50,rx-frames=32"."""
    quirks: Annotated[list[str], BeforeValidator(listed_or_one)] = []
    """Rules that are broken on purpose (`netemu quirks`)."""
    pressure: Annotated[list[str], BeforeValidator(listed_or_one)] = []
    """Allocations that fail, as in "pages:p=0.2"."""
    mtu: Annotated[int, Field(ge=68, le=65535)] = 1500
    """Of the device and the interface."""
    mac: Mac | None = None
    """The station's address; one is made up otherwise."""
    congestion: Annotated[str, BeforeValidator(one_of("cubic", "reno"))] = "cubic"
    """How TCP controls congestion."""
    tcp: TcpSection = TcpSection()
    """Settings of its TCP."""
    cpu: CpuSection | None = None
    """The processor; without it, one that takes no time."""
    services: Annotated[list[str], BeforeValidator(listed_or_one)] = []
    """What runs there: see SERVICES."""


class SwitchSection(Section):
    """``[switch.NAME]``: a learning switch; its ports come with its links."""


Mtu = Annotated[int, Field(ge=68, le=65535)]
Port = Annotated[list[AnyInterface], BeforeValidator(listed_or_one)]
"""The addresses of one interface."""


class RouterSection(Section):
    """``[router.NAME]``: a router with an interface for each of its addresses."""

    ip: Annotated[list[Port], BeforeValidator(listed_or_one)]
    """An address for each interface, or several in a list, in the order of the router's links."""
    mtu: Annotated[list[Mtu], BeforeValidator(listed_or_one)] = [1500]
    """Of all interfaces, or one each."""
    routes: Annotated[list[Route], BeforeValidator(listed_or_one)] = []
    """What lies behind other routers: "10.0.2.0/24 via 10.0.1.253"."""

    def mtus(self) -> list[int]:
        """The MTU of each interface."""
        return self.mtu * len(self.ip) if len(self.mtu) == 1 else self.mtu


class ChangeSection(Section):
    """An entry of a link's ``at``: what changes at a moment."""

    time: Duration
    """When, in emulated time."""
    set: str = ""
    """New words, for both directions: "loss 10%"."""
    forward: str = ""
    """The same for one direction alone: from the first end to the second."""
    backward: str = ""
    """The same for the other one."""
    up: bool = False
    """The link comes up."""
    down: bool = False
    """The link goes down."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _with_unit(unit: str) -> Callable[[Any], Any]:
    """A validator that refuses a bare number: what tc takes it for (microseconds, bits a second) is a surprise here."""

    def read(value: Any) -> Any:
        if _is_number(value):
            raise fault(f'expected a text with a unit, as in "{value}{unit}", not {value}')
        return value

    return read


Arguments = Annotated[str, BeforeValidator(lambda value: str(value) if _is_number(value) else value)]
"""The arguments of a word of a link; a number is as good as its text."""
Times = Annotated[str, BeforeValidator(_with_unit("ms"))]
Rates = Annotated[str, BeforeValidator(_with_unit("mbit"))]


class LinkSection(Section):
    """``[[link]]``: a cable between two ends. Each word of `netemu.net.netem_words` is a key, too."""

    name: Name = ""
    """How it is called; without it, A-B."""
    between: list[str]
    """The two ends: guests, switches or routers."""
    netem: str = ""
    """What happens on the way, in the words of tc netem: "delay 10ms 2ms loss 1%"."""
    forward: str = ""
    """The same for one direction alone: from the first end to the second."""
    backward: str = ""
    """The same for the other one."""
    delay: Times = ""
    """How long frames are under way: "10ms 2ms distribution normal"."""
    loss: Arguments = ""
    """How many are lost: "1%", "gemodel 1% 10%"."""
    duplicate: Arguments = ""
    """How many come twice: "0.1%"."""
    corrupt: Arguments = ""
    """How many have one bit wrong."""
    reorder: Arguments = ""
    """How many are sent ahead of others: "25% gap 5"."""
    rate: Rates = ""
    """How fast it sends: "10mbit"."""
    slot: Times = ""
    """When it may send: "10ms 20ms packets 5"."""
    limit: Arguments = ""
    """Frames that it holds at most."""
    queue: Arguments = ""
    """What waits at most, and what is dropped: "100p", "64kb red ...", "1000p codel"."""
    mtu: Arguments = ""
    """Longest packet that it carries; longer ones are lost."""
    gso: Arguments = ""
    """Whether a large frame is impaired "whole" or by "segments"."""
    seed: Arguments = ""
    """Of this link alone; made from the lab's otherwise."""
    at: list[ChangeSection] = []
    """Changes, each at its time."""

    @property
    def label(self) -> str:
        """The name it goes by."""
        return self.name or "-".join(self.between)

    def arguments(self) -> dict[str, str]:
        """The words that are keys of this link, with their arguments."""
        return {word: getattr(self, word) for word in LINK_WORDS if getattr(self, word)}

    def words(self) -> str:
        """All that is said of both directions, as one text of words."""
        return " ".join(filter(None, [self.netem, *(f"{word} {text}" for word, text in self.arguments().items())]))


LINK_WORDS = (
    *("delay", "loss", "duplicate", "corrupt", "reorder", "rate", "slot", "limit", "queue", "mtu", "gso", "seed"),
)
"""The words of a link that are keys."""


class CaptureSection(Section):
    """``[[capture]]``: a file with the frames that pass a place."""

    at: str
    """A guest or a link."""
    file: str
    """Where to write, relative to the folder of the output."""
    ring: bool = False
    """Of a guest: what lies in the rings of its card, virtio headers included."""
    raw: bool = False
    """Of a link: frames with what their senders left undone."""


def keys_of(section: type[BaseModel]) -> list[str]:
    """The keys that a table may have."""
    return [field.alias or name for name, field in section.model_fields.items()]
