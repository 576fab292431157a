"""Device statistics: what the device counts for STATS_GET (VIRTIO 1.4, section 5.1.6.5.10).

Counting costs something at every frame, so it happens in hooks (`count_received`, `count_sent`), which are there only
where DEVICE_STATS was negotiated. Kicks and calls are counted anyway, by doorbells and queues.
"""

from __future__ import annotations

from netemu.device.queue import DeviceQueue
from netemu.errors import ConfigError
from netemu.jit import Struct, StructArray, array_of, entry, i64, load8, pointer, struct
from netemu.virtio import stats
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import DATA_VALID, GSO_ECN, HDR_FLAGS, HDR_GSO_TYPE, NEEDS_CSUM
from netemu.virtio.notify import Doorbell


@struct
class QueueStats(Struct):
    """What is counted of one queue besides its notifications; bytes are those of frames, without headers."""

    packets: i64
    bytes: i64
    drops: i64
    drop_overruns: i64
    """Dropped for want of buffers; receive queues."""
    drop_malformed: i64
    """Dropped because they were no frames; transmit queues."""
    csum_valid: i64
    needs_csum: i64
    csum_none: i64
    gso_packets: i64
    gso_bytes: i64


queue_stats_at = pointer(QueueStats)
QUEUE_STATS_SIZE = QueueStats.dtype.itemsize


@entry
def count_frame(address: i64, header: i64, length: i64) -> i64:
    """A frame of ``length`` bytes went through a queue with the virtio header at host ``header``; always 0."""
    counts = queue_stats_at(address)
    counts.packets += 1
    counts.bytes += length
    flags = load8(header + HDR_FLAGS)
    if flags & NEEDS_CSUM:
        counts.needs_csum += 1
    elif flags & DATA_VALID:
        counts.csum_valid += 1
    else:
        counts.csum_none += 1
    if load8(header + HDR_GSO_TYPE) & ~GSO_ECN:
        counts.gso_packets += 1
        counts.gso_bytes += length
    return 0


class DeviceStats:
    """The counters of all queues, as STATS_QUERY and STATS_GET report them; ``counts`` is what kernels move."""

    def __init__(self, queues: StructArray[DeviceQueue], doorbells: StructArray[Doorbell]) -> None:
        """Count for these queues, of which the last may be the control queue."""
        self._queues = queues
        self._doorbells = doorbells
        self.counts: StructArray[QueueStats] = array_of(QueueStats, len(queues))
        self.reset()

    def reset(self) -> None:
        """All counters are 0."""
        self.commands = self.commands_ok = 0
        self.counts.view[:] = 0

    @staticmethod
    def supported(features: FeatureSet) -> int:
        """The mask of types that a driver with these features can ask for (DST-D-01, DST-D-11)."""
        kinds = (*stats.RX_TYPES, *stats.TX_TYPES, stats.CVQ)
        return sum(1 << kind for kind in kinds if features.has_any(*stats.NEEDS_ANY.get(kind, tuple(features))))

    def get(self, data: bytes, features: FeatureSet, control_index: int, room: int) -> bytes:
        """The reply to a STATS_GET of these requests, of at most ``room`` bytes (DST-D-09).

        Raises `ConfigError` for any fault in any of them (DST-D-02): a queue there is not (DST-D-03), a type that is
        unknown (DST-D-04), not of that kind of queue (DST-D-05) or without its feature (DST-D-06).
        """
        if len(data) % stats.REQUEST.size:
            raise ConfigError(f"{len(data)} bytes are no whole number of requests")
        requests = list(stats.REQUEST.iter_unpack(data))
        size = 0
        for index, mask in requests:
            if index > control_index:
                raise ConfigError(f"there is no virtqueue {index}")
            valid = (stats.CVQ,) if index == control_index else stats.TX_TYPES if index % 2 else stats.RX_TYPES
            for kind in stats.types_in(mask):
                if kind not in valid or not self.supported(features) >> kind & 1:
                    raise ConfigError(f"virtqueue {index} has no statistics of type {kind}")
                size += stats.block_size(kind)
        if size > room:
            raise ConfigError(f"the reply has {size} bytes, and there is room for {room}")
        return b"".join(
            stats.Block(kind, index, self._counters(kind, index)).pack()
            for index, mask in requests
            for kind in stats.types_in(mask)
        )

    def _counters(self, kind: int, index: int) -> dict[str, int]:
        """A block's counters; what this device never does (limit rates, merge, split) stays 0."""
        if kind == stats.CVQ:
            # Both include the command at hand, which is going to succeed.
            return {"command_num": self.commands, "ok_num": self.commands_ok + 1}
        names = stats.COUNTERS[kind]
        prefix = names[0][:3]
        counts = self.counts[index]
        known = {prefix + name: value for name, value in counts.to_dict().items()}
        known[prefix + "notifications"] = self._doorbells[index].kick_count
        known[prefix + "interrupts"] = self._queues[index].notifications
        known["tx_gso_packets_noseg"] = counts.gso_packets
        known["tx_gso_bytes_noseg"] = counts.gso_bytes
        return {name: known.get(name, 0) for name in names}
