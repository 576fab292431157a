"""The loop in which a device and a driver meet: frames arrive, interrupts are raised, polls run, skbs go up.

Theory of operation
-------------------
One call of `run` plays a batch of frames; everything happens in one thread, in this order:

1. *Hand up*: the skbs that the last polls received go to the taps and to the protocol stack, and are freed.
2. *The guest's turn* (softirq): each scheduled NAPI is polled once, then its skbs are handed up, for as long as polls
   find anything. Refill work that is due runs here too.
3. *A frame arrives*: it is steered to a queue, the device collects, fills, flushes and notifies. An interrupt reaches
   the driver at once and schedules its NAPI; the poll waits for the guest's turn, which comes when ``burst`` frames
   have arrived, or when the device is short of buffers and may wait for them (``may_wait``).

So ``burst`` says how many frames come in between the interrupt and the moment the guest's CPU gets to it: with 1 every
frame has its own interrupt and poll, with 64 a poll finds a full budget.

A frame the device has no room for waits for one turn of the guest; if that brought no buffers, and no refill work is
pending, it never will: the frame is dropped with a reason. The loop stops (FLUSH) when a tap has no room left, and
goes on at the very same point when it is called again: all of its state is in `Engine`.
"""

from __future__ import annotations

from netemu.capture.formats import FLAG_INBOUND, MAX_FRAME
from netemu.capture.ring import (
    RING_BUFFERS,
    RING_FEATURES_HIGH,
    RING_FEATURES_LOW,
    RING_FEATURES_VALID,
    RING_FLAGS,
    RING_FRAME_ID,
    RING_HDR_LEN,
    RING_PREFIX_LEN,
    RING_PREFIX_LENGTH,
    RING_PREFIX_VERSION,
    RING_QUEUE,
    RING_VERSION,
)
from netemu.capture.sink import SINK_NONE, sink_at, sink_count, sink_record
from netemu.device.queue import (
    CHAIN_SIZE,
    SEGMENT_SIZE,
    DeviceQueue,
    available,
    chain_at,
    device_queue_at,
    segment_at,
    unpop,
)
from netemu.device.receive import (
    BROKEN,
    DOES_NOT_FIT,
    NOT_ENOUGH,
    RECEIVED,
    publish,
    receive_frame,
    receive_side_at,
    wait_for_buffers,
)
from netemu.device.steering import select_queue
from netemu.driver.poll import skb_recv_done, virtnet_poll
from netemu.driver.refill import refill_work
from netemu.driver.virtnet import RQ_SIZE, TAG_SIZE, napi_at, rq_at, tag_at, vi_at
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import Struct, entry, i64, kernel, load64, memcpy, pointer, store8, store16, store64, struct
from netemu.reasons import NO_BUFFER, QUEUE_BROKEN, TOO_LONG
from netemu.skb import Skb, kfree_skb, skb_at, skb_copy_bits
from netemu.stack import netif_receive_skb, stack_at
from netemu.trace import trace_at, trace_drop, trace_has_room, trace_next_buffer, trace_skb
from netemu.virtio.notify import doorbell_at

DONE = 0
FLUSH = 1

REFILL_WAITS = 64
"""Times a frame waits for the delayed refill work before it counts as dropped for want of buffers."""


@struct
class Engine(Struct):
    """The state of the loop: what arrives, who is there, where skbs go, and what was counted."""

    frames: i64
    """Address of ``count`` frames (`netemu.capture.frames.Frame`), of which ``next`` comes next."""
    count: i64
    next: i64
    burst: i64
    in_burst: i64
    may_wait: i64
    """1: a frame waits for buffers; 0: it is dropped when there are none."""
    softirq: i64
    """It is the guest's turn."""
    waited: i64
    """Turns of the guest that the frame at hand has waited for."""
    queues: i64
    vi: i64
    side: i64
    device_queues: i64
    """Address of the device's queues, receive and transmit in turn."""
    stack: i64
    sink: i64
    ring_sink: i64
    """1: the sink gets ring captures, at the moment a frame is in its buffers; 0: it gets skbs."""
    features_low: i64
    features_high: i64
    """Negotiated features, for the ring capture's prefix."""
    trace: i64
    device_drops: i64
    """Address of one counter per `netemu.reasons.DropReason`."""
    frames_in: i64
    bytes_in: i64
    frames_out: i64
    bytes_out: i64
    last_up: i64
    """Number of the last frame handed up, in order of arrival."""
    lost: i64
    """Frames dropped that have not been noted at a frame behind them."""


engine_at = pointer(Engine)
_QUEUE_PAIR = 2 * DeviceQueue.dtype.itemsize


