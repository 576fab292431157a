"""What a card has counted, of the device and of the driver, under the names that ethtool and ip use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netemu.device.net import NetDevice
from netemu.driver.ethtool import ethtool_statistics, netdev_statistics
from netemu.driver.probe import VirtioNet
from netemu.engine import Engine
from netemu.jit import allocate
from netemu.nic.guest import Guest
from netemu.nic.lanes import QueueLanes
from netemu.reasons import REASON_COUNT, DropReason


class NicCounters:
    """The counters of one card; `netemu.nic.card.Card` is one, and has the parts named here."""

    device: NetDevice
    driver: VirtioNet
    guest: Guest
    engine: Engine
    queues: int
    _lanes: QueueLanes | None

    def __init__(self) -> None:
        """Nothing was counted yet."""
        self._device_drops = allocate(REASON_COUNT * 8)

    @property
    def drops_by_device(self) -> npt.NDArray[np.int64]:
        """Frames the device could not bring to the driver, one counter per `DropReason`."""
        counts = self._device_drops.array.view(np.int64)
        if self._lanes is not None:
            for taken in self._lanes.take_drops():
                counts += taken
        return counts

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that did not arrive, by reason (`DropReason.key`); reasons that did not occur are left out.

        The reasons that begin with "tx_" are of frames that did not leave.
        """
        counts = self.drops_by_device + self.driver.drops.sum(axis=0)
        if self.guest.outstanding is not None:
            counts[DropReason.RING_LOST] += self.guest.outstanding.lost
        return {reason.key: int(counts[reason]) for reason in DropReason if counts[reason]}

    @property
    def made_up(self) -> int:
        """Frames that came up, or were dropped by the driver, and never arrived: what misbehaviour makes of buffers."""
        return self.guest.outstanding.struct.made_up if self.guest.outstanding is not None else 0

    @property
    def quirks_fired(self) -> dict[str, int]:
        """How often each quirk that is switched on has happened, by name."""
        return self.device.quirks_fired | self.driver.quirks.fired

    @property
    def ethtool(self) -> dict[str, int]:
        """The driver's counters under the names of ``ethtool -S`` in its era."""
        driver = self.driver
        return ethtool_statistics(
            driver.facts.ethtool,
            driver.receive_queues[:],
            driver.send_queues[:],
            timeouts=driver.facts.tx_timeouts,
            device=driver.control.virtnet_get_hw_stats(),
        )

    @property
    def netdev(self) -> dict[str, int]:
        """The interface's counters as ``ip -s link`` names them."""
        return netdev_statistics(self.driver.receive_queues[:], self.driver.send_queues[:])

    def queue_counters(self) -> list[dict[str, int]]:
        """For each receive queue what driver and device counted."""
        rows = []
        for n in range(self.queues):
            rq, dq, napi = self.driver.receive_queues[n], self.device.queues[2 * n], self.driver.napis[2 * n]
            rows.append(
                {
                    "packets": rq.packets,
                    "bytes": rq.bytes,
                    "drops": rq.drops,
                    "rx_length_errors": rq.rx_length_errors,
                    "rx_frame_errors": rq.rx_frame_errors,
                    "buffers": dq.chains_used,
                    "descriptors": dq.descriptors_used,
                    "interrupts": rq.interrupts,
                    "polls": napi.polls,
                    "completions": napi.completions,
                    "refills": rq.refills,
                    "kicks": rq.kicks,
                    "oom": rq.oom,
                }
            )
        return rows

    def send_counters(self) -> list[dict[str, int]]:
        """For each send queue what driver and device counted."""
        rows = []
        for n in range(self.queues):
            sq, dq, napi = self.driver.send_queues[n], self.device.queues[2 * n + 1], self.driver.napis[2 * n + 1]
            rows.append(
                {
                    "packets": sq.packets,
                    "bytes": sq.bytes,
                    "descriptors": dq.descriptors_used,
                    "kicks": sq.kicks,
                    "interrupts": dq.notifications,
                    "polls": napi.polls,
                    "stop": sq.stop,
                    "wake": sq.wake,
                    "dropped": sq.tx_dropped,
                    "qdisc_drops": sq.qdisc_drops,
                    "timeouts": sq.tx_timeouts,
                }
            )
        return rows
