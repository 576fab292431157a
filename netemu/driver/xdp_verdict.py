"""What becomes of a frame that an XDP program has seen: virtnet_xdp_handler, virtnet_xdp_xmit, the end of a poll."""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.receive import drop
from netemu.driver.transmit import check_sq_full_and_disable, free_old_xmit_skbs, xmit_skb
from netemu.driver.virtio_ring import virtqueue_at, virtqueue_kick_prepare, virtqueue_notify
from netemu.driver.virtnet import TAG_SIZE, ReceiveQueue, SendQueue, VirtnetInfo, rq_at, sq_at, tag_at, vi_at
from netemu.fates import Fate
from netemu.jit import Struct, call1, entry, i64, kernel, memcpy, pointer, store64, struct
from netemu.pages import PAGE_SIZE, put_page
from netemu.reasons import NO_MEMORY, XDP_ABORTED, XDP_DROPPED, XDP_NOT_SENT
from netemu.skb import FRAG_SIZE, alloc_skb, frag_at, kfree_skb, skb_add_rx_frag, skb_at, skb_pool_at
from netemu.xdp import XDP_DROP, XDP_FRAME_SIZE, XDP_PASS, XDP_REDIRECT, XDP_TX, XdpBuff, xdp_buff_at

XDP_XMIT_TX = 1
XDP_XMIT_REDIRECT = 2
SENT_BACK = -int(Fate.XDP_TX)
REDIRECTED = -int(Fate.XDP_REDIRECT)
RECORD_SIZE = 40
"""Of a redirected frame, in front of its bytes: its number, time, queue, target and length, 8 bytes each."""


@struct
class XdpQueue(Struct):
    """What XDP needs on one receive queue."""

    prog: i64
    """Address of the program."""
    has_frags: i64
    """It is made for frames of several buffers."""
    buff: i64
    """Address of the queue's `XdpBuff`."""
    pages: i64
    """`PagePool` of single pages."""
    sq: i64
    """Address of the send queue for XDP_TX."""
    length: i64
    remaining: i64
    """Of the frame being put into one page: its bytes, header included, and buffers left, the last one taken too."""
    redirects: i64
    """Host address of ``redirects_size`` bytes for frames that are redirected."""
    redirects_size: i64
    redirects_used: i64
    redirects_flushed: i64
    """Of those in use, the bytes of frames that really left; the rest does at the end of the poll."""
    sent_back: i64
    redirected: i64
    """Frames that really were; the driver's counters also have those there was no room for."""


xdp_queue_at = pointer(XdpQueue)


@kernel
def refuse(rq: ReceiveQueue, reason: i64) -> i64:
    """err_xdp: a frame that ends here counts as dropped by XDP and as dropped; returns 0."""
    rq.xdp_drops += 1
    return drop(rq, reason)


@kernel
def put_xdp_frags(buff: XdpBuff) -> None:
    """put_xdp_frags: give back the pages of the other buffers."""
    for n in range(buff.nr_frags):
        put_page(frag_at(buff.frags + n * FRAG_SIZE).page)
    buff.nr_frags = 0
    buff.frags_size = 0


@kernel
def frags_to_skb(buff: XdpBuff, address: i64) -> None:
    """xdp_update_skb_shared_info: the other buffers become frags, their pages the skb's."""
    skb = skb_at(address)
    for n in range(buff.nr_frags):
        frag = frag_at(buff.frags + n * FRAG_SIZE)
        skb_add_rx_frag(skb, frag.page, frag.address, frag.size, PAGE_SIZE)


@kernel
def virtnet_xdp_xmit(vi: VirtnetInfo, sq: SendQueue, address: i64, headroom: i64) -> i64:
    """Put a frame that was sent back on the send queue, a header of zeros in front of it; 0, or -1 if it is dropped.

    ``headroom`` is what is free in front of the frame, behind the struct xdp_frame. The kick waits for the poll's end.
    """
    free_old_xmit_skbs(sq)
    if headroom < vi.hdr_len or xmit_skb(sq, address) < 0:
        sq.xdp_tx_drops += 1
        kfree_skb(address)
        return -1
    sq.xdp_tx += 1
    if era_at(vi.era).xdp_stops_queue != 0:
        check_sq_full_and_disable(sq)
    return 0


