"""XDP in the driver: a program runs on each receive buffer before there is an skb, and says what becomes of the frame.

After Linux's receive_small_xdp, receive_mergeable_xdp and xdp_linearize_page.

Theory of operation
-------------------
`receive_xdp` takes the place of receive_small and receive_mergeable on a queue with a program; big buffers never see
one. Its result is that of receive_buf: an skb, 0 for a frame dropped (and counted, as Linux does), or below zero for
one that was sent away. Who holds the buffer's page changes with the verdict: passed, it is the skb's; sent back, that
of the skb that stands for Linux's xdp_frame on the send queue; redirected, the frame is copied and the page given back.

A page of its own, of `XdpQueue.pages`, holds what a program cannot be shown where it lies: a frame in a buffer from
before the program came, without headroom, or one in several buffers.
"""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.receive import (
    build_skb,
    drain,
    drop,
    drop_merged,
    keep_header,
    merge_rest,
    page_to_skb,
    small_length,
    too_long,
)
from netemu.driver.refill import (
    XDP_HEADROOM,
    XDP_ROOM,
    mergeable_ctx_to_headroom,
    mergeable_ctx_to_truesize,
    virt_to_head_page,
)
from netemu.driver.virtio_ring import virtqueue_at, virtqueue_get_buf_ctx
from netemu.driver.virtnet import MODE_MERGEABLE, VIRTNET_RX_PAD, ReceiveQueue, VirtnetInfo, rq_at, vi_at
from netemu.driver.xdp_verdict import (
    XdpQueue,
    frags_to_skb,
    put_xdp_frags,
    refuse,
    virtnet_xdp_handler,
    xdp_queue_at,
)
from netemu.jit import entry, i64, kernel, load8, load16, memcpy, memset, store8
from netemu.pages import PAGE_SIZE, alloc_pages, page_at, page_pool_at, put_page
from netemu.reasons import LENGTH_ERROR, NO_MEMORY, XDP_UNFIT
from netemu.skb import FRAG_SIZE, MAX_SKB_FRAGS, SHARED_INFO_SIZE, frag_at, skb_at
from netemu.virtio.net import HDR_FLAGS, HDR_GSO_TYPE, HDR_LEN_MAX, HDR_NUM_BUFFERS, NEEDS_CSUM
from netemu.xdp import XdpBuff, xdp_buff_at


@kernel
def _prepare(
    vi: VirtnetInfo, rq: ReceiveQueue, xq: XdpQueue, hard_start: i64, data: i64, length: i64, hard_end: i64
) -> XdpBuff:
    """xdp_prepare_buff: show a frame of one buffer."""
    era = era_at(vi.era)
    buff = xdp_buff_at(xq.buff)
    buff.data_hard_start = hard_start
    buff.data = data
    buff.data_meta = data
    buff.data_end = data + length
    buff.data_hard_end = hard_end
    buff.rx_queue_index = rq.index
    buff.redirect_target = 0
    buff.may_grow = era.xdp_may_grow
    buff.meta_max = era.xdp_meta_max
    buff.nr_frags = 0
    buff.frags_size = 0
    return buff


@kernel
def _after_pass(vi: VirtnetInfo, xq: XdpQueue, address: i64, flags: i64) -> None:
    """The skb of a frame that passed: a header of zeros, but for the flags it came with in newer kernels; metadata."""
    skb = skb_at(address)
    buff = xdp_buff_at(xq.buff)
    skb.xdp = 1
    if era_at(vi.era).xdp_keeps_header == 0:
        skb.vnet_hdr = skb.head
        memset(skb.head, 0, HDR_LEN_MAX)
        if era_at(vi.era).xdp_restores_flags != 0:
            store8(skb.head + HDR_FLAGS, flags)
    meta = buff.data - buff.data_meta
    skb.meta_len = meta
    if skb.head_page == 0:
        memcpy(skb.data - meta, buff.data_meta, meta)


@kernel
def _cannot_be_shown(vi: VirtnetInfo, header: i64) -> i64:
    """1 for frames no program is shown: GSO, and in newer kernels those with an unfinished checksum."""
    if load8(header + HDR_GSO_TYPE) != 0:
        return 1
    return 1 if era_at(vi.era).xdp_drops_needs_csum != 0 and load8(header + HDR_FLAGS) & NEEDS_CSUM else 0


