"""The send queue: start_xmit, the header in front of the frame, and the return of what was sent."""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.napi import napi_complete_done, napi_schedule_prep, virtqueue_napi_schedule
from netemu.driver.virtio_ring import (
    SCATTER_SIZE,
    Virtqueue,
    scatter_at,
    virtqueue_add,
    virtqueue_at,
    virtqueue_disable_cb,
    virtqueue_enable_cb_delayed,
    virtqueue_enable_cb_prepare,
    virtqueue_get_buf_ctx,
    virtqueue_kick_prepare,
    virtqueue_notify,
    virtqueue_poll,
    vring_interrupt,
)
from netemu.driver.virtnet import SendQueue, napi_at, vi_at
from netemu.jit import i64, kernel, memset, store8, store16
from netemu.skb import CHECKSUM_PARTIAL, FRAG_SIZE, MAX_SKB_FRAGS, Skb, frag_at, frag_gpa, kfree_skb, skb_at, skb_gpa
from netemu.virtio.net import (
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_HDR_LEN,
    NEEDS_CSUM,
)

TX_SPARE = 2 + MAX_SKB_FRAGS
"""Descriptors a frame can need at most: header, linear part, frags."""


@kernel
def tx_wake_queue(sq: SendQueue) -> None:
    """Let the stack send again once a frame with all its frags fits."""
    if sq.stopped != 0 and virtqueue_at(sq.vq).num_free >= TX_SPARE:
        sq.stopped = 0
        sq.wake += era_at(vi_at(sq.vi).era).count_stop_wake


@kernel
def free_old_xmit_skbs(sq: SendQueue) -> i64:
    """Free the skbs the device is done with and count them, now and not when they were sent; how many."""
    vq = virtqueue_at(sq.vq)
    packets = 0
    size = 0
    while True:
        address, _, _ = virtqueue_get_buf_ctx(vq)
        if address == 0:
            break
        size += skb_at(address).len
        packets += 1
        kfree_skb(address)
    if packets > 0:
        sq.packets += packets
        sq.bytes += size
    return packets


@kernel
def virtio_net_hdr_from_skb(skb: Skb, hdr: i64, hdr_len: i64) -> None:
    """Write the header of a frame to be sent; num_buffers and what is not filled is 0."""
    memset(hdr, 0, hdr_len)
    if skb.gso_size != 0:
        store16(hdr + HDR_HDR_LEN, skb.len - skb.data_len)
        store16(hdr + HDR_GSO_SIZE, skb.gso_size)
        store8(hdr + HDR_GSO_TYPE, skb.gso_type)
    if skb.ip_summed == CHECKSUM_PARTIAL:
        store8(hdr + HDR_FLAGS, NEEDS_CSUM)
        store16(hdr + HDR_CSUM_START, skb.csum_start)
        store16(hdr + HDR_CSUM_OFFSET, skb.csum_offset)


@kernel
def xmit_skb(sq: SendQueue, address: i64) -> i64:
    """Put one skb on the ring: header, linear part (one segment where the header fits in front of it), frags.

    The skb has no frag list: virtio_net does not offer NETIF_F_FRAGLIST, so no stack hands it one.
    """
    vi = vi_at(sq.vi)
    skb = skb_at(address)
    own_head = skb.head_page == 0
    can_push = vi.any_header_sg != 0 and own_head and skb.data - skb.head >= vi.hdr_len and skb.data & 1 == 0
    linear = skb.len - skb.data_len
    sg = scatter_at(sq.sg)
    count = 1
    if can_push:
        virtio_net_hdr_from_skb(skb, skb.data - vi.hdr_len, vi.hdr_len)
        sg.gpa = skb_gpa(skb, skb.data - vi.hdr_len)
        sg.length = linear + vi.hdr_len
    else:
        virtio_net_hdr_from_skb(skb, skb.head, vi.hdr_len)
        sg.gpa = skb_gpa(skb, skb.head)
        sg.length = vi.hdr_len
        data = scatter_at(sq.sg + SCATTER_SIZE)
        data.gpa = skb_gpa(skb, skb.data)
        data.length = linear
        count = 2
    for n in range(skb.nr_frags):
        frag = frag_at(skb.frags + n * FRAG_SIZE)
        segment = scatter_at(sq.sg + count * SCATTER_SIZE)
        segment.gpa = frag_gpa(frag)
        segment.length = frag.size
        count += 1
    return virtqueue_add(virtqueue_at(sq.vq), sq.sg, count, 0, address, 0)


