"""UDP over IPv4 and IPv6 (RFC 768, RFC 8200 section 8.1), after Linux's __udp4_lib_rcv and __udp6_lib_rcv.

A host that talks looks for a socket in the hook ``udp_input``; without one the setting ``any_port`` says whether a
datagram finds one.
"""

from __future__ import annotations

from netemu.jit import call4, i64, kernel, load16, load16be
from netemu.skb import Skb, skb_header_pointer
from netemu.stack.checksums import checksum_good
from netemu.stack.mib import udp_mib_at
from netemu.stack.reasons import DELIVERED, HDR_TRUNC, NO_SOCKET, PKT_TOO_SMALL, UDP_CSUM
from netemu.stack.state import L4_SCRATCH, UNICAST, Stack

_HEADER = 8
_LENGTH = 4
_CHECK = 6


@kernel
def udp_rcv(stack: Stack, skb: Skb, offset: i64, size: i64, pseudo: i64, cast: i64, v6: i64) -> i64:
    """Take the datagram in the ``size`` bytes of IP payload at ``offset``; return the verdict.

    ``cast`` tells unicast from multicast and broadcast; ``v6`` is 1 over IPv6, where a checksum is a must and a length
    of 0 stands for a jumbogram (RFC 2675 section 4).
    """
    mib = udp_mib_at(stack.udp6 if v6 != 0 else stack.udp)
    if size < _HEADER:
        mib.InErrors += 1
        return HDR_TRUNC
    header = skb_header_pointer(skb, offset, _HEADER, stack.scratch + L4_SCRATCH)
    length = load16be(header + _LENGTH)
    if v6 != 0 and length == 0:
        length = size
    if not _HEADER <= length <= size:
        mib.InErrors += 1
        return PKT_TOO_SMALL
    if load16(header + _CHECK) == 0:
        if v6 != 0 and cast != UNICAST:
            # Passed by every socket, as none has asked for datagrams without a checksum.
            mib.IgnoredMulti += 1
            return UDP_CSUM
        good = 1 - v6
    else:
        good = checksum_good(skb, offset, length, pseudo)
    if good == 0:
        mib.InCsumErrors += 1
        mib.InErrors += 1
        return UDP_CSUM
    if stack.udp_input != 0:
        return call4(stack.udp_input, stack.host, offset, length, cast)
    if stack.any_port == 0:
        if cast != UNICAST:
            mib.IgnoredMulti += 1
        else:
            mib.NoPorts += 1
        return NO_SOCKET
    mib.InDatagrams += 1
    return DELIVERED
