"""The network device's header and configuration layouts (VIRTIO 1.4, sections 5.1.4 and 5.1.6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet

# struct virtio_net_hdr: byte offsets.
HDR_FLAGS = 0
HDR_GSO_TYPE = 1
HDR_HDR_LEN = 2
HDR_GSO_SIZE = 4
HDR_CSUM_START = 6
HDR_CSUM_OFFSET = 8
HDR_NUM_BUFFERS = 10
HDR_HASH_VALUE = 12
HDR_HASH_REPORT = 16
HDR_OUTER_TH_OFFSET = 20
HDR_INNER_NH_OFFSET = 22
HDR_OUTER_NH_OFFSET = 24

# flags
NEEDS_CSUM = 1
DATA_VALID = 2
RSC_INFO = 4
UDP_TUNNEL_CSUM = 8

# gso_type
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_UDP = 3
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_UDP_TUNNEL_IPV4 = 0x20
GSO_UDP_TUNNEL_IPV6 = 0x40
GSO_UDP_TUNNEL = GSO_UDP_TUNNEL_IPV4 | GSO_UDP_TUNNEL_IPV6
GSO_ECN = 0x80

FLAG_NAMES = {
    NEEDS_CSUM: "NEEDS_CSUM",
    DATA_VALID: "DATA_VALID",
    RSC_INFO: "RSC_INFO",
    UDP_TUNNEL_CSUM: "UDP_TUNNEL_CSUM",
}
GSO_NAMES = {GSO_NONE: "NONE", GSO_TCPV4: "TCPV4", GSO_UDP: "UDP", GSO_TCPV6: "TCPV6", GSO_UDP_L4: "UDP_L4"}
GSO_BIT_NAMES = {GSO_UDP_TUNNEL_IPV4: "UDP_TUNNEL_IPV4", GSO_UDP_TUNNEL_IPV6: "UDP_TUNNEL_IPV6", GSO_ECN: "ECN"}

# Lengths of the header, by what was negotiated.
HDR_LEN_LEGACY = 10
HDR_LEN_V1 = 12
HDR_LEN_HASH = 20
HDR_LEN_TUNNEL = 24
HDR_LEN_MAX = 32

# config.status
LINK_UP = 1
ANNOUNCE = 2


def flags_in_words(flags: int) -> str:
    """The names of a header's flags; bits without one as a number."""
    names = [name for bit, name in FLAG_NAMES.items() if flags & bit]
    unknown = flags & ~sum(FLAG_NAMES)
    return "+".join(names + ([f"{unknown:#x}"] if unknown else [])) or "none"


def gso_in_words(gso_type: int) -> str:
    """The name of a header's gso_type, with the bits or-ed to it."""
    bits = sum(GSO_BIT_NAMES)
    base = GSO_NAMES.get(gso_type & ~bits, f"{gso_type & ~bits:#x}")
    return "+".join([base, *(name for bit, name in GSO_BIT_NAMES.items() if gso_type & bit)])


HEADER_FIELDS: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
    ("flags", HDR_FLAGS, 1, ()),
    ("gso_type", HDR_GSO_TYPE, 1, ()),
    ("hdr_len", HDR_HDR_LEN, 2, ()),
    ("gso_size", HDR_GSO_SIZE, 2, ()),
    ("csum_start", HDR_CSUM_START, 2, ()),
    ("csum_offset", HDR_CSUM_OFFSET, 2, ()),
    ("num_buffers", HDR_NUM_BUFFERS, 2, ()),
    ("hash_value", HDR_HASH_VALUE, 4, (f.HASH_REPORT,)),
    ("hash_report", HDR_HASH_REPORT, 2, (f.HASH_REPORT,)),
    ("padding_reserved", 18, 2, (f.HASH_REPORT,)),
    ("outer_th_offset", HDR_OUTER_TH_OFFSET, 2, (f.HOST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO)),
    ("inner_nh_offset", HDR_INNER_NH_OFFSET, 2, (f.HOST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO)),
    ("outer_nh_offset", HDR_OUTER_NH_OFFSET, 2, (f.OUT_NET_HEADER,)),
    ("padding_reserved_2", 26, 6, (f.OUT_NET_HEADER, f.IPSEC)),
)
"""Each field of the header: name, offset, size, and the features of which one gives it a meaning (none: always)."""


def header_layout(features: FeatureSet) -> list[tuple[str, int, int]]:
    """Name, offset and size of the header's fields under a feature set; what only keeps a place is called filler."""
    size = header_length(features)
    return [
        (name if not needs or features.has_any(*needs) else "filler", offset, length)
        for name, offset, length, needs in HEADER_FIELDS
        if offset < size
    ]


def header_length(features: FeatureSet) -> int:
    """Bytes of virtio_net_hdr under a negotiated feature set; the same for both directions (RXB-V-04)."""
    if features.has_any(f.OUT_NET_HEADER, f.IPSEC):
        return HDR_LEN_MAX
    if features.has_any(f.HOST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO):
        return HDR_LEN_TUNNEL
    if f.HASH_REPORT in features:
        return HDR_LEN_HASH
    if features.has_any(f.VERSION_1, f.MRG_RXBUF):
        return HDR_LEN_V1
    return HDR_LEN_LEGACY


FIELDS: dict[str, tuple[int, int]] = {
    "mac": (0, 6),
    "status": (6, 2),
    "max_virtqueue_pairs": (8, 2),
    "mtu": (10, 2),
    "speed": (12, 4),
    "duplex": (16, 1),
    "rss_max_key_size": (17, 1),
    "rss_max_indirection_table_length": (18, 2),
    "supported_hash_types": (20, 4),
    "supported_tunnel_types": (24, 4),
}
"""struct virtio_net_config: byte offset and size of each field. A field that does not exist leaves its place."""


@dataclass(slots=True)
class NetConfig:
    """struct virtio_net_config; the fields exist under the features that section 5.1.4 names (NETC-D-15, NETC-D-16)."""

    mac: bytes = b"\x02\x00\x00\x00\x00\x01"
    status: int = LINK_UP
    max_virtqueue_pairs: int = 1
    mtu: int = 1500
    speed: int = 0xFFFFFFFF
    duplex: int = 0xFF
    rss_max_key_size: int = 40
    rss_max_indirection_table_length: int = 128
    supported_hash_types: int = 0
    supported_tunnel_types: int = 0

    _LAYOUT = struct.Struct("<6sHHHIBBHII")

    def pack(self) -> bytes:
        """The 28 bytes of the structure, little-endian (CFG-D-03)."""
        return self._LAYOUT.pack(
            self.mac,
            self.status,
            self.max_virtqueue_pairs,
            self.mtu,
            self.speed,
            self.duplex,
            self.rss_max_key_size,
            self.rss_max_indirection_table_length,
            self.supported_hash_types,
            self.supported_tunnel_types,
        )

    @classmethod
    def unpack(cls, data: bytes) -> NetConfig:
        """Read the fields from configuration space; a space that is too short reads as zeros there (CFG-V-06)."""
        return cls(*cls._LAYOUT.unpack(data[: cls._LAYOUT.size].ljust(cls._LAYOUT.size, b"\0")))
