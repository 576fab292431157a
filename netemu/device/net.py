"""The network device as a driver finds it: offered features, status machine, configuration, queues.

Theory of operation
-------------------
The status field only grows, bit by bit, until a 0 is written to it; the device for its part takes FEATURES_OK back
when it does not like the driver's choice, and adds DEVICE_NEEDS_RESET when a queue breaks. Whether a queue may be
touched is one number, `DeviceQueue.num`: 0 until DRIVER_OK, while the device is suspended, and after a reset, so
that kernels, which know nothing of status, leave it alone. `_sizes` remembers the sizes of the queues that are enabled.

Everything is reset in place: kernels keep the addresses of queues, doorbells and `ReceiveSide`.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable

from netemu.device.chain import BROKEN_REASONS, DeviceQueue
from netemu.device.coalesce import Coalescing
from netemu.device.config import ConfigSpace
from netemu.device.control import Control
from netemu.device.filter import ReceiveFilter
from netemu.device.misbehave import MisbehavingQueue
from netemu.device.quirk_used import settle
from netemu.device.receive import ReceiveSide
from netemu.device.rings import check_queue_size_max, largest_size, set_up_ring
from netemu.device.rss import Rss
from netemu.device.stats import DeviceStats
from netemu.device.steering import Steerer
from netemu.device.transmit_header import OUTCOMES, TransmitFeatures, negotiated
from netemu.errors import ConfigError
from netemu.jit import StructArray, allocate, array_of
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio import status
from netemu.virtio.control import offload_features, offload_mask
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import ANNOUNCE, FIELDS, HDR_LEN_MAX, LINK_UP, NetConfig, header_length
from netemu.virtio.notify import ConfigBell, Doorbell
from netemu.virtio.split import RingAddresses

HONOURED = FeatureSet.of(*f.NAMES) - FeatureSet.of(
    f.NOTIFY_ON_EMPTY, f.SR_IOV, f.ADMIN_VQ, f.NOTIF_CONFIG_DATA, f.RSC_EXT, f.RSS_CONTEXT, f.IPSEC
)
"""What the device can do: no bit of PCI alone, no vendor's, none that the specification does not describe."""


