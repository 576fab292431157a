"""A guest in emulated time: when its interrupts are heard, when its processor has time, what leaves its device.

Theory of operation
-------------------
The loop of `netemu.engine` knows the order in which device and driver act, not the time. A `GuestNode` gives each step
its moment. Three things make it act, each a hook:

* *a frame arrives* (`guest_receive`): the device writes it into the ring at once. If that raised an interrupt, the
  guest's turn (softirq) is due after the interrupt's latency, and not before its processor is free.
* *the guest's turn* (`guest_softirq`): queues are polled, skbs go up, protocols answer. With a processor that takes no
  time all is done in one go; else each queue is polled once, the processor is busy for as long as that cost, and the
  rest follows then. Meanwhile frames arrive, and fill the ring.
* *the device's turn* (`guest_kick`): what was put on a send queue is taken, and leaves through the port. It comes at
  the moment of the first kick, after everything else that happens then; a sender with much to send calls it early.

The guest sends through `guest_xmit`, the ``xmit`` hook of its interface. What its timers send costs the processor time,
too, but does not wait for it.
"""

from __future__ import annotations

from netemu.capture.formats import FLAG_OUTBOUND
from netemu.capture.sink import SINK_NONE, sink_at, sink_record
from netemu.device.coalesce import MODERATION_SIZE, moderation_at
from netemu.device.transmit import transmit_side_at
from netemu.driver.outgoing import build_from_pieces
from netemu.driver.virtnet import RQ_SIZE, SQ_SIZE, VirtnetInfo, napi_at, rq_at, sq_at, vi_at
from netemu.engine.extras import send_calls
from netemu.engine.outgoing import hand_down
from netemu.engine.state import DONE, Engine, engine_at
from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import Struct, call1, entry, i64, kernel, load32, pointer, struct
from netemu.net.port import port_send
from netemu.net.wire_frame import copied_frame, put_wire_frame, wire_frame_at, wire_pool_at
from netemu.skb import CHECKSUM_PARTIAL, skb_at
from netemu.stack.packet import Packet, copy_packet, packet_at
from netemu.timers import STOPPED, Timers, call_at, timer_at, timer_start, timers_at

EARLY_FRAMES = 32
EARLY_BYTES = 1 << 18
"""A sender that put so much on its queues at one moment has the device take it: it runs at the same time."""
PS_PER_NS = 1000
_MIX = 0x9E3779B1


@struct
class GuestNode(Struct):
    """One guest between its port and its protocols. Times in ns."""

    engine: i64
    """Address of the card's `netemu.engine.Engine`."""
    run: i64
    """Hook `netemu.engine.run`."""
    port: i64
    """Address of the `netemu.net.port.Port` it is plugged in with."""
    timers: i64
    pool: i64
    """Addresses of the lab's `Timers` and `WirePool`."""
    softirq: i64
    """Address of the `Timer` of the guest's turn."""
    calls: i64
    """Address of the `Timer` of calls that coalescing holds back."""
    kick: i64
    """Hook `guest_kick`."""
    kicked: i64
    """1: the device's turn is due."""
    pending_frames: i64
    pending_bytes: i64
    """Put on the send queues since the device's last turn."""
    up: i64
    """0: the interface is down."""
    interrupt_latency: i64
    poll_cost: i64
    packet_cost: i64
    byte_cost: i64
    """What the processor needs for a poll, for each frame received or sent, and (in ps) for each byte of it."""
    busy_until: i64
    busy: i64
    """Time the processor was busy."""
    seen_frames: i64
    seen_bytes: i64
    """Received when costs were last added up."""


guest_node_at = pointer(GuestNode)


@kernel
def _leave(node: GuestNode, e: Engine) -> None:
    """Everything that has left the device goes into the link."""
    side = transmit_side_at(e.egress)
    pool = wire_pool_at(node.pool)
    now = timers_at(node.timers).now
    for n in range(side.count):
        address = copied_frame(pool, side.frames + n * FRAME_SIZE)
        if address != 0:
            frame_at(wire_frame_at(address).frame).tstamp = now
            port_send(node.port, address)
    side.count = 0
    side.arena_used = 0


