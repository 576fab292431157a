"""What a device offers, from what a user asks for: a receive mode, a number of queues, single features, an MTU."""

from __future__ import annotations

from typing import Literal, get_args

from netemu.errors import ConfigError
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig

Mode = Literal["mergeable", "small", "big"]
MODES: tuple[Mode, ...] = get_args(Mode)
RingKind = Literal["split", "packed"]
RING_KINDS: tuple[RingKind, ...] = get_args(RingKind)

QUEUES_MAX = 64

_BASE = FeatureSet.of(f.MAC, f.STATUS, f.VERSION_1, f.EVENT_IDX, f.INDIRECT_DESC)
_GUEST_OFFLOADS = FeatureSet.of(f.GUEST_CSUM, f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO)


def offered_features(mode: Mode = "mergeable", queues: int = 1, ring: RingKind = "split") -> FeatureSet:
    """What a device offers so that a Linux driver ends up in ``mode`` with ``queues`` queue pairs.

    Raises `ConfigError` for a mode or a ring there is not.
    """
    if mode not in MODES:
        raise ConfigError(f"no receive mode is called {mode!r}; there are {', '.join(MODES)}")
    if ring not in RING_KINDS:
        raise ConfigError(f"no ring is called {ring!r}; there are {', '.join(RING_KINDS)}")
    offered = _BASE
    if mode == "mergeable":
        offered |= _GUEST_OFFLOADS | FeatureSet.of(f.MRG_RXBUF)
    elif mode == "big":
        offered |= _GUEST_OFFLOADS
    if queues > 1:
        offered |= FeatureSet.of(f.MQ, f.CTRL_VQ)
    if ring == "packed":
        offered |= FeatureSet.of(f.RING_PACKED)
    return offered


def configuration(queues: int = 1, mtu: int | None = None, mac: bytes | str | None = None) -> NetConfig:
    """The configuration space of a device with ``queues`` pairs; what is None is as in every `NetConfig`.

    Raises `ConfigError` for a number of queues that cannot be and for an address that is none.
    """
    if not 1 <= queues <= QUEUES_MAX:
        raise ConfigError(f"a device here has 1 to {QUEUES_MAX} queue pairs, not {queues}")
    config = NetConfig(max_virtqueue_pairs=queues)
    if mtu is not None:
        config.mtu = mtu
    if mac is not None:
        config.mac = mac_address(mac)
    return config


def mac_address(mac: bytes | str) -> bytes:
    """Six bytes of a station's address, also from text like 02:00:00:00:00:01.

    Raises `ConfigError` for what is no address, and for one of a group.
    """
    try:
        address = bytes.fromhex(mac.replace(":", "").replace("-", "")) if isinstance(mac, str) else bytes(mac)
    except ValueError:
        address = b""
    if len(address) != 6:
        raise ConfigError(f"{mac!r} is no MAC address: six bytes, as in 02:00:00:00:00:01")
    if address[0] & 1:
        raise ConfigError(f"{mac!r} is the address of a group, not of a station")
    return address
