"""Receive buffers: how each mode makes them, and when the ring is filled again.

After Linux's add_recvbuf_small, add_recvbuf_big, add_recvbuf_mergeable, try_fill_recv and refill_work.
"""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.napi import napi_disable, napi_enable
from netemu.driver.virtio_ring import (
    ENOMEM,
    SCATTER_SIZE,
    scatter_at,
    virtqueue_add,
    virtqueue_at,
    virtqueue_kick_prepare,
    virtqueue_notify,
)
from netemu.driver.virtnet import (
    GOOD_PACKET_LEN,
    L1_CACHE_BYTES,
    MODE_BIG,
    MODE_MERGEABLE,
    RQ_SIZE,
    SQ_SIZE,
    VIRTNET_RX_PAD,
    ReceiveQueue,
    SendQueue,
    VirtnetInfo,
    napi_at,
    rq_at,
    sq_at,
    vi_at,
)
from netemu.jit import entry, i64, kernel
from netemu.pages import (
    PAGE_SIZE,
    PAGE_STRUCT_SIZE,
    alloc_pages,
    get_page,
    page_at,
    page_gpa,
    page_pool_at,
    put_page,
)

MRG_CTX_HEADER_SHIFT = 22
REFILL_BACKOFF_NS = 500_000_000
"""HZ/2, after which the refill work tries again."""
EWMA_WEIGHT = 64
XDP_HEADROOM = 256
XDP_ROOM = 576
"""What a mergeable buffer for XDP does not show the device: headroom and shared info, rounded up to cache lines."""


@kernel
def skb_page_frag_refill(rq: ReceiveQueue, size: i64, record: i64) -> i64:
    """Make sure the queue's block has ``size`` bytes left; 0, or ENOMEM.

    A block that nobody else holds any more is cut from its start again, unless its DMA record holds it; one that is
    too full is let go.
    """
    if rq.alloc_frag != 0:
        page = page_at(rq.alloc_frag)
        if page.refcount == 1 and record == 0:
            rq.alloc_frag_offset = 0
        if rq.alloc_frag_offset + size <= page.size:
            return 0
        put_page(rq.alloc_frag)
        rq.alloc_frag = 0
    rq.alloc_frag = alloc_pages(page_pool_at(rq.frag_pool))
    rq.alloc_frag_offset = 0
    return 0 if rq.alloc_frag != 0 else ENOMEM


@kernel
def _cut(rq: ReceiveQueue, size: i64, record: i64) -> i64:
    """Take ``size`` bytes of the queue's block, with a reference to it; return their host address, or 0 without memory.

    A fresh block starts with its DMA record of ``record`` bytes.
    """
    if skb_page_frag_refill(rq, size, record) != 0:
        return 0
    if rq.alloc_frag_offset == 0:
        rq.alloc_frag_offset = record
    page = page_at(rq.alloc_frag)
    address = page.address + rq.alloc_frag_offset
    rq.alloc_frag_offset += size
    get_page(page)
    return address


@kernel
def add_recvbuf_small(vi: VirtnetInfo, rq: ReceiveQueue) -> i64:
    """Post one buffer that holds a header and GOOD_PACKET_LEN bytes."""
    buffer = _cut(rq, vi.small_buf_size + vi.xdp_headroom, era_at(vi.era).dma_record)
    if buffer == 0:
        return ENOMEM
    sg = scatter_at(rq.sg)
    sg.gpa = page_gpa(page_at(rq.alloc_frag), buffer) + VIRTNET_RX_PAD + vi.xdp_headroom
    sg.length = vi.hdr_len + GOOD_PACKET_LEN
    error = virtqueue_add(virtqueue_at(rq.vq), rq.sg, 0, 1, buffer, vi.xdp_headroom)
    if error < 0:
        put_page(virt_to_head_page(rq, buffer))
    return error


@kernel
def get_a_page(rq: ReceiveQueue) -> i64:
    """A page from the queue's private list, else from the allocator; 0 when there is none."""
    taken = rq.pages
    if taken != 0:
        page = page_at(taken)
        rq.pages = page.private
        page.private = 0
        return taken
    return alloc_pages(page_pool_at(rq.page_pool))


