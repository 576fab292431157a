"""What the driver asks for through the control queue, function by function as Linux has it.

Theory of operation
-------------------
`VirtnetControl` keeps the interface's settings (flags, address lists, VLANs, coalescing) as the network stack would,
and sends the commands that follow from them. A device without the feature is never asked (RXF-V-01, RXF-V-02, MAC-V-01,
RSS-V-01, COAL-V-02, COAL-V-03). A command that is refused leaves a line in ``warnings``, where Linux writes one to
its log (CTRL-V-02), and no trace in the settings that it would have changed.

In newer kernels changes of the receive mode are left to a work item: `run_work` is its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from netemu.driver.cvq import ControlQueue
from netemu.driver.eras import EraFacts
from netemu.driver.napi import virtqueue_napi_schedule
from netemu.driver.refill import schedule_refill
from netemu.driver.virtio_ring import virtqueue_at
from netemu.driver.virtnet import RQ_SIZE, VirtnetInfo, napi_at, rq_at
from netemu.virtio import control as c
from netemu.virtio import features as f
from netemu.virtio import stats
from netemu.virtio.control import Coalesce
from netemu.virtio.features import FeatureSet
from netemu.virtio.rss import HashConfig, RssConfig

GUEST_OFFLOADS = (
    f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO, f.GUEST_CSUM, f.GUEST_USO4, f.GUEST_USO6,
    f.GUEST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO_CSUM,
)  # fmt: skip
"""The offloads that probe notes for later switching, where they were negotiated."""

_MULTICAST_BIT = 1


@dataclass(slots=True)
class RxMode:
    """What the network stack wants an interface to receive: dev->flags and the address lists."""

    promisc: bool = False
    allmulti: bool = False
    unicast: list[bytes] = field(default_factory=list)
    multicast: list[bytes] = field(default_factory=list)


class VirtnetControl:
    """The commands of one interface, and the settings behind them."""

    def __init__(self, cvq: ControlQueue | None, vi: VirtnetInfo, features: FeatureSet, facts: EraFacts) -> None:
        """Send through ``cvq``; without one nothing can be asked for, and nothing is."""
        self._cvq = cvq
        self._vi = vi
        self._features = features
        self._facts = facts
        self.warnings: list[str] = []
        """What the kernel would have logged, oldest first."""
        self.rx_mode = RxMode()
        self.vlans: set[int] = set()
        self.guest_offloads_capable = sum(1 << c.OFFLOAD_BITS[bit] for bit in GUEST_OFFLOADS if bit in features)
        self.guest_offloads = self.guest_offloads_capable
        self.rss: RssConfig | HashConfig | None = None
        """The hash configuration that the device has."""
        self.rxfh_configured = False
        """The user has set the indirection table: changing the number of queues leaves it alone."""
        self.coalesce_rx = Coalesce()
        self.coalesce_tx = Coalesce()
        self.coalesce_queues: dict[int, Coalesce] = {}
        """Parameters of single virtqueues, where they were set one by one."""
        self.device_stats_cap = 0
        self.write_config: Callable[[int, bytes], None] | None = None
        """How to write the address into the configuration of a legacy device; None for a modern one."""
        self._work: list[Callable[[], None]] = []

    def _send(self, kind: int, command: int, *data: bytes) -> bool:
        """Send a command without a result; whether it was acknowledged."""
        return self._cvq is not None and self._cvq.virtnet_send_command(kind, command, *data) is not None

    def _has(self, bit: int) -> bool:
        return self._cvq is not None and bit in self._features

    def _warn(self, text: str) -> None:
        self.warnings.append(text)

    def run_work(self) -> None:
        """Run the work items that are scheduled, first come first served."""
        work, self._work = self._work, []
        for item in work:
            item()

    def schedule_work(self, item: Callable[[], None]) -> None:
        """Have ``item`` run at the next `run_work`; scheduling what is scheduled already changes nothing."""
        if item not in self._work:
            self._work.append(item)

    # Receive modes and addresses.

    def virtnet_set_rx_mode(self) -> None:
        """Tell the device what `rx_mode` says: at once, or from a work item (v6.6)."""
        if not self._has(f.CTRL_RX):
            return
        if self._facts.rx_mode_work:
            self.schedule_work(self._rx_mode_work)
        else:
            self._rx_mode_work()

    def _rx_mode_work(self) -> None:
        """virtnet_rx_mode_work: promiscuous, all-multicast, table, in this order."""
        mode = self.rx_mode
        if not self._send(c.CTRL_RX, c.RX_PROMISC, bytes([mode.promisc])):
            self._warn(f"Failed to {'en' if mode.promisc else 'dis'}able promisc mode.")
        if not self._send(c.CTRL_RX, c.RX_ALLMULTI, bytes([mode.allmulti])):
            self._warn(f"Failed to {'en' if mode.allmulti else 'dis'}able allmulti mode.")
        if not self._send(c.CTRL_MAC, c.MAC_TABLE_SET, *c.pack_mac_table(mode.unicast, mode.multicast)):
            self._warn("Failed to set MAC filter table.")

    def set_promiscuous(self, *, on: bool) -> None:
        """IFF_PROMISC, as a packet capture sets it."""
        self.rx_mode.promisc = on
        self.virtnet_set_rx_mode()

    def set_allmulti(self, *, on: bool) -> None:
        """IFF_ALLMULTI."""
        self.rx_mode.allmulti = on
        self.virtnet_set_rx_mode()

    def set_addresses(self, addresses: Sequence[bytes]) -> None:
        """dev_uc_add and dev_mc_add: the addresses to receive besides the station's own."""
        self.rx_mode.unicast = [mac for mac in addresses if not mac[0] & _MULTICAST_BIT]
        self.rx_mode.multicast = [mac for mac in addresses if mac[0] & _MULTICAST_BIT]
        self.virtnet_set_rx_mode()

    def virtnet_set_mac_address(self, mac: bytes) -> bool:
        """Take another station address; without CTRL_MAC_ADDR a legacy device is told byte by byte, others are not."""
        if self._has(f.CTRL_MAC_ADDR) and not self._send(c.CTRL_MAC, c.MAC_ADDR_SET, mac):
            self._warn("Failed to set mac address by vq command.")
            return False
        if not self._has(f.CTRL_MAC_ADDR) and self.write_config is not None:
            for offset in range(len(mac)):
                self.write_config(offset, mac[offset : offset + 1])
        self._vi.mac = int.from_bytes(mac, "big")
        return True

    def virtnet_vlan_rx_add_vid(self, vid: int) -> bool:
        """Let a VLAN in; False for a device that filters and refused."""
        if self._has(f.CTRL_VLAN) and not self._send(c.CTRL_VLAN, c.VLAN_ADD, c.LE16.pack(vid)):
            self._warn(f"Failed to add VLAN ID {vid}.")
            return False
        self.vlans.add(vid)
        return True

    def virtnet_vlan_rx_kill_vid(self, vid: int) -> bool:
        """Let a VLAN in no longer."""
        if self._has(f.CTRL_VLAN) and not self._send(c.CTRL_VLAN, c.VLAN_DEL, c.LE16.pack(vid)):
            self._warn(f"Failed to kill VLAN ID {vid}.")
            return False
        self.vlans.discard(vid)
        return True

    def virtnet_ack_link_announce(self) -> bool:
        """Confirm that the interface has announced itself (ANN-V-02)."""
        if self._send(c.CTRL_ANNOUNCE, c.ANNOUNCE_ACK):
            return True
        self._warn("Failed to ack link announce.")
        return False

    # Queues and hashing.

    def virtnet_set_queues(self, pairs: int) -> bool:
        """Use ``pairs`` queue pairs (MQ-V-03: 1 to the device's most); whether the device agrees.

        Where RSS is on and the user has not laid out the table, that is done by laying it out anew. One pair without
        MQ is what there is anyway. With RSS alone, where that is not sent here, Linux takes all into use unasked, and
        the device learns of it by the hash configuration.
        """
        vi = self._vi
        if not 1 <= pairs <= vi.max_queue_pairs:
            self._warn(f"Fail to set num of queue pairs to {pairs}: there are {vi.max_queue_pairs}")
            return False
        by_rss = self._facts.commits_rss_at_probe and not self.rxfh_configured  # both since v6.12
        if isinstance(self.rss, RssConfig) and self._has(f.RSS) and by_rss:
            size = len(self.rss.indirection_table)
            table = tuple(n % pairs for n in range(size))
            config = RssConfig(self.rss.hash_types, table, self.rss.unclassified_queue, pairs, self.rss.key)
            if not self.virtnet_commit_rss_command(config):
                self._warn(f"Fail to set num of queue pairs to {pairs}, because committing RSS failed")
                return False
        elif self._has(f.MQ):
            if not self._send(c.CTRL_MQ, c.MQ_VQ_PAIRS_SET, c.LE16.pack(pairs)):
                self._warn(f"Fail to set num of queue pairs to {pairs}")
                return False
        elif pairs > 1 and not self._has(f.RSS):
            return False
        vi.curr_queue_pairs = pairs
        self._fill_queues()
        return True

    def _fill_queues(self) -> None:
        """Have queues that came into use filled, if the interface is up: by the refill worker, or by their polls."""
        vi = self._vi
        if vi.refill_enabled == 0:
            return
        if self._facts.refill_work:
            schedule_refill(vi, 0)
            return
        for n in range(vi.curr_queue_pairs):
            rq = rq_at(vi.rq + n * RQ_SIZE)
            virtqueue_napi_schedule(napi_at(rq.napi), virtqueue_at(rq.vq))

    def virtnet_commit_rss_command(self, config: RssConfig | HashConfig) -> bool:
        """Give the device a hash configuration; with RSS it steers by it, without it only reports (HASH_CONFIG)."""
        command, needed = (
            (c.MQ_RSS_CONFIG, f.RSS) if isinstance(config, RssConfig) else (c.MQ_HASH_CONFIG, f.HASH_REPORT)
        )
        if not self._has(needed):
            return False
        if not self._send(c.CTRL_MQ, command, config.pack()):
            self._warn("VIRTIONET issue with committing RSS sgs")
            return False
        self.rss = config
        return True

    # Offloads.

    def virtnet_set_guest_offloads(self, mask: int) -> bool:
        """Switch receive offloads: exactly those of ``mask`` are on, which were all negotiated (OFFL-V-01)."""
        if not self._has(f.CTRL_GUEST_OFFLOADS) or mask & ~self.guest_offloads_capable:
            return False
        if not self._send(c.CTRL_GUEST_OFFLOADS, c.GUEST_OFFLOADS_SET, c.LE64.pack(mask)):
            self._warn("Fail to set guest offload.")
            return False
        self.guest_offloads = mask
        return True

    # Coalescing.

    def virtnet_send_tx_notf_coal_cmds(self, parameters: Coalesce) -> bool:
        """Set all transmit queues' parameters."""
        if not self._has(f.NOTF_COAL) or not self._send(c.CTRL_NOTF_COAL, c.NOTF_COAL_TX_SET, parameters.pack()):
            return False
        self.coalesce_tx = parameters
        self.coalesce_queues = {index: kept for index, kept in self.coalesce_queues.items() if index % 2 == 0}
        return True

    def virtnet_send_rx_notf_coal_cmds(self, parameters: Coalesce) -> bool:
        """Set all receive queues' parameters."""
        if not self._has(f.NOTF_COAL) or not self._send(c.CTRL_NOTF_COAL, c.NOTF_COAL_RX_SET, parameters.pack()):
            return False
        self.coalesce_rx = parameters
        self.coalesce_queues = {index: kept for index, kept in self.coalesce_queues.items() if index % 2}
        return True

    def virtnet_send_ctrl_coal_vq_cmd(self, vqn: int, parameters: Coalesce) -> bool:
        """Set one virtqueue's parameters (COAL-V-01: a receive or transmit queue)."""
        if not self._has(f.VQ_NOTF_COAL) or not 0 <= vqn < 2 * self._vi.max_queue_pairs:
            return False
        data = c.VQ_INDEX.pack(vqn, 0) + parameters.pack()
        if not self._send(c.CTRL_NOTF_COAL, c.NOTF_COAL_VQ_SET, data):
            return False
        self.coalesce_queues[vqn] = parameters
        return True

    def get_coalesce(self, vqn: int) -> Coalesce | None:
        """Ask the device for one virtqueue's parameters; None if it refuses (COAL-V-04). Linux never asks."""
        if self._cvq is None or not self._has(f.VQ_NOTF_COAL):
            return None
        result = self._cvq.virtnet_send_command(
            c.CTRL_NOTF_COAL, c.NOTF_COAL_VQ_GET, c.VQ_INDEX.pack(vqn, 0), result_size=Coalesce.LAYOUT.size
        )
        return None if result is None else Coalesce.unpack(result)

    def coalesce_of(self, vqn: int | None, *, transmit: bool) -> Coalesce:
        """What was last set for a virtqueue, or with None for all of its direction."""
        general = self.coalesce_tx if transmit else self.coalesce_rx
        return general if vqn is None else self.coalesce_queues.get(vqn, general)

    # Statistics.

    def virtnet_get_stats_cap(self) -> None:
        """Ask which statistics the device keeps, as probe does."""
        if self._cvq is None or not self._has(f.DEVICE_STATS):
            return
        result = self._cvq.virtnet_send_command(c.CTRL_STATS, c.STATS_QUERY, result_size=c.LE64.size)
        if result is not None:
            (self.device_stats_cap,) = c.LE64.unpack(result)

    def virtnet_get_hw_stats(self) -> list[stats.Block]:
        """The device's statistics of all queues in use, of the types it said it has (DST-V-01, DST-V-02)."""
        cap = self.device_stats_cap
        if self._cvq is None or not cap:
            return []
        receive = cap & sum(1 << kind for kind in stats.RX_TYPES)
        transmit = cap & sum(1 << kind for kind in stats.TX_TYPES)
        requests = [
            (2 * pair + side, mask)
            for pair in range(self._vi.curr_queue_pairs)
            for side, mask in enumerate((receive, transmit))
            if mask
        ]
        if cap >> stats.CVQ & 1:
            requests.append((2 * self._vi.max_queue_pairs, 1 << stats.CVQ))
        # DST-V-03: room for every block asked for.
        room = sum(stats.block_size(kind) for _, mask in requests for kind in stats.types_in(mask))
        data = stats.pack_requests(requests)
        result = self._cvq.virtnet_send_command(c.CTRL_STATS, c.STATS_GET, data, result_size=room)
        return [] if result is None else stats.unpack_blocks(result)
