"""The frames a guest sends as skbs: where their bytes lie, and the memory for them.

As Linux's senders build them: up to 128 bytes in the skb's own head; other frames in one piece of a 32 KiB block, with
header room in front (what does not fit goes on in frags); and those that are to be segmented with their headers in the
head and their payload in frags of such blocks, as TCP does. Blocks are cut front to back, each piece holds a reference.
"""

from __future__ import annotations

from netemu.driver.sock import WMEM_DEFAULT, Sock
from netemu.driver.transmit_header import ETH_P_IPV6, GSO_MODIFIERS, TCP_DATA_OFFSET, UDP_HEADER
from netemu.driver.virtnet import GOOD_COPY_LEN, SendQueue, Tag
from netemu.jit import StructArray, allocate, array_of, i64, kernel, load8, load16, memcpy
from netemu.memory import GuestMemory
from netemu.pages import PAGE_SIZE, Pages, alloc_pages, get_page, page_at, page_pool_at, put_page
from netemu.skb import (
    CHECKSUM_PARTIAL,
    GSO_TUNNEL_CSUM,
    MAX_SKB_FRAGS,
    SKB_HEAD_PAD,
    SKB_HEAD_SIZE,
    Skb,
    Skbs,
    alloc_skb,
    kfree_skb,
    skb_add_rx_frag,
    skb_at,
    skb_copy_bits,
    skb_pool_at,
)
from netemu.virtio.net import (
    GSO_UDP_L4,
    GSO_UDP_TUNNEL,
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_INNER_NH_OFFSET,
    HDR_LEN_MAX,
    HDR_OUTER_TH_OFFSET,
    NEEDS_CSUM,
    UDP_TUNNEL_CSUM,
)

ETH_P_IP = 0x0800
BLOCK_ORDER = 3
BLOCKS = 32
"""Blocks of 32 KiB for the frames of a send queue: several times what a socket's account allows."""
SKBS_SPARE = 64
TX_QUEUE_LEN = 1000
"""txqueuelen of an Ethernet device."""
FRAME_ROOM = 1 << 17
"""Bytes in which a frame can be put together."""
_CACHE_LINE = 64


@kernel
def _room(sq: SendQueue, least: i64) -> i64:
    """Bytes left in the block being cut, at least ``least``, in a new one if need be; 0 without memory."""
    if sq.alloc_frag != 0:
        left = page_at(sq.alloc_frag).size - sq.alloc_frag_offset
        if left >= least:
            return left
        put_page(sq.alloc_frag)
        sq.alloc_frag = 0
    sq.alloc_frag = alloc_pages(page_pool_at(sq.frag_pool))
    sq.alloc_frag_offset = 0
    return 0 if sq.alloc_frag == 0 else page_at(sq.alloc_frag).size


@kernel
def _add_frags(sq: SendQueue, skb: Skb, source: i64, size: i64) -> i64:
    """Append bytes as frags; 0 if memory or frags run out."""
    while size > 0:
        room = _room(sq, 1)
        if room == 0 or skb.nr_frags == MAX_SKB_FRAGS:
            return 0
        part = min(room, size)
        page = page_at(sq.alloc_frag)
        get_page(page)
        address = page.address + sq.alloc_frag_offset
        memcpy(address, source, part)
        skb_add_rx_frag(skb, sq.alloc_frag, address, part, part)
        sq.alloc_frag_offset += part
        source += part
        size -= part
    return 1


@kernel
def _linear_in_block(sq: SendQueue, skb: Skb, source: i64, size: i64) -> i64:
    """Put the linear part into a block, behind room for a header; how many bytes went there, 0 without memory."""
    block = PAGE_SIZE << BLOCK_ORDER
    linear = min(size, block - SKB_HEAD_PAD)
    sq.alloc_frag_offset = (sq.alloc_frag_offset + _CACHE_LINE - 1) & ~(_CACHE_LINE - 1)
    if _room(sq, SKB_HEAD_PAD + linear) == 0:
        return 0
    page = page_at(sq.alloc_frag)
    get_page(page)
    skb.head_page = sq.alloc_frag
    skb.data = page.address + sq.alloc_frag_offset + SKB_HEAD_PAD
    memcpy(skb.data, source, linear)
    sq.alloc_frag_offset += SKB_HEAD_PAD + linear
    skb.truesize += SKB_HEAD_PAD + linear
    return linear


