"""One loop per queue pair: frames dealt out to lanes, and what the lanes received brought together again.

Theory of operation
-------------------
A *lane* is a loop (`Engine`) of its own over one queue pair, so that several can run at the same time: nothing it
writes to is written by another. `deal` steers a batch and copies each frame's `Frame` to the lane of its queue; with
hash reports each gets a header that says its hash. The lanes then run, and `merge` takes what they noted in their
traces, in the order in which the frames arrived, to the sink and the trace of the loop that stands for all (``all``).

A lane does as its queue would do among the others. Its frames keep their numbers, and the guest's turn comes where it
would have come: after each ``burst`` frames of all queues. `deal` marks the frame in front of each such moment
(``interface`` 1, a field that loops do not look at elsewhere). Only where a frame finds no buffer and waits does one
loop differ from many: it would have given every queue a turn, a lane gives one to its own.
"""

from __future__ import annotations

from netemu.capture.formats import FLAG_INBOUND
from netemu.capture.sink import SINK_NONE, sink_at, sink_count, sink_record
from netemu.device.receive import receive_side_at
from netemu.device.rss import rss_state_at
from netemu.device.steering import select_queue
from netemu.engine.state import DONE, FLUSH, Engine, engine_at
from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import Struct, entry, i64, kernel, memcpy, memset, pointer, store16, store32, struct
from netemu.trace import Trace, skb_event_of, trace_at, trace_copy_skb, trace_has_room, trace_move_rest
from netemu.virtio.net import HDR_HASH_REPORT, HDR_HASH_VALUE, HDR_LEN_MAX

NO_NUMBER = 1 << 62
"""More than any frame's number."""


@struct
class Lane(Struct):
    """One queue pair's loop, and how far it has come."""

    engine: i64
    turns: i64
    """Turns of the guest that have come: after so many bursts."""
    merged: i64
    """Skbs of its trace that `merge` has taken."""
    following: i64
    """Number of the next one; NO_NUMBER if there is none."""


@struct
class Lanes(Struct):
    """All lanes, the batch that is dealt, and the loop that stands for all of them."""

    lanes: i64
    """Address of ``count`` `Lane` structs, one per queue pair."""
    count: i64
    all: i64
    """Address of the `Engine` whose taps get everything."""
    frames: i64
    frame_count: i64
    number: i64
    """Of the last frame that was dealt."""
    now: i64
    """Time of the latest frame, in ns."""
    headers: i64
    """Room for a header of HDR_LEN_MAX bytes for each frame of the batch; 0 without hash reports."""
    limit: i64
    """`merge` takes skbs up to this number: no lane has any in front of it that is still to come."""
    taken: i64
    """How many `merge` took in its last call."""


lane_at = pointer(Lane)
lanes_at = pointer(Lanes)
LANE_SIZE = Lane.dtype.itemsize


@kernel
def _turn(lane: Lane, e: Engine, turns: i64) -> None:
    """Let the guest have its turn in front of the frame that comes next in a lane, if one is due."""
    if turns > lane.turns:
        lane.turns = turns
        if e.count > 0:
            frame_at(e.frames + (e.count - 1) * FRAME_SIZE).interface = 1
        else:
            e.softirq = 1


@kernel
def _with_hash(d: Lanes, e: Engine, n: i64, vnet: i64) -> i64:
    """A header for frame ``n`` of the batch: what it brought along, and the hash it was just steered by."""
    header = d.headers + n * HDR_LEN_MAX
    if vnet != 0:
        memcpy(header, vnet, HDR_LEN_MAX)
    else:
        memset(header, 0, HDR_LEN_MAX)
    state = rss_state_at(receive_side_at(e.side).hashes)
    store32(header + HDR_HASH_VALUE, state.hash_value)
    store16(header + HDR_HASH_REPORT, state.hash_report)
    return header


@entry
def deal(address: i64) -> i64:
    """Deal a batch out; lanes have to be done with the one before, and to have room for as many frames."""
    d = lanes_at(address)
    everybody = engine_at(d.all)
    for n in range(d.frame_count):
        frame = frame_at(d.frames + n * FRAME_SIZE)
        d.now = max(d.now, frame.tstamp)
        queue = select_queue(everybody.steering, frame.address, frame.len, d.now)
        lane = lane_at(d.lanes + queue * LANE_SIZE)
        e = engine_at(lane.engine)
        _turn(lane, e, d.number // everybody.burst)
        d.number += 1
        at = e.frames + e.count * FRAME_SIZE
        memcpy(at, d.frames + n * FRAME_SIZE, FRAME_SIZE)
        mine = frame_at(at)
        mine.id = d.number
        mine.interface = 0
        if d.headers != 0:
            mine.vnet = _with_hash(d, everybody, n, frame.vnet)
        e.count += 1
    for n in range(d.count):
        lane = lane_at(d.lanes + n * LANE_SIZE)
        _turn(lane, engine_at(lane.engine), d.number // everybody.burst)
    return d.number


@kernel
def _look(lane: Lane) -> None:
    """Find a lane's next skb; a trace of which everything was taken starts afresh."""
    trace = trace_at(engine_at(lane.engine).trace)
    if lane.merged < trace.skb_count:
        lane.following = skb_event_of(trace, lane.merged).frame_id
        return
    lane.merged = trace.skb_count = trace.bytes_used = 0
    lane.following = NO_NUMBER


@kernel
def _earliest(d: Lanes) -> i64:
    """Address of the lane whose next skb reached the device first; 0 if none may be taken."""
    best = 0
    number = d.limit
    at = d.lanes
    for _ in range(d.count):
        following = lane_at(at).following
        if following <= number:
            best = at
            number = following
        at += LANE_SIZE
    return best


@kernel
def _take(e: Engine, source: Trace, index: i64) -> i64:
    """Bring one skb to sink and trace as `netemu.engine.guest.hand_up` does; 0 without room."""
    event = skb_event_of(source, index)
    trace = trace_at(e.trace)
    if trace.capacity != 0 and trace_has_room(trace, 0, event.len) == 0:
        return 0
    drops = min(e.lost, max(0, event.frame_id - e.last_up - 1))
    sink = sink_at(e.sink)
    if sink.kind == SINK_NONE:
        sink_count(sink, event.len)
    else:
        sink.pending_drops = drops
        sink.hash = event.hash
        target = sink_record(sink, event.tstamp, event.len, event.wire_len, event.queue, event.frame_id, FLAG_INBOUND)
        if target == 0:
            return 0
        memcpy(target, source.bytes + event.offset, event.len)
    e.lost -= drops
    e.last_up = max(e.last_up, event.frame_id)
    if trace.capacity != 0:
        trace_copy_skb(trace, source, index, drops)
    return 1


@entry
def merge(address: i64) -> i64:
    """Bring what the lanes received to the taps, in order of arrival; FLUSH when a tap has to be emptied first."""
    d = lanes_at(address)
    e = engine_at(d.all)
    trace = trace_at(e.trace)
    d.taken = 0
    for n in range(d.count):
        lane = lane_at(d.lanes + n * LANE_SIZE)
        noted = trace_at(engine_at(lane.engine).trace)
        if trace.capacity == 0:
            noted.buffer_count = noted.drop_count = 0
        elif trace_move_rest(trace, noted) == 0:
            return FLUSH
        _look(lane)
    while True:
        at = _earliest(d)
        if at == 0:
            return DONE
        lane = lane_at(at)
        if _take(e, trace_at(engine_at(lane.engine).trace), lane.merged) == 0:
            return FLUSH
        lane.merged += 1
        d.taken += 1
        _look(lane)
