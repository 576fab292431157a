"""The turn of the send side: the device takes what it was told of, the driver frees it, and what waited follows.

Whoever sends does so without looking at the device; here it catches up. It serves each queue whose doorbell rang until
the ring is empty, without being told again of frames that come meanwhile, then asks for kicks and looks once more. An
interrupt schedules the queue's NAPI, which runs in the same turn.
"""

from __future__ import annotations

from netemu.device.coalesce import MODERATION_SIZE
from netemu.device.queue import DeviceQueue, device_queue_at, disable_kicks, enable_kicks, flush, take_kick
from netemu.device.steering import flow_learn
from netemu.device.transmit import BROKEN, NO_ROOM, TAKEN, TransmitSide, give_back, take_frame, transmit_side_at
from netemu.device.transmit_header import ACCEPTED, NOT_NEGOTIATED
from netemu.driver.netdev import dev_watchdog
from netemu.driver.qdisc import qdisc_run
from netemu.driver.transmit import end_batch, skb_xmit_done, virtnet_poll_tx
from netemu.driver.virtio_ring import virtqueue_at
from netemu.driver.virtnet import SQ_SIZE, TAG_SIZE, SendQueue, napi_at, sq_at, tag_at, vi_at
from netemu.engine.extras import FOREVER
from netemu.engine.outgoing import book_drop
from netemu.engine.sent_taps import room_for_sent, tap_sent
from netemu.engine.state import DONE, FLUSH, QUEUE_PAIR, TRANSMIT, Engine, engine_at
from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import call4, entry, i64, kernel
from netemu.reasons import TX_MALFORMED, TX_NOT_NEGOTIATED
from netemu.virtio.notify import doorbell_at

ROUNDS = 64
"""Times the queues are gone through in one turn; a driver whose polls never end is left for the next."""


@kernel
def _note(e: Engine, dq: DeviceQueue, sq: SendQueue, side: TransmitSide, queue: i64) -> None:
    """A frame was taken: give it the number and time that travelled beside the ring, learn its flow, and count it."""
    vi = vi_at(e.vi)
    tag = tag_at(sq.tags + (dq.chains_used + dq.taken - 1) % virtqueue_at(sq.vq).num * TAG_SIZE)
    tap_sent(e, dq, side, tag, queue)
    if side.outcome != ACCEPTED:
        book_drop(e, TX_NOT_NEGOTIATED if side.outcome == NOT_NEGOTIATED else TX_MALFORMED)
        return
    frame = frame_at(side.frames + (side.count - 1) * FRAME_SIZE)
    frame.id = tag.frame_id
    frame.tstamp = tag.tstamp
    frame.wire_len = max(frame.len, tag.wire_len)
    e.sent_out += 1
    e.sent_bytes += frame.len
    if e.queues > 1:
        flow_learn(e.steering, frame.address, frame.len, queue, vi.now)


@kernel
def _interrupt(e: Engine, queue: i64) -> None:
    """The device has called the driver of a transmit queue: the interrupt is there at once."""
    dq = device_queue_at(e.device_queues + queue * QUEUE_PAIR + TRANSMIT)
    doorbell_at(dq.doorbell).call = 0
    skb_xmit_done(sq_at(vi_at(e.vi).sq + queue * SQ_SIZE))


@kernel
def _signal(e: Engine, queue: i64, packets: i64, now: i64) -> i64:
    """Tell coalescing of packets given back on a transmit queue, or of time gone by (0); 1 if it called the driver."""
    dq = e.device_queues + queue * QUEUE_PAIR + TRANSMIT
    return call4(e.signal, dq, e.moderations + (2 * queue + 1) * MODERATION_SIZE, packets, now)


@kernel
def _give_back(e: Engine, dq: DeviceQueue, queue: i64) -> i64:
    """`netemu.device.transmit.give_back`, the call held back where that was asked for; 1 if the driver was called."""
    if e.signal == 0:
        return give_back(dq)
    packets = dq.taken
    if packets > 0:
        flush(dq)
    return _signal(e, queue, packets, vi_at(e.vi).now)


@kernel
def send_calls_for_sent(e: Engine, now: i64) -> i64:
    """Send the calls of transmit queues that are held back and due by ``now``; 1 if there was any."""
    sent = 0
    for n in range(e.queues):
        if _signal(e, n, 0, now) != 0:
            _interrupt(e, n)
            sent = 1
    return sent


@kernel
def _serve(e: Engine, queue: i64) -> i64:
    """The device takes all that is on a transmit queue; FLUSH if there is more than the taps have room for."""
    dq = device_queue_at(e.device_queues + queue * QUEUE_PAIR + TRANSMIT)
    sq = sq_at(vi_at(e.vi).sq + queue * SQ_SIZE)
    side = transmit_side_at(e.egress)
    if dq.num == 0 or dq.broken != 0:
        return DONE
    take_kick(dq)
    disable_kicks(dq)
    # A ring holds no more than ``num`` chains, and nobody adds any meanwhile.
    for _ in range(2 * dq.num + 2):
        got = take_frame(dq, side) if room_for_sent(e) != 0 else NO_ROOM
        if got == TAKEN:
            _note(e, dq, sq, side, queue)
            continue
        if _give_back(e, dq, queue) != 0:
            _interrupt(e, queue)
        if got == NO_ROOM:
            return FLUSH
        if got == BROKEN or enable_kicks(dq, 0) <= 0:
            return DONE
        disable_kicks(dq)
    return DONE


@kernel
def _driver_turn(e: Engine, queue: i64) -> i64:
    """Poll a send queue whose NAPI is scheduled, and send what waited for room; 1 if anything happened."""
    sq = sq_at(vi_at(e.vi).sq + queue * SQ_SIZE)
    moved = 0
    if napi_at(sq.napi).scheduled != 0:
        virtnet_poll_tx(sq)
        moved = 1
    if sq.qlen > 0 and sq.stopped == 0:
        qdisc_run(sq)
        moved = 1
    return moved


@entry
def transmit_turn(address: i64) -> i64:
    """Serve the send queues until nothing moves any more; FLUSH if the egress or a tap has to be emptied first."""
    e = engine_at(address)
    vi = vi_at(e.vi)
    side = transmit_side_at(e.egress)
    dev_watchdog(vi)
    if e.signal != 0:
        # While a sender waits for room, whatever time it takes goes by.
        send_calls_for_sent(e, FOREVER if e.waited != 0 else vi.now)
    e.unkicked = 0
    for n in range(e.queues):
        sq = sq_at(vi.sq + n * SQ_SIZE)
        if virtqueue_at(sq.vq).num_added != 0:
            # The frame that was promised with xmit_more was dropped on its way, or its sender waits for memory.
            end_batch(sq)
    moved = 1
    for _ in range(ROUNDS):
        if moved == 0:
            break
        moved = 0
        for n in range(e.queues):
            dq = device_queue_at(e.device_queues + n * QUEUE_PAIR + TRANSMIT)
            if e.serve_again != 0 or (dq.num != 0 and doorbell_at(dq.doorbell).kick != 0):
                if _serve(e, n) == FLUSH:
                    e.serve_again = 1
                    return FLUSH
                moved = 1
            moved |= _driver_turn(e, n)
        e.serve_again = 0
    e.turn_due = 0
    return FLUSH if e.drain_each != 0 and side.count > 0 else DONE
