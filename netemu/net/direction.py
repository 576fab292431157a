"""One direction of a link: its state, its books, and how many bytes a frame is on its wire.

The way of a frame
------------------
::

    Port.send                                              netemu.net.link
      |  down? MTU? cut, where frames are impaired by segment; the limit of all that the link holds
      v
    queue            tail drop, RED, CoDel                 netemu.net.queue, red, codel
      |
      v
    transmitter      rate: one frame at a time             netemu.net.transmitter
      |
      v
    impairments      duplicated? lost? corrupted?          netemu.net.impair, loss, corrupt
      |              delayed by how much? ahead of others? netemu.net.delay, reorder
      v
    line             until its moment comes                netemu.net.line
      |              slots                                 netemu.net.slots
      v
    port_receive

So a link drops and delays in its queue as a router does, and loses on the wire what has used its share of the rate.
netem, which is a queue alone, does all of it before it serves its rate: there a frame that is lost takes no time of
the wire, and one that is reordered none either. With no rate, and with a rate that is not used up, the two do the same.

``limit`` bounds, as netem's does, all that the link holds: what waits, what is being sent, what is under way.

Each frame is in exactly one place, and counted: with ``cut`` frames that became ``pieces``::

    offered + pieces - cut + duplicated == delivered + dropped_... + held

Counters count frames; a large frame that is impaired whole is one. Its bytes are those of its segments.
"""

from __future__ import annotations

from netemu.frame import Frame, frame_at
from netemu.jit import Struct, i64, kernel, load16, pointer, struct
from netemu.net.wire_frame import put_wire_frame, wire_frame_at
from netemu.offload.large import is_large, segment_size, wire_size

ETH_HLEN = 14
_TAG = 4
_ETH_P_8021Q = 0x0081
_ETH_P_8021AD = 0xA888
"""EtherTypes as a little-endian load sees them."""


@struct
class Direction(Struct):
    """State of one direction. Times in ns, sizes in bytes, rates in bit/s; hooks that are 0 cost nothing."""

    timers: i64
    """Address of the `netemu.timers.Timers` that it lives by."""
    pool: i64
    """Address of the `netemu.net.wire_frame.WirePool`."""
    port: i64
    """Address of the port where its frames arrive."""
    up: i64
    """1, or 0: nothing gets through."""
    epoch: i64
    """How often it went down: what was under way before that does not arrive."""
    mtu: i64
    """Most bytes of a packet behind its Ethernet header and tags; 0: any."""
    limit: i64
    """Most frames that it holds; 0: any number."""
    held: i64
    """Frames in the queue, at the transmitter, and under way."""

    cutter: i64
    """Hook ``(direction, wire frame)`` that cuts a large frame and sends its pieces; 0: such frames stay whole."""
    cutting: i64
    """Address of its `netemu.net.pieces.Pieces`."""
    admit: i64
    """Hook ``(direction, wire frame)`` of a policy that may drop a frame on its way into the queue (RED): ADMIT..."""
    pick: i64
    """Hook ``(direction)`` of a policy that takes the next frame out of it (CoDel): the frame, or 0; 0: the first."""
    policy: i64
    """Address of that policy's state."""
    impair: i64
    """Hook ``(direction, wire frame)``: a frame comes on the wire; 0: it arrives after ``delay``."""
    impairments: i64
    """Address of its `netemu.net.impair.Impairments`."""
    slots: i64
    """Hook ``(direction, wire frame)`` that keeps a frame for its slot; 0: it arrives when it is due."""
    slotted: i64
    """Address of its `netemu.net.slots.Slots`."""
    on_sent: i64
    on_due: i64
    on_single: i64
    """Hooks for what happens later: see `netemu.net.transmitter` and `netemu.net.line`."""

    first: i64
    """The queue: addresses of the wire frame that has waited longest, and of the newest; 0: it is empty."""
    last: i64
    backlog: i64
    """Frames in the queue, and their bytes."""
    backlog_bytes: i64
    queue_limit: i64
    """Most frames of the queue, and most bytes; 0: any."""
    queue_limit_bytes: i64

    rate: i64
    """bit/s; 0: sending takes no time."""
    overhead: i64
    """Bytes that each packet takes more, or less if negative."""
    cell: i64
    """Bytes of payload in a cell; 0: there are no cells."""
    cell_overhead: i64
    """Bytes that each cell takes more, or less if negative."""
    sending: i64
    """The wire frame at the transmitter; 0: it is idle."""
    rest: i64
    """What the last frame's time was rounded off by, in ns times ``rate``."""

    delay: i64
    line_first: i64
    """The line: wire frames under way in the order of their arrival, from the next one to the last."""
    line_last: i64

    offered: i64
    """Frames and bytes given to the link."""
    offered_bytes: i64
    sent: i64
    """Frames and bytes that left the transmitter."""
    sent_bytes: i64
    delivered: i64
    """Frames and bytes that arrived."""
    delivered_bytes: i64
    dropped_mtu: i64
    dropped_limit: i64
    dropped_queue: i64
    """Found no room in the queue."""
    dropped_early: i64
    """Dropped by RED or CoDel though there was room."""
    dropped_loss: i64
    """Lost on the wire."""
    dropped_down: i64
    """Offered while it was down, or held when it went down."""
    dropped_buffer: i64
    """No buffer for a copy."""
    dropped_header: i64
    """Large frames whose header does not fit them, so that nobody can cut them."""
    overlimits: i64
    """Frames that met a full queue, or one that RED found too long: those dropped and those marked."""
    marked: i64
    """Frames that got the ECN mark in place of being dropped."""
    duplicated: i64
    corrupted: i64
    reordered: i64
    """Frames that went ahead of others by the word ``reorder``."""
    cut: i64
    """Large frames that were cut, and the pieces."""
    pieces: i64
    queued_ns: i64
    """Time that frames spent in the queue, summed over those that left it."""
    queued_most: i64
    """Most frames that the queue ever held."""


direction_at = pointer(Direction)

ADMIT = 0
REFUSE_EARLY = 1
"""What a policy says to a frame on its way into the queue."""


@kernel
def drop(d: Direction, wire_frame: i64) -> None:
    """A frame that the link holds is gone; its reason is counted by who says so."""
    d.held -= 1
    put_wire_frame(wire_frame)


@kernel
def size_of(wire_frame: i64) -> i64:
    """`wire_size` of a wire frame."""
    return wire_size(frame_at(wire_frame_at(wire_frame).frame))


@kernel
def l3_offset(frame: Frame) -> i64:
    """Where the packet begins: behind the Ethernet header and its tags."""
    at = ETH_HLEN
    while at + _TAG <= frame.len and load16(frame.address + at - 2) in (_ETH_P_8021Q, _ETH_P_8021AD):
        at += _TAG
    return at


@kernel
def over_mtu(d: Direction, frame: Frame) -> i64:
    """Whether the packet, or each full segment of a large one, is longer than the MTU."""
    size = segment_size(frame) if is_large(frame) else frame.len
    return 1 if size - l3_offset(frame) > d.mtu else 0
