"""Receive hashing and RSS as the driver configures them (sections 5.1.6.4.3, 5.1.6.5.6.4 and 5.1.6.5.6.7).

Theory of operation
-------------------
`Rss` is the control plane: it takes configurations, refuses what the specification forbids, and lays what it accepts
out in an `RssState`, which kernels read. `hash_frame` computes the hash of one frame: it chooses the fields by the
types that are enabled, and leaves value and report code in the state. Which queue follows is for
`netemu.device.steering`.

After a reset no type is enabled, so nothing is hashed and every report is NONE (HCFG-D-02).
"""

from __future__ import annotations

from netemu.device.dissect import IPPROTO_TCP, IPPROTO_UDP, Headers, dissect_ethernet, headers_at, ports_of
from netemu.device.toeplitz import ROW_SIZE, KeyTable, toeplitz
from netemu.device.tunnels import step_inside
from netemu.errors import ConfigError
from netemu.jit import Struct, allocate, i64, kernel, pointer, struct
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.rss import (
    HASH_REPORT_IPV4,
    HASH_REPORT_IPV6,
    HASH_REPORT_IPV6_EX,
    HASH_REPORT_NONE,
    HASH_TUNNELS_ALL,
    HASH_TYPES_ALL,
    HashConfig,
    RssConfig,
)

_IPV4_ADDRESS = 4
_IPV6_ADDRESS = 16
_PORTS = 4


@struct
class RssState(Struct):
    """The configuration in force, and the hash of the frame at hand."""

    hash_types: i64
    tunnels: i64
    key: i64
    """Host address of the key's rows (`netemu.device.toeplitz.KeyTable`)."""
    headers: i64
    """Address of the `Headers` to work with."""
    rss: i64
    """1: the indirection table chooses the queue; 0: automatic steering does."""
    table: i64
    """Host address of ``mask`` + 1 queue numbers of 16 bits."""
    mask: i64
    unclassified: i64
    hash_value: i64
    hash_report: i64
    """Of the last frame: HASH_REPORT_NONE if there was none, and then the value is 0."""


rss_state_at = pointer(RssState)


@kernel
def _hash(state: RssState, source: i64, target: i64, size: i64, ports: i64) -> i64:
    """The hash over two addresses of ``size`` bytes and, unless ``ports`` is 0, two ports."""
    value = toeplitz(state.key, source, size) ^ toeplitz(state.key + size * ROW_SIZE, target, size)
    if ports != 0:
        value ^= toeplitz(state.key + 2 * size * ROW_SIZE, ports, _PORTS)
    return value


@kernel
def _hash_as(state: RssState, h: Headers, report: i64, source: i64, target: i64, size: i64) -> i64:
    """Over TCP's ports, else UDP's, else the addresses alone, by what is enabled; the report code (HASH-D-05 to 10).

    ``report`` is the code for addresses alone; those of TCP and UDP follow it, and a type's bit is its code less one.
    """
    types = state.hash_types >> (report - 1)
    ports = ports_of(h, IPPROTO_TCP)
    if ports != 0 and types & 2:
        report += 1
    else:
        ports = ports_of(h, IPPROTO_UDP)
        if ports != 0 and types & 4:
            report += 2
        elif types & 1:
            ports = 0
        else:
            return HASH_REPORT_NONE
    state.hash_value = _hash(state, source, target, size, ports)
    return report


@kernel
def hash_frame(state: RssState, frame: i64, length: i64) -> i64:
    """Compute the hash of a frame as configured (RSS-D-01, HREP-D-01); the report code, 0 if there is no hash."""
    state.hash_value = 0
    report = HASH_REPORT_NONE
    if state.hash_types != 0:
        h = headers_at(state.headers)
        dissect_ethernet(h, frame, frame + length)
        if state.tunnels != 0:
            step_inside(h, state.tunnels)
        if h.version == 4:
            report = _hash_as(state, h, HASH_REPORT_IPV4, h.source, h.target, _IPV4_ADDRESS)
        elif h.version == 6:
            if h.extended != 0:
                # HASH-D-09: the addresses that mobility headers name, where an _EX type asks for them.
                report = _hash_as(state, h, HASH_REPORT_IPV6_EX, h.home_source, h.home_target, _IPV6_ADDRESS)
            if report == HASH_REPORT_NONE:
                report = _hash_as(state, h, HASH_REPORT_IPV6, h.source, h.target, _IPV6_ADDRESS)
    state.hash_report = report
    return report