class NetDevice:
    """A virtio network device over one guest's memory; implements `netemu.virtio.transport.Transport`.

    The queues' numbers are in ``queues``, one `DeviceQueue` per virtqueue, those of the receive side in ``side``. What
    a driver sets through the control queue is in ``filter``, ``coalescing``, ``guest_offloads``, ``steering``.
    """

    def __init__(
        self,
        memory: GuestMemory,
        features: FeatureSet,
        config: NetConfig | None = None,
        queue_size: int = 1024,
        *,
        requires: FeatureSet = FeatureSet(),  # noqa: B008 - it cannot be changed
        refuses: Iterable[FeatureSet] = (),
    ) -> None:
        """Offer ``features`` to a guest with ``memory``; rings may have up to ``queue_size`` entries.

        A driver has to take all of ``requires`` (RFB-D-02, RFB-D-04, RFB-D-06), and must not take all of any set in
        ``refuses``: else FEATURES_OK stays clear (FEAT-D-03). Raises `ConfigError` for a set that must not be offered
        (FEAT-D-01, FEAT-D-04), and for a configuration that breaks a rule.
        """
        if unmet := features.unmet():
            raise ConfigError(f"features that cannot be offered: {'; '.join(unmet)}")
        if unable := features - HONOURED:
            raise ConfigError(f"features that this device cannot honour: {unable}")
        if missing := requires - features:
            raise ConfigError(f"features that are required and not offered: {missing}")
        check_queue_size_max(features, queue_size)
        self.memory = memory
        self.config_space = ConfigSpace(config or NetConfig(), features)
        self.config_bell = ConfigBell()
        self._offered = features
        self._requires = requires
        self._refuses = tuple(refuses)
        self._queue_size = queue_size
        self._header = allocate(HDR_LEN_MAX)
        pairs = self.config.max_virtqueue_pairs if features.has_any(f.MQ, f.RSS) else 1
        self.transmit_features = TransmitFeatures()
        self.transmit_outcomes = allocate(OUTCOMES * 8)
        """Frames the driver sent, one counter per outcome (`netemu.device.transmit_header`)."""
        self.side = ReceiveSide(header=self._header.address)
        self.steering = Steerer(Rss(self.config), pairs)
        self._pairs = pairs
        self._misbehaving: dict[int, MisbehavingQueue] = {}
        count = 2 * pairs + int(f.CTRL_VQ in features)
        self.queues: StructArray[DeviceQueue] = array_of(DeviceQueue, count)
        self.doorbells: StructArray[Doorbell] = array_of(Doorbell, count)
        self.filter = ReceiveFilter()
        self.coalescing = Coalescing(self.queues, pairs)
        self.stats = DeviceStats(self.queues, self.doorbells)
        self.control = Control(self)
        self._reset()

    def _reset(self) -> None:
        """Status, features and all queues as at the beginning (RST-D-01), in place: kernels know where they are."""
        self._status = 0
        self.features = self.guest_offloads = FeatureSet()
        self.side.hdr_len = self.side.mergeable = self.side.hashes = 0
        self.steering.reset()
        self.filter.start(self.features, self.config.mac)
        self.coalescing.reset()
        self.stats.reset()
        self.queues.view[:] = 0
        self.doorbells.view[:] = 0
        self.early_kicks = 0
        self._live = False
        self._sizes: dict[int, int] = {}
        self._owned: dict[int, tuple[object, ...]] = {}
        self.memory.release(self)
        self._withheld: dict[str, int | bytes] | None = None
        self.config_bell.pending = False

    @property
    def config(self) -> NetConfig:
        """The configuration as it stands; `change_config` changes it."""
        return self.config_space.config

    @property
    def pairs(self) -> int:
        """Queue pairs under the features at hand (NETQ-B-02)."""
        return self._pairs if self.features.has_any(f.MQ, f.RSS) else 1

    @property
    def control_index(self) -> int:
        """The control queue's index, 2N whatever is in use (NETQ-B-01, NETQ-B-02); -1 without one (NETQ-B-03)."""
        return 2 * self.pairs if f.CTRL_VQ in self.features else -1

    @property
    def live(self) -> bool:
        """Whether the device works: it is set up, and neither suspended nor given up."""
        return self._live

    # Features and status.

    def get_features(self) -> FeatureSet:
        """The features the device offers."""
        return self._offered

    def set_features(self, features: FeatureSet) -> None:
        """The driver's choice; none counts any more once it is confirmed or in use (INIT-V-08, FEAT-D-06)."""
        if not self._status & (status.FEATURES_OK | status.DRIVER_OK) and not self._sizes:
            self.features = features

    def get_status(self) -> int:
        """The device status field; DEVICE_NEEDS_RESET is in it as soon as a queue is broken (STAT-D-03)."""
        self.check_queues()
        return self._status

    def set_status(self, value: int) -> None:
        """Write the status field: 0 resets, else bits are added; none goes away otherwise (STAT-V-02).

        FEATURES_OK stays clear for a set that is not accepted (FEAT-D-03). After FAILED nothing but a reset is heard
        (STAT-V-03).
        """
        if value == 0:
            self._reset()
            self.config_space.reset()
            return
        if self._status & status.FAILED:
            return
        if self._status & status.SUSPEND:
            if value & status.DRIVER_OK:
                self._resume()
        elif value & status.SUSPEND and self._live and f.SUSPEND in self.features:  # SUSP-D-01
            self._suspend()
            return
        added = value & ~self._status & ~(status.SUSPEND | status.DEVICE_NEEDS_RESET)
        if added & status.FEATURES_OK and not self._acceptable():
            added &= ~status.FEATURES_OK
        self._status |= added
        if added & status.FAILED:
            self._stop()
        elif added & status.DRIVER_OK and self._agreed() and not self._live:
            self._start()

    def _acceptable(self) -> bool:
        """Whether the set was offered, keeps the dependency rules, and is not one the device refuses."""
        chosen = self.features
        if chosen - self._offered or chosen.unmet() or self._requires - chosen:
            return False
        return not any(refused and not refused - chosen for refused in self._refuses)

    def _is_legacy(self) -> bool:
        """Whether a driver is at work that has not taken VERSION_1, and needs no DRIVER_OK (LEG-D-01, LEG-D-03)."""
        at_work = self._status & (status.DRIVER | status.FAILED | status.SUSPEND) == status.DRIVER
        return at_work and f.VERSION_1 not in self.features and self._acceptable()

    def _agreed(self) -> bool:
        """Whether there is a choice that holds; a legacy driver confirms none (LEG-D-01, LEG-V-04)."""
        return bool(self._status & status.FEATURES_OK) or (f.VERSION_1 not in self.features and self._acceptable())

    def _start(self) -> None:
        """Begin to work: no queue is touched earlier (STAT-D-01)."""
        self._live = True
        self.side.hdr_len = header_length(self.features)
        self.side.mergeable = int(f.MRG_RXBUF in self.features)
        self.side.hashes = self.steering.start(self.features)
        negotiated(self.features, self.side.hdr_len, self.transmit_features)
        self.filter.start(self.features, self.config.mac)
        self.guest_offloads = offload_features(offload_mask(self.features))  # OFFL-D-01
        # Kicks of a driver that did not wait for DRIVER_OK (INIT-V-14) have done nothing; they are only counted.
        self.early_kicks = sum(bell.kick_count for bell in self.doorbells)
        for index, num in self._sizes.items():
            self.queues[index].num = num
        self._steer_past_resets()

    def _stop(self) -> None:
        """Touch no queue any more."""
        self._live = False
        for dq in self.queues:
            dq.num = 0

    def _suspend(self) -> None:
        """SUSP-D-08: what was in progress is finished, since between two calls of the engine nothing is.

        Notifications that coalescing holds back are sent now (SUSP-D-12).
        """
        self.coalescing.flush()
        self._stop()
        self._status = self._status & ~status.DRIVER_OK | status.SUSPEND
        self._withheld = {}

    def _resume(self) -> None:
        """SUSP-D-09; what changed meanwhile is told now (SUSP-D-07)."""
        self._status = self._status & ~status.SUSPEND | status.DRIVER_OK
        self._live = True
        for index, num in self._sizes.items():
            self.queues[index].num = num
        withheld, self._withheld = self._withheld, None
        if withheld:
            self.change_config(**withheld)

    def check_queues(self) -> None:
        """Raise DEVICE_NEEDS_RESET when a queue has broken since (STAT-D-03), and say so (STAT-D-04, OPER-D-02).

        Kernels only mark a queue broken; whoever runs them calls this when they are back.
        """
        if self._status & status.DEVICE_NEEDS_RESET or not self.queues.view["broken"].any():
            return
        self._status |= status.DEVICE_NEEDS_RESET
        if self._status & status.DRIVER_OK:
            self.config_bell.ring()

    # Configuration.

    def config_generation(self) -> int:
        """The generation count of the configuration."""
        return self.config_space.generation

    def read_config(self, offset: int = 0, size: int | None = None) -> bytes:
        """Bytes of the configuration space, at any time (CFG-D-01, CFG-D-02)."""
        return self.config_space.read(offset, size)

    def write_config(self, offset: int, data: bytes) -> None:
        """A driver writes to the space: the station address, if it is a legacy driver (LEG-D-02, LEG-V-12).

        All else is ignored: the fields are read-only to a modern one (NETC-V-01).
        """
        mac_at, mac_size = FIELDS["mac"]
        if f.VERSION_1 in self.features or not (mac_at <= offset and offset + len(data) <= mac_at + mac_size):
            return
        mac = self.config.mac
        self.set_mac(mac[:offset] + data + mac[offset + len(data) :])

    def change_config(self, **fields: int | bytes) -> None:
        """Give configuration fields new values, and tell a driver that is there (OPER-D-01).

        A change that the driver itself has asked for goes to ``config_space`` alone. While the device is suspended
        nothing changes and nobody is told: both happen on resume (SUSP-D-05 to SUSP-D-07). Raises `ConfigError` for
        values that may not be.
        """
        if self._withheld is not None:
            self._withheld |= fields
        elif self.config_space.change(**fields) and self._live:
            self.config_bell.ring()

    def set_link(self, up: bool, speed: int | None = None, duplex: int | None = None) -> None:
        """Take the link up or down; a link that comes up may have another speed (Mbit/s) and duplex.

        Without the STATUS feature no driver sees it. Raises `ConfigError` for a speed or duplex that cannot be.
        """
        pending = self._withheld or {}
        state = int(pending.get("status", self.config.status))
        fields: dict[str, int] = {"status": state | LINK_UP if up else state & ~LINK_UP}
        if speed is not None:
            fields["speed"] = speed
        if duplex is not None:
            fields["duplex"] = duplex
        self.change_config(**fields)

    def ask_to_announce(self) -> None:
        """Ask the driver to make itself known on the link, as after a migration; it takes GUEST_ANNOUNCE and STATUS."""
        if f.GUEST_ANNOUNCE in self.features and f.STATUS in self.features:
            self.change_config(status=self.config.status | ANNOUNCE)

    # What the control queue asks for.

    def serve(self, index: int) -> None:
        """Work on virtqueue ``index`` now, if it is the control queue: others are served by whoever moves frames."""
        if self._live and index in self._sizes and index == self.control_index:
            self.control.service(self.queues[index])

    def set_mac(self, mac: bytes) -> None:
        """Take another station address, into configuration space (MAC-D-03) and into the filter."""
        self.config_space.change(mac=mac)
        self.filter.set_mac(mac)

    def set_pairs(self, pairs: int) -> None:
        """Use this many queue pairs from now on, with automatic steering (MQ-D-03, MQ-D-04)."""
        self.steering.set_pairs(pairs)

    def announced(self) -> None:
        """The driver has heard `ask_to_announce` (ANN-D-01)."""
        self.config_space.change(status=self.config.status & ~ANNOUNCE)

    # Queues.

    def misbehave(self, quirks: Iterable[str]) -> None:
        """Have the receive queues, when they are set up, break rules on purpose: see `netemu.device.quirks`.

        Each queue follows the rules by itself. Raises `ConfigError` for a rule that cannot be read.
        """
        texts = list(quirks)
        self._misbehaving = {2 * pair: MisbehavingQueue(texts) for pair in range(self._pairs)} if texts else {}

    @property
    def quirks_fired(self) -> dict[str, int]:
        """How often each quirk that is switched on has happened, over all queues."""
        total: Counter[str] = Counter()
        for queue in self._misbehaving.values():
            total.update(queue.rules.fired)
        return dict(total)

    def settle(self) -> list[int]:
        """No frame comes for a while: misbehaving queues publish what they kept back; the pairs that were called."""
        return [
            index // 2 for index in self._misbehaving if self.queues[index].quirks and settle(self.queues[index].quirks)
        ]

    def queue_size_max(self, index: int) -> int:
        """The largest size of virtqueue ``index``, for split rings a power of two; 0 for one that does not exist."""
        exists = 0 <= index < 2 * self.pairs or 0 <= index == self.control_index
        return largest_size(self.features, self._queue_size) if exists else 0

    def setup_queue(self, index: int, ring: RingAddresses) -> Doorbell:
        """Take over a ring: translate its addresses once; the device looks at it from DRIVER_OK on.

        A legacy driver may use it at once (LEG-D-03). Raises `ConfigError` for a queue there is not or that is enabled
        already, a size it cannot have or a part that is not aligned, `NetemuError` when parts lie outside memory.
        """
        most = self.queue_size_max(index)
        if ring.num > most or most == 0:
            raise ConfigError(f"virtqueue {index} has at most {most} entries, not {ring.num}")
        if index in self._sizes:
            raise ConfigError(f"virtqueue {index} is enabled: it can be set up anew after a reset")
        dq = self.queues[index]
        polls = index % 2 == 0 and index != self.control_index
        owned = set_up_ring(dq, self.memory, self.features, ring, polls=polls)
        dq.index = index
        dq.doorbell = self.doorbells.address + index * Doorbell.dtype.itemsize
        if index != self.control_index:
            self.coalescing.queue_enabled(index)
        if index in self._misbehaving:
            self._misbehaving[index].attach(dq, ring.num, self.features)
        self._owned[index] = owned
        self._sizes[index] = ring.num
        self.memory.hold(self)
        if self._live:
            dq.num = ring.num
            self._steer_past_resets()
        elif self._is_legacy():
            self._start()
        return self.doorbells[index]

    def reset_queue(self, index: int) -> None:
        """Forget all of one queue, as if it had never been set up (QRST-D-01 to QRST-D-03).

        Raises `ConfigError` without RING_RESET, and for a queue there is not.
        """
        if f.RING_RESET not in self.features:
            raise ConfigError(f"virtqueue {index} cannot be reset alone: RING_RESET was not negotiated")
        if not self.queue_size_max(index):
            raise ConfigError(f"there is no virtqueue {index} to reset")
        for state in (self.queues[index], self.doorbells[index]):
            ctypes.memset(state.address, 0, ctypes.sizeof(state))
        if index != self.control_index:
            self.coalescing.queue_reset(index)
        self._sizes.pop(index, None)
        self._owned.pop(index, None)
        self._steer_past_resets()
        if not self._sizes:
            self.memory.release(self)

    def _steer_past_resets(self) -> None:
        """Tell steering which receive queues are not set up (MQ-D-07)."""
        self.steering.set_resetting([pair for pair in range(self.pairs) if 2 * pair not in self._sizes])

    def queue_in_reset(self, index: int) -> bool:  # noqa: ARG002 - a real device may take its time
        """Whether a reset is still going on: never, it is over when `reset_queue` returns."""
        return False

    def queue_enabled(self, index: int) -> bool:
        """Whether the queue is set up."""
        return index in self._sizes

    @property
    def broken(self) -> list[str]:
        """Why queues are broken, a sentence each."""
        return [f"virtqueue {dq.index}: {BROKEN_REASONS[dq.broken]}" for dq in self.queues if dq.broken]
