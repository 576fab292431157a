"""What happened, as records that kernels append to; nothing is formatted here.

A `Trace` is four lists in one struct: the buffers that frames travelled in (`BufferEvent`, one per used entry), the
skbs that came out (`SkbEvent`, with their bytes), the frames that the device dropped (`DropEvent`), and those that the
guest sent (`SentEvent`). They fill up
until Python takes them: a kernel that finds no room for a frame returns, so nothing is lost of those that arrive. A
trace with capacity 0 is off and costs one comparison a frame.
"""

from __future__ import annotations

from netemu.jit import Buffer, Struct, StructArray, allocate, array_of, i64, kernel, memcpy, pointer, struct
from netemu.skb import Skb, skb_at, skb_copy_bits


@struct
class BufferEvent(Struct):
    """A used-ring entry: which chain, where, and how much of it was used (bytes)."""

    frame_id: i64
    queue: i64
    head: i64
    descriptors: i64
    gpa: i64
    """Guest-physical address of the chain's first writable byte."""
    posted: i64
    used: i64
    slot: i64
    """Used-ring slot."""


@struct
class SkbEvent(Struct):
    """An skb as it was handed to the protocol stack."""

    frame_id: i64
    queue: i64
    tstamp: i64
    wire_len: i64
    len: i64
    data_len: i64
    nr_frags: i64
    frag_skbs: i64
    """Skbs in the frag list."""
    truesize: i64
    ip_summed: i64
    csum_start: i64
    csum_offset: i64
    gso_type: i64
    gso_size: i64
    gso_segs: i64
    xdp: i64
    hash: i64
    protocol: i64
    pkt_type: i64
    verdict: i64
    """What the stack said: 0, or its reason."""
    offset: i64
    """Where the frame's bytes lie in the trace's ``bytes``."""
    drops: i64
    """Frames lost between the skb before it and this one."""


@struct
class DropEvent(Struct):
    """A frame that did not arrive."""

    frame_id: i64
    queue: i64
    reason: i64
    tstamp: i64
    len: i64


@struct
class SentEvent(Struct):
    """A frame that the device took from a transmit queue: its chain, its header, and what became of it."""

    frame_id: i64
    queue: i64
    tstamp: i64
    head: i64
    descriptors: i64
    gpa: i64
    """Guest-physical address of the chain's first byte."""
    size: i64
    """Bytes of the chain, header included."""
    outcome: i64
    """0: accepted, else why not (`netemu.device.transmit_header`)."""
    kick: i64
    """1: the driver kicked with this frame."""
    flags: i64
    gso_type: i64
    hdr_len: i64
    gso_size: i64
    csum_start: i64
    csum_offset: i64


@struct
class Trace(Struct):
    """The lists, how full they are and how large they may get."""

    capacity: i64
    """Events of each list; 0: off."""
    buffers: i64
    """Address of the list of buffers; 0: they are not noted."""
    buffer_count: i64
    skbs: i64
    skb_count: i64
    drops: i64
    drop_count: i64
    sent: i64
    sent_count: i64
    bytes: i64
    bytes_used: i64
    bytes_size: i64


trace_at = pointer(Trace)
buffer_event_at = pointer(BufferEvent)
skb_event_at = pointer(SkbEvent)
drop_event_at = pointer(DropEvent)
sent_event_at = pointer(SentEvent)
_BUFFER_SIZE = BufferEvent.dtype.itemsize
_SKB_SIZE = SkbEvent.dtype.itemsize
_DROP_SIZE = DropEvent.dtype.itemsize
_SENT_SIZE = SentEvent.dtype.itemsize


@kernel
def skb_event_of(trace: Trace, index: i64) -> SkbEvent:
    """The skb at ``index`` of a trace."""
    return skb_event_at(trace.skbs + index * _SKB_SIZE)


@kernel
def trace_has_room(trace: Trace, buffers: i64, size: i64) -> i64:
    """1 if a frame over ``buffers`` buffers with ``size`` bytes, or its drop, can still be noted."""
    if trace.buffer_count + buffers > trace.capacity:
        return 0
    if trace.skb_count >= trace.capacity or trace.drop_count >= trace.capacity or trace.sent_count >= trace.capacity:
        return 0
    return 1 if trace.bytes_used + size <= trace.bytes_size else 0


@kernel
def trace_next_buffer(trace: Trace) -> BufferEvent:
    """The next `BufferEvent` to fill in; the caller made sure of room."""
    trace.buffer_count += 1
    return buffer_event_at(trace.buffers + (trace.buffer_count - 1) * _BUFFER_SIZE)


