"""What is written and noted of a frame on its way: the skb, or the buffers as they lie in the ring."""

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
from netemu.device.queue import CHAIN_SIZE, SEGMENT_SIZE, DeviceQueue, chain_at, segment_at, used_slot
from netemu.engine.state import Engine
from netemu.frame import Frame
from netemu.jit import i64, kernel, memcpy, store8, store16, store64
from netemu.skb import Skb, skb_copy_bits
from netemu.trace import trace_at, trace_next_buffer


@kernel
def number_of(e: Engine, frame: Frame) -> i64:
    """The number of the frame that arrives, counted over all queues."""
    return frame.id if e.lane != 0 else e.frames_in + 1


@kernel
def tap(e: Engine, skb: Skb, queue: i64, drops: i64) -> i64:
    """Write an skb, and the number of frames lost in front of it, to the sink; 0 when it has no room."""
    sink = sink_at(e.sink)
    if e.ring_sink != 0:
        return 1
    if sink.kind == SINK_NONE:
        sink_count(sink, skb.len)
        return 1
    sink.pending_drops = drops
    sink.hash = skb.hash
    sink.xdp_passed = skb.xdp
    target = sink_record(sink, skb.tstamp, skb.len, skb.wire_len, queue, skb.frame_id, FLAG_INBOUND)
    if target == 0:
        return 0
    skb_copy_bits(skb, 0, target, skb.len)
    return 1


@kernel
def ring_tap(e: Engine, dq: DeviceQueue, frame: Frame, queue: i64, hdr_len: i64) -> i64:
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
def trace_buffers(e: Engine, dq: DeviceQueue, frame: Frame, queue: i64) -> None:
    """Note the buffers a frame was just filled into."""
    slot = used_slot(dq)
    for n in range(dq.taken):
        chain = chain_at(dq.chains + n * CHAIN_SIZE)
        event = trace_next_buffer(trace_at(e.trace))
        event.frame_id = number_of(e, frame)
        event.queue = e.first_queue + queue
        event.head = chain.head
        event.descriptors = chain.descriptors
        event.gpa = segment_at(dq.segments + chain.first * SEGMENT_SIZE).gpa
        event.posted = chain.writable_bytes
        event.used = chain.written
        event.slot = slot
        slot += 1 if dq.packed == 0 else chain.slots
        if slot >= dq.num:
            slot -= dq.num
