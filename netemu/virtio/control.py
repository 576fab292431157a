"""The control virtqueue's commands: classes, numbers, data (VIRTIO 1.4, section 5.1.6.5).

A command is a chain: class u8, command u8 and the command's data, which the device reads; then ack u8 and, for some,
a result, which it writes (CTRL-V-01). Where descriptors begin and end means nothing (CTRL-D-02). All numbers are
little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from netemu.errors import ConfigError
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet

OK = 0
ERR = 1

# Classes, and the commands of each.
CTRL_RX = 0
RX_PROMISC = 0
RX_ALLMULTI = 1
RX_ALLUNI = 2
RX_NOMULTI = 3
RX_NOUNI = 4
RX_NOBCAST = 5

CTRL_MAC = 1
MAC_TABLE_SET = 0
MAC_ADDR_SET = 1

CTRL_VLAN = 2
VLAN_ADD = 0
VLAN_DEL = 1

CTRL_ANNOUNCE = 3
ANNOUNCE_ACK = 0

CTRL_MQ = 4
MQ_VQ_PAIRS_SET = 0
MQ_RSS_CONFIG = 1
MQ_HASH_CONFIG = 2

CTRL_GUEST_OFFLOADS = 5
GUEST_OFFLOADS_SET = 0

CTRL_NOTF_COAL = 6
NOTF_COAL_TX_SET = 0
NOTF_COAL_RX_SET = 1
NOTF_COAL_VQ_SET = 2
NOTF_COAL_VQ_GET = 3

CTRL_HASH_TUNNEL = 7
HASH_TUNNEL_SET = 0

CTRL_STATS = 8
STATS_QUERY = 0
STATS_GET = 1

MQ_PAIRS_MIN = 1
MQ_PAIRS_MAX = 0x8000

VLAN_IDS = 4096

HEADER = struct.Struct("<BB")
"""Class and command."""
LE16 = struct.Struct("<H")
LE32 = struct.Struct("<I")
LE64 = struct.Struct("<Q")

NEEDS: dict[tuple[int, int], int] = {
    (CTRL_RX, RX_PROMISC): f.CTRL_RX,
    (CTRL_RX, RX_ALLMULTI): f.CTRL_RX,
    (CTRL_RX, RX_ALLUNI): f.CTRL_RX_EXTRA,
    (CTRL_RX, RX_NOMULTI): f.CTRL_RX_EXTRA,
    (CTRL_RX, RX_NOUNI): f.CTRL_RX_EXTRA,
    (CTRL_RX, RX_NOBCAST): f.CTRL_RX_EXTRA,
    (CTRL_MAC, MAC_TABLE_SET): f.CTRL_RX,
    # The text asks CTRL_RX of the whole class (MAC-V-01); the bit that is named for this command is what counts.
    (CTRL_MAC, MAC_ADDR_SET): f.CTRL_MAC_ADDR,
    (CTRL_VLAN, VLAN_ADD): f.CTRL_VLAN,
    (CTRL_VLAN, VLAN_DEL): f.CTRL_VLAN,
    (CTRL_ANNOUNCE, ANNOUNCE_ACK): f.GUEST_ANNOUNCE,
    (CTRL_MQ, MQ_VQ_PAIRS_SET): f.MQ,
    (CTRL_MQ, MQ_RSS_CONFIG): f.RSS,
    (CTRL_MQ, MQ_HASH_CONFIG): f.HASH_REPORT,
    (CTRL_GUEST_OFFLOADS, GUEST_OFFLOADS_SET): f.CTRL_GUEST_OFFLOADS,
    (CTRL_NOTF_COAL, NOTF_COAL_TX_SET): f.NOTF_COAL,
    (CTRL_NOTF_COAL, NOTF_COAL_RX_SET): f.NOTF_COAL,
    (CTRL_NOTF_COAL, NOTF_COAL_VQ_SET): f.VQ_NOTF_COAL,
    (CTRL_NOTF_COAL, NOTF_COAL_VQ_GET): f.VQ_NOTF_COAL,
    (CTRL_HASH_TUNNEL, HASH_TUNNEL_SET): f.HASH_TUNNEL,
    (CTRL_STATS, STATS_QUERY): f.DEVICE_STATS,
    (CTRL_STATS, STATS_GET): f.DEVICE_STATS,
}
"""Every command, by class and number, with the feature it needs."""

ETH_ALEN = 6


def fields(layout: struct.Struct, data: bytes) -> tuple[int, ...]:
    """The fields of a command's data; raises `ConfigError` unless it has exactly the bytes of the layout."""
    if len(data) != layout.size:
        raise ConfigError(f"the command's data has {layout.size} bytes, not {len(data)}")
    return layout.unpack(data)


