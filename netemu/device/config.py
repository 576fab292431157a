"""The device's configuration space: its fields, the rules they keep, and the generation count.

Theory of operation
-------------------
`ConfigSpace` holds the one `NetConfig` that drivers read. Whoever changes a field goes through `change`, which moves
the generation count. The count has 8 bits and would come round to a value that a driver has seen if it moved with each
change, so it moves only when something was read since (CFG-D-04, PCI-D-04).
"""

from __future__ import annotations

from netemu.errors import ConfigError
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import ANNOUNCE, LINK_UP, NetConfig

PAIRS_MAX = 0x8000
MTU_MIN = 68
MTU_MAX = 65535
MTU_IPV6 = 1280
SPEED_MAX = 0x7FFFFFFF
UNKNOWN_SPEED = 0xFFFFFFFF
UNKNOWN_DUPLEX = 0xFF
KEY_SIZE_MIN = 40
TABLE_LENGTH_MIN = 128


def check_config(config: NetConfig, offered: FeatureSet) -> None:
    """Raise `ConfigError` for a value that a device offering these features must not show.

    A field whose feature is not offered may hold anything: no driver looks at it (NETC-D-15, NETC-D-16).
    """
    if len(config.mac) != 6:
        raise ConfigError(f"a MAC address has 6 bytes, not {len(config.mac)}")
    # NETC-D-01; RSS shows the field too (erratum E17).
    if offered.has_any(f.MQ, f.RSS) and not 1 <= config.max_virtqueue_pairs <= PAIRS_MAX:
        raise ConfigError(f"a device has 1 to {PAIRS_MAX} queue pairs, not {config.max_virtqueue_pairs}")
    if f.MTU in offered and not MTU_MIN <= config.mtu <= MTU_MAX:  # NETC-D-02
        raise ConfigError(f"an MTU is from {MTU_MIN} to {MTU_MAX}, not {config.mtu}")
    if offered.has_any(f.RSS, f.HASH_REPORT) and config.rss_max_key_size < KEY_SIZE_MIN:  # NETC-D-07
        raise ConfigError(f"the longest hash key has at least {KEY_SIZE_MIN} bytes, not {config.rss_max_key_size}")
    if f.RSS in offered and config.rss_max_indirection_table_length < TABLE_LENGTH_MIN:  # NETC-D-08
        raise ConfigError(
            f"the indirection table has at least {TABLE_LENGTH_MIN} entries, "
            f"not {config.rss_max_indirection_table_length}"
        )
    if f.SPEED_DUPLEX in offered:
        # NETC-D-10 and NETC-D-11, by errata E2 and E1: 31 bits; 0 is half, 1 is full.
        if config.speed > SPEED_MAX and config.speed != UNKNOWN_SPEED:
            raise ConfigError(f"a speed is at most {SPEED_MAX} Mbit/s, or {UNKNOWN_SPEED:#x} for unknown")
        if config.duplex not in (0, 1, UNKNOWN_DUPLEX):
            raise ConfigError(f"duplex is 0 (half), 1 (full) or 0xff (unknown), not {config.duplex}")


def config_advice(config: NetConfig, offered: FeatureSet) -> list[str]:
    """What is allowed and yet should not be, a sentence each."""
    if f.MTU in offered and MTU_MIN <= config.mtu < MTU_IPV6:
        return [f"an MTU should be at least {MTU_IPV6}: IPv6 needs it"]  # NETC-D-03
    return []


class ConfigSpace:
    """The configuration of one device, as its driver reads it."""

    def __init__(self, config: NetConfig, offered: FeatureSet) -> None:
        """Show ``config``; raises `ConfigError` for one that breaks a rule."""
        check_config(config, offered)
        self.config = config
        self.generation = 0
        self._offered = offered
        self._mac = config.mac
        self._read = False

    def read(self, offset: int, size: int | None) -> bytes:
        """``size`` bytes from ``offset``, or all that follow; fewer where the space ends."""
        self._read = True
        data = self.config.pack()[max(offset, 0) :]
        return data if size is None else data[: max(size, 0)]

    def change(self, **fields: int | bytes) -> bool:
        """Give fields new values; whether that changed anything.

        Raises `ConfigError` for a value that may not be, for another mtu (NETC-D-04), and for another speed or duplex
        while the link is up (NETC-D-12).
        """
        before = self.config.pack()
        old = NetConfig.unpack(before)
        for name, value in fields.items():
            setattr(self.config, name, value)
        try:
            self._check_change(old)
        except ConfigError:
            for name in fields:
                setattr(self.config, name, getattr(old, name))
            raise
        if self.config.pack() == before:
            return False
        if self._read:
            self.generation = (self.generation + 1) & 0xFF
            self._read = False
        return True

    def _check_change(self, old: NetConfig) -> None:
        new = self.config
        check_config(new, self._offered)
        if f.MTU in self._offered and new.mtu != old.mtu:
            raise ConfigError("a device's MTU does not change: make another one (NETC-D-04)")
        shown = f.SPEED_DUPLEX in self._offered and f.STATUS in self._offered
        up_all_along = old.status & new.status & LINK_UP
        if shown and up_all_along and (new.speed, new.duplex) != (old.speed, old.duplex):
            raise ConfigError("speed and duplex do not change while the link is up: take it down first (NETC-D-12)")

    def reset(self) -> None:
        """What a driver had changed through the control queue is as at the beginning; the link is what it is."""
        self.change(mac=self._mac, status=self.config.status & ~ANNOUNCE)
