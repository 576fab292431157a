"""From used buffers to an skb: receive_buf and its three modes, after Linux's virtio_net.c.

Theory of operation
-------------------
``receive_buf`` is handed one used buffer, its reported length and its ctx. It returns the address of a finished
skb, or 0 after it has accounted for the frame: the queue's counters move exactly as Linux's do, and
``rq.last_drop`` names the reason for netemu's own book (`netemu.reasons`). References are conserved: each buffer's
reference to its page either goes into the skb or is dropped here.

A length is what the device says. Each mode checks it against what was posted before any byte is touched; kernels
that Linux had without such a check (small mode before v5.14) would read beyond the buffer, and here the memory is
the guest's own block, so nothing else can be reached either way: the block's end bounds it.
"""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.header import virtnet_receive_done
from netemu.driver.refill import (
    XDP_ROOM,
    ewma_pkt_len_add,
    give_pages,
    mergeable_ctx_to_headroom,
    mergeable_ctx_to_truesize,
    virt_to_head_page,
)
from netemu.driver.virtio_ring import virtqueue_at, virtqueue_get_buf_ctx
from netemu.driver.virtnet import (
    ETH_HLEN,
    GOOD_COPY_LEN,
    GOOD_PACKET_LEN,
    MODE_BIG,
    MODE_MERGEABLE,
    VIRTNET_RX_PAD,
    ReceiveQueue,
    VirtnetInfo,
)
from netemu.jit import call4, i64, kernel, load16, memcpy
from netemu.pages import PAGE_SIZE, page_at, put_page
from netemu.reasons import BAD_HEADER, BUFFERS_MISSING, LENGTH_ERROR, NO_MEMORY, SHORT_FRAME
from netemu.skb import (
    FRAG_SIZE,
    MAX_SKB_FRAGS,
    SHARED_INFO_SIZE,
    SK_BUFF_SIZE,
    Skb,
    alloc_skb,
    frag_at,
    kfree_skb,
    skb_add_rx_frag,
    skb_at,
    skb_pool_at,
)
from netemu.virtio.net import HDR_NUM_BUFFERS


@kernel
def drop(rq: ReceiveQueue, reason: i64) -> i64:
    """Count a drop under ``drops`` and remember why; returns 0, the skb that is not there."""
    rq.drops += 1
    rq.last_drop = reason
    return 0


@kernel
def build_skb(rq: ReceiveQueue, head_page: i64, data: i64, length: i64, buffer_size: i64) -> i64:
    """An skb around a buffer, without a copy: the buffer's page reference becomes the skb's; 0 without memory."""
    address = alloc_skb(skb_pool_at(rq.skb_pool))
    if address != 0:
        skb = skb_at(address)
        skb.data = data
        skb.len = length
        skb.head_page = head_page
        skb.truesize = buffer_size + SK_BUFF_SIZE
    return address


@kernel
def keep_header(vi: VirtnetInfo, skb: Skb, hdr: i64) -> None:
    """Copy the virtio header into the skb's own memory, since its page may be gone or reused later."""
    skb.vnet_hdr = skb.head
    memcpy(skb.head, hdr, vi.hdr_len)


@kernel
def small_length(vi: VirtnetInfo, rq: ReceiveQueue, page: i64, data: i64, length: i64) -> i64:
    """The length of a small buffer's frame at ``data``; -1, and counted, where that is too much.

    v4.19 believes the device and reads on; not further here, though, than the block the buffer lies in.
    """
    if length <= GOOD_PACKET_LEN:
        return length
    if era_at(vi.era).small_length_check != 0:
        rq.rx_length_errors += 1
        drop(rq, LENGTH_ERROR)
        return -1
    block = page_at(page)
    return min(length, block.address + block.size - data)


@kernel
def receive_small(vi: VirtnetInfo, rq: ReceiveQueue, buffer: i64, used: i64, headroom: i64) -> i64:
    """One buffer, one frame, built in place: pad, headroom for an XDP program, header, frame, shared info."""
    header = buffer + VIRTNET_RX_PAD + headroom
    length = used - vi.hdr_len
    rq.bytes += length
    page = virt_to_head_page(rq, buffer)
    length = small_length(vi, rq, page, header + vi.hdr_len, length)
    if length < 0:
        put_page(page)
        return 0
    address = build_skb(rq, page, header + vi.hdr_len, length, vi.small_buf_size + headroom)
    if address == 0:
        put_page(page)
        rq.drops += era_at(vi.era).small_failure_counts
        rq.last_drop = NO_MEMORY
        return 0
    keep_header(vi, skb_at(address), header)
    return address


@kernel
def _copied(length: i64, whole: i64) -> i64:
    """Bytes of a frame that page_to_skb copies into the linear part: the era decides (``copy_whole_head``)."""
    if length <= GOOD_COPY_LEN:
        return length
    return GOOD_COPY_LEN if whole != 0 else ETH_HLEN


