"""The sk_buff-like object: one received frame, as bytes in the guest's pages and what is known about them.

Theory of operation
-------------------
An `Skb` has a *linear part* (``len - data_len`` bytes at ``data``), up to ``MAX_SKB_FRAGS`` *frags* that point into
pages, and, when those do not suffice, a *frag list* of further skbs: the driver's hold only frags, those that GRO
merged whole have a linear part too. Nothing is copied to build one but what Linux copies: the linear part is either a
small head that the driver filled, or the receive buffer itself (``build_skb``), in which case ``head_page`` holds a
reference to its page. Every frag holds a reference too; `kfree_skb` drops them all.

``data`` stays at the MAC header for the skb's whole life; where Linux pulls headers, here the offsets
``network_header`` and ``transport_header`` (bytes from ``data``) tell where a layer begins.

Skbs come from a pool with a fixed number of heads; a pool that is empty makes `alloc_skb` fail, as memory pressure
does.
"""

from __future__ import annotations

import numpy as np

from netemu.checksum import csum_fold, csum_partial, csum_swap
from netemu.jit import Struct, StructArray, array_of, i64, kernel, memcpy, pointer, struct
from netemu.memory import GuestMemory, signed
from netemu.pages import page_at, page_gpa, put_page
from netemu.pressure import allocation_refused

MAX_SKB_FRAGS = 17
SKB_HEAD_SIZE = 192
"""Bytes of an skb's own head: GOOD_COPY_LEN (128) and the pad in front of it (NET_SKB_PAD, 64)."""
SKB_HEAD_PAD = 64
SKB_CB = SKB_HEAD_SIZE
"""Where the skb's control block begins, counted from its head: a driver that owns the skb keeps a header there."""
SKB_CB_SCRATCH = SKB_CB + 48
"""Bytes behind it in which a short header may be put together."""
SKB_CB_SIZE = 64
SK_BUFF_SIZE = 256
"""sizeof(struct sk_buff), rounded up to a cache line."""
SHARED_INFO_SIZE = 320
"""sizeof(struct skb_shared_info), rounded up to a cache line; it depends on the kernel's configuration."""

CHECKSUM_NONE = 0
CHECKSUM_UNNECESSARY = 1
CHECKSUM_COMPLETE = 2
CHECKSUM_PARTIAL = 3

GSO_TUNNEL_CSUM = 0x100
"""Beside the virtio header's gso_type: the outer UDP checksum of a tunnel has to be made for each segment."""
GSO_TCP_ACCECN = 0x200
"""Beside it, too: CWR is part of Accurate ECN's counter, and the same in all segments."""


@struct
class Frag(Struct):
    """``size`` bytes of a frame at host ``address``, inside the page block ``page``."""

    address: i64
    size: i64
    page: i64
    """Address of the `netemu.pages.Page` that holds it."""


@struct
class Skb(Struct):
    """One frame. Lengths in bytes, times in ns, offsets from ``data``."""

    next: i64
    """Address of the next skb: in a receive list, in a frag list, or in the pool."""
    pool: i64
    """Address of the `SkbPool` it returns to."""
    head: i64
    """Host address of its own head (SKB_HEAD_SIZE bytes)."""
    head_gpa: i64
    """Guest-physical address of that head."""
    data: i64
    """Host address of the first linear byte, which is the first byte of the MAC header."""
    len: i64
    data_len: i64
    """Of ``len``, the bytes in frags and frag list."""
    truesize: i64
    head_page: i64
    """Address of the `Page` that holds the linear part, or 0 where that is the skb's own head."""
    nr_frags: i64
    frags: i64
    """Address of MAX_SKB_FRAGS `Frag` structs."""
    frag_list: i64
    frag_tail: i64
    """Last skb of the frag list, 0 while there is none."""
    ip_summed: i64
    csum_level: i64
    csum_start: i64
    csum_offset: i64
    gso_type: i64
    """The header's gso_type (virtio numbering) with its bits and the two above, 0 when the frame is not GSO."""
    gso_size: i64
    gso_segs: i64
    """Segments it stands for; 0 where nobody counted them (whoever sends it on has to: SKB_GSO_DODGY)."""
    hash: i64
    l4_hash: i64
    protocol: i64
    """EtherType by `eth_type_trans`, host order; ETH_P_802_3 or ETH_P_802_2 for frames without one."""
    pkt_type: i64
    network_header: i64
    transport_header: i64
    xdp: i64
    """1: an XDP program saw it, and passed it on."""
    meta_len: i64
    """Bytes of XDP metadata that lie in front of ``data``."""
    encapsulation: i64
    """1: there are headers inside a tunnel, of which the next three tell."""
    inner_protocol: i64
    """EtherType of the inner network header, host order."""
    inner_network_header: i64
    inner_transport_header: i64
    queue_mapping: i64
    """Receive queue it came in on; -1 in eras that do not record it."""
    tstamp: i64
    wire_len: i64
    """Length on the wire, which a snapped capture's frame exceeds its ``len`` by."""
    frame_id: i64
    """Number of the frame in the input, from 1; 0 where nobody numbered it."""
    sk: i64
    """Address of the `netemu.driver.sock.Sock` that its memory is charged to, or 0."""
    vnet_hdr: i64
    """Host address of a copy of the virtio header it came with (32 bytes), or 0."""


