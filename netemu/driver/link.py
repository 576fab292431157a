"""The link as the driver sees it: virtnet_config_changed_work and virtnet_update_settings."""

from __future__ import annotations

from netemu.driver.config import cread
from netemu.driver.control import VirtnetControl
from netemu.driver.virtnet import SendQueue, VirtnetInfo
from netemu.jit import StructArray
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import ANNOUNCE, LINK_UP
from netemu.virtio.transport import Transport

SPEED_UNKNOWN = 0xFFFFFFFF
SPEED_MAX = 0x7FFFFFFF
DUPLEX_UNKNOWN = 0xFF


class Link:
    """Carrier, speed and duplex of one interface.

    ``status`` is the device's status field as last acted upon, ``speed`` in Mbit/s and ``duplex`` (0 half, 1 full) as
    ethtool prints them, ``announced`` how often peers were told of this station. Whether there is a carrier is
    ``vi.carrier``: send queues are stopped without.
    """

    def __init__(
        self,
        transport: Transport,
        vi: VirtnetInfo,
        features: FeatureSet,
        send_queues: StructArray[SendQueue],
        control: VirtnetControl,
    ) -> None:
        """A link without carrier and of unknown speed, until `virtnet_config_changed_work` looks."""
        self._transport = transport
        self._vi = vi
        self._features = features
        self._send_queues = send_queues
        self._control = control
        self.status = 0
        self.speed = SPEED_UNKNOWN
        self.duplex = DUPLEX_UNKNOWN
        self.announced = 0
        vi.carrier = 0

    def assume_up(self) -> None:
        """A device that has no STATUS: its link is up (NETC-V-05)."""
        self.status = LINK_UP
        self.virtnet_update_settings()
        self._vi.carrier = 1

    def open(self) -> None:
        """The interface comes up: a link that was up is so still, until the device says otherwise."""
        self._vi.carrier = int(self.status == LINK_UP)

    def close(self) -> None:
        """The interface goes down, and with it its carrier (v6.12)."""
        self._vi.carrier = 0

    def virtnet_config_changed_work(self) -> None:
        """Look at the device's status field: announce if it asks to, and follow the link (NETC-V-06, ANN-V-01)."""
        if f.STATUS not in self._features:
            return
        seen = cread(self._transport, "status")
        if seen & ANNOUNCE:
            self.announced += 1
            self._control.virtnet_ack_link_announce()
        seen &= LINK_UP
        if seen == self.status:
            return
        self.status = seen
        if seen:
            self.virtnet_update_settings()
            self._vi.carrier = 1
            for sq in self._send_queues:
                sq.stopped = 0
        else:
            self._vi.carrier = 0
            for sq in self._send_queues:
                sq.stopped = 1

    def virtnet_update_settings(self) -> None:
        """Read speed and duplex where the device has them; a value that cannot be is not taken (NETC-V-11)."""
        if f.SPEED_DUPLEX not in self._features:
            return
        speed = cread(self._transport, "speed")
        if speed <= SPEED_MAX or speed == SPEED_UNKNOWN:
            self.speed = speed
        duplex = cread(self._transport, "duplex")
        if duplex in (0, 1, DUPLEX_UNKNOWN):
            self.duplex = duplex
