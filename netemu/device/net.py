"""The network device as a driver finds it: offered features, status machine, configuration, queues."""

from __future__ import annotations

from netemu.device.queue import BROKEN_REASONS, SEGMENTS_MAX, Chain, DeviceQueue, Segment
from netemu.device.receive import ReceiveSide
from netemu.errors import ConfigError
from netemu.jit import StructArray, allocate, array_of
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio import split, status
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import HDR_LEN_MAX, NetConfig, header_length
from netemu.virtio.notify import Doorbell
from netemu.virtio.split import RingAddresses


class NetDevice:
    """A virtio network device over one guest's memory; implements `netemu.virtio.transport.Transport`.

    The queues' numbers are in ``queues``, one `DeviceQueue` per virtqueue, those of the receive side in ``side``.
    """

    def __init__(
        self, memory: GuestMemory, features: FeatureSet, config: NetConfig | None = None, queue_size: int = 1024
    ) -> None:
        """Offer ``features`` to a guest with ``memory``; rings may have up to ``queue_size`` entries.

        Raises `ConfigError` for a set the specification forbids to offer (FEAT-D-01).
        """
        if unmet := features.unmet():
            raise ConfigError(f"features that cannot be offered: {'; '.join(unmet)}")
        split.check_queue_size(queue_size)
        self.memory = memory
        self.config = config or NetConfig()
        self._offered = features
        self._queue_size = queue_size
        self._header = allocate(HDR_LEN_MAX)
        self._reset()

    def _reset(self) -> None:
        """Status, features and all queues as at the beginning (RST-D-01)."""
        self._status = 0
        self.features = FeatureSet()
        pairs = self.config.max_virtqueue_pairs if f.MQ in self._offered else 1
        self.pairs = pairs
        self.side = ReceiveSide(header=self._header.address)
        self.queues: StructArray[DeviceQueue] = array_of(DeviceQueue, 2 * pairs)
        self.doorbells: StructArray[Doorbell] = array_of(Doorbell, 2 * pairs)
        self._owned: list[object] = []

    def get_features(self) -> FeatureSet:
        """The features the device offers."""
        return self._offered

    def set_features(self, features: FeatureSet) -> None:
        """The driver's choice; it counts once FEATURES_OK is accepted."""
        self.features = features

    def get_status(self) -> int:
        """The device status field."""
        return self._status

    def set_status(self, value: int) -> None:
        """Write the status field: 0 resets; FEATURES_OK stays clear for a set the device will not accept (FEAT-D-03)."""
        if value == 0:
            self._reset()
            return
        if value & status.FEATURES_OK and not self._status & status.FEATURES_OK and not self._acceptable():
            value &= ~status.FEATURES_OK
        self._status = value
        if value & status.DRIVER_OK:
            self.side.hdr_len = header_length(self.features)
            self.side.mergeable = int(f.MRG_RXBUF in self.features)

    def _acceptable(self) -> bool:
        """Whether the set was offered and keeps the dependency rules."""
        return not (self.features - self._offered) and not self.features.unmet()

    def read_config(self) -> bytes:
        """The configuration space."""
        return self.config.pack()

    def queue_size_max(self, index: int) -> int:
        """The largest size of virtqueue ``index``; 0 for one that does not exist."""
        return self._queue_size if 0 <= index < 2 * self.pairs else 0

    def setup_queue(self, index: int, ring: RingAddresses) -> Doorbell:
        """Take over a ring: translate its addresses once. Raises `NetemuError` when they lie outside memory."""
        split.check_queue_size(ring.num)
        dq = self.queues[index]
        segments = array_of(Segment, SEGMENTS_MAX)
        chains = array_of(Chain, ring.num)
        self._owned += [segments, chains]
        dq.index = index
        dq.desc = self.memory.host_address(ring.desc, split.desc_bytes(ring.num))
        dq.avail = self.memory.host_address(ring.avail, split.avail_bytes(ring.num))
        dq.used = self.memory.host_address(ring.used, split.used_bytes(ring.num))
        dq.memory = self.memory.struct.address
        dq.doorbell = self.doorbells.address + index * Doorbell.dtype.itemsize
        dq.event = int(f.EVENT_IDX in self.features)
        dq.indirect = int(f.INDIRECT_DESC in self.features)
        dq.segments = segments.address
        dq.chains = chains.address
        dq.num = ring.num
        if not dq.event and index % 2 == 0:
            # The receive side polls for buffers whenever a frame comes; it asks for kicks only when it runs dry.
            self.memory.write(ring.used + split.USED_FLAGS, split.NO_NOTIFY.to_bytes(2, "little"))
        return self.doorbells[index]

    @property
    def broken(self) -> list[str]:
        """Why queues are broken, a sentence each."""
        return [f"virtqueue {dq.index}: {BROKEN_REASONS[dq.broken]}" for dq in self.queues if dq.broken]