class Rss:
    """Receive hashing and RSS of one device.

    The methods that configure raise `ConfigError` for what they refuse, and have then changed nothing.
    """

    def __init__(self, config: NetConfig) -> None:
        """What the device can do is in its configuration: hash types, tunnel types, sizes of key and table."""
        self._config = config
        self._features = FeatureSet()
        self._headers = Headers()
        self._key = KeyTable()
        self._table = allocate(2 * max(1, config.rss_max_indirection_table_length))
        self.state = RssState(key=self._key.address, headers=self._headers.address, table=self._table.address)

    def reset(self) -> None:
        """No hash type, no tunnel type, automatic steering (HCFG-D-02, HTUN-D-03)."""
        state = self.state
        state.hash_types = state.tunnels = state.rss = state.hash_value = state.hash_report = 0
        self._features = FeatureSet()

    def start(self, features: FeatureSet) -> None:
        """The driver has negotiated ``features``; which commands there are follows from them."""
        self._features = features

    @property
    def hashes(self) -> bool:
        """Whether there is anything to do for a frame."""
        return self.state.hash_types != 0 or self.state.rss != 0

    def configure_rss(self, config: RssConfig) -> None:
        """RSS_CONFIG: hash as it says, and let its table choose the queues from now on (MQ-B-01)."""
        pairs = self._config.max_virtqueue_pairs
        if f.RSS not in self._features:
            raise ConfigError("RSS_CONFIG without the feature RSS (RSS-V-01)")
        size = len(config.indirection_table)
        if size & (size - 1):
            raise ConfigError(f"an indirection table of {size} entries is no power of two (RSS-V-03)")
        if size > self._config.rss_max_indirection_table_length:
            limit = self._config.rss_max_indirection_table_length
            raise ConfigError(f"an indirection table of {size} entries, over {limit} (RSS-V-04)")
        if any(entry >= pairs for entry in (*config.indirection_table, config.unclassified_queue)):
            raise ConfigError(f"a receive queue beyond the {pairs} there are (RSS-V-02, RSS-B-01)")
        if not 1 <= config.max_tx_vq <= pairs:
            raise ConfigError(f"{config.max_tx_vq} transmit queues of {pairs} (RSS-V-06)")
        self._load(config.hash_types, config.key)
        state = self.state
        packed = b"".join(entry.to_bytes(2, "little") for entry in config.indirection_table)
        self._table.array[: len(packed)] = bytearray(packed)
        state.mask = size - 1
        state.unclassified = config.unclassified_queue
        state.rss = 1

    def configure_hash(self, config: HashConfig) -> None:
        """HASH_CONFIG: hash as it says; for automatic steering, whose choice of queues it leaves alone (HCFG-D-01)."""
        if f.HASH_REPORT not in self._features:
            raise ConfigError("HASH_CONFIG without the feature HASH_REPORT")
        if self.state.rss:
            raise ConfigError("HASH_CONFIG while RSS is in force, which has its own hash types (HASH-D-01)")
        self._load(config.hash_types, config.key)

    def configure_tunnels(self, mask: int) -> None:
        """HASH_TUNNEL_SET: hash the inner header of these types; 0 for none (HTUN-D-03)."""
        if f.HASH_TUNNEL not in self._features:
            raise ConfigError("HASH_TUNNEL_SET without the feature HASH_TUNNEL (HTUN-V-01)")
        if mask & ~(self._config.supported_tunnel_types & HASH_TUNNELS_ALL):
            raise ConfigError(f"tunnel types {mask:#x} are not all supported (HTUN-D-02)")
        self.state.tunnels = mask

    def use_automatic_steering(self) -> None:
        """VQ_PAIRS_SET came last: the indirection table is out of use (MQ-B-01). Hashing goes on as it was."""
        self.state.rss = 0

    def _load(self, hash_types: int, key: bytes) -> None:
        """Take over types and key, if both are allowed."""
        if hash_types & ~(self._config.supported_hash_types & HASH_TYPES_ALL):
            raise ConfigError(f"hash types {hash_types:#x} are not all supported (RSS-V-05)")
        if len(key) > self._config.rss_max_key_size:
            raise ConfigError(f"a key of {len(key)} bytes, over {self._config.rss_max_key_size}")
        if hash_types and not key:
            raise ConfigError("hash types without a key")
        self._key.load(key)
        self.state.hash_types = hash_types
