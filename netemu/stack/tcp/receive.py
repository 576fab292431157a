"""TCP (RFC 9293), as far as Linux's tcp_v4_rcv and tcp_v6_rcv go before they look for a socket.

What a host that talks does with it stands in `netemu.stack.tcp.input`, behind a hook. Without one, in a replay, the
setting ``any_port`` says whether a segment finds a connection.
"""

from __future__ import annotations

from netemu.jit import call3, i64, kernel, load8
from netemu.skb import Skb, skb_header_pointer
from netemu.stack.checksums import checksum_good
from netemu.stack.mib import tcp_mib_at
from netemu.stack.reasons import DELIVERED, HDR_TRUNC, NO_SOCKET, TCP_CSUM, TCP_INHDR, TCP_NOT_UNICAST
from netemu.stack.state import L4_SCRATCH, PACKET_BROADCAST, PACKET_MULTICAST, Stack

_HEADER = 20
_DATA_OFFSET = 12


@kernel
def tcp_rcv(stack: Stack, skb: Skb, offset: i64, size: i64, pseudo: i64) -> i64:
    """Take the segment in the ``size`` bytes of IP payload at ``offset``; return the verdict.

    A segment cut off inside its header is dropped without an error counter, as in Linux.
    """
    if skb.pkt_type in (PACKET_BROADCAST, PACKET_MULTICAST):
        return TCP_NOT_UNICAST
    mib = tcp_mib_at(stack.tcp)
    mib.InSegs += 1
    if size < _HEADER:
        return HDR_TRUNC
    header = skb_header_pointer(skb, offset, _HEADER, stack.scratch + L4_SCRATCH)
    header_size = (load8(header + _DATA_OFFSET) >> 4) * 4
    if header_size < _HEADER:
        mib.InErrs += 1
        return TCP_INHDR
    if header_size > size:
        return HDR_TRUNC
    if checksum_good(skb, offset, size, pseudo) == 0:
        mib.InCsumErrors += 1
        mib.InErrs += 1
        return TCP_CSUM
    if stack.tcp_input != 0:
        return call3(stack.tcp_input, stack.host, offset, size)
    return DELIVERED if stack.any_port != 0 else NO_SOCKET
