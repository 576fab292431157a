"""A guest that sends: the frames of the batch go from a socket to the send queues, in place of arriving."""

from __future__ import annotations

from netemu.device.steering import flow_hash
from netemu.driver.outgoing import build_outgoing
from netemu.driver.sock import skb_set_owner_w, sock_at
from netemu.driver.virtnet import SQ_SIZE, SendQueue, sq_at, vi_at
from netemu.engine.outgoing import book_drop, hand_down
from netemu.engine.state import DONE, Engine, engine_at
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import entry, i64, kernel
from netemu.reasons import TX_NO_MEMORY, TX_STOPPED
from netemu.skb import skb_at
from netemu.trace import trace_at, trace_drop, trace_has_room

TURNS_WAITED = 2
"""Turns of device and driver after which a sender that still may not send gives up: a third would bring nothing new."""


@kernel
def _next_frame(e: Engine, frame: Frame) -> None:
    """One more frame was sent, or was not; a burst of them gives the others their turn."""
    e.next += 1
    e.waited = 0
    e.frames_in += 1
    e.bytes_in += frame.len
    e.in_burst += 1
    if e.in_burst >= e.burst:
        e.in_burst = 0
        e.softirq = 1
        e.turn_due = 1


@kernel
def _wait(e: Engine, frame: Frame, queue: i64, reason: i64) -> None:
    """The sender sleeps until device and driver have had their turn; where that does not help, its frame is dropped."""
    if e.may_wait != 0 and e.waited < TURNS_WAITED:
        e.waited += 1
        e.turn_due = 1
        return
    book_drop(e, reason)
    trace = trace_at(e.trace)
    if trace.capacity != 0 and trace_has_room(trace, 0, 0) != 0:
        trace_drop(trace, e.frames_in + 1, queue, reason, frame.tstamp, frame.len)
    _next_frame(e, frame)


@kernel
def _send(e: Engine, sq: SendQueue, frame: Frame, queue: i64) -> None:
    """Sendmsg on a packet socket: build the skb, charge it, hand it down."""
    sk = sock_at(sq.sk)
    if sq.stopped != 0:
        _wait(e, frame, queue, TX_STOPPED)
        return
    if sk.wmem_alloc >= sk.sndbuf:
        _wait(e, frame, queue, TX_NO_MEMORY)
        return
    address = build_outgoing(sq, frame.address, frame.len, frame.vnet)
    if address == 0:
        _wait(e, frame, queue, TX_NO_MEMORY)
        return
    skb = skb_at(address)
    skb.frame_id = frame.id if frame.id != 0 else e.frames_in + 1
    skb.tstamp = frame.tstamp
    skb.wire_len = frame.wire_len
    skb_set_owner_w(skb, sq.sk)
    last = e.next + 1 == e.count or e.in_burst + 1 >= e.burst or e.unkicked + 1 >= e.xmit_more
    hand_down(e, sq, address, 0 if last else 1)
    _next_frame(e, frame)


@entry
def send_frames(address: i64) -> i64:
    """Send frames of the batch until somebody else has to have a turn; DONE.

    A flow keeps to one of the queues in use (MQ-V-04, MQ-V-05), as skb_tx_hash has it; those for XDP_TX are not.
    """
    e = engine_at(address)
    vi = vi_at(e.vi)
    while e.next < e.count:
        frame = frame_at(e.frames + e.next * FRAME_SIZE)
        vi.now = max(vi.now, frame.tstamp)
        queue = 0
        pairs = vi.curr_queue_pairs - vi.xdp_queue_pairs
        if pairs > 1:
            queue = (flow_hash(frame.address, frame.len) * pairs) >> 32
        _send(e, sq_at(vi.sq + queue * SQ_SIZE), frame, queue)
        if e.turn_due != 0 and (e.softirq != 0 or e.waited != 0):
            return DONE
    e.turn_due = 1
    return DONE
