"""Sending a datagram, after Linux's udp_sendmsg and udp_send_skb."""

from __future__ import annotations

from netemu.jit import call2, entry, i64, kernel, store16, store16be
from netemu.stack.host import SEND_DROPPED, SEND_TOO_BIG, SENT, host_at, is_ipv4
from netemu.stack.messages.datagram import DatagramSocket, datagram_socket_at
from netemu.stack.mib import udp_mib_at
from netemu.stack.packet import packet_at, start_packet
from netemu.stack.state import stack_at

IPPROTO_UDP = 17
_HEADER = 8
_CHECK = 6
PAYLOAD_MAX_V4 = 65_535 - 20 - _HEADER
PAYLOAD_MAX_V6 = 65_535 - _HEADER


@kernel
def _addressed(host: i64, s: DatagramSocket, hi: i64, lo: i64, port: i64) -> i64:
    """Begin a datagram to a port in the host's packet; the host address of its header."""
    packet = host_at(host).packet
    at = start_packet(packet, IPPROTO_UDP, _HEADER)
    p = packet_at(packet)
    p.source_hi = s.local_hi
    p.source_lo = s.local_lo
    p.target_hi = hi
    p.target_lo = lo
    p.interface = s.interface
    p.hop_limit = s.hop_limit
    p.traffic_class = s.traffic_class
    p.dont_fragment = s.dont_fragment
    store16be(at, s.local_port)
    store16be(at + 2, port)
    return at


@kernel
def udp_sendmsg(host: i64, s: DatagramSocket, hi: i64, lo: i64, port: i64, payload: i64, size: i64) -> i64:
    """Send ``size`` bytes at ``payload`` to a port of an address: SENT, or why not (SEND_... of `netemu.stack.host`).

    The bytes are the caller's again afterwards.
    """
    h = host_at(host)
    v4 = is_ipv4(hi, lo)
    if size > (PAYLOAD_MAX_V4 if v4 != 0 else PAYLOAD_MAX_V6):
        return SEND_TOO_BIG
    at = _addressed(host, s, hi, lo, port)
    store16be(at + 4, _HEADER + size)
    store16(at + _CHECK, 0)
    p = packet_at(h.packet)
    p.payload = payload
    p.payload_len = size
    p.check = _CHECK
    result = call2(h.send, host, h.packet)
    stack = stack_at(h.stack)
    mib = udp_mib_at(stack.udp if v4 != 0 else stack.udp6)
    if result == SENT:
        mib.OutDatagrams += 1
        s.sent += 1
    elif result == SEND_DROPPED:
        mib.SndbufErrors += 1
    return result


@entry
def udp_send(host: i64, socket: i64, hi: i64, lo: i64, port: i64, payload: i64, size: i64) -> i64:
    """`udp_sendmsg` for Python; ``socket`` is the address of the `DatagramSocket`."""
    return udp_sendmsg(host, datagram_socket_at(socket), hi, lo, port, payload, size)


@entry
def udp_connect(host: i64, socket: i64, hi: i64, lo: i64, port: i64) -> i64:
    """Make a socket hear and, by default, address nobody but that port: SENT, or SEND_UNREACHABLE and it is as before.

    A socket that is bound to any address is from then on bound to the one that packets to there have as source.
    """
    h = host_at(host)
    s = datagram_socket_at(socket)
    _addressed(host, s, hi, lo, port)
    result = call2(h.route, host, h.packet)
    if result == SENT:
        p = packet_at(h.packet)
        s.local_hi = p.source_hi
        s.local_lo = p.source_lo
        s.remote_hi = hi
        s.remote_lo = lo
        s.remote_port = port
    return result
