"""How many ICMP errors a host sends: limits that both versions share (RFC 1812 section 4.3.2.8, RFC 4443 2.4 (f)).

As in Linux: 1000 a second from the whole host, in bursts of 50; to one target one a second, in bursts of six. Targets
are told apart by a hash, so two of them may now and then take the place of each other, and begin anew.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.host import Host
from netemu.stack.ipv4.state import PEER_COUNT, PEER_SIZE, ip_state_at, peer_at
from netemu.stack.routes import address_hash

_SECOND = 1_000_000_000
_PER_SECOND = 1000
BURST = 50 * _SECOND
"""Tokens of a host that has not complained for a while; an error costs a second's worth."""
_PEER_BURST = 6 * _SECOND


@kernel
def host_allows(h: Host, now: i64) -> i64:
    """Take one of the host's tokens (icmp_global_allow, icmp_msgs_per_sec and icmp_msgs_burst); 0: there is none."""
    ip = ip_state_at(h.ip)
    gone = min(now - ip.icmp_stamp, _SECOND)
    ip.icmp_tokens = min(ip.icmp_tokens + gone * _PER_SECOND, BURST)
    ip.icmp_stamp = now
    if ip.icmp_tokens < _SECOND:
        return 0
    ip.icmp_tokens -= _SECOND
    return 1


@kernel
def peer_allows(h: Host, hi: i64, lo: i64, now: i64) -> i64:
    """Take one of a target's tokens (inet_peer_xrlim_allow, icmp_ratelimit 1000 ms); 0: there is none."""
    peer = peer_at(ip_state_at(h.ip).peers + (address_hash(hi, lo) & (PEER_COUNT - 1)) * PEER_SIZE)
    if peer.lo != lo or peer.hi != hi:
        peer.hi = hi
        peer.lo = lo
        peer.tokens = _PEER_BURST
        peer.last = now
    peer.tokens = min(peer.tokens + now - peer.last, _PEER_BURST)
    peer.last = now
    if peer.tokens < _SECOND:
        return 0
    peer.tokens -= _SECOND
    return 1
