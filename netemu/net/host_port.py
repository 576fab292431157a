"""A plain network card: a host's interface on a port, without a ring in between. Routers have these.

It takes frames as they come, what their senders left undone included, and passes them on the same way; whoever is at
the other end of the link finishes what it cannot take (`netemu.net.port.Port.adapt`).
"""

from __future__ import annotations

from netemu.frame import frame_at
from netemu.jit import (
    Struct,
    call2,
    entry,
    i64,
    kernel,
    load8,
    load16,
    load16be,
    memset,
    pointer,
    store8,
    store16,
    struct,
)
from netemu.net.port import port_send
from netemu.net.wire_frame import VNET_ROOM, alloc_wire_frame, put_wire_frame, wire_frame_at, wire_pool_at
from netemu.skb import CHECKSUM_NONE, CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, Skb, skb_at
from netemu.stack.host import interface_at
from netemu.stack.packet import copy_packet, packet_at
from netemu.stack.state import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST
from netemu.timers import timers_at

# A virtio_net_hdr of full length, as it travels with a frame (`netemu.frame.Frame.vnet`).
_FLAGS = 0
_GSO_TYPE = 1
_HDR_LEN = 2
_GSO_SIZE = 4
_CSUM_START = 6
_CSUM_OFFSET = 8
_NEEDS_CSUM = 1
_DATA_VALID = 2


@struct
class HostPort(Struct):
    """One plain card."""

    interface: i64
    """Address of the `Interface` it belongs to."""
    deliver: i64
    """Hook ``(interface, skb)``."""
    skb: i64
    """Address of an `Skb` that stands for the frame at hand."""
    port: i64
    timers: i64
    pool: i64


host_port_at = pointer(HostPort)


@kernel
def _packet_type(mac: i64, address: i64) -> i64:
    """pkt_type of a frame at ``address``, as eth_type_trans finds it."""
    target = (load16be(address) << 32) | (load16be(address + 2) << 16) | load16be(address + 4)
    if target == mac:
        return PACKET_HOST
    if target == (1 << 48) - 1:
        return PACKET_BROADCAST
    return PACKET_MULTICAST if load8(address) & 1 else PACKET_OTHERHOST


@kernel
def _take_over(skb: Skb, vnet: i64) -> None:
    """What the sender left undone, as fields of the skb."""
    skb.ip_summed = CHECKSUM_NONE
    skb.gso_size = 0
    skb.gso_type = 0
    if vnet == 0:
        return
    flags = load8(vnet + _FLAGS)
    if flags & _NEEDS_CSUM:
        skb.ip_summed = CHECKSUM_PARTIAL
        skb.csum_start = load16(vnet + _CSUM_START)
        skb.csum_offset = load16(vnet + _CSUM_OFFSET)
        skb.gso_type = load8(vnet + _GSO_TYPE)
        skb.gso_size = load16(vnet + _GSO_SIZE) if skb.gso_type != 0 else 0
    elif flags & _DATA_VALID:
        skb.ip_summed = CHECKSUM_UNNECESSARY


@entry
def host_port_receive(address: i64, _number: i64, wire_frame: i64) -> i64:
    """A frame for the host; hook of the port."""
    card = host_port_at(address)
    frame = frame_at(wire_frame_at(wire_frame).frame)
    interface = interface_at(card.interface)
    if frame.len >= 14:
        skb = skb_at(card.skb)
        skb.data = frame.address
        skb.len = frame.len
        skb.wire_len = frame.wire_len
        skb.tstamp = timers_at(card.timers).now
        skb.network_header = 0
        skb.transport_header = 0
        skb.protocol = load16be(frame.address + 12)
        skb.pkt_type = _packet_type(interface.mac, frame.address)
        _take_over(skb, frame.vnet)
        call2(card.deliver, card.interface, card.skb)
    put_wire_frame(wire_frame)
    return 0


@entry
def host_port_xmit(address: i64, packet: i64) -> i64:
    """Send a packet; 1, or 0 without a buffer. Hook of the interface."""
    card = host_port_at(address)
    p = packet_at(packet)
    head = p.transport + p.transport_len - p.data
    size = head + p.payload_len + p.more_len
    wire_frame = alloc_wire_frame(wire_pool_at(card.pool), size)
    if wire_frame == 0:
        return 0
    wf = wire_frame_at(wire_frame)
    frame = frame_at(wf.frame)
    copy_packet(p, frame.address)
    frame.tstamp = timers_at(card.timers).now
    if p.partial != 0:
        frame.vnet = wf.buffer
        memset(frame.vnet, 0, VNET_ROOM)
        store8(frame.vnet + _FLAGS, _NEEDS_CSUM)
        store8(frame.vnet + _GSO_TYPE, p.gso_type)
        store16(frame.vnet + _GSO_SIZE, p.gso_size)
        store16(frame.vnet + _HDR_LEN, head if p.gso_size != 0 else 0)
        store16(frame.vnet + _CSUM_START, p.transport - p.data)
        store16(frame.vnet + _CSUM_OFFSET, p.check)
    port_send(card.port, wire_frame)
    return 1
