"""Reading configuration space as virtio_cread does: whole, although the device may change it meanwhile."""

from __future__ import annotations

from netemu.errors import ConfigError
from netemu.virtio.net import FIELDS
from netemu.virtio.transport import Transport

RETRIES = 1000
"""A device that changes its configuration faster than it can be read is given up after so many turns."""


def cread_bytes(transport: Transport, offset: int, size: int) -> bytes:
    """``size`` bytes at ``offset``, all of one version: the generation is the same before and after (CFG-V-03).

    What lies beyond the device's configuration space reads as zeros; no length of it is required or refused
    (CFG-V-05, CFG-V-06). Raises `ConfigError` for a device that does not come to rest.
    """
    for _ in range(RETRIES):
        before = transport.config_generation()
        data = transport.read_config(offset, size)
        if transport.config_generation() == before:
            return data.ljust(size, b"\0")
    raise ConfigError("the device's configuration changes faster than it can be read")


def cread(transport: Transport, field: str) -> int:
    """One field of struct virtio_net_config, little-endian; the caller has seen that the device has it (CFG-V-04)."""
    offset, size = FIELDS[field]
    return int.from_bytes(cread_bytes(transport, offset, size), "little")


def cread_mac(transport: Transport) -> bytes:
    """The station address: six bytes, which no bus reads at once (CFG-V-01)."""
    return cread_bytes(transport, *FIELDS["mac"])
