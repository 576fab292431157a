"""ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861), after Linux's icmpv6_rcv: checked and counted.

What is in order goes to the hook ``icmp6_input`` of a host that talks (`netemu.stack.icmpv6.input`).
"""

from __future__ import annotations

from netemu.jit import call3, i64, kernel, load8
from netemu.skb import Skb, skb_header_pointer
from netemu.stack.checksums import checksum_good
from netemu.stack.mib import count_at, icmp_mib_at
from netemu.stack.reasons import DELIVERED, HDR_TRUNC, ICMP_CSUM, ICMP_INVALID, IPV6_NDISC_HOP_LIMIT
from netemu.stack.state import L4_SCRATCH, Stack

_HEADER = 8
_QUOTE = 40 + 8
"""An error message quotes the IPv6 header and 8 bytes of what follows at least."""
_TCP = 6
_UDP = 17
_INFORMATIONAL = 128

ROUTER_SOLICIT = 133
REDIRECT = 137


@kernel
def _error_reaches(stack: Stack, skb: Skb, offset: i64, size: i64) -> i64:
    """1 if an error message quotes an IPv6 header and 8 bytes of what follows, of a socket that is there."""
    if size < _QUOTE:
        return 0
    quoted = skb_header_pointer(skb, offset, _QUOTE, stack.scratch + L4_SCRATCH)
    return 0 if stack.any_port == 0 and load8(quoted + 6) in (_TCP, _UDP) else 1


@kernel
def icmpv6_rcv(stack: Stack, skb: Skb, offset: i64, size: i64, pseudo: i64, hop_limit: i64) -> i64:
    """Take the message in the ``size`` bytes of IP payload at ``offset``; return the verdict."""
    mib = icmp_mib_at(stack.icmp6)
    mib.InMsgs += 1
    if checksum_good(skb, offset, size, pseudo) == 0:
        mib.InCsumErrors += 1
        mib.InErrors += 1
        return ICMP_CSUM
    if size < _HEADER:
        mib.InErrors += 1
        return HDR_TRUNC
    kind = load8(skb_header_pointer(skb, offset, _HEADER, stack.scratch + L4_SCRATCH))
    count_at(mib.types, kind)
    if ROUTER_SOLICIT <= kind <= REDIRECT and hop_limit != 255:
        return IPV6_NDISC_HOP_LIMIT
    if stack.icmp6_input != 0:
        return call3(stack.icmp6_input, stack.host, offset, size)
    if kind < _INFORMATIONAL and _error_reaches(stack, skb, offset + _HEADER, size - _HEADER) == 0:
        mib.InErrors += 1
        return ICMP_INVALID
    return DELIVERED