@kernel
def lay_out(sq: SendQueue, skb: Skb, source: i64, size: i64) -> i64:
    """Give an empty skb, whose GSO fields are set, ``size`` bytes from host ``source``; 0 without memory."""
    if skb.gso_size != 0:
        skb.data = skb.head + HDR_LEN_MAX
        linear = min(_gso_headers(skb, source, size), SKB_HEAD_SIZE - HDR_LEN_MAX)
        memcpy(skb.data, source, linear)
    elif size <= GOOD_COPY_LEN:
        linear = size
        memcpy(skb.data, source, linear)
    else:
        linear = _linear_in_block(sq, skb, source, size)
        if linear == 0:
            return 0
    skb.len = linear
    return _add_frags(sq, skb, source + linear, size - linear)


@kernel
def _gso_headers(skb: Skb, source: i64, size: i64) -> i64:
    """Bytes of the headers of a frame that is still in one piece, at most all of it."""
    headers = skb.csum_start + UDP_HEADER
    if skb.gso_type & ~GSO_MODIFIERS != GSO_UDP_L4 and skb.csum_start + TCP_DATA_OFFSET < size:
        headers = skb.csum_start + (load8(source + skb.csum_start + TCP_DATA_OFFSET) >> 4) * 4
    return min(headers, size)


@kernel
def _take_over(skb: Skb, source: i64, size: i64, vnet: i64) -> None:
    """What the header at host ``vnet`` leaves undone, as the skb's fields."""
    flags = load8(vnet + HDR_FLAGS)
    if flags & NEEDS_CSUM == 0:
        return
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = load16(vnet + HDR_CSUM_START)
    skb.csum_offset = load16(vnet + HDR_CSUM_OFFSET)
    skb.gso_type = load8(vnet + HDR_GSO_TYPE)
    skb.gso_size = load16(vnet + HDR_GSO_SIZE) if skb.gso_type != 0 else 0
    if skb.gso_type & GSO_UDP_TUNNEL:
        skb.encapsulation = 1
        skb.transport_header = load16(vnet + HDR_OUTER_TH_OFFSET)
        skb.inner_network_header = load16(vnet + HDR_INNER_NH_OFFSET)
        skb.inner_transport_header = skb.csum_start
        inside = load8(source + skb.inner_network_header) >> 4 if skb.inner_network_header < size else 0
        skb.inner_protocol = ETH_P_IPV6 if inside == 6 else ETH_P_IP
        if flags & UDP_TUNNEL_CSUM:
            skb.gso_type |= GSO_TUNNEL_CSUM


@kernel
def build_outgoing(sq: SendQueue, source: i64, size: i64, vnet: i64) -> i64:
    """An skb to send: ``size`` bytes from host ``source``, with a virtio header at ``vnet`` (0: none).

    Its address, or 0 without memory.
    """
    address = alloc_skb(skb_pool_at(sq.skb_pool))
    if address == 0:
        return 0
    skb = skb_at(address)
    if vnet != 0:
        _take_over(skb, source, size, vnet)
    if lay_out(sq, skb, source, size) == 0:
        kfree_skb(address)
        return 0
    return address


@kernel
def _linear_of_pieces(
    skb: Skb, head: i64, head_len: i64, payload: i64, payload_len: i64, more: i64, more_len: i64
) -> None:
    """Copy header and payload, which lies in two pieces, side by side to where the linear part is."""
    memcpy(skb.data, head, head_len)
    memcpy(skb.data + head_len, payload, payload_len)
    if more_len > 0:
        memcpy(skb.data + head_len + payload_len, more, more_len)
    skb.len = head_len + payload_len + more_len