@kernel
def _tap(e: Engine, skb: Skb, queue: i64, drops: i64) -> i64:
    """Write an skb, and the number of frames lost in front of it, to the sink; 0 when it has no room."""
    sink = sink_at(e.sink)
    if e.ring_sink != 0:
        return 1
    if sink.kind == SINK_NONE:
        sink_count(sink, skb.len)
        return 1
    sink.pending_drops = drops
    target = sink_record(sink, skb.tstamp, skb.len, skb.wire_len, queue, skb.frame_id, FLAG_INBOUND)
    if target == 0:
        return 0
    skb_copy_bits(skb, 0, target, skb.len)
    return 1


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
def _hand_up(e: Engine) -> i64:
    """netif_receive_skb for all that the polls received: taps first, then the stack; FLUSH when a tap is full."""
    stack = stack_at(e.stack)
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
        if e.lost != 0:
            # Frames are dropped before those in front of them are handed up, so their numbers tell where they belong.
            drops = min(e.lost, max(0, skb.frame_id - e.last_up - 1))
        if _tap(e, skb, queue, drops) == 0:
            return FLUSH
        e.lost -= drops
        e.last_up = max(e.last_up, skb.frame_id)
        verdict = netif_receive_skb(stack, skb)
        if trace.capacity != 0:
            trace_skb(trace, skb, queue, verdict, drops)
        e.frames_out += 1
        e.bytes_out += skb.len
        rq.rx_list = skb.next
        rq.rx_count -= 1
        if rq.rx_list == 0:
            rq.rx_tail = 0
        kfree_skb(address)


@kernel
def _guest_turn(e: Engine) -> i64:
    """Run refill work that is due and poll every scheduled receive queue once; 1 if that received any frame."""
    vi = vi_at(e.vi)
    if 0 <= vi.refill_due <= vi.now:
        refill_work(vi)
    progress = 0
    for n in range(e.queues):
        rq = rq_at(vi.rq + n * RQ_SIZE)
        if napi_at(rq.napi).scheduled != 0:
            before = rq.packets
            virtnet_poll(rq)
            received = rq.packets - before
            if received > 0:
                progress = 1
            # The list was empty before: what is not on it now was dropped.
            e.lost += received - rq.rx_count
    return progress


@kernel
def _drop(e: Engine, frame: Frame, queue: i64, reason: i64) -> None:
    """The device could not bring a frame to the driver: count it, and go on with the next."""
    at = e.device_drops + reason * 8
    store64(at, load64(at) + 1)
    e.lost += 1
    if e.ring_sink != 0:
        sink_at(e.sink).pending_drops += 1
    trace = trace_at(e.trace)
    if trace.capacity != 0:
        trace_drop(trace, e.frames_in + 1, queue, reason, frame.tstamp, frame.len)
    _next_frame(e, frame)


@kernel
def _next_frame(e: Engine, frame: Frame) -> None:
    """One more frame has arrived, wherever it went; a burst of them gives the guest its turn."""
    e.next += 1
    e.waited = 0
    e.frames_in += 1
    e.bytes_in += frame.len
    e.in_burst += 1
    if e.in_burst >= e.burst:
        e.in_burst = 0
        e.softirq = 1


@kernel
def _ring_tap(e: Engine, dq: DeviceQueue, frame: Frame, queue: i64, hdr_len: i64) -> i64:
    """Write prefix, virtio header and frame, as they lie in the buffers just filled; 0 when the sink has no room.

    A record ends at MAX_FRAME bytes, since that is where every reader of captures draws the line.
    """
    sink = sink_at(e.sink)
    size = min(RING_PREFIX_LEN + hdr_len + frame.len, MAX_FRAME)
    wire_len = RING_PREFIX_LEN + hdr_len + frame.wire_len
    at = sink_record(sink, frame.tstamp, size, wire_len, queue, e.frames_in + 1, FLAG_INBOUND)
    if at == 0:
        return 0
    store8(at + RING_VERSION, RING_PREFIX_VERSION)
    store8(at + RING_PREFIX_LENGTH, RING_PREFIX_LEN)
    store8(at + RING_FLAGS, RING_FEATURES_VALID)
    store8(at + RING_HDR_LEN, hdr_len)
    store16(at + RING_QUEUE, queue)
    store16(at + RING_BUFFERS, dq.taken)
    store64(at + RING_FRAME_ID, e.frames_in + 1)
    store64(at + RING_FEATURES_LOW, e.features_low)
    store64(at + RING_FEATURES_HIGH, e.features_high)
    at += RING_PREFIX_LEN
    room = size - RING_PREFIX_LEN
    for n in range(dq.taken):
        chain = chain_at(dq.chains + n * CHAIN_SIZE)
        left = min(chain.written, room)
        room -= left
        for s in range(chain.first, chain.first + chain.count):
            segment = segment_at(dq.segments + s * SEGMENT_SIZE)
            if segment.writable == 0:
                continue
            part = min(left, segment.length)
            memcpy(at, segment.address, part)
            at += part
            left -= part
    return 1


