"""Ports: where a device meets a link.

Theory of operation
-------------------
A *node* (a guest's virtio device, a switch, a router, a TAP device) has ports; a *link* joins two of them. A port knows
two hooks and nothing of what is behind them: ``send`` takes a frame on its way out into the link, ``receive`` gives the
node one that came in. Both own the reference to the frame that they are given.

On its way in or out a frame is counted, and written to the port's capture, if it has one. What the sender left undone
(a checksum, segmentation) is done in front of a node that does not take it over (``accepts``); the frames are then cut
or finished by the hook ``adapt`` (`netemu.net.adapt`).
"""

from __future__ import annotations

from netemu.frame import frame_at
from netemu.jit import Struct, call2, call3, i64, kernel, pointer, struct
from netemu.net.wire_frame import put_wire_frame, wire_frame_at


@struct
class Port(Struct):
    """One end of a link. Directions are as the node sees them: it *receives* what comes out of the link."""

    node: i64
    """Address of the node's own struct, the first argument of ``receive``."""
    number: i64
    """Which of the node's ports it is, from 0."""
    receive: i64
    """Hook of the node: ``(node, number, wire frame)``."""
    link: i64
    """Address of the link's direction away from this port; 0 while nothing is plugged in."""
    send: i64
    """Hook of the link: ``(link direction, wire frame)``."""
    adapt: i64
    """Hook ``(port, wire frame)`` that makes the frame what the node takes and calls `hand_over`; 0: it takes all."""
    adapter: i64
    """Address of that hook's state."""
    tap: i64
    """Hook ``(port, wire frame, outbound)`` that captures a frame; 0: nobody captures."""
    capture: i64
    """Address of that hook's state."""
    rx_packets: i64
    rx_bytes: i64
    tx_packets: i64
    tx_bytes: i64
    tx_dropped: i64
    """Frames sent while nothing was plugged in."""


port_at = pointer(Port)
PORT_SIZE = Port.dtype.itemsize


@kernel
def port_send(port: i64, wire_frame: i64) -> None:
    """The node at the `Port` sends a frame into the link."""
    p = port_at(port)
    if p.link == 0:
        p.tx_dropped += 1
        put_wire_frame(wire_frame)
        return
    p.tx_packets += 1
    p.tx_bytes += frame_at(wire_frame_at(wire_frame).frame).len
    if p.tap != 0:
        call3(p.tap, port, wire_frame, 1)
    call2(p.send, p.link, wire_frame)


@kernel
def hand_over(port: i64, wire_frame: i64) -> None:
    """Give the node at the `Port` a frame that it takes as it is."""
    p = port_at(port)
    call3(p.receive, p.node, p.number, wire_frame)


@kernel
def port_receive(port: i64, wire_frame: i64) -> None:
    """A frame comes out of the link at the `Port`."""
    p = port_at(port)
    p.rx_packets += 1
    frame = frame_at(wire_frame_at(wire_frame).frame)
    p.rx_bytes += frame.len
    if p.tap != 0:
        call3(p.tap, port, wire_frame, 0)
    if p.adapt != 0 and frame.vnet != 0:
        call2(p.adapt, port, wire_frame)
    else:
        hand_over(port, wire_frame)