@kernel
def build_from_pieces(
    sq: SendQueue, head: i64, head_len: i64, payload: i64, payload_len: i64, more: i64, more_len: i64, large: i64
) -> i64:
    """An skb to send, of a header of up to GOOD_COPY_LEN bytes and a payload in two pieces; 0 without memory.

    ``large``: it is to be segmented, so the payload goes into frags. Checksum and GSO fields are the caller's to set.
    """
    address = alloc_skb(skb_pool_at(sq.skb_pool))
    if address == 0:
        return 0
    skb = skb_at(address)
    size = head_len + payload_len + more_len
    if size <= GOOD_COPY_LEN:
        _linear_of_pieces(skb, head, head_len, payload, payload_len, more, more_len)
        return address
    if large == 0 and size <= PAGE_SIZE:
        sq.alloc_frag_offset = (sq.alloc_frag_offset + _CACHE_LINE - 1) & ~(_CACHE_LINE - 1)
        if _room(sq, SKB_HEAD_PAD + size) != 0:
            page = page_at(sq.alloc_frag)
            get_page(page)
            skb.head_page = sq.alloc_frag
            skb.data = page.address + sq.alloc_frag_offset + SKB_HEAD_PAD
            _linear_of_pieces(skb, head, head_len, payload, payload_len, more, more_len)
            sq.alloc_frag_offset += SKB_HEAD_PAD + size
            skb.truesize += SKB_HEAD_PAD + size
            return address
    else:
        skb.data = skb.head + HDR_LEN_MAX
        _linear_of_pieces(skb, head, head_len, 0, 0, 0, 0)
        if _add_frags(sq, skb, payload, payload_len) != 0 and _add_frags(sq, skb, more, more_len) != 0:
            return address
    kfree_skb(address)
    return 0


@kernel
def skb_linearize(sq: SendQueue, address: i64) -> i64:
    """Copy an skb that has a frag list into one that has none, and free it; the copy's address, or 0 without memory."""
    skb = skb_at(address)
    copy_address = alloc_skb(skb_pool_at(sq.skb_pool))
    if copy_address == 0 or skb.len > FRAME_ROOM:
        if copy_address != 0:
            kfree_skb(copy_address)
        kfree_skb(address)
        return 0
    copy = skb_at(copy_address)
    copy.ip_summed = skb.ip_summed
    copy.csum_start = skb.csum_start
    copy.csum_offset = skb.csum_offset
    copy.gso_type = skb.gso_type
    copy.gso_size = skb.gso_size
    copy.encapsulation = skb.encapsulation
    copy.inner_protocol = skb.inner_protocol
    copy.inner_network_header = skb.inner_network_header
    copy.inner_transport_header = skb.inner_transport_header
    copy.transport_header = skb.transport_header
    copy.frame_id = skb.frame_id
    copy.tstamp = skb.tstamp
    copy.wire_len = skb.wire_len
    skb_copy_bits(skb, 0, sq.scratch, skb.len)
    done = lay_out(sq, copy, sq.scratch, skb.len)
    kfree_skb(address)
    if done == 0:
        kfree_skb(copy_address)
        return 0
    return copy_address


class SendMemory:
    """What a send queue needs to send frames of the guest's own: skbs, blocks, and a socket to charge them to."""

    def __init__(self, memory: GuestMemory, sq: SendQueue, num: int) -> None:
        """Give memory to a queue with a ring of up to ``num``; raises `NetemuError` where the guest has too little."""
        self._skbs = Skbs(memory, num + SKBS_SPARE)
        self._blocks = Pages(memory, BLOCKS, BLOCK_ORDER)
        self._tags: StructArray[Tag] = array_of(Tag, num)
        self._scratch = allocate(FRAME_ROOM)
        self._sq = sq
        self.sock = Sock(sndbuf=WMEM_DEFAULT)
        sq.skb_pool = self._skbs.pool.address
        sq.frag_pool = self._blocks.pool.address
        sq.scratch = self._scratch.address
        sq.sk = self.sock.address
        sq.tags = self._tags.address
        sq.sent = 0
        sq.tx_queue_len = TX_QUEUE_LEN

    def idle(self) -> bool:
        """Whether no frame holds any of it; the block being cut does not count."""
        pool, blocks = self._skbs.pool, self._blocks.pool
        being_cut = int(self._sq.alloc_frag != 0)
        return (
            pool.free_count == pool.total and blocks.free_count + being_cut == blocks.total and not self.sock.wmem_alloc
        )


def memory_for_sending(num: int) -> int:
    """Bytes of guest memory that `SendMemory` takes for a ring of ``num``."""
    return BLOCKS * (PAGE_SIZE << BLOCK_ORDER) + (num + SKBS_SPARE) * 512 + PAGE_SIZE
