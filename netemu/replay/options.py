"""How to replay: every option, and which of them cannot go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from netemu.driver.eras import DEFAULT_ERA, era
from netemu.errors import ConfigError
from netemu.nic import DEFAULT_BURST
from netemu.nic.control import Settings
from netemu.nic.sending import Role
from netemu.offer import Mode, RingKind
from netemu.replay.sent_capture import Tap, which_tap
from netemu.virtio import features as f
from netemu.xdp import XdpProgram

Encap = Literal["ethernet", "virtio"]
HostOffloads = Literal["as-is", "host"]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay.

    ``features`` changes what the device offers for ``mode``, ``queues`` and ``ring``, as in "+STANDBY,-GUEST_UFO".
    ``rss`` is "on" or what `netemu.offer.RssOptions.parse` reads; with ``hash_report`` hashes reach the capture.
    ``threads`` gives each queue pair a thread.
    ``burst`` is how many frames arrive between an interrupt and the poll it asks for; ``wait`` whether a frame for
    which there is no buffer waits for the guest or is dropped. ``limit`` ends the replay after so many frames
    (None: all), ``loop`` plays the input so many times. ``encap`` chooses what a capture holds: the frames
    ("ethernet") or the ring's content ("virtio", docs/ring-capture-format.md). ``journey`` puts a comment on every
    frame. ``offloads`` says what the frames are: "as-is" they are complete, from a "host" its stack left work on them
    to hardware, which the device leaves to the guest or does itself, as was negotiated; with ``host_gro`` the host
    merges segments of a flow first. With ``gro`` the guest merges TCP segments, so that a frame of the output may stand
    for several of the input. ``xdp`` is an XDP program, or the file that holds one
    (`netemu.replay.programs.load_program`).
    ``xdp_redirect`` is a capture for the frames that it redirects.
    Allocations fail by the rules of ``pressure``, and things go wrong by those of ``quirks``: see `netemu.nic.Nic`.
    ``settings`` are made once the driver is up.
    ``guest`` says what the guest does: it is a "sink", it "reflect"s what it receives, or it "send"s the frames itself,
    one kick for ``xmit_more`` of them. ``tap`` chooses what a capture holds, see `netemu.replay.sent_capture`.
    """

    mode: Mode = "mergeable"
    queue_size: int = 256
    queues: int = 1
    driver: str = DEFAULT_ERA
    ring: RingKind = "split"
    features: str = ""
    mtu: int | None = None
    mac: str | None = None
    rss: str | None = None
    hash_report: bool = False
    threads: bool = False
    burst: int = DEFAULT_BURST
    wait: bool = True
    limit: int | None = None
    loop: int = 1
    encap: Encap = "ethernet"
    journey: bool = False
    offloads: HostOffloads = "as-is"
    host_gro: bool = False
    gro: bool = False
    xdp: XdpProgram | str | None = None
    xdp_redirect: str | None = None
    pressure: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()
    settings: Settings = Settings()  # noqa: RUF009 - it cannot be changed
    guest: Role = "sink"
    tap: Tap | None = None
    xmit_more: int = 1

    def check(self, kind: str | None) -> Tap:
        """Raise `ConfigError` for options that do not go together; the tap that is meant.

        ``kind`` is that of the file to be written: "pcap", "pcapng", or None if there is none.
        """
        if self.encap not in get_args(Encap):
            raise ConfigError(f"no encapsulation is called {self.encap!r}; there are {', '.join(get_args(Encap))}")
        if self.journey and kind == "pcap":
            raise ConfigError("a pcap file has no place for comments: write .pcapng for --journey")
        if self.encap == "virtio" and self.threads:
            raise ConfigError("threads do not go with encap virtio, what lay in the ring: leave out one of them")
        if self.ring == "packed" and f.RING_PACKED not in era(self.driver).features:
            raise ConfigError(f"{self.driver} knows no packed ring: take a split one, or a newer driver")
        if self.offloads not in get_args(HostOffloads):
            raise ConfigError(f"offloads are {' or '.join(get_args(HostOffloads))}, not {self.offloads!r}")
        if self.host_gro and self.offloads != "host":
            raise ConfigError("frames that the host merges need offloads of a host: say both")
        if self.loop < 1 or (self.limit is not None and self.limit < 0):
            raise ConfigError("loop is at least 1, and limit is not negative")
        if self.guest == "send" and self.offloads != "as-is":
            raise ConfigError(
                "offloads of a host are for frames that arrive, and nothing arrives at a guest that sends"
            )
        if self.xdp_redirect is not None and self.xdp is None:
            raise ConfigError("only an XDP program redirects frames: say which one, too")
        return which_tap(self.guest, self.tap, kind, xdp=self.xdp is not None)