@kernel
def give_pages(rq: ReceiveQueue, chain: i64) -> None:
    """Put a chain of pages, linked by ``private``, on the queue's private list."""
    first = page_at(chain)
    last = first
    if first.last != 0:
        last = page_at(first.last)
        first.last = 0
    while last.private != 0:
        last = page_at(last.private)
    last.private = rq.pages
    rq.pages = chain


@kernel
def add_recvbuf_big(vi: VirtnetInfo, rq: ReceiveQueue) -> i64:
    """Post a chain of pages: the header alone, then the rest of the first page, then the others.

    Between header and data lies a gap that no device sees, so that the data starts at the padded header's end.
    """
    chain = 0
    tail = 0
    for n in range(vi.big_packets_num_skbfrags + 1, 1, -1):
        taken = get_a_page(rq)
        if taken == 0:
            if chain != 0:
                give_pages(rq, chain)
            return ENOMEM
        page = page_at(taken)
        sg = scatter_at(rq.sg + n * SCATTER_SIZE)
        sg.gpa = page.gpa
        sg.length = PAGE_SIZE
        page.private = chain
        if chain == 0:
            tail = taken
        chain = taken
    first = get_a_page(rq)
    if first == 0:
        if chain != 0:
            give_pages(rq, chain)
        return ENOMEM
    page = page_at(first)
    padded = era_at(vi.era).padded_vnet_hdr
    header = scatter_at(rq.sg)
    header.gpa = page.gpa
    header.length = vi.hdr_len
    data = scatter_at(rq.sg + SCATTER_SIZE)
    data.gpa = page.gpa + padded
    data.length = PAGE_SIZE - padded
    page.private = chain
    page.last = tail
    error = virtqueue_add(virtqueue_at(rq.vq), rq.sg, 0, vi.big_packets_num_skbfrags + 2, first, 0)
    if error < 0:
        give_pages(rq, first)
    return error


@kernel
def ewma_pkt_len_add(average: i64, sample: i64) -> i64:
    """The running average of packet lengths after one more: weight 64, precision 0; 0 is no average yet."""
    if average == 0:
        return sample
    return ((EWMA_WEIGHT - 1) * average + sample) // EWMA_WEIGHT


@kernel
def get_mergeable_buf_len(vi: VirtnetInfo, rq: ReceiveQueue) -> i64:
    """Bytes of the next mergeable buffer: header and average packet, within bounds, rounded up to a cache line."""
    era = era_at(vi.era)
    hdr_len = era.mergeable_hdr_len if era.mergeable_hdr_len != 0 else vi.hdr_len
    length = min(max(rq.mrg_avg_pkt_len, rq.min_buf_len), PAGE_SIZE - hdr_len)
    return (hdr_len + length + L1_CACHE_BYTES - 1) & ~(L1_CACHE_BYTES - 1)


@kernel
def add_recvbuf_mergeable(vi: VirtnetInfo, rq: ReceiveQueue) -> i64:
    """Post one mergeable buffer; what would be left of the block as a hole too small for another is added to it.

    Buffers for an XDP program have room in front and behind, and a page together with it; newer kernels let the hole
    be then, since it would make the buffer longer than a page.
    """
    era = era_at(vi.era)
    room = 0
    if vi.xdp_headroom == 0:
        length = get_mergeable_buf_len(vi, rq)
    else:
        room = XDP_ROOM
        length = PAGE_SIZE - room
    buffer = _cut(rq, length + room, era.dma_record)
    if buffer == 0:
        return ENOMEM
    page = page_at(rq.alloc_frag)
    hole = page.size - rq.alloc_frag_offset
    if hole < length + room:
        rq.alloc_frag_offset += hole
        if room == 0 or era.xdp_multi_buffer == 0:
            length += hole
    buffer += vi.xdp_headroom
    sg = scatter_at(rq.sg)
    sg.gpa = page_gpa(page, buffer)
    sg.length = length
    truesize = length + room if era.mergeable_check_after_room != 0 else length
    ctx = mergeable_len_to_ctx(truesize, vi.xdp_headroom)
    error = virtqueue_add(virtqueue_at(rq.vq), rq.sg, 0, 1, buffer, ctx)
    if error < 0:
        put_page(virt_to_head_page(rq, buffer))
    return error


