"""Sockets that answer without Python: echo (RFC 862), discard (RFC 863) and chargen (RFC 864) over UDP."""

from __future__ import annotations

from netemu.jit import entry, i64
from netemu.skb import skb_at, skb_copy_bits
from netemu.stack.host import host_at
from netemu.stack.messages.datagram import datagram_socket_at, message_at
from netemu.stack.udp.output import udp_sendmsg

ECHO_ROOM = 65_536
"""Bytes that ``app_state`` of an echo socket is the host address of."""
CHARGEN_SIZE = 74
"""Bytes of a chargen answer, at the host address that is ``app_state``: one line of the pattern."""


@entry
def udp_echo_app(host: i64, socket: i64) -> i64:
    """Send the datagram at hand back to where it came from; always 0."""
    s = datagram_socket_at(socket)
    m = message_at(s.message)
    skb_copy_bits(skb_at(host_at(host).skb), m.offset, s.app_state, m.size)
    udp_sendmsg(host, s, m.source_hi, m.source_lo, m.source_port, s.app_state, m.size)
    return 0


@entry
def udp_discard_app(_host: i64, _socket: i64) -> i64:
    """Drop the datagram at hand, which was counted; always 0."""
    return 0


@entry
def udp_chargen_app(host: i64, socket: i64) -> i64:
    """Answer the datagram at hand with a line of characters; always 0."""
    s = datagram_socket_at(socket)
    m = message_at(s.message)
    udp_sendmsg(host, s, m.source_hi, m.source_lo, m.source_port, s.app_state, CHARGEN_SIZE)
    return 0