@kernel
def page_to_skb(
    vi: VirtnetInfo, rq: ReceiveQueue, page: i64, buffer: i64, used: i64, truesize: i64, headroom: i64, padded: i64
) -> i64:
    """An skb from the first buffer of a frame, or from a whole chain of pages in big mode; 0 without memory.

    ``buffer`` is where the virtio header lies, ``padded`` how far behind it the frame starts, ``headroom`` what of
    ``truesize`` lies in front of it. On success the page,
    or the chain, belongs to the skb or has been given back; on failure the caller still owns it, unless the result
    is -1 (big mode with more bytes than pages), where nothing is left.
    """
    era = era_at(vi.era)
    length = used - vi.hdr_len
    data = buffer + padded
    if era.build_skb != 0 and length > GOOD_COPY_LEN and truesize - headroom - padded - length >= SHARED_INFO_SIZE:
        address = build_skb(rq, page, data, length, truesize)
        if address == 0:
            return 0
        keep_header(vi, skb_at(address), buffer)
        if vi.mode == MODE_BIG:
            first = page_at(page)
            rest = first.private
            tail = first.last
            first.private = 0
            first.last = 0
            if rest != 0:
                page_at(rest).last = tail
                give_pages(rq, rest)
        return address
    address = alloc_skb(skb_pool_at(rq.skb_pool))
    if address == 0:
        return 0
    skb = skb_at(address)
    keep_header(vi, skb, buffer)
    linear = _copied(length, era.copy_whole_head)
    memcpy(skb.data, data, linear)
    skb.len = linear
    length -= linear
    data += linear
    if vi.mode == MODE_MERGEABLE:
        if length > 0:
            skb_add_rx_frag(skb, page, data, length, truesize)
        else:
            put_page(page)
        return address
    return _chain_to_frags(rq, address, page, data, length)


@kernel
def _chain_to_frags(rq: ReceiveQueue, address: i64, page: i64, data: i64, length: i64) -> i64:
    """Hang the pages of a big buffer on the skb until ``length`` bytes are in it; pages left over return to the queue.

    Returns the skb, or -1 after freeing it all where there are more bytes than pages, or than an skb has room for.
    """
    skb = skb_at(address)
    current = page
    tail = page_at(page).last
    page_at(page).last = 0
    while length > 0 and current != 0 and skb.nr_frags < MAX_SKB_FRAGS:
        block = page_at(current)
        following = block.private
        block.private = 0
        part = min(block.address + PAGE_SIZE - data, length)
        skb_add_rx_frag(skb, current, data, part, PAGE_SIZE)
        length -= part
        current = following
        if current != 0:
            data = page_at(current).address
    if current != 0:
        page_at(current).last = tail
        give_pages(rq, current)
    if length > 0:
        kfree_skb(address)
        return -1
    return address


@kernel
def receive_big(vi: VirtnetInfo, rq: ReceiveQueue, page: i64, used: i64) -> i64:
    """A chain of pages, one frame."""
    era = era_at(vi.era)
    if era.big_check_first != 0 and used > (vi.big_packets_num_skbfrags + 1) * PAGE_SIZE:
        give_pages(rq, page)
        return drop(rq, LENGTH_ERROR)
    rq.bytes += used - vi.hdr_len
    if era.big_check_first == 0:
        length = used - vi.hdr_len
        if length - _copied(length, era.copy_whole_head) > MAX_SKB_FRAGS * PAGE_SIZE:
            give_pages(rq, page)
            return drop(rq, LENGTH_ERROR)
    buffer = page_at(page).address
    address = page_to_skb(vi, rq, page, buffer, used, PAGE_SIZE, 0, era.padded_vnet_hdr)
    if address == 0:
        give_pages(rq, page)
        return drop(rq, NO_MEMORY)
    if address < 0:
        return drop(rq, LENGTH_ERROR)
    return address


@kernel
def too_long(vi: VirtnetInfo, rq: ReceiveQueue, used: i64, ctx: i64) -> i64:
    """check_mergeable_len: 1, and counted, if the device reports more than the buffer shows it."""
    limit = mergeable_ctx_to_truesize(ctx)
    if mergeable_ctx_to_headroom(ctx) != 0 and era_at(vi.era).mergeable_check_after_room != 0:
        limit -= XDP_ROOM
    if used > limit:
        rq.rx_length_errors += 1
        return 1
    return 0


@kernel
def drain(rq: ReceiveQueue, remaining: i64) -> None:
    """mergeable_buf_free: take what is left of a dropped frame off the ring: ``remaining`` buffers with this one."""
    vq = virtqueue_at(rq.vq)
    while remaining > 1:
        remaining -= 1
        buffer, used, _ = virtqueue_get_buf_ctx(vq)
        if buffer == 0:
            rq.rx_length_errors += 1
            return
        rq.buffers_used += 1
        rq.bytes += used
        put_page(virt_to_head_page(rq, buffer))


