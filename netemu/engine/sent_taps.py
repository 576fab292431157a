"""What is written and noted of a frame that the device has taken from a transmit queue."""

from __future__ import annotations

from netemu.capture.formats import FLAG_OUTBOUND
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
    RING_TRANSMIT,
    RING_VERSION,
)
from netemu.capture.sink import sink_at, sink_record
from netemu.device.queue import CHAIN_SIZE, SEGMENT_SIZE, DeviceQueue, chain_at, segment_at
from netemu.device.transmit import FRAME_MAX, TransmitSide
from netemu.device.transmit_header import transmit_features_at
from netemu.driver.virtnet import Tag
from netemu.engine.state import Engine
from netemu.jit import i64, kernel, load8, load16, memcpy, store8, store16, store64
from netemu.trace import trace_at, trace_has_room, trace_next_sent
from netemu.virtio.net import (
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_HDR_LEN,
    HDR_LEN_LEGACY,
    HDR_LEN_MAX,
)

RECORD_MOST = RING_PREFIX_LEN + HDR_LEN_MAX + FRAME_MAX + 128
"""Bytes of the longest record of a frame that was sent."""


@kernel
def room_for_sent(e: Engine) -> i64:
    """1 if whatever the next frame is can be written and noted: a frame that was taken cannot be put back."""
    trace = trace_at(e.trace)
    if trace.capacity != 0 and trace_has_room(trace, 0, 0) == 0:
        return 0
    if e.tx_sink == 0:
        return 1
    sink = sink_at(e.tx_sink)
    return 1 if sink.used + RECORD_MOST <= sink.size else 0


@kernel
def _write(e: Engine, side: TransmitSide, tag: Tag, queue: i64) -> None:
    """The record of a ring capture: prefix, header and frame as they lay in the buffer."""
    size = RING_PREFIX_LEN + side.raw_len
    at = sink_record(sink_at(e.tx_sink), tag.tstamp, size, size, queue, tag.frame_id, FLAG_OUTBOUND)
    store8(at + RING_VERSION, RING_PREFIX_VERSION)
    store8(at + RING_PREFIX_LENGTH, RING_PREFIX_LEN)
    store8(at + RING_FLAGS, RING_TRANSMIT | RING_FEATURES_VALID)
    store8(at + RING_HDR_LEN, transmit_features_at(side.features).hdr_len)
    store16(at + RING_QUEUE, queue)
    store16(at + RING_BUFFERS, 1)
    store64(at + RING_FRAME_ID, tag.frame_id)
    store64(at + RING_FEATURES_LOW, e.features_low)
    store64(at + RING_FEATURES_HIGH, e.features_high)
    memcpy(at + RING_PREFIX_LEN, side.raw, side.raw_len)


@kernel
def tap_sent(e: Engine, dq: DeviceQueue, side: TransmitSide, tag: Tag, queue: i64) -> None:
    """Write and note the frame taken last, whatever became of it; `room_for_sent` said yes."""
    if e.tx_sink != 0:
        _write(e, side, tag, queue)
    trace = trace_at(e.trace)
    if trace.capacity == 0:
        return
    chain = chain_at(dq.chains + (dq.taken - 1) * CHAIN_SIZE)
    event = trace_next_sent(trace)
    event.frame_id = tag.frame_id
    event.queue = queue
    event.tstamp = tag.tstamp
    event.head = chain.head
    event.descriptors = chain.count
    event.gpa = segment_at(dq.segments + chain.first * SEGMENT_SIZE).gpa
    event.size = side.raw_len
    event.outcome = side.outcome
    event.kick = tag.kick
    header = side.raw
    if side.raw_len >= HDR_LEN_LEGACY:
        event.flags = load8(header + HDR_FLAGS)
        event.gso_type = load8(header + HDR_GSO_TYPE)
        event.hdr_len = load16(header + HDR_HDR_LEN)
        event.gso_size = load16(header + HDR_GSO_SIZE)
        event.csum_start = load16(header + HDR_CSUM_START)
        event.csum_offset = load16(header + HDR_CSUM_OFFSET)
