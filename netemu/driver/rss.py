"""Receive hashing as the driver sets it up: RSS, hash reports, and what ethtool changes of them.

Theory of operation
-------------------
`VirtnetRss` reads at probe what the device can do and makes the default configuration (`virtnet_init_default_rss`:
queues in turn, the kernel's key, all hash types that the device has and the driver knows). Newer kernels send it at
probe; older ones leave the device without until somebody configures something (`EraFacts.commits_rss_at_probe`).
Changes start from what the device has, which `VirtnetControl.rss` remembers, as does a change of the number of queues.

The key is the kernel's (netdev_rss_key_fill), made up at boot; here whoever makes the driver may choose it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from netemu.driver.config import cread
from netemu.driver.control import VirtnetControl
from netemu.driver.eras import EraFacts
from netemu.driver.virtnet import VirtnetInfo
from netemu.errors import ConfigError
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.rss import HASH_TYPES_EX, HashConfig, RssConfig
from netemu.virtio.transport import Transport

BOOT_KEY = hashlib.shake_128(b"netdev_rss_key").digest(256)
"""A key without pattern that is the same in every run; the kernel has as many bytes."""


class VirtnetRss:
    """The hash configuration of one interface, as vi->rss, and the device's limits for it."""

    def __init__(
        self,
        control: VirtnetControl,
        transport: Transport,
        vi: VirtnetInfo,
        features: FeatureSet,
        facts: EraFacts,
        boot_key: bytes,
    ) -> None:
        """Probe's part: read the limits, and make the default configuration, which is not sent yet.

        Raises `ConfigError` for a device whose key the kernel refuses.
        """
        self._control = control
        self._vi = vi
        self.has_rss = f.RSS in features
        self.has_rss_hash_report = f.HASH_REPORT in features
        self.rss_indir_table_size = 0
        self.rss_key_size = 0
        self.rss_hash_types_supported = 0
        self.warnings = control.warnings
        if self.has_rss:
            self.rss_indir_table_size = cread(transport, "rss_max_indirection_table_length")
        if self.has_rss or self.has_rss_hash_report:
            self.rss_key_size = self._key_size(cread(transport, "rss_max_key_size"), facts)
            # The _EX types are not known to ethtool, so the driver leaves them alone.
            self.rss_hash_types_supported = cread(transport, "supported_hash_types") & ~HASH_TYPES_EX
        self.rss_hash_types_saved = self.rss_hash_types_supported
        """The types to come back to when RXHASH is turned on."""
        self._default = self.virtnet_init_default_rss(boot_key[: self.rss_key_size].ljust(self.rss_key_size, b"\0"))

    def _key_size(self, offered: int, facts: EraFacts) -> int:
        """Bytes of key to use with a device that takes ``offered``: kernels with less room refuse, or use less."""
        if offered <= facts.rss_key_max:
            return offered
        if not facts.rss_key_clamped:
            raise ConfigError(
                f"the device's rss_max_key_size is {offered}: {facts.name} refuses more than {facts.rss_key_max}"
            )
        self.warnings.append(f"rss_max_key_size {offered} exceeds driver limit {facts.rss_key_max}, clamping")
        return facts.rss_key_max

    def virtnet_init_default_rss(self, key: bytes) -> RssConfig | HashConfig:
        """All types the driver knows, and all queues in turn (RSS-V-02); without RSS there is no table."""
        if not self.has_rss:
            return HashConfig(self.rss_hash_types_supported, key)
        pairs = self._vi.max_queue_pairs
        table = tuple(n % pairs for n in range(self.rss_indir_table_size))
        return RssConfig(self.rss_hash_types_supported, table, 0, pairs, key)

    @property
    def config(self) -> RssConfig | HashConfig:
        """What the device was told last, or the default that it would be told first."""
        return self._control.rss or self._default

    def virtnet_commit_rss_command(self, config: RssConfig | HashConfig | None = None) -> bool:
        """Send ``config``, or what stands; False where the device refuses it, or has neither feature."""
        if not self.has_rss and not self.has_rss_hash_report:
            return False
        try:
            return self._control.virtnet_commit_rss_command(config or self.config)
        except ConfigError as error:  # more table entries, say, than the command can carry
            self.warnings.append(str(error))
            return False

    def commit_at_probe(self) -> None:
        """Send the default, and do without hashing where the device does not take it."""
        if (self.has_rss or self.has_rss_hash_report) and not self.virtnet_commit_rss_command():
            self.warnings.append("RSS disabled because committing failed.")
            self.has_rss = self.has_rss_hash_report = False
            self._vi.rxhash = 0

    # What ethtool asks for.

    def virtnet_set_rxfh(self, table: Sequence[int] | None = None, key: bytes | None = None) -> bool:
        """``ethtool -X``: another indirection table, another key, or both; False where the device refuses.

        The table repeats until it is full. Raises `ConfigError` for what ethtool would not let through: a table without
        RSS, a queue there is not, a key of another length.
        """
        config = self.config
        if table is not None:
            config = self._with_table(config, table)
        if key is not None:
            if len(key) != self.rss_key_size:
                raise ConfigError(f"the hash key has {self.rss_key_size} bytes, not {len(key)}")
            config = replace(config, key=bytes(key))
        if not self.virtnet_commit_rss_command(config):
            return False
        if table is not None:
            self._control.rxfh_configured = True
        return True

    def _with_table(self, config: RssConfig | HashConfig, table: Sequence[int]) -> RssConfig:
        """The configuration with another table, which repeats until it is full."""
        if not isinstance(config, RssConfig):
            raise ConfigError("there is no indirection table without RSS")
        pairs = self._vi.max_queue_pairs
        if not table or any(not 0 <= queue < pairs for queue in table):
            raise ConfigError(f"an indirection table names queues from 0 to {pairs - 1}")
        filled = tuple(table[n % len(table)] for n in range(self.rss_indir_table_size))
        return replace(config, indirection_table=filled)

    def virtnet_set_hashflow(self, hash_types: int) -> bool:
        """``ethtool -N rx-flow-hash``, for all flow types at once: hash by these types; False if that cannot be."""
        if hash_types & ~self.rss_hash_types_supported:
            return False
        if not self.virtnet_commit_rss_command(replace(self.config, hash_types=hash_types)):
            return False
        self.rss_hash_types_saved = hash_types
        return True

    def virtnet_set_features(self, *, rxhash: bool) -> bool:
        """``ethtool -K rxhash``: hash, and take hashes over into skbs, or do neither; False if that cannot be."""
        if not self.has_rss_hash_report:
            return not rxhash
        hash_types = self.rss_hash_types_saved if rxhash else 0
        if not self.virtnet_commit_rss_command(replace(self.config, hash_types=hash_types)):
            return False
        self._vi.rxhash = int(rxhash)
        return True