@kernel
def _append(rq: ReceiveQueue, head: Skb, last: i64, buffer: i64, used: i64, truesize: i64) -> i64:
    """Add a later buffer to ``last``, the head or the end of its frag list; the skb it went to, or 0 without memory.

    A buffer that starts where the last frag ends, in the same block, makes that frag longer.
    """
    current = skb_at(last)
    page = virt_to_head_page(rq, buffer)
    if current.nr_frags == MAX_SKB_FRAGS:
        added = alloc_skb(skb_pool_at(rq.skb_pool))
        if added == 0:
            return 0
        if head.frag_tail == 0:
            head.frag_list = added
        else:
            current.next = added
        head.frag_tail = added
        current = skb_at(added)
        head.truesize += current.truesize
        last = added
    if head.frag_tail != 0:
        head.data_len += used
        head.len += used
        head.truesize += truesize
    if current.nr_frags > 0:
        frag = frag_at(current.frags + (current.nr_frags - 1) * FRAG_SIZE)
        if frag.page == page and frag.address + frag.size == buffer:
            frag.size += used
            current.len += used
            current.data_len += used
            current.truesize += truesize
            put_page(page)
            return last
    skb_add_rx_frag(current, page, buffer, used, truesize)
    return last


@kernel
def receive_mergeable(vi: VirtnetInfo, rq: ReceiveQueue, buffer: i64, used: i64, ctx: i64) -> i64:
    """A frame over as many buffers as its header says; the later ones carry no header (RX-V-14).

    num_buffers is believed, as Linux does: 0 makes the driver swallow everything the ring holds, since the count
    goes from there to 65535 or below zero, which is never the end.
    """
    remaining = load16(buffer + HDR_NUM_BUFFERS)
    rq.bytes += used - vi.hdr_len
    if too_long(vi, rq, used, ctx) != 0:
        return drop_merged(rq, 0, buffer, remaining, LENGTH_ERROR)
    page = virt_to_head_page(rq, buffer)
    truesize = mergeable_ctx_to_truesize(ctx)
    address = page_to_skb(vi, rq, page, buffer, used, truesize, mergeable_ctx_to_headroom(ctx), vi.hdr_len)
    if address == 0:
        return drop_merged(rq, 0, buffer, remaining, NO_MEMORY)
    return merge_rest(vi, rq, address, remaining)


@kernel
def merge_rest(vi: VirtnetInfo, rq: ReceiveQueue, address: i64, remaining: i64) -> i64:
    """Add the other buffers of a frame to the skb of the first: ``remaining`` with that one; the skb, or 0."""
    head = skb_at(address)
    if remaining == 1:
        rq.mrg_avg_pkt_len = ewma_pkt_len_add(rq.mrg_avg_pkt_len, head.len)
        return address
    if remaining == 0 and era_at(vi.era).num_buffers_u16 != 0:
        remaining = 1 << 16
    vq = virtqueue_at(rq.vq)
    last = address
    while remaining != 1:
        remaining -= 1
        buffer, used, ctx = virtqueue_get_buf_ctx(vq)
        if buffer == 0:
            rq.rx_length_errors += 1
            kfree_skb(address)
            return drop(rq, BUFFERS_MISSING)
        rq.buffers_used += 1
        rq.bytes += used
        if too_long(vi, rq, used, ctx) != 0:
            return drop_merged(rq, address, buffer, remaining, LENGTH_ERROR)
        last = _append(rq, head, last, buffer, used, mergeable_ctx_to_truesize(ctx))
        if last == 0:
            return drop_merged(rq, address, buffer, remaining, NO_MEMORY)
    rq.mrg_avg_pkt_len = ewma_pkt_len_add(rq.mrg_avg_pkt_len, head.len)
    return address


@kernel
def drop_merged(rq: ReceiveQueue, address: i64, buffer: i64, remaining: i64, reason: i64) -> i64:
    """Drop a merged frame: this buffer, those still on the ring, and what was assembled so far."""
    put_page(virt_to_head_page(rq, buffer))
    drain(rq, remaining)
    if address != 0:
        kfree_skb(address)
    return drop(rq, reason)


@kernel
def receive_buf(vi: VirtnetInfo, rq: ReceiveQueue, buffer: i64, used: i64, ctx: i64) -> i64:
    """Turn a used buffer (and those that belong to it) into a finished skb; its address, or 0 if there is none.

    Negative where an XDP program sent the frame away: the `netemu.fates.Fate`, below zero.
    """
    rq.buffers_used += 1
    if used < vi.hdr_len + ETH_HLEN:
        rq.rx_length_errors += 1
        rq.last_drop = SHORT_FRAME
        if vi.mode == MODE_BIG:
            give_pages(rq, buffer)
        else:
            put_page(virt_to_head_page(rq, buffer))
        return 0
    if rq.xdp != 0:
        address = call4(rq.xdp, rq.own, buffer, used, ctx)
        if address < 0:
            return address
    elif vi.mode == MODE_MERGEABLE:
        address = receive_mergeable(vi, rq, buffer, used, ctx)
    elif vi.mode == MODE_BIG:
        address = receive_big(vi, rq, buffer, used)
    else:
        address = receive_small(vi, rq, buffer, used, ctx)
    if address == 0:
        return 0
    if virtnet_receive_done(rq.vi, address, rq.index) < 0:
        rq.rx_frame_errors += 1
        rq.last_drop = BAD_HEADER
        kfree_skb(address)
        return 0
    return address
