"""What a driver sees of a device besides memory: features, status, configuration, queue set-up.

A device implements this, a driver is handed one; neither knows what else the other is. PCI, MMIO and vhost-user offer
the same operations in different clothes.
"""

from __future__ import annotations

from typing import Protocol

from netemu.virtio.features import FeatureSet
from netemu.virtio.notify import ConfigBell, Doorbell
from netemu.virtio.split import RingAddresses


class Transport(Protocol):
    """The control surface of a virtio device."""

    @property
    def config_bell(self) -> ConfigBell:
        """Where the device says that its configuration has changed (OPER-D-01, OPER-D-02)."""
        ...

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

    def config_generation(self) -> int:
        """A number that differs when the configuration does (CFG-D-04): 8 bits, as PCI has it."""
        ...

    def read_config(self, offset: int = 0, size: int | None = None) -> bytes:
        """``size`` bytes of configuration space from ``offset``, or all; fewer where the space ends."""
        ...

    def write_config(self, offset: int, data: bytes) -> None:
        """Write to configuration space, which legacy drivers alone may do (LEG-D-02)."""
        ...

    def queue_size_max(self, index: int) -> int:
        """The largest size virtqueue ``index`` can have; 0 where there is no such queue."""
        ...

    def setup_queue(self, index: int, ring: RingAddresses) -> Doorbell:
        """Tell the device where the ring lies, and enable the queue; returns the queue's notifications."""
        ...

    def reset_queue(self, index: int) -> None:
        """Ask for the reset of one queue (RING_RESET)."""
        ...

    def queue_in_reset(self, index: int) -> bool:
        """Whether that reset is still going on (QRST-V-01)."""
        ...

    def queue_enabled(self, index: int) -> bool:
        """Whether the queue is set up and not reset since."""
        ...

    def serve(self, index: int) -> None:
        """Let the device work on virtqueue ``index``: what a driver that spins on the control queue does meanwhile.

        In one process the device works there and then; a real peer works by itself, and this may only wait a little.
        """
        ...
