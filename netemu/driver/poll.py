"""virtnet_poll and what it is made of: clean the send queue, receive up to the budget, refill, complete."""

from __future__ import annotations

from netemu.driver.eras import era_at
from netemu.driver.napi import virtqueue_napi_complete, virtqueue_napi_schedule
from netemu.driver.receive import receive_buf
from netemu.driver.refill import refill_wanted, schedule_refill, try_fill_recv
from netemu.driver.transmit import free_old_xmit_skbs, tx_wake_queue
from netemu.driver.virtio_ring import (
    virtqueue_at,
    virtqueue_disable_cb,
    virtqueue_enable_cb_delayed,
    virtqueue_get_buf_ctx,
    virtqueue_used_slot,
    vring_interrupt,
)
from netemu.driver.virtnet import TAG_SIZE, ReceiveQueue, VirtnetInfo, napi_at, sq_at, tag_at, vi_at
from netemu.fates import DROPPED, note_fate
from netemu.jit import call1, call2, i64, kernel, load64, store64
from netemu.skb import skb_at


@kernel
def skb_recv_done(rq: ReceiveQueue) -> None:
    """The receive queue's interrupt: have it polled."""
    vq = virtqueue_at(rq.vq)
    if vring_interrupt(vq) != 0:
        rq.interrupts += 1
        virtqueue_napi_schedule(napi_at(rq.napi), vq)


@kernel
def virtnet_poll_cleantx(rq: ReceiveQueue) -> None:
    """Free what the paired send queue (vq2rxq) has sent, unless TX NAPI is off or somebody holds its lock."""
    sq = sq_at(rq.sq)
    if napi_at(sq.napi).weight == 0:
        return
    if sq.locked != 0:
        return
    sq.locked = 1
    vq = virtqueue_at(sq.vq)
    if era_at(vi_at(sq.vi).era).tx_cleans_inside_lock != 0:
        while True:
            virtqueue_disable_cb(vq)
            free_old_xmit_skbs(sq)
            if virtqueue_enable_cb_delayed(vq) != 0:
                break
        tx_wake_queue(sq)
        sq.locked = 0
    else:
        free_old_xmit_skbs(sq)
        sq.locked = 0
        tx_wake_queue(sq)


@kernel
def _queue(rq: ReceiveQueue, address: i64) -> None:
    """Append skbs, linked by ``next``, to the list that is handed up when the poll ends."""
    while address != 0:
        if rq.rx_tail == 0:
            rq.rx_list = address
        else:
            skb_at(rq.rx_tail).next = address
        rq.rx_tail = address
        rq.rx_count += 1
        address = skb_at(address).next


@kernel
def napi_gro_receive(rq: ReceiveQueue, address: i64) -> None:
    """Pass a finished skb on: to the poll's list, or first through GRO."""
    if rq.gro != 0:
        address = call2(rq.gro_receive, rq.gro, address)
    _queue(rq, address)


@kernel
def virtnet_receive(vi: VirtnetInfo, rq: ReceiveQueue, budget: i64) -> i64:
    """Receive up to ``budget`` frames, dropped ones included, then refill; how many, or ``budget`` without memory."""
    vq = virtqueue_at(rq.vq)
    received = 0
    while received < budget:
        slot = virtqueue_used_slot(vq)
        buffer, used, ctx = virtqueue_get_buf_ctx(vq)
        if buffer == 0:
            break
        if rq.xdp != 0:
            rq.xdp_slot = slot
        address = receive_buf(vi, rq, buffer, used, ctx)
        received += 1
        if address > 0:
            skb = skb_at(address)
            tag = tag_at(rq.tags + slot * TAG_SIZE)
            skb.frame_id = tag.frame_id
            skb.tstamp = tag.tstamp
            skb.wire_len = tag.wire_len
            napi_gro_receive(rq, address)
        elif address < 0:
            note_fate(rq.fates, tag_at(rq.tags + slot * TAG_SIZE).frame_id, -address, 0)
        else:
            rq.lost += 1
            note_fate(rq.fates, tag_at(rq.tags + slot * TAG_SIZE).frame_id, DROPPED, rq.last_drop)
            at = rq.drop_book + rq.last_drop * 8
            store64(at, load64(at) + 1)
    rq.packets += received
    if refill_wanted(vi, rq, budget) != 0 and try_fill_recv(vi, rq) == 0:
        if era_at(vi.era).refill_work == 0:
            return budget
        schedule_refill(vi, 0)
    return received


@kernel
def virtnet_poll(rq: ReceiveQueue) -> i64:
    """The NAPI poll of a receive queue: one turn with its weight as budget; frames received."""
    napi = napi_at(rq.napi)
    vi = vi_at(rq.vi)
    napi.polls += 1
    virtnet_poll_cleantx(rq)
    received = virtnet_receive(vi, rq, napi.weight)
    if rq.gro != 0:
        _queue(rq, call1(rq.gro_flush, rq.gro))
    if rq.xdp_xmit != 0:
        call2(rq.xdp_flush, rq.own, 0)
    if rq.dim_update != 0:
        rq.packets_in_napi += received
    if received < napi.weight and virtqueue_napi_complete(napi, virtqueue_at(rq.vq)) != 0 and rq.dim_update != 0:
        call1(rq.dim_update, rq.own)
    if rq.xdp_xmit != 0:
        call2(rq.xdp_flush, rq.own, 1)
    return received
