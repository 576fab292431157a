"""Probing a device and bringing the interface up: virtnet_probe, init_vqs, virtnet_alloc_queues, virtnet_open.

This is the control plane, ordinary Python. It talks to the device through `netemu.virtio.transport.Transport` alone and
leaves behind the structs that the kernels of this package run on.
"""

from __future__ import annotations

import numpy as np

from netemu.driver import refill
from netemu.driver.eras import DEFAULT_ERA, era
from netemu.driver.header import virtio_net_hdr_tnl_to_skb
from netemu.driver.virtio_ring import INDIRECT_MAX, TABLE_SIZE, DescState, Scatter, Virtqueue, broken_reason
from netemu.driver.virtnet import (
    IP_MAX_MTU,
    MODE_BIG,
    MODE_MERGEABLE,
    MODE_SMALL,
    NAPI_POLL_WEIGHT,
    SQ_SIZE,
    Napi,
    ReceiveQueue,
    SendQueue,
    Tag,
    VirtnetInfo,
    mergeable_min_buf_len,
    small_buffer_size,
)
from netemu.errors import ConfigError, NetemuError
from netemu.jit import StructArray, allocate, array_of, hook
from netemu.memory import GuestMemory
from netemu.pages import PAGE_SHIFT, PAGE_SIZE, Pages
from netemu.reasons import DropReason
from netemu.skb import MAX_SKB_FRAGS, Skbs
from netemu.virtio import features as f
from netemu.virtio import split, status
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig, header_length
from netemu.virtio.notify import Doorbell
from netemu.virtio.split import RingAddresses
from netemu.virtio.transport import Transport

SUPPORTED = FeatureSet.of(
    f.MAC, f.STATUS, f.MTU, f.MRG_RXBUF, f.CTRL_VQ, f.MQ,
    f.GUEST_CSUM, f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO,
    f.INDIRECT_DESC, f.EVENT_IDX, f.VERSION_1,
)  # fmt: skip
"""The features this driver takes when they are offered."""

GUEST_GSO = (f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO)
FRAG_ORDER = 3
"""Page-fragment blocks are of order 3: 32 KiB."""
ETH_DATA_LEN = 1500
MTU_MIN = 68
MQ_PAIRS_MAX = 0x8000


def rxq2vq(rxq: int) -> int:
    """Virtqueue of a receive queue (NETQ-B-01)."""
    return rxq * 2


def txq2vq(txq: int) -> int:
    """Virtqueue of a send queue (NETQ-B-01)."""
    return txq * 2 + 1


def vq2rxq(vq: int) -> int:
    """Receive queue of a virtqueue."""
    return vq // 2


def vq2txq(vq: int) -> int:
    """Send queue of a virtqueue."""
    return (vq - 1) // 2


