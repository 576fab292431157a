"""The send queue: start_xmit, and the return of what was sent.

The queue stops *after* a frame that leaves too little room for another one, so that none is ever turned away. Who sends
asks ``sq.stopped`` first, and may promise with ``xmit_more`` that another frame follows at once; the kick then waits
for that one. Newer kernels leave the decision to byte queue limits, which with no limit come to the same.
"""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.napi import napi_complete_done, napi_schedule_prep, virtqueue_napi_schedule
from netemu.driver.sock import skb_orphan
from netemu.driver.transmit_header import virtio_net_hdr_from_skb
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
from netemu.driver.virtnet import TAG_SIZE, SendQueue, VirtnetInfo, napi_at, tag_at, vi_at
from netemu.jit import i64, kernel
from netemu.skb import FRAG_SIZE, MAX_SKB_FRAGS, SKB_CB, Skb, frag_at, frag_gpa, kfree_skb, skb_at, skb_gpa

TX_SPARE = 2 + MAX_SKB_FRAGS
"""Descriptors a frame can need at most: header, linear part, frags.

A ring with fewer never has as many free. With TX NAPI, which asks for them before it wakes the queue, such a queue
stops for good after its first frame, as Linux's does (which since v6.16 refuses to make a ring so small, but takes it
from a device); without, the interrupt wakes it whatever is free.
"""
HDR_ALIGN = 2
"""Alignment of the header in memory; v6.17 had 4 for a while, and every frame then needed one segment more."""
EPROTO = -71


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
        skb = skb_at(address)
        size += skb.len
        packets += 1
        skb_orphan(skb)
        kfree_skb(address)
    if packets > 0:
        sq.packets += packets
        sq.bytes += size
    return packets


@kernel
def _headroom(vi: VirtnetInfo, skb: Skb) -> i64:
    """skb_headroom: bytes in front of the frame that are the skb's own.

    A linear part that lies in a page has at least its virtio header's place there.
    """
    return vi.hdr_len if skb.head_page != 0 else skb.data - skb.head


@kernel
def _tag(sq: SendQueue, skb: Skb) -> None:
    """Note what the emulator knows of the frame just put on the ring, in the order in which the device takes them."""
    if sq.tags != 0:
        tag = tag_at(sq.tags + sq.sent % virtqueue_at(sq.vq).num * TAG_SIZE)
        tag.frame_id = skb.frame_id
        tag.tstamp = skb.tstamp
        tag.wire_len = skb.wire_len
        tag.kick = 0
    sq.sent += 1


@kernel
def xmit_skb(sq: SendQueue, address: i64) -> i64:
    """Put one skb on the ring: header, linear part (one segment where the header fits in front of it), frags.

    0, or an error: the ring has no room or is broken, or the header has no way to say what the frame needs. The skb has
    no frag list: virtio_net does not offer NETIF_F_FRAGLIST, so no stack hands it one.
    """
    vi = vi_at(sq.vi)
    skb = skb_at(address)
    can_push = vi.any_header_sg != 0 and skb.data & (HDR_ALIGN - 1) == 0 and _headroom(vi, skb) >= vi.hdr_len
    hdr = skb.data - vi.hdr_len if can_push else skb.head + SKB_CB
    if virtio_net_hdr_from_skb(vi, skb, hdr) < 0:
        return EPROTO
    linear = skb.len - skb.data_len
    sg = scatter_at(sq.sg)
    count = 1
    if can_push:
        sg.gpa = skb_gpa(skb, hdr)
        sg.length = linear + vi.hdr_len
    else:
        sg.gpa = skb.head_gpa + SKB_CB
        sg.length = vi.hdr_len
        if linear > 0:
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
    error = virtqueue_add(virtqueue_at(sq.vq), sq.sg, count, 0, address, 0)
    if error == 0:
        _tag(sq, skb)
    return error


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
def virtnet_kick(sq: SendQueue) -> None:
    """Tell the device of the frames on the ring, if it wants to hear of them; only what was told is counted."""
    vq = virtqueue_at(sq.vq)
    if virtqueue_kick_prepare(vq) != 0 and virtqueue_notify(vq) != 0:
        sq.kicks += 1
        if sq.tags != 0 and sq.sent > 0:
            tag_at(sq.tags + (sq.sent - 1) % vq.num * TAG_SIZE).kick = 1


@kernel
def _kick_and_listen(sq: SendQueue) -> None:
    """End a batch: kick, and with TX NAPI have the device interrupt when it is done with most of it."""
    virtnet_kick(sq)
    vq = virtqueue_at(sq.vq)
    napi = napi_at(sq.napi)
    reclaims = era_at(vi_at(sq.vi).era).tx_reclaims_in_xmit
    if napi.weight > 0 and reclaims == 0 and virtqueue_enable_cb_delayed(vq) == 0:
        virtqueue_napi_schedule(napi, vq)


@kernel
def tx_may_stop(sq: SendQueue) -> i64:
    """Stop the queue if the next frame might not fit; 1 if it is stopped so."""
    if virtqueue_at(sq.vq).num_free >= TX_SPARE:
        return 0
    sq.stopped = 1
    sq.stop += era_at(vi_at(sq.vi).era).count_stop_wake
    return 1


@kernel
def check_sq_full_and_disable(sq: SendQueue) -> None:
    """`tx_may_stop`, and have the device interrupt for room; where there is some already, see to it at once."""
    vq = virtqueue_at(sq.vq)
    napi = napi_at(sq.napi)
    if tx_may_stop(sq) == 0 or virtqueue_enable_cb_delayed(vq) != 0:
        return
    if napi.weight > 0:
        virtqueue_napi_schedule(napi, vq)
        return
    free_old_xmit_skbs(sq)
    tx_wake_queue(sq)
    if sq.stopped == 0:
        virtqueue_disable_cb(vq)


@kernel
def start_xmit(sq: SendQueue, address: i64, xmit_more: i64) -> None:
    """Send an skb: it belongs to the queue from here on, and is freed here if the ring refuses it."""
    vq = virtqueue_at(sq.vq)
    napi = napi_at(sq.napi)
    era = era_at(vi_at(sq.vi).era)
    use_napi = napi.weight > 0
    _reclaim(sq, vq, 1 - xmit_more)
    if xmit_skb(sq, address) < 0:
        sq.tx_fifo_errors += 1
        sq.tx_dropped += 1
        skb_orphan(skb_at(address))
        kfree_skb(address)
        return
    sq.trans_start = vi_at(sq.vi).now
    if not use_napi:
        skb_orphan(skb_at(address))
    if use_napi and (era.tx_reclaims_in_xmit == 0 or era.tx_cleans_inside_lock == 0):
        tx_may_stop(sq)
    else:
        # The reclaiming above leaves interrupts off while more is to follow: v6.1 then waited for good, until stable
        # releases (and v6.2) asked for them here.
        check_sq_full_and_disable(sq)
    if xmit_more == 0 or sq.stopped != 0:
        _kick_and_listen(sq)


@kernel
def end_batch(sq: SendQueue) -> None:
    """Do what the frame would have done that was promised with ``xmit_more`` and never came."""
    if napi_at(sq.napi).weight > 0 and era_at(vi_at(sq.vi).era).tx_reclaims_in_xmit != 0:
        _reclaim(sq, virtqueue_at(sq.vq), 1)
    _kick_and_listen(sq)


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
