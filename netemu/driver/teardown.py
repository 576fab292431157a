"""The way down: virtnet_close, and what remove and freeze take back from a device that was reset.

Buffers may be taken from a ring only when its queue is not live any more (CLEAN-V-01, CLEAN-V-02): whoever calls
`free_unused_bufs` has reset the device, or the queue.
"""

from __future__ import annotations

from netemu.driver.napi import napi_disable
from netemu.driver.refill import give_pages, virt_to_head_page
from netemu.driver.sock import skb_orphan
from netemu.driver.virtio_ring import virtqueue_at, virtqueue_detach_unused_buf
from netemu.driver.virtnet import (
    MODE_BIG,
    RQ_SIZE,
    SQ_SIZE,
    ReceiveQueue,
    SendQueue,
    VirtnetInfo,
    napi_at,
    rq_at,
    sq_at,
    vi_at,
)
from netemu.jit import entry, i64, kernel
from netemu.pages import page_at, put_page
from netemu.skb import kfree_skb, skb_at


@entry
def virtnet_close(vi_address: i64) -> None:
    """Stop polling and forget the refill work; buffers stay where they are, for the next open."""
    vi = vi_at(vi_address)
    vi.refill_enabled = 0
    vi.refill_due = -1
    for n in range(vi.max_queue_pairs):
        napi_disable(napi_at(sq_at(vi.sq + n * SQ_SIZE).napi))
        napi_disable(napi_at(rq_at(vi.rq + n * RQ_SIZE).napi))


@kernel
def virtnet_rq_free_unused_bufs(vi: VirtnetInfo, rq: ReceiveQueue) -> i64:
    """Take back all buffers of a receive queue that is not live; how many there were."""
    vq = virtqueue_at(rq.vq)
    count = 0
    while True:
        data = virtqueue_detach_unused_buf(vq)
        if data == 0:
            return count
        count += 1
        if vi.mode == MODE_BIG:
            give_pages(rq, data)
        else:
            put_page(virt_to_head_page(rq, data))


@kernel
def virtnet_sq_free_unused_bufs(sq: SendQueue) -> i64:
    """Free the skbs that wait in a send queue that is not live; how many there were."""
    vq = virtqueue_at(sq.vq)
    count = 0
    while True:
        data = virtqueue_detach_unused_buf(vq)
        if data == 0:
            return count
        count += 1
        skb_orphan(skb_at(data))
        kfree_skb(data)


@kernel
def free_receive_bufs(rq: ReceiveQueue) -> None:
    """Give the queue's private pages back to the allocator, and the block it was cutting (free_receive_page_frags)."""
    while rq.pages != 0:
        taken = rq.pages
        page = page_at(taken)
        rq.pages = page.private
        page.private = 0
        put_page(taken)
    if rq.alloc_frag != 0:
        put_page(rq.alloc_frag)
        rq.alloc_frag = 0
        rq.alloc_frag_offset = 0


@entry
def free_unused_bufs(vi_address: i64) -> i64:
    """remove_vq_common after the reset: all buffers and pages go back to where they came from; how many buffers."""
    vi = vi_at(vi_address)
    count = 0
    for n in range(vi.max_queue_pairs):
        rq = rq_at(vi.rq + n * RQ_SIZE)
        count += virtnet_sq_free_unused_bufs(sq_at(vi.sq + n * SQ_SIZE))
        count += virtnet_rq_free_unused_bufs(vi, rq)
        free_receive_bufs(rq)
    return count


@entry
def free_rq_bufs(vi_address: i64, n: i64) -> i64:
    """The buffers of receive queue ``n`` alone, which is in reset; how many."""
    vi = vi_at(vi_address)
    return virtnet_rq_free_unused_bufs(vi, rq_at(vi.rq + n * RQ_SIZE))


@entry
def free_sq_bufs(vi_address: i64, n: i64) -> i64:
    """The buffers of send queue ``n`` alone, which is in reset; how many."""
    return virtnet_sq_free_unused_bufs(sq_at(vi_at(vi_address).sq + n * SQ_SIZE))
