"""A virtual network card: one device and one driver over one guest's memory."""

from __future__ import annotations

from typing import Literal, get_args

from netemu.device.net import NetDevice
from netemu.driver.eras import DEFAULT_ERA
from netemu.driver.ethtool import ethtool_statistics, netdev_statistics
from netemu.driver.probe import SUPPORTED, VirtioNet
from netemu.errors import ConfigError
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig

Mode = Literal["mergeable", "small", "big"]
MODES: tuple[Mode, ...] = get_args(Mode)

QUEUE_SIZE_MAX = 1024
QUEUES_MAX = 64

_BASE = FeatureSet.of(f.MAC, f.STATUS, f.VERSION_1, f.EVENT_IDX, f.INDIRECT_DESC)
_GUEST_OFFLOADS = FeatureSet.of(f.GUEST_CSUM, f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO)
_MEMORY_PER_QUEUE = 160 << 20
"""Address space a queue's pools take at most; what is never touched costs no memory."""

def offered_features(mode: Mode, queues: int) -> FeatureSet:
    """What the device offers so that a Linux driver ends up in ``mode`` with ``queues`` queue pairs."""
    offered = _BASE
    if mode == "mergeable":
        offered |= _GUEST_OFFLOADS | FeatureSet.of(f.MRG_RXBUF)
    elif mode == "big":
        offered |= _GUEST_OFFLOADS
    if queues > 1:
        offered |= FeatureSet.of(f.MQ, f.CTRL_VQ)
    return offered

class Nic:
    """A device and a driver that have negotiated and are up, joined by rings in guest memory."""

    def __init__(
        self,
        mode: Mode = "mergeable",
        queue_size: int = 256,
        queues: int = 1,
        driver: str = DEFAULT_ERA,
        accept: FeatureSet = SUPPORTED,
    ) -> None:
        """Build the pair. ``accept`` limits what the driver takes of the features it is offered.

        Raises `ConfigError` for a combination that cannot be.
        """
        if mode not in MODES:
            raise ConfigError(f"no receive mode is called {mode!r}; there are {', '.join(MODES)}")
        if not 1 <= queues <= QUEUES_MAX:
            raise ConfigError(f"a device here has 1 to {QUEUES_MAX} queue pairs, not {queues}")
        self.memory = GuestMemory(queues * _MEMORY_PER_QUEUE)
        config = NetConfig(max_virtqueue_pairs=queues)
        self.device = NetDevice(self.memory, offered_features(mode, queues), config, queue_size)
        self.driver = VirtioNet(self.device, self.memory, driver, queue_size, accept)
        self.queues = queues
        self.driver.open()

    @property
    def ethtool(self) -> dict[str, int]:
        """The driver's counters under the names of ``ethtool -S`` in its era."""
        driver = self.driver
        return ethtool_statistics(
            driver.facts.ethtool,
            driver.receive_queues[:],
            driver.send_queues[:],
            timeouts=driver.facts.name != "linux-4.19",
        )

    @property
    def netdev(self) -> dict[str, int]:
        """The interface's counters as ``ip -s link`` names them."""
        return netdev_statistics(self.driver.receive_queues[:], self.driver.send_queues[:])