@struct
class SkbPool(Struct):
    """Free skbs."""

    free: i64
    free_count: i64
    total: i64
    refuse: i64
    """This many allocations to come are refused, as under memory pressure."""
    pressure: i64
    """Address of the `netemu.pressure.Pressure` that says which are refused besides, or 0."""
    alloc_failed: i64


skb_at = pointer(Skb)
frag_at = pointer(Frag)
skb_pool_at = pointer(SkbPool)
FRAG_SIZE = Frag.dtype.itemsize
SKB_SIZE = Skb.dtype.itemsize


@kernel
def alloc_skb(pool: SkbPool) -> i64:
    """Take an empty skb with its own head as linear part; return its address, or 0 when there is none."""
    if pool.refuse > 0 or pool.free == 0:
        if pool.refuse > 0:
            pool.refuse -= 1
        pool.alloc_failed += 1
        return 0
    if pool.pressure != 0 and allocation_refused(pool.pressure) != 0:
        pool.alloc_failed += 1
        return 0
    address = pool.free
    skb = skb_at(address)
    pool.free = skb.next
    pool.free_count -= 1
    skb.next = 0
    skb.data = skb.head + SKB_HEAD_PAD
    skb.len = 0
    skb.data_len = 0
    skb.truesize = SKB_HEAD_SIZE + SHARED_INFO_SIZE + SK_BUFF_SIZE
    skb.head_page = 0
    skb.nr_frags = 0
    skb.frag_list = 0
    skb.frag_tail = 0
    skb.ip_summed = CHECKSUM_NONE
    skb.csum_level = 0
    skb.csum_start = 0
    skb.csum_offset = 0
    skb.gso_type = 0
    skb.gso_size = 0
    skb.gso_segs = 0
    skb.encapsulation = 0
    skb.xdp = 0
    skb.meta_len = 0
    skb.hash = 0
    skb.l4_hash = 0
    skb.protocol = 0
    skb.pkt_type = 0
    skb.network_header = 0
    skb.transport_header = 0
    skb.queue_mapping = -1
    skb.frame_id = 0
    skb.vnet_hdr = 0
    return address


@kernel
def skb_add_rx_frag(skb: Skb, page: i64, address: i64, size: i64, truesize: i64) -> None:
    """Append ``size`` bytes at host ``address`` in ``page`` as a new frag; the caller's page reference goes with it."""
    frag = frag_at(skb.frags + skb.nr_frags * FRAG_SIZE)
    frag.address = address
    frag.size = size
    frag.page = page
    skb.nr_frags += 1
    skb.len += size
    skb.data_len += size
    skb.truesize += truesize


@kernel
def skb_gpa(skb: Skb, address: i64) -> i64:
    """Guest-physical address of a host address in the skb's linear part, or in its own head."""
    if skb.head_page != 0 and (address < skb.head or address >= skb.head + SKB_HEAD_SIZE):
        return page_gpa(page_at(skb.head_page), address)
    return address - skb.head + skb.head_gpa


@kernel
def frag_gpa(frag: Frag) -> i64:
    """Guest-physical address of a frag's first byte."""
    return page_gpa(page_at(frag.page), frag.address)


@kernel
def _release(skb: Skb, address: i64) -> None:
    """Drop the page references of one skb, not of its frag list, and return it to its pool."""
    at = skb.frags
    for _ in range(skb.nr_frags):
        put_page(frag_at(at).page)
        at += FRAG_SIZE
    if skb.head_page != 0:
        put_page(skb.head_page)
    pool = skb_pool_at(skb.pool)
    skb.next = pool.free
    pool.free = address
    pool.free_count += 1


@kernel
def kfree_skb(address: i64) -> None:
    """Free an skb with its frag list: all page references are dropped."""
    skb = skb_at(address)
    follower = skb.frag_list
    _release(skb, address)
    while follower != 0:
        following = skb_at(follower).next
        _release(skb_at(follower), follower)
        follower = following


