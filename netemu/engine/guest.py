"""The guest's turn: refill work, polls, and what these received on its way up."""

from __future__ import annotations

from netemu.driver.poll import virtnet_poll
from netemu.driver.refill import refill_work
from netemu.driver.virtnet import RQ_SIZE, napi_at, rq_at, vi_at
from netemu.engine.state import DONE, FLUSH, Engine, engine_at
from netemu.engine.taps import tap
from netemu.jit import call2, call3, i64, kernel
from netemu.outstanding import note_left
from netemu.skb import kfree_skb, skb_at
from netemu.trace import trace_at, trace_has_room, trace_skb


@kernel
def _first_received(e: Engine) -> i64:
    """The queue whose next skb reached the device first, so that taps see frames in order of arrival; -1 for none."""
    base = vi_at(e.vi).rq
    if e.queues == 1:
        return -1 if rq_at(base).rx_list == 0 else 0
    best = -1
    earliest = 0
    for n in range(e.queues):
        address = rq_at(base + n * RQ_SIZE).rx_list
        if address != 0:
            number = skb_at(address).frame_id
            if best < 0 or number < earliest:
                best = n
                earliest = number
    return best


@kernel
def hand_up(engine: i64) -> i64:
    """netif_receive_skb for all that the polls received: taps first, then the stack; FLUSH when a tap is full.

    ``engine`` is the address of the `Engine`.
    """
    e = engine_at(engine)
    trace = trace_at(e.trace)
    while True:
        queue = _first_received(e)
        if queue < 0:
            return DONE
        rq = rq_at(vi_at(e.vi).rq + queue * RQ_SIZE)
        address = rq.rx_list
        skb = skb_at(address)
        if trace.capacity != 0 and trace_has_room(trace, 0, skb.len) == 0:
            return FLUSH
        drops = 0
        if e.lost != 0 and e.lane == 0:
            # Frames are dropped before those in front of them are handed up, so their numbers tell where they belong.
            drops = min(e.lost, max(0, skb.frame_id - e.last_up - 1))
        if tap(e, skb, queue, drops) == 0:
            return FLUSH
        e.lost -= drops
        e.last_up = max(e.last_up, skb.frame_id)
        verdict = call2(e.deliver, e.stack, address)
        if trace.capacity != 0:
            trace_skb(trace, skb, e.first_queue + queue, verdict, drops)
        e.frames_out += 1
        if e.outstanding != 0:
            note_left(e.outstanding, skb.frame_id)
        e.bytes_out += skb.len
        rq.rx_list = skb.next
        rq.rx_count -= 1
        if rq.rx_list == 0:
            rq.rx_tail = 0
        if e.reflect != 0:
            call3(e.reflect, engine, queue, address)
        else:
            kfree_skb(address)


@kernel
def guest_turn(e: Engine) -> i64:
    """Run refill work that is due and poll every scheduled receive queue once; 1 if that received any frame."""
    vi = vi_at(e.vi)
    if 0 <= vi.refill_due <= vi.now:
        refill_work(vi)
    progress = 0
    for n in range(e.queues):
        rq = rq_at(vi.rq + n * RQ_SIZE)
        if napi_at(rq.napi).scheduled != 0:
            received = rq.packets
            lost = rq.lost
            virtnet_poll(rq)
            if rq.packets > received:
                progress = 1
            e.lost += rq.lost - lost
    return progress
