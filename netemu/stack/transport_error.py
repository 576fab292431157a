"""What ICMP says of packets that this host sent, taken to the protocol that sent them; for both IP versions."""

from __future__ import annotations

from netemu.jit import call4, entry, i64
from netemu.stack.host import host_at

_ICMP = 1
_TCP = 6
_UDP = 17
_ICMPV6 = 58


@entry
def transport_error(host: i64, protocol: i64, offset: i64, error: i64, info: i64) -> i64:
    """Hook `Host.transport_error`: 1 if somebody here had sent the packet, else 0."""
    h = host_at(host)
    hook = 0
    if protocol == _TCP:
        hook = h.tcp_error
    elif protocol == _UDP:
        hook = h.udp_error
    elif protocol in (_ICMP, _ICMPV6):
        hook = h.ping_error
    return call4(hook, host, offset, error, info) if hook != 0 else 0
