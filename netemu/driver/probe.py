"""Probing a device and bringing the interface up: virtnet_probe, init_vqs, virtnet_alloc_queues, virtnet_open.

This is the control plane, ordinary Python. It talks to the device through `netemu.virtio.transport.Transport` alone and
leaves behind the structs that the kernels of this package run on.
"""

from __future__ import annotations

from netemu.driver import refill
from netemu.driver.config import cread, cread_mac
from netemu.driver.control import VirtnetControl
from netemu.driver.cvq import ControlQueue
from netemu.driver.eras import DEFAULT_ERA, era
from netemu.driver.features import ETH_DATA_LEN, MTU_MIN, SUPPORTED, negotiate, receive_mode, receives_gso
from netemu.driver.header import virtio_net_hdr_tnl_to_skb
from netemu.driver.netdev import netdev_features
from netemu.driver.virtio_ring import broken_reason
from netemu.driver.virtnet import IP_MAX_MTU, VirtnetInfo, small_buffer_size
from netemu.driver.vqs import Vqs
from netemu.errors import ConfigError, NetemuError
from netemu.jit import hook
from netemu.memory import GuestMemory
from netemu.pages import PAGE_SIZE
from netemu.skb import MAX_SKB_FRAGS
from netemu.virtio import features as f
from netemu.virtio import status
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import header_length
from netemu.virtio.transport import Transport

MQ_PAIRS_MAX = 0x8000


LOCAL_MAC = bytes.fromhex("020000000001")
"""The station address where the device gives none: a locally administered one (NETC-V-04)."""


class VirtioNet:
    """A probed device: the driver's structs, and the memory behind them.

    Attributes a user may read: ``features`` (negotiated), ``mode`` (small, big or mergeable), ``vi``,
    ``receive_queues`` and ``send_queues`` with their counters, ``drops`` per queue and reason, ``control`` for what the
    device can be asked for while it runs.
    """

    def __init__(
        self,
        transport: Transport,
        memory: GuestMemory,
        kernel: str = DEFAULT_ERA,
        queue_size: int = 256,
        wanted: FeatureSet = SUPPORTED,
    ) -> None:
        """Probe the device (virtnet_probe), following ``kernel``; nothing is posted before `open`.

        ``queue_size`` is the most entries a ring gets, less where the device cannot have as many. Raises `ConfigError`
        for a device that the driver would refuse.
        """
        self.facts = era(kernel)
        self.era = self.facts.struct()
        self.transport = transport
        self.memory = memory
        self.vi = VirtnetInfo(era=self.era.address, refill_due=-1)
        try:
            self.features = negotiate(transport, self.facts, wanted)
            self._virtnet_probe()
            self.vqs = Vqs(self.vi, self.facts, memory, queue_size)
            self.receive_queues = self.vqs.receive_queues
            self.send_queues = self.vqs.send_queues
            self.napis = self.vqs.napis
            self.drops = self.vqs.drops
            self.rings = self.vqs.rings
            self.doorbells = self.vqs.doorbells
            self.vqs.init_vqs(transport, self.features)
            has_cvq = f.CTRL_VQ in self.features
            fresh = self.facts.control_fresh
            self.cvq = ControlQueue(self.rings[-1], transport, memory, fresh=fresh) if has_cvq else None
            self.control = VirtnetControl(self.cvq, self.vi, self.features, self.facts)
            transport.set_status(transport.get_status() | status.DRIVER_OK)
            self._configure()
        except NetemuError:
            transport.set_status(transport.get_status() | status.FAILED)  # INIT-V-12
            raise

    def _virtnet_probe(self) -> None:
        """The device's shape from features and configuration, in the order of Linux's probe."""
        features = self.features
        vi = self.vi
        pairs = cread(self.transport, "max_virtqueue_pairs") if features.has_any(f.MQ, f.RSS) else 1
        if not 1 <= pairs <= MQ_PAIRS_MAX or f.CTRL_VQ not in features:
            pairs = 1
        vi.max_queue_pairs = pairs
        vi.curr_queue_pairs = 1  # MQ-V-04: more once the device has agreed
        mac = cread_mac(self.transport) if f.MAC in features else LOCAL_MAC
        vi.mac = int.from_bytes(mac, "big")
        vi.hdr_len = header_length(features)
        vi.rxhash = int(f.HASH_REPORT in features)
        if f.GUEST_UDP_TUNNEL_GSO in features:
            vi.rx_tnl = hook(virtio_net_hdr_tnl_to_skb)
            vi.rx_tnl_csum = int(f.GUEST_UDP_TUNNEL_GSO_CSUM in features)
        vi.small_buf_size = small_buffer_size(vi.hdr_len)
        vi.any_header_sg = int(features.has_any(f.ANY_LAYOUT, f.VERSION_1))
        mtu = cread(self.transport, "mtu") if f.MTU in features else ETH_DATA_LEN
        if mtu < MTU_MIN:
            raise ConfigError(f"the device's MTU became {mtu} while it was probed; the least is {MTU_MIN}")
        vi.max_mtu = mtu if f.MTU in features else IP_MAX_MTU
        vi.mtu = mtu
        vi.tx_features = netdev_features(features)
        vi.guest_hdrlen = int(f.GUEST_HDRLEN in features)
        vi.tx_tnl = int(f.HOST_UDP_TUNNEL_GSO in features)
        guest_gso = receives_gso(features, self.facts)
        vi.big_packets = int(guest_gso or mtu > ETH_DATA_LEN)
        limited = self.facts.big_pages_by_mtu and not guest_gso
        vi.big_packets_num_skbfrags = -(-mtu // PAGE_SIZE) if limited else MAX_SKB_FRAGS
        vi.mode = receive_mode(features, self.facts, mtu)

    def _configure(self) -> None:
        """What probe asks for through the control queue, after DRIVER_OK: all pairs there are, and so on."""
        self.control.virtnet_set_queues(self.vi.max_queue_pairs)
        if self.facts.tells_random_mac and f.MAC not in self.features and f.CTRL_MAC_ADDR in self.features:
            self.control.virtnet_set_mac_address(LOCAL_MAC)  # MAC-V-02
        self.control.virtnet_get_stats_cap()

    def open(self) -> None:
        """Fill the rings and start polling (virtnet_open)."""
        refill.virtnet_open(self.vi.address)

    @property
    def broken(self) -> list[str]:
        """Why rings are broken, a sentence each."""
        return [reason for reason in map(broken_reason, self.rings) if reason is not None]
