"""The state of the loop: what arrives, who is there, where skbs go, and what was counted."""

from __future__ import annotations

from netemu.device.queue import DeviceQueue
from netemu.jit import Struct, i64, pointer, struct

DONE = 0
FLUSH = 1
WAIT_A_TURN = 2


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
    """1: a frame waits for buffers; 0: it is dropped when there are none; WAIT_A_TURN: it waits for one of the guest's
    turns, and for no delayed work."""
    softirq: i64
    """It is the guest's turn."""
    one_turn: i64
    """1: a turn polls each queue once; what then still waits is left for another one, as a slow processor does."""
    waited: i64
    """Turns of the guest that the frame at hand has waited for."""
    queues: i64
    vi: i64
    side: i64
    steering: i64
    """Address of the device's `Steering`."""
    device_queues: i64
    """Address of the device's queues, receive and transmit in turn."""
    stack: i64
    deliver: i64
    """Address of netif_receive_skb (`netemu.stack.deliver`), a hook of the stack's and the skb's address."""
    sink: i64
    ring_sink: i64
    """1: the sink gets ring captures, at the moment a frame is in its buffers; 0: it gets skbs."""
    features_low: i64
    features_high: i64
    """Negotiated features, for the ring capture's prefix."""
    trace: i64
    extras: i64
    """Any of the hooks of `netemu.engine.extras` is there, or one of the next two says something."""
    mtu: i64
    """What the device told the driver (feature MTU), or 0: longer frames are dropped."""
    link_down: i64
    """1: no frame reaches the device."""
    admit: i64
    filter: i64
    """Hook that lets a frame in, of the filter's address, the frame's and its length; address of the `Filter`."""
    signal: i64
    moderations: i64
    """Hook that calls the driver or holds the call back (`signal_hook`); address of a `Moderation` per virtqueue."""
    count_frame: i64
    stats: i64
    """Hook that counts a frame (`netemu.device.stats.count_frame`); address of a `QueueStats` per virtqueue."""
    device_drops: i64
    """Address of one counter per `netemu.reasons.DropReason`."""
    lane: i64
    """1: this loop plays one queue of several (`netemu.engine.lanes`), whose frames bring their numbers along."""
    first_queue: i64
    """Number of the queue that is 0 here."""
    frames_in: i64
    bytes_in: i64
    frames_out: i64
    bytes_out: i64
    last_up: i64
    """Number of the last frame handed up, in order of arrival."""
    outstanding: i64
    """Address of the `netemu.outstanding.OutstandingState` of frames that rings may lose, or 0."""
    lost: i64
    """Frames dropped that have not been noted at a frame behind them."""
    # Sending; all 0 where the guest only receives.
    send: i64
    """Hook `netemu.engine.send.send_frames`: the guest sends the frames of the batch itself."""
    reflect: i64
    """Hook `netemu.engine.reflect.reflect`: the guest sends back what it receives."""
    turn: i64
    """Hook `netemu.engine.turn.transmit_turn`: the device's turn, and that of the send queues."""
    turn_due: i64
    egress: i64
    """Address of the device's `TransmitSide`, which holds what has left the guest."""
    drain_each: i64
    """1: the loop stops after each turn that sent something, so that what comes and what goes can be told in order."""
    xmit_more: i64
    """Frames that are handed to a send queue for each kick."""
    unkicked: i64
    """Frames handed down since the last that was not followed by another."""
    serve_again: i64
    """The egress was full before the send queues were empty."""
    finish: i64
    finish_job: i64
    """Hook `netemu.offload.finish.finish` and its job: segments in software what the device does not take."""
    segment_frame: i64
    """Address of a `Frame` that is given to it, and whose header has room behind it."""
    tx_sink: i64
    """The sink that gets the ring captures of what is sent; 0: none does."""
    sent_out: i64
    sent_bytes: i64
    """Frames that have left the guest, and their bytes."""


engine_at = pointer(Engine)
ENGINE_SIZE = Engine.dtype.itemsize
TRANSMIT = DeviceQueue.dtype.itemsize
"""Bytes from a pair's receive queue to its transmit queue."""
QUEUE_PAIR = 2 * DeviceQueue.dtype.itemsize
"""Bytes from one pair's receive queue to the next one's."""
