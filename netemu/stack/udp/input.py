"""A datagram that is in order finds its socket: the hooks of UDP on the way up.

`netemu.stack.udp.receive` has checked it. Broadcasts and multicasts go to every socket that they fit, as in Linux
(__udp4_lib_mcast_deliver); sockets join no groups: which of those come in is the interface's affair.
"""

from __future__ import annotations

from netemu.jit import call4, entry, i64, load16be
from netemu.skb import skb_at, skb_header_pointer
from netemu.stack.host import ERROR_TOO_BIG, host_at
from netemu.stack.messages.datagram import datagram_deliver, datagram_socket_at, message_at, wake_socket
from netemu.stack.messages.header import message_addresses
from netemu.stack.mib import udp_mib_at
from netemu.stack.reasons import DELIVERED, NO_SOCKET, SOCKET_RCVBUFF
from netemu.stack.state import L4_SCRATCH, UNICAST, stack_at
from netemu.stack.udp.table import first_socket, udp_lookup, udp_score, udp_table_at

_HEADER = 8
_DEST_UNREACH = 3
_PORT_UNREACH = 3
_DEST_UNREACH_V6 = 1
_PORT_UNREACH_V6 = 4


@entry
def udp_input(host: i64, offset: i64, size: i64, cast: i64) -> i64:
    """Give the ``size`` bytes of a datagram at ``offset`` of the host's skb to its socket; the verdict.

    Hook ``udp_input`` of a `netemu.stack.state.Stack`.
    """
    h = host_at(host)
    stack = stack_at(h.stack)
    table = udp_table_at(h.udp)
    m = message_at(table.message)
    version = message_addresses(h, m)
    mib = udp_mib_at(stack.udp if version == 4 else stack.udp6)
    header = skb_header_pointer(skb_at(h.skb), offset, _HEADER, stack.scratch + L4_SCRATCH)
    m.source_port = load16be(header)
    m.target_port = load16be(header + 2)
    m.offset = offset + _HEADER
    m.size = size - _HEADER
    socket = udp_lookup(table, m) if cast == UNICAST else first_socket(table, m.target_port)
    verdict = NO_SOCKET
    while socket != 0:
        # An app may close its socket: what follows is read first.
        following = datagram_socket_at(socket).next if cast != UNICAST else 0
        if cast == UNICAST or udp_score(datagram_socket_at(socket), m) >= 0:
            if datagram_deliver(host, socket) != 0:
                mib.InDatagrams += 1
                verdict = DELIVERED
            else:
                mib.RcvbufErrors += 1
                mib.InErrors += 1
                verdict = DELIVERED if verdict == DELIVERED else SOCKET_RCVBUFF
        socket = following
    if verdict == NO_SOCKET:
        if cast != UNICAST:
            mib.IgnoredMulti += 1
        else:
            mib.NoPorts += 1
            if version == 4:
                call4(stack.icmp_send, host, _DEST_UNREACH, _PORT_UNREACH, 0)
            elif stack.icmp6_send != 0:
                call4(stack.icmp6_send, host, _DEST_UNREACH_V6, _PORT_UNREACH_V6, 0)
    return verdict


@entry
def udp_error(host: i64, offset: i64, error: i64, info: i64) -> i64:
    """ICMP told of a datagram of ours, whose UDP header is quoted at ``offset`` of the host's skb.

    ``error`` is one of `netemu.stack.host`'s ERROR_..., ``info`` what goes with it. 1 if a socket here sent it, else 0.
    Only a connected socket hears of it, as in Linux, and of a packet that was too big only one that does not let its
    datagrams be cut.
    """
    h = host_at(host)
    table = udp_table_at(h.udp)
    header = skb_header_pointer(skb_at(h.skb), offset, 4, stack_at(h.stack).scratch + L4_SCRATCH)
    if header == 0:
        return 0
    m = message_at(table.message)
    # Seen from the socket: what it sent came from its own address, and went to the remote one.
    m.target_hi = h.error_source_hi
    m.target_lo = h.error_source_lo
    m.source_hi = h.error_target_hi
    m.source_lo = h.error_target_lo
    m.interface = 0  # an error may come in by another way than the one its cause went out
    m.target_port = load16be(header)
    m.source_port = load16be(header + 2)
    socket = udp_lookup(table, m)
    if socket == 0:
        return 0
    s = datagram_socket_at(socket)
    if s.remote_port != 0 and (error != ERROR_TOO_BIG or s.dont_fragment != 0):
        s.error = error
        s.error_info = info
        wake_socket(host, s)
    return 1
