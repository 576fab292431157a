"""Ping sockets: echo requests of ICMP and ICMPv6 (RFC 792, RFC 4443 section 4), and the replies to them.

As Linux's ping sockets (net/ipv4/ping.c): a socket has the identifier of its echoes as port, the kernel writes header
and checksum, and a reply is found by its identifier. A message's port is its sequence number here.
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial
from netemu.jit import Struct, call2, entry, i64, kernel, load8, load16be, pointer, store8, store16, store16be, struct
from netemu.skb import skb_at, skb_header_pointer
from netemu.stack.host import SEND_TOO_BIG, SENT, host_at, is_ipv4
from netemu.stack.messages.datagram import Message, datagram_deliver, datagram_socket_at, message_at, wake_socket
from netemu.stack.messages.header import message_addresses
from netemu.stack.mib import count_at, icmp_mib_at
from netemu.stack.packet import packet_at, start_packet
from netemu.stack.state import L4_SCRATCH, stack_at

IPPROTO_ICMP = 1
IPPROTO_ICMPV6 = 58
ECHO = 8
ECHO_V6 = 128
_HEADER = 8
_CHECK = 2
_PAYLOAD_MAX = 65_535 - 20 - _HEADER


@struct
class PingTable(Struct):
    """The ping sockets of a host."""

    first: i64
    """Address of the first `DatagramSocket`, or 0."""
    message: i64
    """Address of the `netemu.stack.messages.datagram.Message` at hand."""


ping_table_at = pointer(PingTable)


@kernel
def _ping_lookup(table: PingTable, m: Message) -> i64:
    """Address of the socket with the message's identifier (its ``target_port``), or 0."""
    socket = table.first
    while socket != 0:
        s = datagram_socket_at(socket)
        if s.local_port == m.target_port:
            return socket
        socket = s.next
    return 0


@entry
def ping_input(host: i64, offset: i64, size: i64) -> i64:
    """Give an echo reply of ``size`` bytes at ``offset`` of the host's skb to its socket; 1, or 0 if there is none.

    Hook ``ping_input`` of a `netemu.stack.host.Host`, for replies of both versions that are in order.
    """
    h = host_at(host)
    table = ping_table_at(h.ping)
    m = message_at(table.message)
    message_addresses(h, m)
    header = skb_header_pointer(skb_at(h.skb), offset, _HEADER, stack_at(h.stack).scratch + L4_SCRATCH)
    m.target_port = load16be(header + 4)
    m.source_port = load16be(header + 6)
    m.offset = offset + _HEADER
    m.size = size - _HEADER
    socket = _ping_lookup(table, m)
    if socket == 0:
        return 0
    datagram_deliver(host, socket)
    return 1


@entry
def ping_error(host: i64, offset: i64, error: i64, _info: i64) -> i64:
    """ICMP told of an echo request of ours, quoted at ``offset`` of the host's skb; 1 if a socket here sent it, else 0.

    The socket learns of the error and, as what goes with it, of the request's sequence number.
    """
    h = host_at(host)
    header = skb_header_pointer(skb_at(h.skb), offset, _HEADER, stack_at(h.stack).scratch + L4_SCRATCH)
    if header == 0 or load8(header) not in (ECHO, ECHO_V6):
        return 0
    table = ping_table_at(h.ping)
    m = message_at(table.message)
    m.target_port = load16be(header + 4)
    socket = _ping_lookup(table, m)
    if socket == 0:
        return 0
    s = datagram_socket_at(socket)
    s.error = error
    s.error_info = load16be(header + 6)
    wake_socket(host, s)
    return 1


@kernel
def ping_sendmsg(host: i64, socket: i64, hi: i64, lo: i64, sequence: i64, payload: i64, size: i64) -> i64:
    """Send an echo request with ``size`` bytes at ``payload``: SENT or SEND_... of `netemu.stack.host`."""
    if size > _PAYLOAD_MAX:
        return SEND_TOO_BIG
    h = host_at(host)
    s = datagram_socket_at(socket)
    v4 = is_ipv4(hi, lo)
    at = start_packet(h.packet, IPPROTO_ICMP if v4 != 0 else IPPROTO_ICMPV6, _HEADER)
    store8(at, ECHO if v4 != 0 else ECHO_V6)
    store8(at + 1, 0)
    store16(at + _CHECK, 0)
    store16be(at + 4, s.local_port)
    store16be(at + 6, sequence)
    p = packet_at(h.packet)
    p.payload = payload
    p.payload_len = size
    p.source_hi = s.local_hi
    p.source_lo = s.local_lo
    p.target_hi = hi
    p.target_lo = lo
    p.interface = s.interface
    p.hop_limit = s.hop_limit
    p.traffic_class = s.traffic_class
    p.dont_fragment = s.dont_fragment
    if v4 != 0:
        # No pseudo-header goes into it, so no device makes it.
        total = csum_partial(at, _HEADER, 0)
        store16(at + _CHECK, ~csum_fold(csum_partial(payload, size, total)) & 0xFFFF)
    else:
        p.check = _CHECK
    result = call2(h.send, host, h.packet)
    stack = stack_at(h.stack)
    mib = icmp_mib_at(stack.icmp if v4 != 0 else stack.icmp6)
    if result == SENT:
        s.sent += 1
        mib.OutMsgs += 1
        count_at(mib.out_types, ECHO if v4 != 0 else ECHO_V6)
    else:
        mib.OutErrors += 1
    return result


@entry
def ping_send(host: i64, socket: i64, hi: i64, lo: i64, sequence: i64, payload: i64, size: i64) -> i64:
    """`ping_sendmsg` for Python."""
    return ping_sendmsg(host, socket, hi, lo, sequence, payload, size)
