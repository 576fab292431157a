"""RSTs for segments that belong to no connection, or to one that does not want them (RFC 9293 section 3.10.7.1)."""

from __future__ import annotations

from netemu.jit import call2, kernel, store8, store16be, store32be
from netemu.stack.host import SENT, host_at
from netemu.stack.mib import tcp_mib_at
from netemu.stack.packet import packet_at, start_packet
from netemu.stack.tcp.output import IPPROTO_TCP
from netemu.stack.tcp.segment import ACK, HEADER, RST, Segment
from netemu.stack.tcp.sequence import wire_sequence
from netemu.stack.tcp.table import TcpTable


@kernel
def answer_with_reset(table: TcpTable, segment: Segment) -> None:
    """Send a RST that the sender of a segment must believe: at its ACK, or else acknowledging all of it."""
    if segment.flags & RST:
        return
    host = host_at(table.host)
    at = start_packet(host.packet, IPPROTO_TCP, HEADER)
    p = packet_at(host.packet)
    store16be(at, segment.local_port)
    store16be(at + 2, segment.remote_port)
    if segment.flags & ACK:
        store32be(at + 4, segment.acknowledgement)
        store32be(at + 8, 0)
        store8(at + 13, RST)
    else:
        store32be(at + 4, 0)
        store32be(at + 8, wire_sequence(segment.sequence + segment.length))
        store8(at + 13, RST | ACK)
    store8(at + 12, HEADER << 2)
    store16be(at + 14, 0)
    store16be(at + 16, 0)
    store16be(at + 18, 0)
    p.check = 16
    p.dont_fragment = 1
    p.source_hi = segment.local_hi
    p.source_lo = segment.local_lo
    p.target_hi = segment.remote_hi
    p.target_lo = segment.remote_lo
    p.interface = host.input
    mib = tcp_mib_at(table.mib)
    mib.OutRsts += 1
    if call2(host.send, table.host, host.packet) == SENT:
        mib.OutSegs += 1
