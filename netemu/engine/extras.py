"""What a device does for a frame only where a driver negotiated it: filtering, holding calls back, statistics.

`Engine.extras` says whether there is any of it, so that a frame pays one comparison where there is not. Each is a hook
with its state beside it, or 0.
"""

from __future__ import annotations

from netemu.device.coalesce import MODERATION_SIZE
from netemu.device.mtu import over_mtu
from netemu.device.queue import device_queue_at, flush, notify
from netemu.device.quirks import is_to_misbehave
from netemu.device.receive import publish, receive_side_at
from netemu.device.stats import QUEUE_STATS_SIZE, queue_stats_at
from netemu.driver.poll import skb_recv_done
from netemu.driver.virtnet import RQ_SIZE, rq_at, vi_at
from netemu.engine.state import QUEUE_PAIR, Engine
from netemu.frame import Frame
from netemu.jit import call3, call4, i64, kernel
from netemu.reasons import FILTERED, LINK_DOWN, NO_BUFFER, OVER_MTU
from netemu.virtio.notify import doorbell_at

FOREVER = 1 << 62
"""Later than any call is due."""


@kernel
def interrupt(e: Engine, queue: i64) -> None:
    """The device has called the driver of a receive queue: the interrupt is there at once."""
    dq = device_queue_at(e.device_queues + queue * QUEUE_PAIR)
    doorbell_at(dq.doorbell).call = 0
    skb_recv_done(rq_at(vi_at(e.vi).rq + queue * RQ_SIZE))


@kernel
def _signal(e: Engine, queue: i64, packets: i64, now: i64) -> i64:
    """Tell coalescing of packets flushed to a receive queue, or of time gone by (0); 1 if it called the driver."""
    dq = e.device_queues + queue * QUEUE_PAIR
    return call4(e.signal, dq, e.moderations + 2 * queue * MODERATION_SIZE, packets, now)


@kernel
def send_calls(e: Engine, now: i64) -> i64:
    """Send the calls that are held back and due by ``now``; 1 if there was any that the driver wanted."""
    sent = 0
    for n in range(e.queues):
        if _signal(e, n, 0, now) != 0:
            interrupt(e, n)
            sent = 1
    return sent


@kernel
def refused(e: Engine, frame: Frame) -> i64:
    """Time has come to the frame at hand: send calls that are due by now; the reason not to let the frame in, or 0."""
    if e.signal != 0:
        send_calls(e, vi_at(e.vi).now)
    if e.link_down != 0:
        return LINK_DOWN
    if e.admit != 0 and call3(e.admit, e.filter, frame.address, frame.len) == 0:
        return FILTERED
    if e.mtu != 0 and over_mtu(frame.address, frame.len, frame.vnet, e.mtu) != 0:
        return OVER_MTU
    return 0


@kernel
def publish_extra(e: Engine, queue: i64, length: i64) -> i64:
    """`netemu.device.receive.publish` with all that may be done besides; how often the driver was called."""
    dq = device_queue_at(e.device_queues + queue * QUEUE_PAIR)
    if e.count_frame != 0:
        call3(e.count_frame, e.stats + 2 * queue * QUEUE_STATS_SIZE, receive_side_at(e.side).header, length)
    if dq.quirks != 0 and (e.signal == 0 or is_to_misbehave(dq.quirks) != 0):
        return publish(dq)
    flush(dq)
    if e.signal != 0:
        return _signal(e, queue, 1, vi_at(e.vi).now)
    return notify(dq)


@kernel
def count_drop(e: Engine, queue: i64, reason: i64) -> None:
    """A frame was dropped: the device's statistics know, unless it was never meant for this station."""
    if e.count_frame != 0 and reason not in (FILTERED, LINK_DOWN):
        counts = queue_stats_at(e.stats + 2 * queue * QUEUE_STATS_SIZE)
        counts.drops += 1
        if reason == NO_BUFFER:
            counts.drop_overruns += 1
