"""Which UDP socket a datagram is for, after Linux's __udp4_lib_lookup and compute_score."""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load64, pointer, struct
from netemu.stack.host import is_ipv4
from netemu.stack.messages.datagram import DatagramSocket, Message, datagram_socket_at

BUCKETS = 256
"""A power of two; the bucket of a socket is the low bits of its port."""


@struct
class UdpTable(Struct):
    """The bound sockets of a host."""

    buckets: i64
    """Host address of BUCKETS addresses of `DatagramSocket` structs, each the first of a list."""
    message: i64
    """Address of the `netemu.stack.messages.datagram.Message` at hand."""


udp_table_at = pointer(UdpTable)


@kernel
def first_socket(table: UdpTable, port: i64) -> i64:
    """Address of the first socket of the bucket that ``port`` belongs to, or 0."""
    return load64(table.buckets + (port & (BUCKETS - 1)) * 8)


@kernel
def udp_score(s: DatagramSocket, m: Message) -> i64:
    """How well a datagram fits a socket: the more the socket is set on, the better; -1 if it does not fit."""
    if s.local_port != m.target_port:
        return -1
    if s.family != 0 and s.family != (4 if is_ipv4(m.target_hi, m.target_lo) != 0 else 6):
        return -1
    score = 1 if s.family != 0 else 0
    if s.interface != 0 and m.interface != 0:
        if s.interface != m.interface:
            return -1
        score += 4
    if s.local_hi != 0 or s.local_lo != 0:
        if s.local_hi != m.target_hi or s.local_lo != m.target_lo:
            return -1
        score += 4
    if s.remote_port != 0:
        if s.remote_port != m.source_port or s.remote_hi != m.source_hi or s.remote_lo != m.source_lo:
            return -1
        score += 8
    return score


@kernel
def udp_lookup(table: UdpTable, m: Message) -> i64:
    """Address of the socket that a datagram is for, or 0. Of equals the one that was bound last has it."""
    best = -1
    found = 0
    socket = first_socket(table, m.target_port)
    while socket != 0:
        s = datagram_socket_at(socket)
        score = udp_score(s, m)
        if score > best:
            best = score
            found = socket
        socket = s.next
    return found