@kernel
def _costs(node: GuestNode) -> i64:
    """1 if the processor takes time for what it does."""
    return 1 if node.poll_cost != 0 or node.packet_cost != 0 or node.byte_cost != 0 else 0


@kernel
def _spend(node: GuestNode, now: i64, cost: i64) -> None:
    """The processor is busy for ``cost`` more, from now or from when it is free."""
    node.busy_until = max(node.busy_until, now) + cost
    node.busy += cost


@kernel
def _softirq_at(node: GuestNode, timers: Timers, when: i64) -> None:
    """The guest's turn comes at ``when``, or when the processor is free, unless it comes earlier already."""
    when = max(when, node.busy_until)
    due = timer_at(node.softirq).due
    if due == STOPPED or when < due:
        timer_start(timers, node.softirq, when)


@kernel
def _after(node: GuestNode, e: Engine, timers: Timers, latency: i64) -> None:
    """Something happened: see to the guest's next turn, to refill work and to calls that are held back."""
    vi = vi_at(e.vi)
    for n in range(e.queues):
        if napi_at(rq_at(vi.rq + n * RQ_SIZE).napi).scheduled != 0:
            _softirq_at(node, timers, timers.now + latency)
            break
    if vi.refill_due >= 0:
        _softirq_at(node, timers, vi.refill_due)
    if e.signal != 0:
        for n in range(2 * e.queues):
            mod = moderation_at(e.moderations + n * MODERATION_SIZE)
            if mod.pending > 0 and (timer_at(node.calls).due == STOPPED or mod.due < timer_at(node.calls).due):
                timer_start(timers, node.calls, mod.due)


@kernel
def _play(node: GuestNode, e: Engine, timers: Timers) -> None:
    """Let the loop run until it is done, whatever has to leave meanwhile."""
    while call1(node.run, node.engine) != DONE:
        if transmit_side_at(e.egress).count == 0:
            # A capture is full, which the lab sees to between events.
            timer_start(timers, node.softirq, timers.now)
            break
        _leave(node, e)
    _leave(node, e)


@kernel
def _clock(node: GuestNode, e: Engine) -> VirtnetInfo:
    """Move the guest's clock on."""
    vi = vi_at(e.vi)
    vi.now = max(vi.now, timers_at(node.timers).now)
    return vi


@kernel
def _send_turn(node: GuestNode, e: Engine, timers: Timers) -> None:
    """The turn of the send queues, without one of the guest's."""
    e.turn_due = 1
    e.softirq = 0
    _play(node, e, timers)
    _after(node, e, timers, node.interrupt_latency)


@entry
def guest_receive(address: i64, _number: i64, wire_frame: i64) -> i64:
    """A frame arrives at the device of the `GuestNode`; hook of its port."""
    node = guest_node_at(address)
    e = engine_at(node.engine)
    timers = timers_at(node.timers)
    frame = frame_at(wire_frame_at(wire_frame).frame)
    frame.tstamp = timers.now
    frame.id = 0
    e.frames = wire_frame_at(wire_frame).frame
    e.next = 0
    e.count = 1
    e.softirq = 0
    if call1(node.run, node.engine) != DONE:
        _play(node, e, timers)
    e.next = 0
    e.count = 0
    put_wire_frame(wire_frame)
    _after(node, e, timers, node.interrupt_latency)
    return 0