@kernel
def _small(vi: VirtnetInfo, rq: ReceiveQueue, xq: XdpQueue, buffer: i64, used: i64, headroom: i64) -> i64:
    """receive_small with a program."""
    era = era_at(vi.era)
    rq.bytes += used - vi.hdr_len
    page = virt_to_head_page(rq, buffer)
    header = buffer + VIRTNET_RX_PAD + headroom
    length = small_length(vi, rq, page, header + vi.hdr_len, used - vi.hdr_len)
    if length < 0:
        put_page(page)
        return 0
    flags = load8(header + HDR_FLAGS)
    if _cannot_be_shown(vi, header) != 0:
        put_page(page)
        return refuse(rq, XDP_UNFIT)
    if headroom < XDP_HEADROOM:
        headroom = XDP_HEADROOM
        xq.remaining = 1
        fresh = _linearize(vi, rq, xq, header, length + vi.hdr_len, VIRTNET_RX_PAD + headroom)
        put_page(page)
        if fresh == 0:
            return refuse(rq, NO_MEMORY)
        page = fresh
        buffer = page_at(fresh).address
        header = buffer + VIRTNET_RX_PAD + headroom
    size = vi.small_buf_size + headroom
    data = header + vi.hdr_len
    hard_start = data - headroom
    # A frame that v4.19 believes to be longer than its buffer is not cut here.
    hard_end = max(buffer + size - SHARED_INFO_SIZE, data + length)
    buff = _prepare(vi, rq, xq, hard_start, data, length, hard_end)
    act = virtnet_xdp_handler(vi, rq, xq, page)
    if act <= 0:
        return act
    address = build_skb(rq, page, buff.data, buff.data_end - buff.data, size)
    if address == 0:
        put_page(page)
        rq.drops += era.small_failure_counts
        rq.last_drop = NO_MEMORY
        return 0
    _after_pass(vi, xq, address, flags)
    if era.xdp_keeps_header != 0:
        keep_header(vi, skb_at(address), header)
        if buff.data != data:
            memset(skb_at(address).head, 0, HDR_LEN_MAX)
    return address


@kernel
def _linearize(vi: VirtnetInfo, rq: ReceiveQueue, xq: XdpQueue, source: i64, size: i64, headroom: i64) -> i64:
    """xdp_linearize_page: ``size`` bytes at ``source`` and the buffers that follow, in one fresh page; 0 if that fails.

    The frame starts ``headroom`` into the page, and 320 bytes stay free behind it. Buffers that follow are taken off
    the ring, ``xq.remaining`` says how many are left. Lengths of later buffers were believed until v6.16; here a buffer
    ends with its block at the latest.
    """
    page = alloc_pages(page_pool_at(xq.pages))
    if page == 0:
        return 0
    base = page_at(page).address
    at = headroom
    fits = at + size + SHARED_INFO_SIZE <= PAGE_SIZE
    if fits:
        memcpy(base + at, source, size)
        at += size
    vq = virtqueue_at(rq.vq)
    while fits and xq.remaining != 1:
        xq.remaining -= 1
        buffer, used, ctx = virtqueue_get_buf_ctx(vq)
        if buffer == 0:
            fits = False
            break
        rq.buffers_used += 1
        held = virt_to_head_page(rq, buffer)
        block = page_at(held)
        fits = at + used + SHARED_INFO_SIZE <= PAGE_SIZE and buffer + used <= block.address + block.size
        if era_at(vi.era).xdp_multi_buffer != 0 and too_long(vi, rq, used, ctx) != 0:
            fits = False
        if fits:
            memcpy(base + at, buffer, used)
            at += used
        put_page(held)
    if not fits:
        put_page(page)
        return 0
    xq.length = at - headroom
    return page


@kernel
def _error(rq: ReceiveQueue, page: i64, remaining: i64, reason: i64) -> i64:
    """err_xdp of mergeable buffers: what is left of the frame leaves the ring, too."""
    put_page(page)
    drain(rq, remaining)
    return refuse(rq, reason)


@kernel
def _collect_frags(vi: VirtnetInfo, rq: ReceiveQueue, xq: XdpQueue, buff: XdpBuff) -> i64:
    """virtnet_build_xdp_buff_mrg: take the frame's other buffers as frags; 0, or -1 where that cannot be."""
    if xq.remaining > MAX_SKB_FRAGS + 1:
        return -1
    vq = virtqueue_at(rq.vq)
    while xq.remaining > 1:
        xq.remaining -= 1
        buffer, used, ctx = virtqueue_get_buf_ctx(vq)
        if buffer == 0:
            rq.rx_length_errors += 1
            return -1
        rq.buffers_used += 1
        rq.bytes += used
        page = virt_to_head_page(rq, buffer)
        if too_long(vi, rq, used, ctx) != 0:
            put_page(page)
            return -1
        frag = frag_at(buff.frags + buff.nr_frags * FRAG_SIZE)
        frag.address = buffer
        frag.size = used
        frag.page = page
        buff.nr_frags += 1
        buff.frags_size += used
    return 0


