"""What ICMP says of a segment of ours: no way there, nobody there, too long (RFC 9293 section 3.9.2.2, RFC 5927)."""

from __future__ import annotations

from netemu.jit import call2, entry, i64, kernel, load16be, load32be
from netemu.skb import skb_at, skb_header_pointer
from netemu.stack.host import (
    ERROR_PARAMETER,
    ERROR_PORT_UNREACHABLE,
    ERROR_PROHIBITED,
    ERROR_PROTOCOL_UNREACHABLE,
    ERROR_TIME_EXCEEDED,
    ERROR_TOO_BIG,
    host_at,
)
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.lifetime import finish, release
from netemu.stack.tcp.output import IPV4_HEADER, network_header, set_mss
from netemu.stack.tcp.recovery import resend_smaller
from netemu.stack.tcp.sequence import unwrap
from netemu.stack.tcp.table import find_connection, table_at
from netemu.stack.tcp.tcb import (
    ERROR_REFUSED,
    ERROR_UNREACHABLE,
    ESTABLISHED,
    SYN_SENT,
    TIME_WAIT,
    Tcb,
    tcb_at,
)

_QUOTED = 8
"""Bytes of a transport header that are quoted at least: ports and the sequence number."""
_LEAST_MTU_IPV4 = 552
"""Smaller ones are not believed, as in Linux (min_pmtu): they would be an attack (RFC 5927 section 7.2)."""
_LEAST_MTU_IPV6 = 1280


@kernel
def _too_big(tcb: Tcb, mtu: i64) -> None:
    """A router could not send a segment on: send what is under way again in segments that fit (RFC 1191, RFC 8201)."""
    floor = _LEAST_MTU_IPV4 if network_header(tcb) == IPV4_HEADER else _LEAST_MTU_IPV6
    mtu = max(mtu, floor)
    if mtu >= tcb.path_mtu:
        return
    tcb.path_mtu = mtu
    before = tcb.mss
    set_mss(tcb)
    if tcb.mss < before and tcb.state >= ESTABLISHED:
        resend_smaller(tcb)


@kernel
def _reason(error: i64) -> i64:
    """What is told of a connection that an error ends."""
    if error in (ERROR_PORT_UNREACHABLE, ERROR_PROTOCOL_UNREACHABLE):
        return ERROR_REFUSED
    return ERROR_UNREACHABLE


@entry
def tcp_error(host_address: i64, offset: i64, error: i64, info: i64) -> i64:
    """An ICMP error quotes a segment of ours, whose header is at ``offset`` of the host's skb; 1 if it is known here.

    A connection that is being opened fails by it, as in Linux. One that stands takes it as a hint (RFC 5927 section 5):
    it is what the user is told should the peer not answer any more.
    """
    host = host_at(host_address)
    table = table_at(host.tcp)
    at = skb_header_pointer(skb_at(host.skb), offset, _QUOTED, table.header)
    if at == 0:
        return 0
    address = find_connection(
        table,
        host.error_source_hi,
        host.error_source_lo,
        load16be(at),
        host.error_target_hi,
        host.error_target_lo,
        load16be(at + 2),
    )
    if address == 0:
        return 0
    tcb = tcb_at(address)
    if tcb.state == TIME_WAIT:
        return 1
    position = unwrap(load32be(at + 4), tcb.snd_una)
    if not tcb.snd_una <= position < tcb.snd_nxt:
        tcp_ext_mib_at(table.ext).OutOfWindowIcmps += 1
        return 1
    if error == ERROR_TOO_BIG:
        _too_big(tcb, info)
    elif error in (ERROR_TIME_EXCEEDED, ERROR_PARAMETER, ERROR_PROHIBITED) and tcb.state != SYN_SENT:
        tcb.soft_error = ERROR_UNREACHABLE
    elif tcb.state < ESTABLISHED:
        finish(address, _reason(error))
    else:
        tcb.soft_error = _reason(error)
    call2(table.output, address, 0)
    release(address)
    return 1
