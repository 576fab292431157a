"""The driver's queues and what they need: init_vqs, virtnet_alloc_queues, virtnet_find_vqs.

Theory of operation
-------------------
`Vqs` owns the arrays of receive queues, send queues and NAPIs, one ring per virtqueue, and the pools of memory behind
them. `Vqs.init_vqs` makes all of it from the negotiated features and tells the device where the rings lie. It may be
called again after a reset: structs and pools stay at their addresses, which kernels remember, and start afresh.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from netemu.driver.eras import EraFacts
from netemu.driver.ethtool import RX_COUNTERS, TX_COUNTERS
from netemu.driver.indirect import TablePool
from netemu.driver.teardown import free_receive_bufs
from netemu.driver.virtio_ring import SCATTER_SIZE, Scatter, Virtqueue
from netemu.driver.virtnet import (
    IP_MAX_MTU,
    MODE_BIG,
    MODE_MERGEABLE,
    NAPI_POLL_WEIGHT,
    RQ_SIZE,
    SQ_SIZE,
    Napi,
    ReceiveQueue,
    SendQueue,
    Tag,
    VirtnetInfo,
    mergeable_min_buf_len,
)
from netemu.driver.vring_create import Vring
from netemu.jit import StructArray, allocate, array_of
from netemu.memory import GuestMemory
from netemu.pages import PAGE_SHIFT, PAGE_SIZE, PagePool, Pages, page_pool_at
from netemu.pressure import KINDS, Kind, Pressure, PressureRule
from netemu.reasons import DropReason
from netemu.skb import MAX_SKB_FRAGS, SkbPool, Skbs, skb_pool_at
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.notify import Doorbell
from netemu.virtio.transport import Transport

FRAG_ORDER = 3
"""Page-fragment blocks are of order 3: 32 KiB."""
SEGMENTS_MAX = 2 + MAX_SKB_FRAGS
"""Segments of the longest buffer: a big one has header, first page and frags, one to be sent header, head and frags."""


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


class Vqs:
    """The queues of one driver, and the memory behind them.

    ``receive_queues`` and ``send_queues`` hold the counters, ``rings`` the ring of each virtqueue, ``doorbells`` its
    notifications, ``drops`` why frames were dropped, per receive queue and reason.
    """

    def __init__(
        self, vi: VirtnetInfo, facts: EraFacts, memory: GuestMemory, queue_size: int, *, forwards: bool = False
    ) -> None:
        """Make queues for the ``vi.max_queue_pairs`` pairs that the probe found; rings come with `init_vqs`.

        ``queue_size`` is the most entries a ring gets, less where the device cannot have as many. ``forwards``: what is
        received is sent on, so that its memory stays in use for longer.
        """
        pairs = vi.max_queue_pairs
        self.vi = vi
        self.facts = facts
        self.memory = memory
        self._queue_size = queue_size
        self._forwarded = 2 * NAPI_POLL_WEIGHT if forwards else 0
        """Received frames of a queue that may lie on its send queue."""
        self.receive_queues: StructArray[ReceiveQueue] = array_of(ReceiveQueue, pairs)
        self.send_queues: StructArray[SendQueue] = array_of(SendQueue, pairs)
        self.napis: StructArray[Napi] = array_of(Napi, 2 * pairs)
        self._drops = allocate(pairs * len(DropReason) * 8)
        self.drops = self._drops.array.view(np.int64).reshape(pairs, len(DropReason))
        self.vrings: list[Vring] = []
        self.rings: list[Virtqueue] = []
        self.doorbells: list[Doorbell] = []
        self._given: dict[int, int] = {}
        """Ring entries that a queue's memory is for."""
        self._pressures: dict[tuple[Kind, int], Pressure] = {}
        self._owned: list[object] = []

    def init_vqs(self, transport: Transport, features: FeatureSet) -> None:
        """virtnet_alloc_queues and virtnet_find_vqs: a receive and a send queue per pair, each with its ring.

        After a reset of the device it sets the rings up anew where they are, and the queues start from 0 again: their
        counters and the average length of a packet, as with Linux's new structs.
        Raises `ConfigError` for rings that the device cannot have, `NetemuError` when guest memory is too small.
        """
        self._virtnet_alloc_queues()
        for index in range(2 * self.vi.max_queue_pairs):
            self._find_vq(transport, features, index)
        if f.CTRL_VQ in features:
            self._find_vq(transport, features, 2 * self.vi.max_queue_pairs)
        for n in range(self.vi.max_queue_pairs):
            rq, sq = self.receive_queues[n], self.send_queues[n]
            rq.vq = self.rings[rxq2vq(n)].address
            sq.vq = self.rings[txq2vq(n)].address
            num = self.rings[rxq2vq(n)].num
            rq.min_buf_len = mergeable_min_buf_len(
                self.vi.hdr_len, IP_MAX_MTU if self.vi.big_packets else self.vi.max_mtu, num
            )
            self.give_memory(n, num)

    def _virtnet_alloc_queues(self) -> None:
        """Join queues, NAPIs and the device's struct."""
        self.vi.rq = self.receive_queues.address
        self.vi.sq = self.send_queues.address
        for n in range(self.vi.max_queue_pairs):
            rq, sq = self.receive_queues[n], self.send_queues[n]
            rq.vi = sq.vi = self.vi.address
            rq.index = sq.index = n
            rq.own = self.receive_queues.address + n * RQ_SIZE
            rq.sq = self.send_queues.address + n * SQ_SIZE
            rq.napi = self.napis.address + (2 * n) * Napi.dtype.itemsize
            sq.napi = self.napis.address + (2 * n + 1) * Napi.dtype.itemsize
            rq.drop_book = self._drops.address + n * len(DropReason) * 8
            self.napis[2 * n].weight = NAPI_POLL_WEIGHT
            self.napis[2 * n + 1].weight = NAPI_POLL_WEIGHT if self.facts.napi_tx else 0
            self.napis[2 * n + 1].enabled = 1
            rq.mrg_avg_pkt_len = 0
            for queue, names in ((rq, RX_COUNTERS), (sq, TX_COUNTERS)):
                for name in names:
                    setattr(queue, name, 0)

    def _find_vq(self, transport: Transport, features: FeatureSet, index: int) -> None:
        """Create one ring in guest memory and tell the device (vring_create_virtqueue)."""
        if index < len(self.vrings):
            self.vrings[index].reinit()
            self.enable(transport, index)
            return
        is_receive = index % 2 == 0 and index < 2 * self.vi.max_queue_pairs
        ring = Vring(
            self.memory,
            index,
            min(self._queue_size, transport.queue_size_max(index)),
            features,
            self.vi.era,
            keeps_ctx=is_receive and self.vi.mode != MODE_BIG,
            table_entries=SEGMENTS_MAX,
        )
        self.vrings.append(ring)
        self.rings.append(ring.struct)
        self.enable(transport, index)

    def enable(self, transport: Transport, index: int) -> None:
        """Tell the device where a ring lies, which has nothing in it."""
        doorbell = transport.setup_queue(index, self.vrings[index].addresses)
        self.rings[index].doorbell = doorbell.address
        self.doorbells[index : index + 1] = [doorbell]
        if index % 2 and index < 2 * self.vi.max_queue_pairs:
            # Frames are counted as the device counts them, which starts afresh, too.
            self.send_queues[vq2txq(index)].sent = 0
        self._press(vq2rxq(index))

    def give_memory(self, n: int, num: int) -> None:
        """Pools for queue pair ``n``: the buffers of a full ring, those of one poll's skbs, and a little more.

        A queue that has pools for as many entries keeps them; else nothing of the old ones may lie in the ring. Raises
        `NetemuError` when guest memory is too small, and nothing has changed.
        """
        rq, sq, vi = self.receive_queues[n], self.send_queues[n], self.vi
        if num <= self._given.get(n, 0):
            return
        in_flight = num + 2 * NAPI_POLL_WEIGHT
        frames = NAPI_POLL_WEIGHT * (1 + num // MAX_SKB_FRAGS) if vi.mode == MODE_MERGEABLE else NAPI_POLL_WEIGHT
        skbs = Skbs(self.memory, frames + NAPI_POLL_WEIGHT + self._forwarded)
        block = PAGE_SIZE << FRAG_ORDER
        if vi.mode == MODE_BIG:
            chains = min(num, in_flight) if self.rings[rq.index * 2].indirect else num // (MAX_SKB_FRAGS + 2) + 1
            pages = Pages(
                self.memory, (chains + NAPI_POLL_WEIGHT + self._forwarded) * (vi.big_packets_num_skbfrags + 1), 0
            )
            rq.page_pool = pages.pool.address
            frags = Pages(self.memory, 1, FRAG_ORDER)
        else:
            pages = Pages(self.memory, 0, 0)
            largest = PAGE_SIZE if vi.mode == MODE_MERGEABLE else vi.small_buf_size
            per_block = block // largest - 1
            in_flight += self._forwarded * (MAX_SKB_FRAGS if vi.mode == MODE_MERGEABLE else 1)
            # A block is only free when all its buffers are: twice what fits exactly leaves room for stragglers.
            frags = Pages(self.memory, 2 * -(-in_flight // per_block) + 2, FRAG_ORDER)
        # What the queue keeps back of its old blocks goes first: where a buffer's page is, the new pool tells.
        free_receive_bufs(rq)
        if sq.skb_pool == rq.skb_pool:
            sq.skb_pool = skbs.pool.address  # else it has one of its own, of `netemu.driver.outgoing`
        rq.frag_pool = frags.pool.address
        rq.skb_pool = skbs.pool.address
        rq.pool_pages = frags.pages.address
        rq.pool_host = frags.pages[0].address
        rq.pool_shift = PAGE_SHIFT + FRAG_ORDER
        scatter = array_of(Scatter, 2 * SEGMENTS_MAX)
        rq.sg = scatter.address
        sq.sg = scatter.address + SEGMENTS_MAX * SCATTER_SIZE
        tags = array_of(Tag, num)
        rq.tags = tags.address
        self._owned += [skbs, pages, frags, scatter, tags]
        self._given[n] = num
        self._press(n)

    def put_under_pressure(self, rules: Mapping[Kind, PressureRule]) -> None:
        """Have allocations fail by these rules, each queue pair's by its own count and chance; others do not fail."""
        pairs = range(self.vi.max_queue_pairs)
        self._pressures = {(kind, n): rules[kind].pressure(n, self.vi.clock) for kind in rules for n in pairs}
        for n in pairs:
            self._press(n)

    def _press(self, n: int) -> None:
        """Tell the pools of queue pair ``n`` which rules hold for them, as far as they are there."""
        if n not in self._given:
            return
        rq = self.receive_queues[n]
        tables = [ring.tables.pool for ring in self.vrings[2 * n : 2 * n + 2] if ring.struct.indirect]
        pools: dict[Kind, list[PagePool] | list[SkbPool] | list[TablePool]] = {
            "pages": [page_pool_at(address) for address in (rq.frag_pool, rq.page_pool) if address],
            "skbs": [skb_pool_at(rq.skb_pool)],  # a sender's own are not refused, nor are the blocks it cuts
            "tables": tables,
        }
        for kind in KINDS:
            pressure = self._pressures.get((kind, n))
            for pool in pools[kind]:
                pool.pressure = pressure.address if pressure is not None else 0

    @property
    def refused(self) -> dict[str, int]:
        """Allocations that the rules have refused, by kind."""
        counts: dict[str, int] = {}
        for (kind, _), pressure in self._pressures.items():
            counts[kind] = counts.get(kind, 0) + pressure.refused
        return counts