class VirtioNet:
    """A probed device: the driver's structs, and the memory behind them.

    Attributes a user may read: ``features`` (negotiated), ``mode`` (small, big or mergeable), ``vi``,
    ``receive_queues`` and ``send_queues`` with their counters, ``drops`` per queue and reason.
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
        self._queue_size = queue_size
        self.vi = VirtnetInfo(era=self.era.address, refill_due=-1)
        try:
            self.features = self._negotiate(wanted & SUPPORTED)
            self._virtnet_probe()
        except NetemuError:
            transport.set_status(transport.get_status() | status.FAILED)  # INIT-V-12
            raise

    def _negotiate(self, wanted: FeatureSet) -> FeatureSet:
        """Steps 1 to 6 of device initialisation (INIT-V-01 to INIT-V-09)."""
        transport = self.transport
        transport.set_status(0)
        transport.set_status(status.ACKNOWLEDGE)
        transport.set_status(status.ACKNOWLEDGE | status.DRIVER)
        offered = transport.get_features()
        self._virtnet_validate(offered)
        chosen = offered & wanted
        if f.MTU in chosen and NetConfig.unpack(transport.read_config()).mtu < MTU_MIN:
            chosen -= FeatureSet.of(f.MTU)
        # FEAT-V-02: a bit goes when what it requires is missing.
        while faulty := [bit for bit in chosen if _unmet(chosen, bit)]:
            chosen -= FeatureSet.of(*faulty)
        transport.set_features(chosen)
        transport.set_status(transport.get_status() | status.FEATURES_OK)
        if not transport.get_status() & status.FEATURES_OK:
            raise ConfigError(f"the device refuses the feature set {chosen}")
        return chosen

    def _virtnet_validate(self, offered: FeatureSet) -> None:
        if f.CTRL_VQ in offered:
            return
        for bit in self.facts.need_ctrl_vq:
            if bit in offered:
                raise ConfigError(f"the device offers {f.NAMES[bit]} without CTRL_VQ: Linux refuses it")

    def _virtnet_probe(self) -> None:
        """The device's shape from features and configuration, in the order of Linux's probe."""
        features = self.features
        config = NetConfig.unpack(self.transport.read_config())
        vi = self.vi
        pairs = config.max_virtqueue_pairs if f.MQ in features else 1
        if not 1 <= pairs <= MQ_PAIRS_MAX or f.CTRL_VQ not in features:
            pairs = 1
        vi.max_queue_pairs = vi.curr_queue_pairs = pairs
        vi.mac = int.from_bytes(config.mac, "big") if f.MAC in features else 0x02_00_00_00_00_01
        vi.hdr_len = header_length(features)
        vi.rxhash = int(f.HASH_REPORT in features)
        if f.GUEST_UDP_TUNNEL_GSO in features:
            vi.rx_tnl = hook(virtio_net_hdr_tnl_to_skb)
            vi.rx_tnl_csum = int(f.GUEST_UDP_TUNNEL_GSO_CSUM in features)
        vi.small_buf_size = small_buffer_size(vi.hdr_len)
        vi.any_header_sg = int(features.has_any(f.ANY_LAYOUT, f.VERSION_1))
        mtu = config.mtu if f.MTU in features else ETH_DATA_LEN
        if mtu < MTU_MIN:
            raise ConfigError(f"the device's MTU became {mtu} while it was probed; the least is {MTU_MIN}")
        vi.max_mtu = mtu if f.MTU in features else IP_MAX_MTU
        guest_gso = features.has_any(*GUEST_GSO)
        vi.big_packets = int(guest_gso or mtu > ETH_DATA_LEN)
        limited = self.facts.big_pages_by_mtu and not guest_gso
        vi.big_packets_num_skbfrags = -(-mtu // PAGE_SIZE) if limited else MAX_SKB_FRAGS
        if f.MRG_RXBUF in features:
            vi.mode = MODE_MERGEABLE
        else:
            vi.mode = MODE_BIG if vi.big_packets else MODE_SMALL
        self._init_vqs(pairs)
        self.transport.set_status(self.transport.get_status() | status.DRIVER_OK)

    def _init_vqs(self, pairs: int) -> None:
        """virtnet_alloc_queues and virtnet_find_vqs: a receive and a send queue per pair, each with its ring."""
        self._virtnet_alloc_queues(pairs)
        self.rings: list[Virtqueue] = []
        self.doorbells: list[Doorbell] = []
        self._owned: list[object] = []
        for index in range(2 * pairs):
            self._find_vq(index)
        for n in range(pairs):
            rq, sq = self.receive_queues[n], self.send_queues[n]
            rq.vq = self.rings[rxq2vq(n)].address
            sq.vq = self.rings[txq2vq(n)].address
            self._give_memory(rq, sq, self.rings[rxq2vq(n)].num)

    def _virtnet_alloc_queues(self, pairs: int) -> None:
        self.receive_queues: StructArray[ReceiveQueue] = array_of(ReceiveQueue, pairs)
        self.send_queues: StructArray[SendQueue] = array_of(SendQueue, pairs)
        self.napis: StructArray[Napi] = array_of(Napi, 2 * pairs)
        self._drops = allocate(pairs * len(DropReason) * 8)
        self.drops = self._drops.array.view(np.int64).reshape(pairs, len(DropReason))
        self.vi.rq = self.receive_queues.address
        self.vi.sq = self.send_queues.address
        for n in range(pairs):
            rq, sq = self.receive_queues[n], self.send_queues[n]
            rq.vi = sq.vi = self.vi.address
            rq.index = sq.index = n
            rq.sq = self.send_queues.address + n * SQ_SIZE
            rq.napi = self.napis.address + (2 * n) * Napi.dtype.itemsize
            sq.napi = self.napis.address + (2 * n + 1) * Napi.dtype.itemsize
            rq.drop_book = self._drops.address + n * len(DropReason) * 8
            self.napis[2 * n].weight = NAPI_POLL_WEIGHT
            self.napis[2 * n + 1].weight = NAPI_POLL_WEIGHT if self.facts.napi_tx else 0
            self.napis[2 * n + 1].enabled = 1

    def _find_vq(self, index: int) -> None:
        """Create one ring in guest memory and tell the device (vring_create_virtqueue)."""
        num = min(self._queue_size, self.transport.queue_size_max(index))
        split.check_queue_size(num)
        reserve = self.memory.reserve
        ring = RingAddresses(
            num=num,
            desc=reserve(split.desc_bytes(num), align=PAGE_SIZE),
            avail=reserve(split.avail_bytes(num), align=split.AVAIL_ALIGN),
            used=reserve(split.used_bytes(num), align=PAGE_SIZE),
        )
        is_receive = index % 2 == 0
        keeps_ctx = is_receive and self.vi.mode != MODE_BIG
        states = array_of(DescState, num)
        vq = Virtqueue(
            index=index,
            num=num,
            num_free=num,
            desc=self.memory.host_address(ring.desc, split.desc_bytes(num)),
            avail=self.memory.host_address(ring.avail, split.avail_bytes(num)),
            used=self.memory.host_address(ring.used, split.used_bytes(num)),
            event=int(f.EVENT_IDX in self.features),
            indirect=int(f.INDIRECT_DESC in self.features and not keeps_ctx),
            state=states.address,
            era=self.era.address,
        )
        if vq.indirect:
            vq.tables_gpa = reserve(num * TABLE_SIZE, align=split.DESC_ALIGN)
            vq.tables = self.memory.host_address(vq.tables_gpa, num * TABLE_SIZE)
        # The free list: descriptor n is followed by n + 1, the last by 0, as a fresh ring of Linux has it.
        table = np.zeros(num, dtype=[("addr", "<u8"), ("len", "<u4"), ("flags", "<u2"), ("next", "<u2")])
        table["next"][:-1] = np.arange(1, num)
        self.memory.write(ring.desc, table.tobytes())
        states.view["next"] = table["next"]
        doorbell = self.transport.setup_queue(index, ring)
        vq.doorbell = doorbell.address
        self.rings.append(vq)
        self.doorbells.append(doorbell)
        self._owned.append(states)

    def _give_memory(self, rq: ReceiveQueue, sq: SendQueue, num: int) -> None:
        """Pools for a queue: the buffers of a full ring, those of one poll's skbs, and a little more."""
        vi = self.vi
        in_flight = num + 2 * NAPI_POLL_WEIGHT
        frames = NAPI_POLL_WEIGHT * (1 + num // MAX_SKB_FRAGS) if vi.mode == MODE_MERGEABLE else NAPI_POLL_WEIGHT
        skbs = Skbs(self.memory, frames + NAPI_POLL_WEIGHT)
        block = PAGE_SIZE << FRAG_ORDER
        if vi.mode == MODE_BIG:
            chains = min(num, in_flight) if self.rings[rq.index * 2].indirect else num // (MAX_SKB_FRAGS + 2) + 1
            pages = Pages(self.memory, (chains + NAPI_POLL_WEIGHT) * (vi.big_packets_num_skbfrags + 1), 0)
            rq.page_pool = pages.pool.address
            frags = Pages(self.memory, 1, FRAG_ORDER)
        else:
            pages = Pages(self.memory, 0, 0)
            largest = PAGE_SIZE if vi.mode == MODE_MERGEABLE else vi.small_buf_size
            per_block = block // largest - 1
            # A block is only free when all its buffers are: twice what fits exactly leaves room for stragglers.
            frags = Pages(self.memory, 2 * -(-in_flight // per_block) + 2, FRAG_ORDER)
        rq.frag_pool = frags.pool.address
        rq.skb_pool = sq.skb_pool = skbs.pool.address
        rq.pool_pages = frags.pages.address
        rq.pool_host = frags.pages[0].address
        rq.pool_shift = PAGE_SHIFT + FRAG_ORDER
        packet_max = IP_MAX_MTU if vi.big_packets else vi.max_mtu
        rq.min_buf_len = mergeable_min_buf_len(vi.hdr_len, packet_max, num)
        scatter = array_of(Scatter, 2 * INDIRECT_MAX)
        rq.sg = scatter.address
        sq.sg = scatter.address + INDIRECT_MAX * Scatter.dtype.itemsize
        tags = array_of(Tag, num)
        rq.tags = tags.address
        self._owned += [skbs, pages, frags, scatter, tags]

    def open(self) -> None:
        """Fill the rings and start polling (virtnet_open)."""
        refill.virtnet_open(self.vi.address)

    @property
    def broken(self) -> list[str]:
        """Why rings are broken, a sentence each."""
        return [reason for reason in map(broken_reason, self.rings) if reason is not None]


def _unmet(features: FeatureSet, bit: int) -> bool:
    """Whether a bit of the set lacks what it requires."""
    return any(not features.has_any(*group) for group in f.REQUIRES.get(bit, ()))
