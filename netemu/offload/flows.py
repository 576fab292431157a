"""Packets that wait for more of their flow, and when one more may join: the rules of Linux's GRO.

The names of the kernel's functions stand where its rules are followed: dev_gro_receive, inet_gro_receive,
ipv6_gro_receive, tcp_gro_receive, udp_gro_receive_segment and skb_gro_receive, as they are since 6.10; of CWR as they
were before AccECN: a packet with it may be the first of several, and never joins others.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, load8, load16, load16be, load32, load32be, load64, pointer, struct
from netemu.offload.dissect import TCP, Layers
from netemu.offload.sums import CHECK_AT_UDP

LONGEST_PACKET = 65535
"""Bytes of an IP packet up to which others are merged (gro_max_size)."""
DATAGRAMS_MAX = 64
"""Datagrams merged at most (UDP_GRO_CNT_MAX)."""
SLOT_BYTES = LONGEST_PACKET + 257
"""Bytes of a packet in the making, with as many tags in front of it as are looked at."""

FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
URG = 0x20
CWR = 0x80
_MAY_DIFFER = CWR | FIN | PSH
_ENDS = URG | PSH | RST | SYN | FIN
"""Flags of a segment that nothing is merged behind, or to which nothing waits."""
_DF = 0x4000


@struct
class Flow(Struct):
    """A packet that waits, in a slot of its own: the first of its flow, and the payload of those that joined it."""

    bytes: i64
    """Address of SLOT_BYTES bytes."""
    used: i64
    """1: the slot holds a packet."""
    age: i64
    """The smaller, the longer it waits."""
    len: i64
    """Bytes of the frame so far."""
    tstamp: i64
    """This and the next two are those of the first frame (`netemu.frame.Frame`)."""
    interface: i64
    id: i64
    network: i64
    """This and the following describe the first packet, as in `Layers`."""
    version: i64
    transport: i64
    payload: i64
    protocol: i64
    flags: i64
    """Those of the first packet's virtio-net header, 0 where it brought none."""
    count: i64
    """Packets in it."""
    size: i64
    """Payload of the first: none that joins may have more, and one with less is the last."""
    next_seq: i64
    fixed_id: i64
    """IPv4: the packets do not count their identification up."""


flow_at = pointer(Flow)
FLOW_SIZE = Flow.dtype.itemsize


@kernel
def _same(a: i64, b: i64, size: i64) -> i64:
    """Whether ``size`` bytes are the same at both addresses."""
    at = 0
    while at + 8 <= size:
        if load64(a + at) != load64(b + at):
            return 0
        at += 8
    while at < size:
        if load8(a + at) != load8(b + at):
            return 0
        at += 1
    return 1


@kernel
def same_flow(flow: Flow, frame: i64, d: Layers) -> i64:
    """Whether a frame is of the flow: link header, addresses, protocol, ports; IPv6's label and extensions."""
    held = flow.bytes
    if flow.version != d.version or flow.network != d.network or flow.transport != d.transport:
        return 0
    if flow.protocol != d.protocol or load32(held + d.transport) != load32(frame + d.transport):
        return 0
    at = d.network
    if _same(held, frame, at) == 0:
        return 0
    if d.version == 4:
        return _same(held + at + 12, frame + at + 12, 8)
    if (load32be(held + at) ^ load32be(frame + at)) & 0xF00FFFFF or load8(held + at + 6) != load8(frame + at + 6):
        return 0
    return _same(held + at + 8, frame + at + 8, d.transport - at - 8)


@kernel
def network_differs(flow: Flow, frame: i64, d: Layers) -> i64:
    """Whether the IP header is one that does not continue the flow's (inet_gro_flush, ipv6_gro_flush)."""
    held = flow.bytes + d.network
    new = frame + d.network
    if d.version == 6:
        if (load32be(held) ^ load32be(new)) & 0x0FF00000:
            return 1
        return 1 if load8(held + 7) != load8(new + 7) else 0
    if load8(held + 8) != load8(new + 8) or load8(held + 1) != load8(new + 1):
        return 1
    fragment = load16be(new + 6)
    if (load16be(held + 6) ^ fragment) & _DF:
        return 1
    step = (load16be(new + 4) - load16be(held + 4)) & 0xFFFF
    # The second packet decides whether identifications stay or count up; only with DF may they stay.
    if flow.count == 1 and fragment & _DF and step == 0:
        flow.fixed_id = 1
    return 1 if step != (0 if flow.fixed_id else flow.count) else 0


@kernel
def too_long(flow: Flow, part: i64) -> i64:
    """Whether ``part`` bytes more would make it longer than a packet may be (skb_gro_receive)."""
    return 1 if flow.len - flow.network + part > LONGEST_PACKET else 0


@kernel
def tcp_joins(flow: Flow, frame: i64, d: Layers) -> i64:
    """Whether a segment of the flow may be merged into what waits (tcp_gro_receive)."""
    held = flow.bytes + d.transport
    new = frame + d.transport
    part = d.end - d.payload
    flags = load8(new + 13)
    if flags & CWR or d.payload != flow.payload:
        return 0
    if (flags ^ load8(held + 13)) & ~_MAY_DIFFER or load8(held + 12) != load8(new + 12):
        return 0
    if load16(held + 14) != load16(new + 14) or load32(held + 8) != load32(new + 8):
        return 0
    if _same(held + 20, new + 20, d.payload - d.transport - 20) == 0:
        return 0
    if network_differs(flow, frame, d) or part == 0 or part > flow.size:
        return 0
    return 1 if load32be(new + 4) == flow.next_seq and too_long(flow, part) == 0 else 0


@kernel
def tcp_waits(frame: i64, d: Layers) -> i64:
    """Whether a segment that joined nothing may be the first of a larger packet."""
    return 1 if d.end > d.payload and load8(frame + d.transport + 13) & _ENDS == 0 else 0


@kernel
def tcp_ends(flow: Flow, frame: i64, d: Layers) -> i64:
    """Whether a segment that joined is the last: shorter than the others, or with a flag that ends it."""
    return 1 if d.end - d.payload < flow.size or load8(frame + d.transport + 13) & _ENDS else 0


@kernel
def udp_joins(flow: Flow, frame: i64, d: Layers) -> i64:
    """Whether a datagram of the flow may be merged into what waits (udp_gro_receive_segment)."""
    part = d.end - d.payload
    if network_differs(flow, frame, d) or part > flow.size:
        return 0
    return 1 if too_long(flow, part) == 0 else 0


@kernel
def udp_ends(flow: Flow, d: Layers) -> i64:
    """Whether a datagram that joined is the last."""
    return 1 if d.end - d.payload != flow.size or flow.count >= DATAGRAMS_MAX else 0


@kernel
def has_checksum(frame: i64, d: Layers) -> i64:
    """Whether the checksum field of TCP or UDP holds one."""
    return 1 if d.protocol == TCP or load16(frame + d.transport + CHECK_AT_UDP) != 0 else 0