def pack_mac_table(unicast: Sequence[bytes], multicast: Sequence[bytes]) -> tuple[bytes, bytes]:
    """MAC_TABLE_SET's two lists, each a count and its addresses (MAC-V-03); either may be empty (MAC-V-04)."""
    unicast_list, multicast_list = (
        len(addresses).to_bytes(4, "little") + b"".join(addresses) for addresses in (unicast, multicast)
    )
    return unicast_list, multicast_list


def unpack_mac_table(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """The two lists of MAC_TABLE_SET; raises `ConfigError` for data that is not exactly two lists."""
    lists = []
    for _ in range(2):
        count = int.from_bytes(data[:4], "little")
        end = 4 + ETH_ALEN * count
        if len(data) < 4 or len(data) < end:
            raise ConfigError("a list of MAC addresses is cut short")
        lists.append([data[at : at + ETH_ALEN] for at in range(4, end, ETH_ALEN)])
        data = data[end:]
    if data:
        raise ConfigError(f"{len(data)} bytes stand behind the lists of MAC addresses")
    return lists[0], lists[1]


@dataclass(frozen=True, slots=True)
class Coalesce:
    """When the device may hold back notifications: up to so many packets, and so many microseconds."""

    max_packets: int = 0
    max_usecs: int = 0

    LAYOUT = struct.Struct("<II")

    def pack(self) -> bytes:
        """The eight bytes of struct virtio_net_ctrl_coal."""
        return self.LAYOUT.pack(self.max_packets, self.max_usecs)

    @classmethod
    def unpack(cls, data: bytes) -> Coalesce:
        """Read the eight bytes; raises `ConfigError` for any other number of them."""
        return cls(*fields(cls.LAYOUT, data))


VQ_INDEX = struct.Struct("<HH")
"""Queue and a reserved word: the start of struct virtio_net_ctrl_coal_vq, and all that VQ_GET needs of it."""

# The bits of GUEST_OFFLOADS_SET are numbers of feature bits, but for two: they have to fit into 64 bits. The names
# printed beside 46 and 47 are those of features 65 and 66.
OFFLOAD_BITS: dict[int, int] = {
    f.GUEST_CSUM: 1,
    f.GUEST_TSO4: 7,
    f.GUEST_TSO6: 8,
    f.GUEST_ECN: 9,
    f.GUEST_UFO: 10,
    f.GUEST_UDP_TUNNEL_GSO: 46,
    f.GUEST_UDP_TUNNEL_GSO_CSUM: 47,
    f.GUEST_USO4: 54,
    f.GUEST_USO6: 55,
}
"""Feature to bit of GUEST_OFFLOADS_SET's mask."""


def offload_mask(features: FeatureSet) -> int:
    """The mask of all guest offloads in a feature set."""
    return sum(1 << bit for feature, bit in OFFLOAD_BITS.items() if feature in features)


def offload_features(mask: int) -> FeatureSet:
    """The features that a mask of guest offloads stands for; bits without a meaning are left out."""
    return FeatureSet.of(*(feature for feature, bit in OFFLOAD_BITS.items() if mask >> bit & 1))
