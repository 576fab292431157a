"""What a driver sees of a device besides memory: features, status, configuration, queue set-up.

A device implements this, a driver is handed one; neither knows what else the other is. PCI, MMIO and vhost-user offer
the same operations in different clothes.
"""

from __future__ import annotations

from typing import Protocol

from netemu.virtio.features import FeatureSet
from netemu.virtio.notify import Doorbell
from netemu.virtio.split import RingAddresses


class Transport(Protocol):
    """The control surface of a virtio device."""

    def get_features(self) -> FeatureSet:
        """The features the device offers."""
        ...

    def set_features(self, features: FeatureSet) -> None:
        """The driver's choice among them (INIT-V-04)."""
        ...

    def get_status(self) -> int:
        """The device status field."""
        ...

    def set_status(self, status: int) -> None:
        """Write the device status field; 0 resets the device."""
        ...

    def read_config(self) -> bytes:
        """The configuration space as it stands."""
        ...

    def queue_size_max(self, index: int) -> int:
        """The largest size virtqueue ``index`` can have; 0 where there is no such queue."""
        ...

    def setup_queue(self, index: int, ring: RingAddresses) -> Doorbell:
        """Tell the device where the ring lies; returns the queue's notifications."""
        ...
