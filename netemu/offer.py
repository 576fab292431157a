"""What a device offers, from what a user asks for: a receive mode, a number of queues, single features, an MTU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from netemu.errors import ConfigError
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.rss import HASH_TUNNELS_ALL, HASH_TYPES_ALL, parse_hash_types

Mode = Literal["mergeable", "small", "big"]
MODES: tuple[Mode, ...] = get_args(Mode)
RingKind = Literal["split", "packed"]
RING_KINDS: tuple[RingKind, ...] = get_args(RingKind)

QUEUES_MAX = 64

_BASE = FeatureSet.of(f.MAC, f.STATUS, f.VERSION_1, f.EVENT_IDX, f.INDIRECT_DESC)
_GUEST_OFFLOADS = FeatureSet.of(f.GUEST_CSUM, f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO)


@dataclass(frozen=True, slots=True)
class RssOptions:
    """What a user asks of RSS, as with ``ethtool -X`` and ``-N``; what is None is the driver's own choice."""

    key: bytes | None = None
    table: tuple[int, ...] | None = None
    """Receive queues, repeated until the device's table is full."""
    types: int | None = None
    """Hash types (`netemu.virtio.rss`)."""

    @classmethod
    def parse(cls, text: str) -> RssOptions:
        """From text: "on", or parts like "key=HEX,table=0,1,2,3,types=ipv4+tcpv4"; raises `ConfigError`."""
        if text == "on":
            return cls()
        parts: dict[str, list[str]] = {}
        name = ""
        for item in text.split(","):
            before, equals, after = item.partition("=")
            name = before.strip() if equals else name
            if name not in ("key", "table", "types"):
                raise ConfigError(f"RSS is 'on' or key=HEX,table=0,1,...,types=ipv4+tcpv4+..., not {text!r}")
            parts.setdefault(name, []).append(after if equals else item)
        try:
            key = bytes.fromhex("".join(parts["key"])) if "key" in parts else None
            table = tuple(int(queue) for queue in parts["table"]) if "table" in parts else None
        except ValueError as error:
            raise ConfigError(f"RSS takes a key in hex digits and a table of queue numbers: {error}") from None
        return cls(key, table, parse_hash_types("+".join(parts["types"])) if "types" in parts else None)


def offered_features(
    mode: Mode = "mergeable", queues: int = 1, ring: RingKind = "split", *, rss: bool = False, hash_report: bool = False
) -> FeatureSet:
    """What a device offers so that a Linux driver ends up in ``mode`` with ``queues`` queue pairs, RSS and hashes.

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
    if rss:
        offered |= FeatureSet.of(f.RSS, f.CTRL_VQ)
    if hash_report:
        offered |= FeatureSet.of(f.HASH_REPORT, f.CTRL_VQ)
    if ring == "packed":
        offered |= FeatureSet.of(f.RING_PACKED)
    return offered


def configuration(queues: int = 1, mtu: int | None = None, mac: bytes | str | None = None) -> NetConfig:
    """The configuration space of a device with ``queues`` pairs; what is None is as in every `NetConfig`.

    Raises `ConfigError` for a number of queues that cannot be and for an address that is none.
    """
    if not 1 <= queues <= QUEUES_MAX:
        raise ConfigError(f"a device here has 1 to {QUEUES_MAX} queue pairs, not {queues}")
    config = NetConfig(
        max_virtqueue_pairs=queues, supported_hash_types=HASH_TYPES_ALL, supported_tunnel_types=HASH_TUNNELS_ALL
    )
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