@kernel
def _mergeable(vi: VirtnetInfo, rq: ReceiveQueue, xq: XdpQueue, buffer: i64, used: i64, ctx: i64) -> i64:
    """receive_mergeable_xdp, since v6.3: the skb is built around the page, other buffers are frags."""
    flags = load8(buffer + HDR_FLAGS)
    xq.remaining = load16(buffer + HDR_NUM_BUFFERS)
    page = virt_to_head_page(rq, buffer)
    size = mergeable_ctx_to_truesize(ctx)
    if _cannot_be_shown(vi, buffer) != 0:
        return _error(rq, page, xq.remaining, XDP_UNFIT)
    start = buffer
    if mergeable_ctx_to_headroom(ctx) < XDP_HEADROOM or (xq.remaining != 1 and xq.has_frags == 0):
        count = xq.remaining
        if xq.has_frags != 0:
            xq.remaining = 1
        # Behind the first buffer alone stays the room of a shared info, rounded up with the headroom.
        fresh = 0
        if xq.has_frags == 0 or used + XDP_ROOM <= PAGE_SIZE:
            fresh = _linearize(vi, rq, xq, buffer, used, XDP_HEADROOM)
        if xq.has_frags != 0:
            xq.remaining = count
        if fresh == 0:
            return _error(rq, page, xq.remaining, XDP_UNFIT)
        put_page(page)
        page = fresh
        used = xq.length
        size = PAGE_SIZE
        start = page_at(page).address + XDP_HEADROOM
    data = start + vi.hdr_len
    hard_start = start - XDP_HEADROOM
    buff = _prepare(vi, rq, xq, hard_start, data, used - vi.hdr_len, hard_start + size - SHARED_INFO_SIZE)
    if xq.has_frags != 0 and _collect_frags(vi, rq, xq, buff) < 0:
        put_xdp_frags(buff)
        return _error(rq, page, xq.remaining, XDP_UNFIT)
    act = virtnet_xdp_handler(vi, rq, xq, page)
    if act <= 0:
        return act
    address = build_skb(rq, page, buff.data, buff.data_end - buff.data, size)
    if address == 0:
        put_xdp_frags(buff)
        return _error(rq, page, 1, NO_MEMORY)
    frags_to_skb(buff, address)
    _after_pass(vi, xq, address, flags)
    return address


@kernel
def _mergeable_old(vi: VirtnetInfo, rq: ReceiveQueue, xq: XdpQueue, buffer: i64, used: i64, ctx: i64) -> i64:
    """receive_mergeable with a program, until v6.2: afterwards the frame goes on like any other.

    v4.19 compares the length with the buffer's only then, so that the program sees what lies behind it; not more of
    that, here, than there is in the block. It also takes what lies in front of the frame for its virtio header.
    """
    xq.remaining = load16(buffer + HDR_NUM_BUFFERS)
    page = virt_to_head_page(rq, buffer)
    block = page_at(page)
    reported = used
    used = min(used, block.address + block.size - buffer)
    headroom = mergeable_ctx_to_headroom(ctx)
    truesize = mergeable_ctx_to_truesize(ctx)
    if _cannot_be_shown(vi, buffer) != 0:
        return _error(rq, page, xq.remaining, XDP_UNFIT)
    start = buffer
    fresh = 0
    if xq.remaining > 1 or headroom < XDP_HEADROOM:
        if xq.remaining == 0:
            xq.remaining = 1 << 16  # one less than nothing, in 16 bits
        fresh = _linearize(vi, rq, xq, buffer, used, XDP_HEADROOM)
        if fresh == 0:
            return _error(rq, page, xq.remaining, XDP_UNFIT)
        put_page(page)
        page = fresh
        used = xq.length
        truesize = PAGE_SIZE
        headroom = XDP_HEADROOM
        start = page_at(page).address + XDP_HEADROOM
    data = start + vi.hdr_len
    hard_end = max(start - XDP_HEADROOM + PAGE_SIZE - SHARED_INFO_SIZE, data + used - vi.hdr_len)
    buff = _prepare(vi, rq, xq, data - XDP_HEADROOM, data, used - vi.hdr_len, hard_end)
    act = virtnet_xdp_handler(vi, rq, xq, page)
    if act <= 0:
        return act
    used = buff.data_end - buff.data + vi.hdr_len
    if fresh == 0 and reported > mergeable_ctx_to_truesize(ctx):
        rq.rx_length_errors += 1
        return drop_merged(rq, 0, buffer, xq.remaining, LENGTH_ERROR)
    address = page_to_skb(vi, rq, page, buff.data - vi.hdr_len, used, truesize, headroom, vi.hdr_len)
    if address == 0:
        put_page(page)
        drain(rq, xq.remaining)
        return drop(rq, NO_MEMORY)
    _after_pass(vi, xq, address, 0)
    return address if fresh != 0 else merge_rest(vi, rq, address, xq.remaining)


@entry
def receive_xdp(rq_address: i64, buffer: i64, used: i64, ctx: i64) -> i64:
    """Receive a buffer on a queue with a program; see `netemu.driver.receive.receive_buf` for the result."""
    rq = rq_at(rq_address)
    vi = vi_at(rq.vi)
    xq = xdp_queue_at(rq.xdp_queue)
    if vi.mode != MODE_MERGEABLE:
        return _small(vi, rq, xq, buffer, used, ctx)
    rq.bytes += used - vi.hdr_len
    if era_at(vi.era).small_length_check != 0 and too_long(vi, rq, used, ctx) != 0:
        return drop_merged(rq, 0, buffer, load16(buffer + HDR_NUM_BUFFERS), LENGTH_ERROR)
    if era_at(vi.era).xdp_multi_buffer != 0:
        return _mergeable(vi, rq, xq, buffer, used, ctx)
    return _mergeable_old(vi, rq, xq, buffer, used, ctx)