@kernel
def trace_next_sent(trace: Trace) -> SentEvent:
    """The next `SentEvent` to fill in; the caller made sure of room."""
    trace.sent_count += 1
    return sent_event_at(trace.sent + (trace.sent_count - 1) * _SENT_SIZE)


@kernel
def trace_drop(trace: Trace, frame_id: i64, queue: i64, reason: i64, tstamp: i64, size: i64) -> None:
    """Note a dropped frame, if there is room for it."""
    if trace.drop_count < trace.capacity:
        event = drop_event_at(trace.drops + trace.drop_count * _DROP_SIZE)
        event.frame_id = frame_id
        event.queue = queue
        event.reason = reason
        event.tstamp = tstamp
        event.len = size
        trace.drop_count += 1


@kernel
def trace_skb(trace: Trace, skb: Skb, queue: i64, verdict: i64, drops: i64) -> None:
    """Note an skb with its bytes, and ``drops`` frames lost in front of it; the caller made sure of room."""
    event = skb_event_at(trace.skbs + trace.skb_count * _SKB_SIZE)
    event.frame_id = skb.frame_id
    event.queue = queue
    event.tstamp = skb.tstamp
    event.wire_len = skb.wire_len
    event.len = skb.len
    event.data_len = skb.data_len
    event.nr_frags = skb.nr_frags
    event.truesize = skb.truesize
    event.ip_summed = skb.ip_summed
    event.csum_start = skb.csum_start
    event.csum_offset = skb.csum_offset
    event.gso_type = skb.gso_type
    event.gso_size = skb.gso_size
    event.gso_segs = skb.gso_segs
    event.xdp = skb.xdp
    event.hash = skb.hash
    event.protocol = skb.protocol
    event.pkt_type = skb.pkt_type
    event.verdict = verdict
    event.drops = drops
    event.offset = trace.bytes_used
    event.frag_skbs = 0
    follower = skb.frag_list
    while follower != 0:
        event.frag_skbs += 1
        follower = skb_at(follower).next
    skb_copy_bits(skb, 0, trace.bytes + trace.bytes_used, skb.len)
    trace.bytes_used += skb.len
    trace.skb_count += 1


@kernel
def trace_copy_skb(trace: Trace, other: Trace, index: i64, drops: i64) -> None:
    """Note the skb at ``index`` of another trace, with its bytes; the caller made sure of room."""
    at = trace.skbs + trace.skb_count * _SKB_SIZE
    memcpy(at, other.skbs + index * _SKB_SIZE, _SKB_SIZE)
    event = skb_event_at(at)
    memcpy(trace.bytes + trace.bytes_used, other.bytes + event.offset, event.len)
    event.offset = trace.bytes_used
    event.drops = drops
    trace.bytes_used += event.len
    trace.skb_count += 1


@kernel
def trace_move_rest(trace: Trace, other: Trace) -> i64:
    """Note all buffers and drops of another trace, which has none afterwards; 0, and nothing is done, without room."""
    buffers = other.buffer_count
    drops = other.drop_count
    if trace.buffer_count + buffers > trace.capacity or trace.drop_count + drops > trace.capacity:
        return 0
    memcpy(trace.buffers + trace.buffer_count * _BUFFER_SIZE, other.buffers, buffers * _BUFFER_SIZE)
    memcpy(trace.drops + trace.drop_count * _DROP_SIZE, other.drops, drops * _DROP_SIZE)
    trace.buffer_count += buffers
    trace.drop_count += drops
    other.buffer_count = other.drop_count = 0
    return 1


class TraceBuffers:
    """A `Trace` together with the memory of its lists."""

    def __init__(self, capacity: int = 0, size: int = 0, *, with_buffers: bool = True) -> None:
        """Room for ``capacity`` events of each kind and ``size`` bytes of frames; 0 for a trace that is off.

        Without ``with_buffers`` those are not noted.
        """
        with_buffers = with_buffers and capacity > 0
        self.buffers: StructArray[BufferEvent] = array_of(BufferEvent, capacity if with_buffers else 0)
        self.skbs: StructArray[SkbEvent] = array_of(SkbEvent, capacity)
        self.drops: StructArray[DropEvent] = array_of(DropEvent, capacity)
        self.sent: StructArray[SentEvent] = array_of(SentEvent, capacity)
        self.bytes: Buffer = allocate(size)
        self.struct = Trace(
            capacity=capacity,
            buffers=self.buffers.address if with_buffers else 0,
            skbs=self.skbs.address,
            drops=self.drops.address,
            sent=self.sent.address,
            bytes=self.bytes.address,
            bytes_size=size,
        )

    def clear(self) -> None:
        """Forget all events."""
        trace = self.struct
        trace.buffer_count = trace.skb_count = trace.drop_count = trace.sent_count = trace.bytes_used = 0
