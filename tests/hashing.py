"""Receive hashing by hand: Toeplitz bit by bit, and a device's hash of one frame.

Nothing here looks at `netemu.device` for an expected value: `toeplitz_by_bits` is the definition, written out.
"""

from __future__ import annotations

import ipaddress

import numpy as np

from netemu.device.rss import Rss, hash_frame
from netemu.jit.memory import Buffer
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.rss import HashConfig

KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
"""The key of the published vectors."""

CTRL_VQ, MQ, HASH_TUNNEL, HASH_REPORT, RSS = 17, 22, 51, 57, 60
ALL_FEATURES = FeatureSet.of(CTRL_VQ, MQ, HASH_TUNNEL, HASH_REPORT, RSS)

NONE, IPV4, TCPV4, UDPV4, IPV6, TCPV6, UDPV6, IPV6_EX, TCPV6_EX, UDPV6_EX = range(10)
"""The reports of section F; a type's bit is ``1 << report - 1``."""


def types(*reports: int) -> int:
    """The mask with the hash types that these reports stand for."""
    return sum(1 << (report - 1) for report in reports)


def toeplitz_by_bits(key: bytes, data: bytes) -> int:
    """The hash as it is defined: a 32-bit window slides over the key, one bit for each bit of the input."""
    bits = int.from_bytes(key, "big")
    length = 8 * len(key)
    value = 0
    for n in range(8 * len(data)):
        if data[n // 8] >> (7 - n % 8) & 1:
            shift = length - 32 - n
            value ^= (bits >> shift if shift >= 0 else bits << -shift) & 0xFFFFFFFF
    return value


def packed(*addresses: str) -> bytes:
    """Addresses in network order."""
    return b"".join(ipaddress.ip_address(address).packed for address in addresses)


def port_pair(source: int, target: int) -> bytes:
    return source.to_bytes(2, "big") + target.to_bytes(2, "big")


class Exact:
    """A frame at an address with nothing behind it that may be read."""

    def __init__(self, data: bytes) -> None:
        self._block = Buffer(np.frombuffer(bytearray(data or b"\0"), dtype=np.uint8))
        self.address = self._block.address
        self.size = len(data)


def net_config(**fields: int) -> NetConfig:
    """A device that can hash by everything, with four queue pairs."""
    wanted: dict[str, int] = {
        "max_virtqueue_pairs": 4,
        "supported_hash_types": 0x1FF,
        "supported_tunnel_types": 0x1FF,
    }
    return NetConfig(**(wanted | fields))  # type: ignore[arg-type]


def hasher(hash_types: int, tunnels: int = 0, key: bytes = KEY) -> Rss:
    """A device's receive hashing, with these types and tunnels enabled."""
    rss = Rss(net_config())
    rss.start(ALL_FEATURES)
    rss.configure_hash(HashConfig(hash_types, key))
    rss.configure_tunnels(tunnels)
    return rss


def hash_of(rss: Rss, data: bytes) -> tuple[int, int]:
    """Report and value for a frame; not a byte beyond its end may be read."""
    frame = Exact(data)
    report = int(hash_frame(rss.state, frame.address, frame.size))
    assert report == rss.state.hash_report
    return report, rss.state.hash_value
