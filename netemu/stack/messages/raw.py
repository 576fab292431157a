"""Raw sockets: whole frames, as packet(7) gives them. What comes in is copied before any protocol looks at it.

A frame that the sender's or the receiver's offloads left unfinished is seen that way, as a capture on the interface
would show it. Frames that the host itself sends are not seen.
"""

from __future__ import annotations

from netemu.jit import Struct, call2, entry, i64, load16be, memcpy, pointer, struct
from netemu.skb import skb_at
from netemu.stack.host import SEND_DROPPED, SEND_TOO_BIG, SENT, host_at, interface_at
from netemu.stack.messages.datagram import datagram_deliver, datagram_socket_at, message_at
from netemu.stack.packet import packet_at, start_packet

ETH_HLEN = 14
_VLAN_ROOM = 8
"""Two tags may come on top of the MTU."""


@struct
class RawTable(Struct):
    """The raw sockets of a host."""

    first: i64
    """Address of the first `DatagramSocket`, or 0."""
    message: i64
    """Address of the `netemu.stack.messages.datagram.Message` at hand."""


raw_table_at = pointer(RawTable)


@entry
def raw_input(host: i64, skb: i64) -> i64:
    """Copy a frame that came in to all raw sockets of its interface; always 0.

    Hook ``raw_input`` of a `netemu.stack.host.Host`, there while a raw socket is open.
    """
    h = host_at(host)
    table = raw_table_at(h.raw)
    m = message_at(table.message)
    m.offset = 0
    m.size = skb_at(skb).len
    m.extra = interface_at(h.input).index
    socket = table.first
    while socket != 0:
        s = datagram_socket_at(socket)
        following = s.next
        if s.local_port == m.extra:
            datagram_deliver(host, socket)
        socket = following
    return 0


@entry
def raw_send(interface: i64, socket: i64, frame: i64, size: i64) -> i64:
    """Send ``size`` bytes at ``frame`` out of an interface as they are: SENT, SEND_DROPPED or SEND_TOO_BIG.

    There are at least ETH_HLEN.
    """
    one = interface_at(interface)
    if size > one.mtu + ETH_HLEN + _VLAN_ROOM:
        return SEND_TOO_BIG
    packet = host_at(one.host).packet
    at = start_packet(packet, 0, ETH_HLEN)
    memcpy(at, frame, ETH_HLEN)
    p = packet_at(packet)
    p.kind = load16be(frame + 12)
    p.payload = frame + ETH_HLEN
    p.payload_len = size - ETH_HLEN
    if one.up == 0 or call2(one.xmit, one.device, packet) == 0:
        return SEND_DROPPED
    datagram_socket_at(socket).sent += 1
    return SENT