@kernel
def mergeable_len_to_ctx(truesize: i64, headroom: i64) -> i64:
    """Pack what the driver remembers of a mergeable buffer."""
    return (headroom << MRG_CTX_HEADER_SHIFT) | truesize


@kernel
def mergeable_ctx_to_truesize(ctx: i64) -> i64:
    """The truesize packed by `mergeable_len_to_ctx`."""
    return ctx & ((1 << MRG_CTX_HEADER_SHIFT) - 1)


@kernel
def mergeable_ctx_to_headroom(ctx: i64) -> i64:
    """The headroom packed by `mergeable_len_to_ctx`."""
    return ctx >> MRG_CTX_HEADER_SHIFT


@kernel
def virt_to_head_page(rq: ReceiveQueue, address: i64) -> i64:
    """The `Page` of the block that a small or mergeable buffer was cut from."""
    from_start = (address - rq.pool_host) >> rq.pool_shift
    return rq.pool_pages + from_start * PAGE_STRUCT_SIZE


@kernel
def try_fill_recv(vi: VirtnetInfo, rq: ReceiveQueue) -> i64:
    """Post buffers until the ring is full or memory is out, then kick; 0 only when memory was out."""
    vq = virtqueue_at(rq.vq)
    rq.refills += 1
    while True:
        if vi.mode == MODE_MERGEABLE:
            error = add_recvbuf_mergeable(vi, rq)
        elif vi.mode == MODE_BIG:
            error = add_recvbuf_big(vi, rq)
        else:
            error = add_recvbuf_small(vi, rq)
        if error != 0 or vq.num_free == 0:
            break
    if virtqueue_kick_prepare(vq) != 0 and virtqueue_notify(vq) != 0:
        rq.kicks += 1
    if error == ENOMEM:
        rq.oom += 1
        return 0
    return 1


@kernel
def refill_wanted(vi: VirtnetInfo, rq: ReceiveQueue, budget: i64) -> i64:
    """1 if enough of the ring is free to refill it at the end of a poll."""
    vq = virtqueue_at(rq.vq)
    threshold = vq.num // 2 if era_at(vi.era).refill_at_half_ring != 0 else min(budget, vq.num) // 2
    return 1 if vq.num_free > threshold else 0


@kernel
def schedule_refill(vi: VirtnetInfo, delay: i64) -> None:
    """schedule_delayed_work: run `refill_work` after ``delay`` ns, unless it is due already."""
    if era_at(vi.era).refill_enabled_gate != 0 and vi.refill_enabled == 0:
        return
    if vi.refill_due < 0:
        vi.refill_due = vi.now + delay


@kernel
def refill_work(vi: VirtnetInfo) -> None:
    """The delayed work: fill every queue, its NAPI off meanwhile; try again in HZ/2 where memory is still out."""
    vi.refill_due = -1
    vi.refill_runs += 1
    for n in range(vi.curr_queue_pairs):
        rq = rq_at(vi.rq + n * RQ_SIZE)
        napi = napi_at(rq.napi)
        napi_disable(napi)
        still_empty = try_fill_recv(vi, rq) == 0
        napi_enable(napi, virtqueue_at(rq.vq))
        if still_empty:
            schedule_refill(vi, REFILL_BACKOFF_NS)


@kernel
def virtnet_napi_tx_enable(sq: SendQueue) -> None:
    """Turn a send queue's NAPI on; it runs once at once, for what was sent while it was off and nobody freed."""
    napi = napi_at(sq.napi)
    napi.enabled = 1
    if napi.weight > 0:
        napi_enable(napi, virtqueue_at(sq.vq))


@entry
def virtnet_open(vi_address: i64) -> None:
    """Bring the interface up: fill the queues in use, then turn NAPI on for all; each runs once at once.

    The first poll picks up what arrived before NAPI was on, for which no interrupt would come.
    """
    vi = vi_at(vi_address)
    vi.refill_enabled = 1
    for n in range(vi.max_queue_pairs):
        rq = rq_at(vi.rq + n * RQ_SIZE)
        if n < vi.curr_queue_pairs and try_fill_recv(vi, rq) == 0 and era_at(vi.era).refill_work != 0:
            schedule_refill(vi, 0)
        napi_enable(napi_at(rq.napi), virtqueue_at(rq.vq))
        virtnet_napi_tx_enable(sq_at(vi.sq + n * SQ_SIZE))
