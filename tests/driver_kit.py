"""A device held by hand, for tests of the driver half alone.

What a device would do is done here with `struct` on the bytes of guest memory, at the offsets the specification gives
(VIRTIO 1.4, section 2.7). Nothing of `netemu.device` is used, so that the driver is judged by bytes worked out by hand.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import pytest

from netemu.driver.eras import era
from netemu.driver.poll import virtnet_poll, virtnet_receive
from netemu.driver.probe import VirtioNet
from netemu.driver.refill import give_pages, try_fill_recv, virt_to_head_page, virtnet_open
from netemu.driver.virtio_ring import Scatter, virtqueue_add, virtqueue_detach_unused_buf
from netemu.driver.virtnet import MODE_BIG, mergeable_min_buf_len, small_buffer_size
from netemu.driver.vring_create import Vring
from netemu.jit import array_of
from netemu.memory import GuestMemory
from netemu.pages import PAGE_STRUCT_SIZE, PagePool, alloc_pages, page_at, page_pool_at, put_page
from netemu.reasons import DropReason
from netemu.skb import Skb, SkbPool, alloc_skb, frag_at, kfree_skb, skb_add_rx_frag, skb_at, skb_pool_at
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.notify import Doorbell
from tests.driver_hand import HandControl, HandRing, HandTransport

P = ParamSpec("P")
R = TypeVar("R")

V4_19 = "linux-4.19"
V6_1 = "linux-6.1"
V7_0 = "linux-7.0"
ERAS = (V4_19, V6_1, V7_0)
every_era = pytest.mark.parametrize("kernel", ERAS)

BASE = FeatureSet.of(f.VERSION_1, f.MAC, f.STATUS)
SMALL = BASE
MERGEABLE = BASE | FeatureSet.of(f.MRG_RXBUF, f.GUEST_CSUM, f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_UFO)
BIG = BASE | FeatureSet.of(f.GUEST_CSUM, f.GUEST_TSO4, f.GUEST_TSO6, f.INDIRECT_DESC)
BIG_DIRECT = BIG - FeatureSet.of(f.INDIRECT_DESC)

MAC = bytes.fromhex("020000000001")
SOURCE = bytes.fromhex("0200000000fe")


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """An entry point as the Python function it was written as."""
    return getattr(function, "py_func", function)


def vnet_hdr(
    flags: int = 0,
    gso_type: int = 0,
    hdr_len: int = 0,
    gso_size: int = 0,
    csum_start: int = 0,
    csum_offset: int = 0,
    num_buffers: int = 1,
    size: int = 12,
) -> bytes:
    """struct virtio_net_hdr, ``size`` bytes of it."""
    data = struct.pack("<BBHHHHH", flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers)
    return data[:size].ljust(size, b"\0")


def frame(size: int, seed: int = 0, destination: bytes = MAC, ethertype: int = 0x88B5) -> bytes:
    """An Ethernet frame of ``size`` bytes whose payload depends on place and ``seed``."""
    payload = bytes((7 * at + 31 * seed + (at >> 8)) & 0xFF for at in range(max(size - 14, 0)))
    return (destination + SOURCE + ethertype.to_bytes(2, "big") + payload)[:size]


class RingRig:
    """A driver's ring alone, with the device's view of the same bytes."""

    def __init__(
        self,
        num: int = 8,
        kernel: str = V7_0,
        *,
        event: bool = False,
        indirect: bool = False,
        in_order: bool = False,
        start: int = 0,
        table_entries: int = 24,
    ) -> None:
        self.memory = GuestMemory(1 << 22)
        self.bell = Doorbell()
        self.era = era(kernel).struct()
        chosen = {f.EVENT_IDX: event, f.INDIRECT_DESC: indirect, f.IN_ORDER: in_order}
        features = FeatureSet.of(*(bit for bit, on in chosen.items() if on))
        self.ring = Vring(self.memory, 1, num, features, self.era.address, keeps_ctx=False, table_entries=table_entries)
        self.vq = self.ring.struct
        self.vq.doorbell = self.bell.address
        places = self.ring.addresses
        self.desc, self.avail, self.used = places.desc, places.avail, places.used
        self.device = HandRing(self.memory, num, self.desc, self.avail, self.used, start)
        self.vq.avail_idx_shadow = self.vq.last_used_idx = start
        self.memory.write(self.avail + 2, struct.pack("<H", start))
        self.device.set_used_idx(start)
        self._sg = array_of(Scatter, 2048)

    def add(self, out: list[tuple[int, int]], into: list[tuple[int, int]], token: int, ctx: int = 0) -> int:
        """virtqueue_add of segments (address, length); its result."""
        for at, (gpa, length) in enumerate(out + into):
            self._sg[at].gpa = gpa
            self._sg[at].length = length
        return virtqueue_add(self.vq, self._sg.address, len(out), len(into), token, ctx)

    def add_one(self, token: int, length: int = 100, ctx: int = 0) -> int:
        """A buffer of one writable segment."""
        return self.add([], [(0x10000 * token, length)], token, ctx)

    def free_list(self) -> list[int]:
        """The free descriptors in the order they will be taken: taken one by one, then given back to nobody."""
        heads = []
        while self.vq.num_free:
            slot = self.vq.avail_idx_shadow % self.vq.num
            assert self.add_one(999) == 0
            heads.append(self.device.avail_entry(slot))
        return heads


class Rig:
    """A probed driver over a device held by hand; nothing is posted until `fill` or `open`."""

    def __init__(
        self,
        kernel: str = V7_0,
        features: FeatureSet = MERGEABLE,
        size: int = 64,
        *,
        pairs: int = 1,
        mtu: int = 1500,
        hdr_len: int | None = None,
        silent: bool = False,
        results: dict[tuple[int, int], bytes] | None = None,
        memory: GuestMemory | None = None,
    ) -> None:
        """Probe; a ``silent`` device answers no command, else those of ``results`` with OK and these bytes."""
        self.memory = memory or GuestMemory(96 << 20)
        config = NetConfig(mac=MAC, max_virtqueue_pairs=pairs, mtu=mtu)
        self.transport = HandTransport(features, config, size)
        self.control = HandControl(self.memory, self.transport)
        self.control.results = results or {}
        self.transport.answer = None if silent else self.control
        self.driver = VirtioNet(self.transport, self.memory, kernel, size)
        self.vi = self.driver.vi
        self.turn_to(0)
        if hdr_len is not None:
            # Headers of 20 and 24 bytes belong to features this driver does not take; the sheet has their numbers.
            self.vi.hdr_len = hdr_len
            self.vi.small_buf_size = small_buffer_size(hdr_len)
            self.rq.min_buf_len = mergeable_min_buf_len(hdr_len, 65535, size)

    def turn_to(self, pair: int) -> None:
        """Make a queue pair the one that all else here is about; the first one is at the start."""
        self.rq = self.driver.receive_queues[pair]
        self.sq = self.driver.send_queues[pair]
        self.vq = self.driver.rings[2 * pair]
        self.tx_vq = self.driver.rings[2 * pair + 1]
        self.napi = self.driver.napis[2 * pair]
        self.tx_napi = self.driver.napis[2 * pair + 1]
        self.rx = self._hand(2 * pair)
        self.tx = self._hand(2 * pair + 1)
        self.rx_bell = self.transport.bells[2 * pair]
        self.tx_bell = self.transport.bells[2 * pair + 1]

    def _hand(self, index: int) -> HandRing:
        ring = self.transport.rings[index]
        return HandRing(self.memory, ring.num, ring.desc, ring.avail, ring.used)

    @property
    def skb_pool(self) -> SkbPool:
        return skb_pool_at(self.rq.skb_pool)

    @property
    def frag_pool(self) -> PagePool:
        return page_pool_at(self.rq.frag_pool)

    @property
    def page_pool(self) -> PagePool:
        return page_pool_at(self.rq.page_pool)

    @property
    def data_pool(self) -> PagePool:
        """The pool that this mode's buffers come from."""
        return self.page_pool if self.vi.mode == MODE_BIG else self.frag_pool

    def fill(self) -> int:
        """try_fill_recv; its result."""
        return try_fill_recv(self.vi, self.rq)

    def open(self) -> None:
        """virtnet_open, as plain Python."""
        plain(virtnet_open)(self.vi.address)

    def arrive(self, *parts: bytes, lengths: tuple[int, ...] | None = None) -> list[int]:
        """The device puts a part into each of the next buffers and uses them together; returns their heads.

        ``lengths`` are the used lengths to report where they are not those of the parts.
        """
        heads = []
        for at, part in enumerate(parts):
            head = self.rx.take()
            self.rx.write_buffer(head, part)
            self.rx.place_used(head, len(part) if lengths is None else lengths[at])
            heads.append(head)
        self.rx.publish()
        return heads

    def capacities(self, skip: int = 0) -> Iterator[int]:
        """Writable bytes of the buffers that are available, from the next (or a later) one on."""
        for at in range(skip, self.rx.pending()):
            head = self.rx.avail_entry((self.rx.last_avail + at) % self.rx.num)
            yield sum(length for _, length, flags in self.rx.chain(head) if flags & 2)

    def arrive_frame(self, data: bytes, **header: int) -> int:
        """A frame arrives whole, over as many buffers as it needs (RX-D-02 to RX-D-04); returns how many."""
        left = self.vi.hdr_len + len(data)
        cuts = []
        for capacity in self.capacities():
            cuts.append(min(capacity, left))
            left -= cuts[-1]
            if left == 0:
                break
        assert left == 0, "the frame does not fit"
        whole = vnet_hdr(num_buffers=len(cuts), size=self.vi.hdr_len, **header) + data
        parts = []
        for cut in cuts:
            parts.append(whole[:cut])
            whole = whole[cut:]
        self.arrive(*parts)
        return len(parts)

    def receive_frame(self, data: bytes, **header: int) -> Skb:
        """`arrive_frame`, and the skb that comes of it."""
        self.arrive_frame(data, **header)
        [skb] = self.receive()
        return skb

    def use_up(self, count: int) -> None:
        """Have ``count`` short frames received and freed, to move on in the ring."""
        for _ in range(count):
            self.arrive(vnet_hdr(size=self.vi.hdr_len) + frame(60))
            free(*self.receive(1))

    def reasons(self) -> dict[str, int]:
        """netemu's own book of why frames did not become skbs."""
        return {reason.name: int(self.driver.drops[0][reason]) for reason in DropReason if self.driver.drops[0][reason]}

    def receive(self, budget: int = 64) -> list[Skb]:
        """virtnet_receive; the skbs it delivered, which the caller frees."""
        virtnet_receive(self.vi, self.rq, budget)
        return self.collect()

    def poll(self) -> int:
        """virtnet_poll; its result."""
        return virtnet_poll(self.rq)

    def collect(self) -> list[Skb]:
        """What the polls have delivered."""
        found = []
        address = self.rq.rx_list
        while address:
            found.append(skb_at(address))
            address = found[-1].next
        self.rq.rx_list = self.rq.rx_tail = self.rq.rx_count = 0
        return found

    def receive_one(self, *parts: bytes, lengths: tuple[int, ...] | None = None) -> Skb:
        """Let a frame arrive and be received."""
        self.arrive(*parts, lengths=lengths)
        [skb] = self.receive()
        return skb

    def counters(self) -> dict[str, int]:
        """The receive counters that moved (sheet 4.8)."""
        names = ("packets", "bytes", "drops", "rx_length_errors", "rx_frame_errors", "xdp_drops")
        return {name: value for name in names if (value := getattr(self.rq, name))}

    def outgoing(self, data: bytes, headroom: int = 64) -> Skb:
        """An skb with ``data`` in its own head, behind ``headroom`` bytes; what does not fit is a frag of its own."""
        address = alloc_skb(self.skb_pool)
        assert address
        skb = skb_at(address)
        skb.data = skb.head + headroom
        linear = data[: 192 - headroom]
        ctypes.memmove(skb.data, linear, len(linear))
        skb.len = len(linear)
        if rest := data[len(linear) :]:
            page = alloc_pages(self.frag_pool)
            assert page
            ctypes.memmove(page_at(page).address, rest, len(rest))
            skb_add_rx_frag(skb, page, page_at(page).address, len(rest), len(rest))
        return skb

    def assert_nothing_lost(self) -> None:
        """Take back all buffers and see that each pool has everything again, and no page a user."""
        while token := virtqueue_detach_unused_buf(self.vq):
            if self.vi.mode == MODE_BIG:
                give_pages(self.rq, token)
            else:
                put_page(virt_to_head_page(self.rq, token))
        assert self.vq.num_free == self.vq.num
        assert self.vq.mapped == 0
        if self.rq.alloc_frag:
            put_page(self.rq.alloc_frag)
            self.rq.alloc_frag = 0
        while page := self.rq.pages:
            self.rq.pages = page_at(page).private
            page_at(page).private = 0
            put_page(page)
        assert self.frag_pool.free_count == self.frag_pool.total
        assert self.data_pool.free_count == self.data_pool.total
        for n in range(self.frag_pool.total):
            assert page_at(self.rq.pool_pages + n * PAGE_STRUCT_SIZE).refcount == 0
        assert self.skb_pool.free_count == self.skb_pool.total


def free(*skbs: Skb) -> None:
    """kfree_skb of each."""
    for skb in skbs:
        kfree_skb(skb.address)


def linear(skb: Skb) -> bytes:
    """The linear part."""
    return ctypes.string_at(skb.data, skb.len - skb.data_len)


def frags(skb: Skb) -> list[bytes]:
    """The skb's own frags."""
    found = [frag_at(skb.frags + n * 24) for n in range(skb.nr_frags)]
    return [ctypes.string_at(frag.address, frag.size) for frag in found]


def frag_list(skb: Skb) -> list[Skb]:
    """The skbs of the frag list."""
    found = []
    address = skb.frag_list
    while address:
        found.append(skb_at(address))
        address = found[-1].next
    return found


def contents(skb: Skb) -> bytes:
    """The whole frame."""
    return linear(skb) + b"".join(frags(skb)) + b"".join(b"".join(frags(part)) for part in frag_list(skb))