@kernel
def _trace_buffers(e: Engine, dq: DeviceQueue, queue: i64) -> None:
    """Note the buffers a frame was just filled into."""
    for n in range(dq.taken):
        chain = chain_at(dq.chains + n * CHAIN_SIZE)
        event = trace_next_buffer(trace_at(e.trace))
        event.frame_id = e.frames_in + 1
        event.queue = queue
        event.head = chain.head
        event.descriptors = chain.count
        event.gpa = segment_at(dq.segments + chain.first * SEGMENT_SIZE).gpa
        event.posted = chain.writable_bytes
        event.used = chain.written
        event.slot = (dq.used_idx + n) & (dq.num - 1)


@kernel
def _short(e: Engine, dq: DeviceQueue, frame: Frame, queue: i64, outcome: i64) -> None:
    """There were not enough buffers: let the guest run and try again, or drop the frame when that cannot help."""
    vi = vi_at(e.vi)
    if wait_for_buffers(dq) != 0:
        return
    if e.may_wait == 0 or (e.waited > 0 and (vi.refill_due < 0 or e.waited > REFILL_WAITS)):
        # A full ring that does not hold the frame never will. One that is not full is short of buffers because the
        # guest had no turn yet, refills late (only when half a ring, or of its budget, is free) or has no memory.
        whole = outcome == NOT_ENOUGH and available(dq) == dq.num
        _drop(e, frame, queue, TOO_LONG if whole else NO_BUFFER)
        return
    if e.waited > 0:
        vi.now = max(vi.now, vi.refill_due)
    e.waited += 1
    e.in_burst = 0
    e.softirq = 1


@kernel
def _arrive(e: Engine) -> i64:
    """The next frame reaches the device; FLUSH if the sink has to be emptied first."""
    frame = frame_at(e.frames + e.next * FRAME_SIZE)
    vi = vi_at(e.vi)
    vi.now = max(vi.now, frame.tstamp)
    queue = select_queue(frame.address, frame.len, e.queues)
    dq = device_queue_at(e.device_queues + queue * _QUEUE_PAIR)
    side = receive_side_at(e.side)
    outcome = receive_frame(dq, side, frame.address, frame.len, frame.vnet)
    if outcome != RECEIVED:
        if outcome == BROKEN:
            _drop(e, frame, queue, QUEUE_BROKEN)
        elif outcome == DOES_NOT_FIT:
            _drop(e, frame, queue, TOO_LONG)
        else:
            _short(e, dq, frame, queue, outcome)
        return DONE
    trace = trace_at(e.trace)
    if trace.capacity != 0 and trace_has_room(trace, dq.taken, 0) == 0:
        unpop(dq)
        return FLUSH
    if e.ring_sink != 0 and sink_at(e.sink).kind != SINK_NONE and _ring_tap(e, dq, frame, queue, side.hdr_len) == 0:
        unpop(dq)
        return FLUSH
    if trace.capacity != 0:
        _trace_buffers(e, dq, queue)
    rq = rq_at(vi.rq + queue * RQ_SIZE)
    tag = tag_at(rq.tags + (dq.used_idx & (dq.num - 1)) * TAG_SIZE)
    tag.frame_id = e.frames_in + 1
    tag.tstamp = frame.tstamp
    tag.wire_len = frame.wire_len
    if publish(dq) != 0:
        doorbell_at(dq.doorbell).call = 0
        skb_recv_done(rq)
    _next_frame(e, frame)
    return DONE


@entry
def run(address: i64) -> i64:
    """Play the frames of the batch; DONE when all have arrived, FLUSH when a tap has to be emptied first.

    Frames may still lie in the ring afterwards, for a guest whose turn has not come; with ``softirq`` set and no
    frame left, a call lets the guest take all it has.
    """
    e = engine_at(address)
    while True:
        if _hand_up(e) == FLUSH:
            return FLUSH
        if e.softirq != 0:
            if _guest_turn(e) == 0:
                e.softirq = 0
            continue
        if e.next == e.count:
            return DONE
        if _arrive(e) == FLUSH:
            return FLUSH