@kernel
def _send_back(vi: VirtnetInfo, rq: ReceiveQueue, xq: XdpQueue, page: i64) -> i64:
    """XDP_TX: the frame goes out again. What the queue has no room for is gone without an error, as in Linux."""
    buff = xdp_buff_at(xq.buff)
    rq.xdp_tx += 1
    address = alloc_skb(skb_pool_at(rq.skb_pool))
    if address == 0:
        put_page(page)
        put_xdp_frags(buff)
        return refuse(rq, NO_MEMORY)
    skb = skb_at(address)
    skb.data = buff.data
    skb.len = buff.data_end - buff.data
    skb.head_page = page
    frags_to_skb(buff, address)
    tag = tag_at(rq.tags + rq.xdp_slot * TAG_SIZE)
    skb.frame_id = tag.frame_id
    skb.tstamp = tag.tstamp
    skb.wire_len = skb.len
    rq.xdp_xmit |= XDP_XMIT_TX
    if virtnet_xdp_xmit(vi, sq_at(xq.sq), address, buff.data - buff.data_hard_start - XDP_FRAME_SIZE) < 0:
        rq.last_drop = XDP_NOT_SENT
        return 0
    xq.sent_back += 1
    return SENT_BACK


@kernel
def _redirect(rq: ReceiveQueue, xq: XdpQueue, page: i64) -> i64:
    """XDP_REDIRECT: the frame goes to whoever takes the queue's redirected frames."""
    buff = xdp_buff_at(xq.buff)
    rq.xdp_redirects += 1
    length = buff.data_end - buff.data + buff.frags_size
    size = RECORD_SIZE + ((length + 7) & ~7)
    fits = xq.redirects_used + size <= xq.redirects_size
    if fits:
        tag = tag_at(rq.tags + rq.xdp_slot * TAG_SIZE)
        at = xq.redirects + xq.redirects_used
        store64(at, tag.frame_id)
        store64(at + 8, tag.tstamp)
        store64(at + 16, rq.index)
        store64(at + 24, buff.redirect_target)
        store64(at + 32, length)
        at += RECORD_SIZE
        memcpy(at, buff.data, buff.data_end - buff.data)
        at += buff.data_end - buff.data
        for n in range(buff.nr_frags):
            frag = frag_at(buff.frags + n * FRAG_SIZE)
            memcpy(at, frag.address, frag.size)
            at += frag.size
        xq.redirects_used += size
        xq.redirected += 1
        rq.xdp_xmit |= XDP_XMIT_REDIRECT
    put_page(page)
    put_xdp_frags(buff)
    return REDIRECTED if fits else refuse(rq, XDP_NOT_SENT)


@kernel
def virtnet_xdp_handler(vi: VirtnetInfo, rq: ReceiveQueue, xq: XdpQueue, page: i64) -> i64:
    """Run the program on the frame in ``page``: 1 if it passes; else what receive_buf returns, and the page is gone."""
    rq.xdp_packets += 1
    act = call1(xq.prog, xq.buff)
    if act == XDP_PASS:
        return 1
    if act == XDP_TX:
        return _send_back(vi, rq, xq, page)
    if act == XDP_REDIRECT:
        return _redirect(rq, xq, page)
    put_page(page)
    put_xdp_frags(xdp_buff_at(xq.buff))
    return refuse(rq, XDP_DROPPED if act == XDP_DROP else XDP_ABORTED)


@entry
def flush_xdp(rq_address: i64, completed: i64) -> i64:
    """The end of a poll with a program: called before the poll completes (0) and after (1).

    Redirected frames leave before in newer kernels, after in older ones; the send queue is kicked after.
    """
    rq = rq_at(rq_address)
    vi = vi_at(rq.vi)
    xq = xdp_queue_at(rq.xdp_queue)
    if rq.xdp_xmit & XDP_XMIT_REDIRECT and completed != era_at(vi.era).xdp_flush_first:
        xq.redirects_flushed = xq.redirects_used
        rq.xdp_xmit &= ~XDP_XMIT_REDIRECT
    if rq.xdp_xmit & XDP_XMIT_TX and completed != 0:
        sq = sq_at(xq.sq)
        vq = virtqueue_at(sq.vq)
        if virtqueue_kick_prepare(vq) != 0 and virtqueue_notify(vq) != 0:
            sq.kicks += 1
        rq.xdp_xmit &= ~XDP_XMIT_TX
    return 0
