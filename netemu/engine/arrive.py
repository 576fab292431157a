"""A frame reaches the device: queue, buffers, interrupt; or it waits for buffers, or is dropped."""

from __future__ import annotations

from netemu.capture.sink import SINK_NONE, sink_at
from netemu.device.queue import DeviceQueue, available, device_queue_at, unpop, used_slot
from netemu.device.quirks import device_quirks_at
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
from netemu.driver.virtnet import RQ_SIZE, TAG_SIZE, rq_at, tag_at, vi_at
from netemu.engine.extras import FOREVER, count_drop, interrupt, publish_extra, refused, send_calls
from netemu.engine.state import DONE, FLUSH, QUEUE_PAIR, WAIT_A_TURN, Engine
from netemu.engine.taps import number_of, ring_tap, trace_buffers
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import call5, i64, kernel, load64, store64
from netemu.outstanding import note_entered
from netemu.reasons import NO_BUFFER, QUEUE_BROKEN, TOO_LONG
from netemu.trace import trace_at, trace_drop, trace_has_room

REFILL_WAITS = 64
"""Times a frame waits for the delayed refill work before it counts as dropped for want of buffers."""


@kernel
def _drop(e: Engine, frame: Frame, queue: i64, reason: i64) -> None:
    """The device could not bring a frame to the driver: count it, and go on with the next."""
    at = e.device_drops + reason * 8
    store64(at, load64(at) + 1)
    e.lost += 1
    if e.extras != 0:
        count_drop(e, queue, reason)
    if e.ring_sink != 0:
        sink_at(e.sink).pending_drops += 1
    trace = trace_at(e.trace)
    if trace.capacity != 0:
        trace_drop(trace, number_of(e, frame), e.first_queue + queue, reason, frame.tstamp, frame.len)
    _next_frame(e, frame)


@kernel
def _next_frame(e: Engine, frame: Frame) -> None:
    """One more frame has arrived, wherever it went; a burst of them gives the guest its turn."""
    e.next += 1
    e.waited = 0
    e.frames_in += 1
    e.bytes_in += frame.len
    if e.lane != 0:
        e.softirq = frame.interface
        return
    e.in_burst += 1
    if e.in_burst >= e.burst:
        e.in_burst = 0
        e.softirq = 1


@kernel
def _short(e: Engine, dq: DeviceQueue, frame: Frame, queue: i64, outcome: i64) -> None:
    """There were not enough buffers: let the guest run and try again, or drop the frame when that cannot help."""
    vi = vi_at(e.vi)
    if wait_for_buffers(dq) != 0:
        return
    hopeless = vi.refill_due < 0 or e.waited > REFILL_WAITS or e.may_wait == WAIT_A_TURN
    if e.may_wait == 0 or (e.waited > 0 and hopeless):
        # A full ring that does not hold the frame never will. One that is not full is short of buffers because the
        # guest had no turn yet, refills late (only when half a ring, or of its budget, is free) or has no memory.
        whole = outcome == NOT_ENOUGH and available(dq) == dq.num
        _drop(e, frame, queue, TOO_LONG if whole else NO_BUFFER)
        return
    if e.waited > 0:
        vi.now = max(vi.now, vi.refill_due)
    if e.signal != 0:
        send_calls(e, FOREVER)  # while the frame waits, whatever time it takes goes by
    e.waited += 1
    e.in_burst = 0
    e.softirq = 1


@kernel
def arrive(e: Engine) -> i64:
    """The next frame reaches the device; FLUSH if the sink has to be emptied first."""
    frame = frame_at(e.frames + e.next * FRAME_SIZE)
    vi = vi_at(e.vi)
    vi.now = max(vi.now, frame.tstamp)
    if e.extras != 0:
        reason = refused(e, frame)
        if reason != 0:
            _drop(e, frame, 0, reason)
            return DONE
    queue = select_queue(e.steering, frame.address, frame.len, vi.now)
    dq = device_queue_at(e.device_queues + queue * QUEUE_PAIR)
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
    rq = rq_at(vi.rq + queue * RQ_SIZE)
    if dq.quirks != 0:
        call5(device_quirks_at(dq.quirks).spoil, dq.quirks, number_of(e, frame), vi.now, rq.tags, TAG_SIZE)
    trace = trace_at(e.trace)
    if trace.capacity != 0 and trace_has_room(trace, dq.taken, 0) == 0:
        unpop(dq)
        return FLUSH
    if e.ring_sink != 0 and sink_at(e.sink).kind != SINK_NONE and ring_tap(e, dq, frame, queue, side.hdr_len) == 0:
        unpop(dq)
        return FLUSH
    if trace.buffers != 0:
        trace_buffers(e, dq, frame, queue)
    tag = tag_at(rq.tags + used_slot(dq) * TAG_SIZE)
    tag.frame_id = number_of(e, frame)
    tag.tstamp = frame.tstamp
    tag.wire_len = frame.wire_len
    if e.outstanding != 0:
        note_entered(e.outstanding, tag.frame_id)
    called = publish(dq) if e.extras == 0 else publish_extra(e, queue, frame.len)
    if called != 0:
        interrupt(e, queue)
        if called > 1:
            interrupt(e, queue)  # a spurious one
    _next_frame(e, frame)
    return DONE
