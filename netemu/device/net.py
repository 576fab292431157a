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
        pairs = self.config.max_virtqueue_pairs if features.has_any(f.MQ, f.RSS) else 1
        self.side = ReceiveSide(header=self._header.address)
        self.queues: StructArray[DeviceQueue] = array_of(DeviceQueue, 2 * pairs)
        self.doorbells: StructArray[Doorbell] = array_of(Doorbell, 2 * pairs)
        self._reset()

    def _reset(self) -> None:
        """Status, features and all queues as at the beginning (RST-D-01), in place: kernels know where they are."""
        self._status = 0
        self.features = FeatureSet()
        self.side.hdr_len = self.side.mergeable = 0
        self.queues.view[:] = 0
        self.doorbells.view[:] = 0
        self._sizes: dict[int, int] = {}
        self._owned: list[object] = []

    @property
    def pairs(self) -> int:
        """Queue pairs under the features at hand (NETQ-B-02)."""
        return len(self.queues) // 2 if self.features.has_any(f.MQ, f.RSS) else 1

    def get_features(self) -> FeatureSet:
        """The features the device offers."""
        return self._offered

    def set_features(self, features: FeatureSet) -> None:
        """The driver's choice; none counts any more once FEATURES_OK is set (INIT-V-08, FEAT-D-06)."""
        if not self._status & status.FEATURES_OK:
            self.features = features

    def get_status(self) -> int:
        """The device status field."""
        return self._status

    def set_status(self, value: int) -> None:
        """Write the status field: 0 resets; FEATURES_OK stays clear for a set that is not accepted (FEAT-D-03)."""
        if value == 0:
            self._reset()
            return
        if value & status.FEATURES_OK and not self._status & status.FEATURES_OK and not self._acceptable():
            value &= ~status.FEATURES_OK
        self._status = value
        if value & status.DRIVER_OK and self._acceptable():
            self.side.hdr_len = header_length(self.features)
            self.side.mergeable = int(f.MRG_RXBUF in self.features)
            # STAT-D-01: no queue is touched earlier.
            for index, num in self._sizes.items():
                self.queues[index].num = num

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
        """Take over a ring: translate its addresses once; the device looks at it from DRIVER_OK on.

        Raises `ConfigError` for a queue there is not, a size it cannot have or a part that is not aligned (SPLIT-V-01),
        `NetemuError` when parts lie outside memory.
        """
        split.check_queue_size(ring.num)
        if ring.num > self.queue_size_max(index):
            raise ConfigError(f"virtqueue {index} has at most {self.queue_size_max(index)} entries, not {ring.num}")
        if ring.desc % split.DESC_ALIGN or ring.avail % split.AVAIL_ALIGN or ring.used % split.USED_ALIGN:
            raise ConfigError(f"virtqueue {index} is not aligned: {ring}")
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
        self._sizes[index] = ring.num
        if not dq.event and index % 2 == 0:
            # The receive side polls for buffers whenever a frame comes; it asks for kicks only when it runs dry.
            self.memory.write(ring.used + split.USED_FLAGS, split.NO_NOTIFY.to_bytes(2, "little"))
        return self.doorbells[index]

    @property
    def broken(self) -> list[str]:
        """Why queues are broken, a sentence each."""
        return [f"virtqueue {dq.index}: {BROKEN_REASONS[dq.broken]}" for dq in self.queues if dq.broken]
