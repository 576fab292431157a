"""What is to be built when a user asks for a card: features, configuration, queues and memory, checked beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netemu.driver.eras import era
from netemu.driver.features import MODE_NAMES, SUPPORTED, choose, receive_mode
from netemu.driver.outgoing import memory_for_sending
from netemu.errors import ConfigError
from netemu.memory import GuestMemory
from netemu.nic.control import Settings
from netemu.nic.sending import ROLES, Role
from netemu.offer import Mode, RingKind, configuration, offered_features
from netemu.pages import PAGE_SIZE
from netemu.skb import MAX_SKB_FRAGS
from netemu.virtio import features as f
from netemu.virtio import packed, split
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig

DEFAULT_BURST = 64

_MEMORY_BASE = 4 << 20
_MEMORY_PER_BUFFER = 3 * PAGE_SIZE
_MEMORY_PER_BIG_BUFFER = (MAX_SKB_FRAGS + 1) * PAGE_SIZE
_MEMORY_PER_ENTRY = 1024
_MEMORY_FORWARDED = 32 << 20
"""For frames that are sent on as they were received."""
_SPARE_BUFFERS = 192
"""What a queue's rings and pools take at most, see `VirtioNet`; what is never touched costs no memory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A device and a driver that are not there yet."""

    offered: FeatureSet
    config: NetConfig
    mode: str
    """The receive mode that comes of it."""
    queue_size: int
    pairs: int
    """Queue pairs of the device, with those that an old kernel wants for XDP."""

    def guest_memory(self, guest: Role) -> GuestMemory:
        """Memory for the driver's buffers, in one piece."""
        per_buffer = _MEMORY_PER_BIG_BUFFER if self.mode == "big" else _MEMORY_PER_BUFFER
        size = _MEMORY_BASE + self.queue_size * _MEMORY_PER_ENTRY + (self.queue_size + _SPARE_BUFFERS) * per_buffer
        size += memory_for_sending(self.queue_size) + (_MEMORY_FORWARDED if guest == "reflect" else 0)
        return GuestMemory(self.pairs * size)


def plan(
    mode: Mode,
    queue_size: int,
    queues: int,
    driver: str,
    *,
    features: str,
    ring: RingKind,
    mtu: int | None,
    mac: bytes | str | None,
    offer: FeatureSet | None,
    accept: FeatureSet,
    settings: Settings,
    rss: bool,
    hash_report: bool,
    xdp: bool,
) -> Plan:
    """What to build for what a user asks (`netemu.nic.Nic`); raises `ConfigError` for what cannot be."""
    facts = era(driver)
    # Old kernels want as many queue pairs again, for what an XDP program sends back.
    pairs = 2 * queues if xdp and not facts.xdp_shares_queues else queues
    config = configuration(pairs, mtu, mac)
    own = offered_features(mode, pairs, ring, rss=rss, hash_report=hash_report)
    offered = (own if offer is None else offer) | settings.features()
    if mtu is not None:
        offered |= FeatureSet.of(f.MTU)
    if offer is None and f.VERSION_1 not in offered.changed(features):
        offered |= FeatureSet.of(f.ANY_LAYOUT)  # LEG-D-06
    offered = offered.changed(features)
    if xdp and f.GUEST_CSUM in offered:
        offered |= FeatureSet.of(f.CTRL_VQ, f.CTRL_GUEST_OFFLOADS)
    chosen = choose(facts, offered, accept & SUPPORTED, config.mtu)
    check_queue_size = packed.check_queue_size if f.RING_PACKED in chosen else split.check_queue_size
    check_queue_size(queue_size)
    in_force = MODE_NAMES[receive_mode(chosen, facts, config.mtu if f.MTU in chosen else 0)]
    return Plan(offered, config, in_force, queue_size, pairs)


def check_way_of_running(
    *, burst: int, xmit_more: int, guest: Role, threads: bool, xdp: bool, pressure: Iterable[str], quirks: Iterable[str]
) -> None:
    """Raise `ConfigError` for a way of running that cannot be."""
    if burst < 1:
        raise ConfigError(f"a burst has at least one frame, not {burst}")
    if guest not in ROLES:
        raise ConfigError(f"no guest is called {guest!r}; there are {', '.join(ROLES)}")
    if xmit_more < 1:
        raise ConfigError(f"a kick is for at least one frame, not {xmit_more}")
    if not threads:
        return
    for wanted, name in ((guest != "sink", f"a guest to {guest}"), (xdp, "an XDP program")):
        if wanted:
            raise ConfigError(f"threads do not go with {name}, as one thread orders what is sent: leave one out")
    if [*pressure] or [*quirks]:
        raise ConfigError("threads do not go with pressure and quirks, which count events in all queues: leave one out")
