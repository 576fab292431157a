"""Receive hashing: hash types, report codes, tunnel types, and the two commands that configure it.

Numbers and layouts of sections 5.1.6.4.3 (hash types), 5.1.6.4.4 (inner header hash), 5.1.6.4.5 (reports) and
5.1.6.5.6.4 and .7 (HASH_CONFIG and RSS_CONFIG).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from netemu.errors import ConfigError

# hash_types, supported_hash_types
HASH_TYPE_IPV4 = 1 << 0
HASH_TYPE_TCPV4 = 1 << 1
HASH_TYPE_UDPV4 = 1 << 2
HASH_TYPE_IPV6 = 1 << 3
HASH_TYPE_TCPV6 = 1 << 4
HASH_TYPE_UDPV6 = 1 << 5
HASH_TYPE_IP_EX = 1 << 6
HASH_TYPE_TCP_EX = 1 << 7
HASH_TYPE_UDP_EX = 1 << 8
HASH_TYPES_EX = HASH_TYPE_IP_EX | HASH_TYPE_TCP_EX | HASH_TYPE_UDP_EX
HASH_TYPES_ALL = (1 << 9) - 1

HASH_TYPE_NAMES = {
    HASH_TYPE_IPV4: "ipv4",
    HASH_TYPE_TCPV4: "tcpv4",
    HASH_TYPE_UDPV4: "udpv4",
    HASH_TYPE_IPV6: "ipv6",
    HASH_TYPE_TCPV6: "tcpv6",
    HASH_TYPE_UDPV6: "udpv6",
    HASH_TYPE_IP_EX: "ipv6ex",
    HASH_TYPE_TCP_EX: "tcpv6ex",
    HASH_TYPE_UDP_EX: "udpv6ex",
}

# hash_report; a type's report is the number of its bit plus one (HREP-D-03)
HASH_REPORT_NONE = 0
HASH_REPORT_IPV4 = 1
HASH_REPORT_TCPV4 = 2
HASH_REPORT_UDPV4 = 3
HASH_REPORT_IPV6 = 4
HASH_REPORT_TCPV6 = 5
HASH_REPORT_UDPV6 = 6
HASH_REPORT_IPV6_EX = 7
HASH_REPORT_TCPV6_EX = 8
HASH_REPORT_UDPV6_EX = 9

HASH_REPORT_NAMES = {
    HASH_REPORT_NONE: "none",
    HASH_REPORT_IPV4: "IPv4",
    HASH_REPORT_TCPV4: "TCPv4",
    HASH_REPORT_UDPV4: "UDPv4",
    HASH_REPORT_IPV6: "IPv6",
    HASH_REPORT_TCPV6: "TCPv6",
    HASH_REPORT_UDPV6: "UDPv6",
    HASH_REPORT_IPV6_EX: "IPv6_EX",
    HASH_REPORT_TCPV6_EX: "TCPv6_EX",
    HASH_REPORT_UDPV6_EX: "UDPv6_EX",
}

# enabled_tunnel_types, supported_tunnel_types
HASH_TUNNEL_GRE_2784 = 1 << 0
HASH_TUNNEL_GRE_2890 = 1 << 1
HASH_TUNNEL_GRE_7676 = 1 << 2
HASH_TUNNEL_GRE_UDP = 1 << 3
HASH_TUNNEL_VXLAN = 1 << 4
HASH_TUNNEL_VXLAN_GPE = 1 << 5
HASH_TUNNEL_GENEVE = 1 << 6
HASH_TUNNEL_IPIP = 1 << 7
HASH_TUNNEL_NVGRE = 1 << 8
HASH_TUNNELS_ALL = (1 << 9) - 1

HASH_KEY_MIN_MAX = 40
"""The least that rss_max_key_size may be (NETC-D-07)."""
TABLE_MIN_MAX = 128
"""The least that rss_max_indirection_table_length may be (NETC-D-08)."""
KEY_LENGTH_LIMIT = 255
"""hash_key_length has 8 bits."""

RQ_ID_MASK = 0x7FFF
"""rss_rq_id: bits 0 to 14 are the virtqueue's index over 2; bit 15 is reserved (RSS-B-01)."""

_RSS_HEAD = struct.Struct("<IHH")
_RSS_TAIL = struct.Struct("<HB")
_HASH_HEAD = struct.Struct("<I4HB")


def check_key(key: bytes) -> None:
    """Raise `ConfigError` for a key whose length a command cannot say."""
    if len(key) > KEY_LENGTH_LIMIT:
        raise ConfigError(f"a hash key has at most {KEY_LENGTH_LIMIT} bytes, not {len(key)}")


