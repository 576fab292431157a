"""Messages of ICMPv6 on their way out: each is begun and sent here, so that all are counted (RFC 4443)."""

from __future__ import annotations

from netemu.jit import call2, i64, kernel, load8, store8, store16, store32be
from netemu.stack.host import SENT, Host
from netemu.stack.ipv6.state import ip6_at
from netemu.stack.mib import count_at, icmp_mib_at
from netemu.stack.packet import packet_at, start_packet
from netemu.stack.state import stack_at

IPPROTO_ICMPV6 = 58
HEADER = 8
"""Bytes up to a message's body: type, code, checksum, and 4 that depend on the type."""

DEST_UNREACH = 1
PACKET_TOO_BIG = 2
TIME_EXCEEDED = 3
PARAMETER_PROBLEM = 4
INFORMATIONAL = 128
"""Types below are errors."""
ECHO_REQUEST = 128
ECHO_REPLY = 129
MLD_QUERY = 130
ROUTER_SOLICIT = 133
ROUTER_ADVERTISEMENT = 134
NEIGHBOUR_SOLICIT = 135
NEIGHBOUR_ADVERTISEMENT = 136
REDIRECT = 137
MLD2_REPORT = 143

_CHECK = 2


@kernel
def start_message(packet: i64, kind: i64, code: i64, info: i64, size: i64) -> i64:
    """Begin a message with ``size`` bytes of header: type, code, and the four bytes behind the checksum.

    The host address of what follows those eight, whose bytes are undefined.
    """
    at = start_packet(packet, IPPROTO_ICMPV6, size)
    store8(at, kind)
    store8(at + 1, code)
    store16(at + _CHECK, 0)
    store32be(at + 4, info)
    packet_at(packet).check = _CHECK
    return at + HEADER


@kernel
def count_sent(host: Host, kind: i64, sent: i64) -> None:
    """Count a message of a type that was sent; as in Linux, not one that IP did not take."""
    mib = icmp_mib_at(stack_at(host.stack).icmp6)
    if sent == SENT:
        mib.OutMsgs += 1
        count_at(mib.out_types, kind)
    else:
        mib.OutErrors += 1


@kernel
def send_message(host: i64, h: Host, packet: i64) -> i64:
    """Send a message that is complete but for its checksum; SENT or SEND_...."""
    kind = load8(packet_at(packet).transport)
    sent = call2(ip6_at(h.ip6).output, host, packet)
    count_sent(h, kind, sent)
    return sent