@kernel
def _piece(target: i64, done: i64, address: i64, size: i64, total: i64) -> i64:
    """Copy ``size`` bytes behind the ``done`` ones at ``target``; where that is 0, return their sum added to ``total``.

    After an odd number of bytes, those of a sum are swapped.
    """
    if target != 0:
        memcpy(target + done, address, size)
        return 0
    part = csum_partial(address, size, 0)
    return total + (csum_swap(part) if done & 1 else part)


@kernel
def _walk(skb: Skb, offset: i64, target: i64, size: i64, total: i64) -> i64:
    """Copy ``size`` bytes of the frame from ``offset`` on to ``target``; where that is 0, add them to ``total``.

    An skb's linear part comes first, then its frags, then the same of each skb in the frag list. Copying and summing
    are one kernel because everybody has to compile both.
    """
    done = 0
    part = skb
    following = skb.frag_list
    while True:
        address = part.data
        length = part.len - part.data_len
        at = part.frags
        end = at + part.nr_frags * FRAG_SIZE
        while True:
            if offset < length:
                some = min(length - offset, size - done)
                total = _piece(target, done, address + offset, some, total)
                done += some
                if done == size:
                    return total
                offset = 0
            else:
                offset -= length
            if at == end:
                break
            frag = frag_at(at)
            address = frag.address
            length = frag.size
            at += FRAG_SIZE
        if following == 0:
            return total
        part = skb_at(following)
        following = part.next


@kernel
def skb_copy_bits(skb: Skb, offset: i64, target: i64, size: i64) -> i64:
    """Copy ``size`` bytes of the frame, from ``offset`` on, to host ``target``; 0, or -1 if the frame has fewer."""
    if offset < 0 or size < 0 or offset > skb.len - size:
        return -1
    if offset + size <= skb.len - skb.data_len:
        memcpy(target, skb.data + offset, size)
    else:
        _walk(skb, offset, target, size, 0)
    return 0


@kernel
def skb_header_pointer(skb: Skb, offset: i64, size: i64, scratch: i64) -> i64:
    """Return a host address where ``size`` bytes from ``offset`` on lie side by side, or 0 if the frame has fewer.

    They are the skb's own bytes where those are contiguous, else a copy in ``scratch`` (at least ``size`` bytes).
    """
    linear = skb.len - skb.data_len
    if 0 <= offset and offset + size <= linear:
        return skb.data + offset
    if skb.nr_frags > 0 and offset >= linear:
        frag = frag_at(skb.frags)
        if offset - linear + size <= frag.size:
            return frag.address + offset - linear
    if skb_copy_bits(skb, offset, scratch, size) < 0:
        return 0
    return scratch


@kernel
def skb_checksum(skb: Skb, offset: i64, size: i64, total: i64) -> i64:
    """Add ``size`` bytes of the frame from ``offset`` on to an unfolded sum (see `netemu.checksum`).

    The caller has made sure that the frame is long enough.
    """
    if offset + size <= skb.len - skb.data_len:
        return csum_partial(skb.data + offset, size, total)
    return _walk(skb, offset, 0, size, total)


@kernel
def skb_checksum_ok(skb: Skb, offset: i64, size: i64, pseudo: i64) -> i64:
    """1 if the bytes and the pseudo-header sum ``pseudo`` (little-endian words) add up to all ones, else 0."""
    return 1 if csum_fold(skb_checksum(skb, offset, size, pseudo)) == 0xFFFF else 0


class Skbs:
    """An `SkbPool` together with the skbs, frags and heads it owns."""

    def __init__(self, memory: GuestMemory, count: int) -> None:
        """Make ``count`` skbs whose heads lie in ``memory``."""
        self.pool = SkbPool(total=count, free_count=count)
        self.skbs: StructArray[Skb] = array_of(Skb, count)
        self.frags: StructArray[Frag] = array_of(Frag, count * MAX_SKB_FRAGS)
        stride = SKB_HEAD_SIZE + SKB_CB_SIZE
        heads_gpa = memory.reserve(count * stride)
        heads = memory.host_address(heads_gpa, count * stride)
        view = self.skbs.view
        order = np.arange(count)
        view["pool"] = self.pool.address
        view["head"] = heads + order * stride
        view["head_gpa"] = signed(heads_gpa) + order * stride
        view["frags"] = self.frags.address + order * MAX_SKB_FRAGS * FRAG_SIZE
        view["next"] = self.skbs.address + (order + 1) * SKB_SIZE
        view["next"][-1:] = 0
        self.pool.free = self.skbs.address if count else 0