@entry
def guest_softirq(address: i64, _unused: i64) -> i64:
    """The guest's turn; hook of its `Timer`."""
    node = guest_node_at(address)
    e = engine_at(node.engine)
    timers = timers_at(node.timers)
    _clock(node, e)
    e.softirq = 1
    _play(node, e, timers)
    if _costs(node) != 0:
        frames = e.frames_out - node.seen_frames
        size = e.bytes_out - node.seen_bytes
        node.seen_frames = e.frames_out
        node.seen_bytes = e.bytes_out
        _spend(node, timers.now, node.poll_cost + frames * node.packet_cost + size * node.byte_cost // PS_PER_NS)
    _after(node, e, timers, 0)
    return 0


@entry
def guest_kick(address: i64, _unused: i64) -> i64:
    """The device takes what was sent; an event."""
    node = guest_node_at(address)
    e = engine_at(node.engine)
    timers = timers_at(node.timers)
    _clock(node, e)
    node.kicked = 0
    node.pending_frames = 0
    node.pending_bytes = 0
    _send_turn(node, e, timers)
    return 0


@entry
def guest_calls(address: i64, _unused: i64) -> i64:
    """Calls that coalescing held back are due; hook of its `Timer`."""
    node = guest_node_at(address)
    e = engine_at(node.engine)
    timers = timers_at(node.timers)
    _clock(node, e)
    send_calls(e, timers.now)
    _send_turn(node, e, timers)  # which has the send queues' calls
    return 0


@kernel
def _tap(e: Engine, p: Packet, size: i64, now: i64) -> None:
    """Write a packet on its way to the driver to the guest's own capture, as tcpdump in a guest shows it."""
    sink = sink_at(e.sink)
    if sink.kind == SINK_NONE or e.ring_sink != 0:
        return
    at = sink_record(sink, now, size, size, -1, 0, FLAG_OUTBOUND)
    if at == 0:
        sink.missed += 1
    else:
        copy_packet(p, at)


@kernel
def _queue_of(e: Engine, p: Packet) -> i64:
    """The send queue of a packet: a flow keeps to one (skb_tx_hash)."""
    vi = vi_at(e.vi)
    pairs = vi.curr_queue_pairs - vi.xdp_queue_pairs
    if pairs <= 1:
        return 0
    flow = (p.source_lo ^ p.target_lo ^ p.target_hi ^ load32(p.transport)) & 0xFFFFFFFF
    return ((flow * _MIX & 0xFFFFFFFF) * pairs) >> 32


@entry
def guest_xmit(address: i64, packet: i64) -> i64:
    """Send a packet through the driver: 1, or 0 if there is no room; hook of the guest's interface."""
    node = guest_node_at(address)
    e = engine_at(node.engine)
    timers = timers_at(node.timers)
    p = packet_at(packet)
    vi = _clock(node, e)
    if node.up == 0:
        return 0
    head = p.transport + p.transport_len - p.data
    size = head + p.payload_len + p.more_len
    queue = _queue_of(e, p)
    sq = sq_at(vi.sq + queue * SQ_SIZE)
    if sq.qlen >= sq.tx_queue_len:
        return 0
    skb_address = build_from_pieces(sq, p.data, head, p.payload, p.payload_len, p.more, p.more_len, p.gso_size)
    if skb_address == 0:
        return 0
    skb = skb_at(skb_address)
    skb.tstamp = timers.now
    skb.wire_len = size
    if p.partial != 0:
        skb.ip_summed = CHECKSUM_PARTIAL
        skb.csum_start = p.transport - p.data
        skb.csum_offset = p.check
        skb.gso_size = p.gso_size
        skb.gso_type = p.gso_type
    _tap(e, p, size, timers.now)
    hand_down(e, sq, skb_address, 0)
    if _costs(node) != 0:
        _spend(node, timers.now, node.packet_cost + size * node.byte_cost // PS_PER_NS)
    if node.kicked == 0:
        node.kicked = 1
        call_at(timers, timers.now, node.kick, address, 0)
    node.pending_frames += 1
    node.pending_bytes += size
    if node.pending_frames >= EARLY_FRAMES or node.pending_bytes >= EARLY_BYTES:
        node.pending_frames = 0
        node.pending_bytes = 0
        call1(e.turn, node.engine)
        _leave(node, e)
    return 1
