"""ICMP (RFC 792), after Linux's icmp_rcv: checked and counted by type. Answered in `netemu.stack.icmp.input`."""

from __future__ import annotations

from netemu.jit import call3, i64, kernel, load8
from netemu.skb import Skb, skb_header_pointer
from netemu.stack.checksums import plain_checksum_good
from netemu.stack.mib import count_at, icmp_mib_at
from netemu.stack.reasons import DELIVERED, HDR_TRUNC, ICMP_CSUM, ICMP_INVALID
from netemu.stack.state import L4_SCRATCH, UNICAST, Stack

_HEADER = 8
_INNER_IP = 20
_INNER_L4 = 8
_TCP = 6
_UDP = 17

DEST_UNREACH = 3
SOURCE_QUENCH = 4
REDIRECT = 5
TIME_EXCEEDED = 11
PARAMETER_PROBLEM = 12
TIMESTAMP = 13
ADDRESS_MASK = 17
ADDRESS_MASK_REPLY = 18
HIGHEST_TYPE = 18
EXT_ECHO = 42
EXT_ECHO_REPLY = 43


@kernel
def _error_reaches(stack: Stack, skb: Skb, offset: i64, size: i64) -> i64:
    """1 if an error quotes a whole IPv4 header and 8 bytes of what follows (RFC 792), of a socket that is there."""
    if size < _INNER_IP:
        return 0
    quoted = skb_header_pointer(skb, offset, _INNER_IP, stack.scratch + L4_SCRATCH)
    header_size = (load8(quoted) & 15) * 4
    if not _INNER_IP <= header_size <= size - _INNER_L4:
        return 0
    if stack.icmp_input != 0:
        return 1  # the host knows whose it is
    return 0 if stack.any_port == 0 and load8(quoted + 9) in (_TCP, _UDP) else 1


@kernel
def icmp_rcv(stack: Stack, skb: Skb, offset: i64, size: i64, cast: i64) -> i64:
    """Take the message in the ``size`` bytes of IP payload at ``offset``; return the verdict."""
    mib = icmp_mib_at(stack.icmp)
    mib.InMsgs += 1
    if plain_checksum_good(skb, offset, size) == 0:
        mib.InCsumErrors += 1
        mib.InErrors += 1
        return ICMP_CSUM
    if size < _HEADER:
        mib.InErrors += 1
        return HDR_TRUNC
    kind = load8(skb_header_pointer(skb, offset, _HEADER, stack.scratch + L4_SCRATCH))
    count_at(mib.types, kind)
    good = 1
    if cast != UNICAST and kind != EXT_ECHO:
        # The host does not answer an echo or a timestamp to everyone (icmp_echo_ignore_broadcasts), and takes nothing
        # else but address masks from there.
        good = 1 if kind in (ADDRESS_MASK, ADDRESS_MASK_REPLY) else 0
    elif kind > HIGHEST_TYPE:
        good = 1 if kind in (EXT_ECHO, EXT_ECHO_REPLY) else 0
    elif kind in (DEST_UNREACH, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM):
        good = _error_reaches(stack, skb, offset + _HEADER, size - _HEADER)
    elif kind == TIMESTAMP and size < _HEADER + 4:
        good = 0
    if good != 0 and stack.icmp_input != 0:
        good = call3(stack.icmp_input, stack.host, offset, size)
    if good == 0:
        mib.InErrors += 1
        return ICMP_INVALID
    return DELIVERED