def parse_hash_types(names: str) -> int:
    """The mask for names such as ``ipv4+tcpv4``, or a number; raises `ConfigError` for a name there is not."""
    try:
        return int(names, 0)
    except ValueError:
        by_name = {name: bit for bit, name in HASH_TYPE_NAMES.items()}
        try:
            return sum(by_name[name] for name in {part.strip().lower() for part in names.split("+")})
        except KeyError as error:
            known = ", ".join(by_name)
            raise ConfigError(f"no hash type is called {error.args[0]!r}; there are {known}") from None


def hash_types_in_words(mask: int) -> str:
    """The names of the types in a mask; bits without one as a number."""
    names = [name for bit, name in HASH_TYPE_NAMES.items() if mask & bit]
    unknown = mask & ~HASH_TYPES_ALL
    return "+".join(names + ([f"{unknown:#x}"] if unknown else [])) or "none"


@dataclass(frozen=True, slots=True)
class RssConfig:
    """struct virtio_net_rss_config: what RSS_CONFIG carries. Queues are rss_rq_id: receiveqK is K - 1 (RSS-B-01)."""

    hash_types: int
    indirection_table: tuple[int, ...]
    unclassified_queue: int = 0
    max_tx_vq: int = 1
    key: bytes = b""

    def pack(self) -> bytes:
        """The bytes of the command's data; raises `ConfigError` for what has no place in them."""
        check_key(self.key)
        if not 1 <= len(self.indirection_table) <= 1 << 16:
            raise ConfigError(f"an indirection table has 1 to 65536 entries, not {len(self.indirection_table)}")
        try:
            head = _RSS_HEAD.pack(self.hash_types, len(self.indirection_table) - 1, self.unclassified_queue)
            table = struct.pack(f"<{len(self.indirection_table)}H", *self.indirection_table)
            return head + table + _RSS_TAIL.pack(self.max_tx_vq, len(self.key)) + self.key
        except struct.error as error:
            raise ConfigError(f"a field of the RSS configuration is out of range: {self}") from error

    @classmethod
    def unpack(cls, data: bytes) -> RssConfig:
        """Read the command's data; raises `ConfigError` when its length is not what its own fields make it."""
        if len(data) < _RSS_HEAD.size:
            raise ConfigError(f"RSS configuration of {len(data)} bytes is cut short")
        hash_types, mask, unclassified = _RSS_HEAD.unpack_from(data)
        tail = _RSS_HEAD.size + 2 * (mask + 1)
        if len(data) < tail + _RSS_TAIL.size:
            raise ConfigError(f"RSS configuration of {len(data)} bytes has no room for {mask + 1} table entries")
        table = struct.unpack_from(f"<{mask + 1}H", data, _RSS_HEAD.size)
        max_tx_vq, key_length = _RSS_TAIL.unpack_from(data, tail)
        key = data[tail + _RSS_TAIL.size :]
        if len(key) != key_length:
            raise ConfigError(f"RSS configuration has {len(key)} bytes of key where it says {key_length}")
        return cls(hash_types, table, unclassified, max_tx_vq, bytes(key))


@dataclass(frozen=True, slots=True)
class HashConfig:
    """struct virtio_net_hash_config: what HASH_CONFIG carries."""

    hash_types: int
    key: bytes = b""

    def pack(self) -> bytes:
        """The bytes of the command's data, reserved fields zero (HCFG-V-01); `ConfigError` for what has no place."""
        check_key(self.key)
        try:
            return _HASH_HEAD.pack(self.hash_types, 0, 0, 0, 0, len(self.key)) + self.key
        except struct.error as error:
            raise ConfigError(f"a field of the hash configuration is out of range: {self}") from error

    @classmethod
    def unpack(cls, data: bytes) -> HashConfig:
        """Read the command's data; raises `ConfigError` for a wrong length, or reserved fields set (HCFG-V-01)."""
        if len(data) < _HASH_HEAD.size:
            raise ConfigError(f"hash configuration of {len(data)} bytes is cut short")
        hash_types, *reserved, key_length = _HASH_HEAD.unpack_from(data)
        if any(reserved):
            raise ConfigError("hash configuration has a reserved field that is not zero (HCFG-V-01)")
        key = data[_HASH_HEAD.size :]
        if len(key) != key_length:
            raise ConfigError(f"hash configuration has {len(key)} bytes of key where it says {key_length}")
        return cls(hash_types, bytes(key))
