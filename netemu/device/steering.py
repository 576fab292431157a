"""Which receive queue a frame goes to, while nobody has configured RSS: by a hash of its flow.

A device with several queues keeps a flow on one of them, so that its order holds (section 5.1.6.5.6, automatic
receive steering). Without traffic from the guest to learn from, the flow itself decides: addresses and ports, as
Linux's tun does. The hash is the same in both directions of a flow.
"""

from __future__ import annotations

from netemu.jit import i64, kernel, load8, load16, load16be, load32, load64

ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
_MIX = 0x9E3779B1


@kernel
def flow_hash(frame: i64, length: i64) -> i64:
    """A 32-bit number from the addresses and ports of an IP frame, else from the MAC addresses; 0 for a short frame."""
    if length < 14:
        return 0
    at = 12
    kind = load16be(frame + at)
    while kind in (0x8100, 0x88A8) and at + 6 <= length:
        at += 4
        kind = load16be(frame + at)
    at += 2
    ports = 0
    if kind == ETH_P_IP and length >= at + 20:
        total = load32(frame + at + 12) ^ load32(frame + at + 16)
        protocol = load8(frame + at + 9)
        fragment = load16be(frame + at + 6) & 0x3FFF
        ports = at + 4 * (load8(frame + at) & 0xF) if fragment == 0 else 0
    elif kind == ETH_P_IPV6 and length >= at + 40:
        both = load64(frame + at + 8) ^ load64(frame + at + 16) ^ load64(frame + at + 24) ^ load64(frame + at + 32)
        total = (both & 0xFFFFFFFF) ^ ((both >> 32) & 0xFFFFFFFF)
        protocol = load8(frame + at + 6)
        ports = at + 40
    else:
        total = load32(frame) ^ load32(frame + 6) ^ load16(frame + 4) ^ load16(frame + 10)
        protocol = kind
    if protocol in (6, 17) and 0 < ports <= length - 4:
        total ^= load16be(frame + ports) ^ load16be(frame + ports + 2)
    total = ((total ^ protocol) * _MIX) & 0xFFFFFFFF
    total ^= total >> 15
    return (total * _MIX) & 0xFFFFFFFF


@kernel
def select_queue(frame: i64, length: i64, queues: i64) -> i64:
    """The receive queue, 0 to ``queues`` - 1."""
    if queues == 1:
        return 0
    return (flow_hash(frame, length) * queues) >> 32