@kernel
def _reclaim(sq: SendQueue, vq: Virtqueue, kick: i64) -> None:
    """Make room for the next frame: without TX NAPI always; with it until v6.12, later the polls alone do that."""
    era = era_at(vi_at(sq.vi).era)
    if napi_at(sq.napi).weight == 0:
        free_old_xmit_skbs(sq)
    elif era.tx_reclaims_in_xmit == 0:
        virtqueue_disable_cb(vq)
    elif era.tx_cleans_inside_lock != 0:
        while True:
            virtqueue_disable_cb(vq)
            free_old_xmit_skbs(sq)
            if kick == 0 or virtqueue_enable_cb_delayed(vq) != 0:
                break
    else:
        free_old_xmit_skbs(sq)
        if kick != 0:
            virtqueue_enable_cb_delayed(vq)


@kernel
def start_xmit(sq: SendQueue, address: i64, xmit_more: i64) -> None:
    """Send an skb: it belongs to the queue from here on, and is freed here if the ring refuses it.

    The queue stops *after* a frame that leaves too little room for the next.
    """
    vq = virtqueue_at(sq.vq)
    napi = napi_at(sq.napi)
    era = era_at(vi_at(sq.vi).era)
    use_napi = napi.weight > 0
    _reclaim(sq, vq, 1 - xmit_more)
    if xmit_skb(sq, address) < 0:
        sq.tx_fifo_errors += 1
        sq.tx_dropped += 1
        kfree_skb(address)
        return
    if vq.num_free < TX_SPARE:
        sq.stopped = 1
        sq.stop += era.count_stop_wake
        if not use_napi and virtqueue_enable_cb_delayed(vq) == 0:
            free_old_xmit_skbs(sq)
            tx_wake_queue(sq)
            if sq.stopped == 0:
                virtqueue_disable_cb(vq)
    if xmit_more == 0 or sq.stopped != 0:
        if virtqueue_kick_prepare(vq) != 0 and virtqueue_notify(vq) != 0:
            sq.kicks += 1
        if use_napi and era.tx_reclaims_in_xmit == 0 and virtqueue_enable_cb_delayed(vq) == 0:
            virtqueue_napi_schedule(napi, vq)


@kernel
def skb_xmit_done(sq: SendQueue) -> None:
    """The send queue's interrupt: poll it, or without TX NAPI let the stack send again."""
    vq = virtqueue_at(sq.vq)
    if vring_interrupt(vq) == 0:
        return
    virtqueue_disable_cb(vq)
    napi = napi_at(sq.napi)
    if napi.weight > 0:
        napi_schedule_prep(napi)
    else:
        sq.stopped = 0


@kernel
def virtnet_poll_tx(sq: SendQueue) -> i64:
    """The NAPI poll of a send queue: free what was sent, wake the queue, complete."""
    vq = virtqueue_at(sq.vq)
    napi = napi_at(sq.napi)
    napi.polls += 1
    sq.locked = 1
    virtqueue_disable_cb(vq)
    free_old_xmit_skbs(sq)
    tx_wake_queue(sq)
    opaque = virtqueue_enable_cb_prepare(vq)
    done = napi_complete_done(napi)
    if done == 0:
        virtqueue_disable_cb(vq)
    sq.locked = 0
    if done != 0 and virtqueue_poll(vq, opaque) != 0 and napi_schedule_prep(napi) != 0:
        virtqueue_disable_cb(vq)
    return 0
