"""Segments on their way out: put together here, one at a time.

What is sent when is decided in `netemu.stack.tcp.sending` and `netemu.stack.tcp.recovery`.
"""

from __future__ import annotations

from netemu.jit import call2, i64, kernel, store8, store16be, store32be
from netemu.stack.host import SENT, Host, host_at, is_ipv4
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.packet import Packet, packet_at, start_packet
from netemu.stack.tcp.congestion import congestion_at
from netemu.stack.tcp.lifetime import mib_of, timers_of
from netemu.stack.tcp.options import (
    NO_WINDOW_SCALE,
    options_len,
    sack_blocks_that_fit,
    write_options,
    write_syn_options,
)
from netemu.stack.tcp.ranges import ranges_at
from netemu.stack.tcp.receive_buffer import receive_buffer_at, receive_window, write_sack_blocks
from netemu.stack.tcp.scoreboard import scoreboard_at
from netemu.stack.tcp.segment import ACK, HEADER, RST
from netemu.stack.tcp.send_buffer import send_buffer_at, send_buffer_payload
from netemu.stack.tcp.sequence import wire_sequence
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import Tcb
from netemu.timers import timer_stop

IPPROTO_TCP = 6
IPV4_HEADER = 20
IPV6_HEADER = 40
MSS_WITHOUT_OPTION = 536
MSS_WITHOUT_OPTION_IPV6 = 1220
"""What a peer takes that did not say (RFC 9293 section 3.7.1)."""

_CHECKSUM = 16
_MS = 1_000_000
_TIMESTAMPS_LEN = 12
_FIELD_MAX = 65535
_LEAST_MSS = 48


@kernel
def timestamp_now(tcb: Tcb) -> i64:
    """Our timestamp clock, which counts milliseconds; 32 bits."""
    return (timers_of(tcb).now // _MS + tcb.ts_offset) & 0xFFFFFFFF


@kernel
def network_header(tcb: Tcb) -> i64:
    """Bytes of an IP header towards the peer."""
    return IPV4_HEADER if is_ipv4(tcb.remote_hi, tcb.remote_lo) != 0 else IPV6_HEADER


@kernel
def set_mss(tcb: Tcb) -> None:
    """Work out how many bytes of payload a full segment has, from the path's MTU and what the peer takes."""
    header = network_header(tcb)
    mtu = tcb.path_mtu if tcb.mtu_limit == 0 else min(tcb.path_mtu, tcb.mtu_limit)
    mss = mtu - header - HEADER
    peer = tcb.peer_mss
    if peer == 0:
        peer = MSS_WITHOUT_OPTION if header == IPV4_HEADER else MSS_WITHOUT_OPTION_IPV6
    mss = max(min(mss, peer), _LEAST_MSS)
    if tcb.timestamps != 0:
        mss -= _TIMESTAMPS_LEN
    tcb.mss = mss
    scoreboard_at(tcb.scoreboard).smss = mss
    congestion_at(tcb.congestion).smss = mss


@kernel
def own_mss(tcb: Tcb) -> i64:
    """The MSS option to send: what the interface takes (RFC 9293 section 3.7.1)."""
    return max(tcb.path_mtu - network_header(tcb) - HEADER, _LEAST_MSS)


@kernel
def _begin(tcb: Tcb, p: Packet, position: i64, flags: i64) -> None:
    """The header's fields but for window, options and length."""
    at = p.transport
    store16be(at, tcb.local_port)
    store16be(at + 2, tcb.remote_port)
    store32be(at + 4, wire_sequence(position))
    store32be(at + 8, wire_sequence(tcb.rcv_nxt) if flags & ACK else 0)
    store8(at + 12, p.transport_len << 2)
    store8(at + 13, flags)
    store16be(at + _CHECKSUM, 0)
    store16be(at + 18, 0)
    p.check = _CHECKSUM
    p.dont_fragment = 1
    p.source_hi = tcb.local_hi
    p.source_lo = tcb.local_lo
    p.target_hi = tcb.remote_hi
    p.target_lo = tcb.remote_lo
    p.interface = tcb.interface


@kernel
def _acknowledged(tcb: Tcb) -> None:
    """A segment with an acknowledgement goes out: none is owed any more."""
    tcb.rcv_acked = tcb.rcv_nxt
    tcb.ack_now = 0
    if tcb.ack_pending != 0:
        tcb.ack_pending = 0
        timer_stop(tcb.ack_timer)


@kernel
def pending_sacks(tcb: Tcb) -> i64:
    """Blocks that the next segment will tell of."""
    if tcb.sack == 0:
        return 0
    buffer = receive_buffer_at(tcb.receive_buffer)
    count = ranges_at(buffer.ranges).count
    if buffer.duplicate_left != buffer.duplicate_right:
        count += 1
    return min(count, sack_blocks_that_fit(tcb.timestamps)) if count > 0 else 0


@kernel
def full_segment(tcb: Tcb) -> i64:
    """Payload bytes of a full segment, beside the blocks that it will carry."""
    count = pending_sacks(tcb)
    return tcb.mss - options_len(0, count) if count > 0 else tcb.mss


@kernel
def _hand_down(tcb: Tcb, host: Host, segments: i64) -> i64:
    """Send the packet; its result. The path's MTU may have changed meanwhile."""
    p = packet_at(host.packet)
    result = call2(host.send, tcb.host, host.packet)
    if p.path_mtu != tcb.path_mtu and p.path_mtu > 0:
        tcb.path_mtu = p.path_mtu
        set_mss(tcb)
    if result == SENT:
        tcb.segs_out += segments
        tcb.out_interface = p.interface
    return result


@kernel
def transmit(tcb: Tcb, position: i64, size: i64, flags: i64, full: i64) -> i64:
    """Send ``size`` bytes from ``position`` on, in segments of ``full`` bytes, with an ACK; SENT or SEND_....

    ``flags``: PSH and FIN. With size 0 it is an acknowledgement alone, or a probe.
    """
    host = host_at(tcb.host)
    start_packet(host.packet, IPPROTO_TCP, HEADER)
    p = packet_at(host.packet)
    table = table_at(tcb.table)
    buffer = receive_buffer_at(tcb.receive_buffer)
    blocks = pending_sacks(tcb)
    if blocks > 0:
        blocks = write_sack_blocks(buffer, table.blocks, blocks)
    p.transport_len = HEADER + write_options(
        p.transport + HEADER, tcb.timestamps, timestamp_now(tcb), tcb.ts_recent, table.blocks, blocks
    )
    _begin(tcb, p, position, flags | ACK)
    window = receive_window(buffer, tcb.rcv_mss, tcb.rcv_scale)
    store16be(p.transport + 14, window)
    if (window == 0) != (tcb.rcv_announced == 0):
        ext = tcp_ext_mib_at(table.ext)
        if window == 0:
            ext.TCPToZeroWindowAdv += 1
        else:
            ext.TCPFromZeroWindowAdv += 1
    tcb.rcv_announced = window
    segments = 1
    if size > 0:
        send_buffer_payload(send_buffer_at(tcb.send_buffer), position, size, host.packet)
        if size > full:
            p.gso_size = full
            segments = (size + full - 1) // full
    result = _hand_down(tcb, host, segments)
    if result == SENT:
        _acknowledged(tcb)
        tcb.bytes_sent += size
    return result


@kernel
def count_out(tcb: Tcb, size: i64, full: i64) -> None:
    """Count segments with something new in them."""
    mib_of(tcb).OutSegs += (size + full - 1) // full if size > full else 1


@kernel
def send_ack(tcb: Tcb) -> None:
    """Send an acknowledgement alone."""
    if transmit(tcb, tcb.snd_nxt, 0, 0, 1) == SENT:
        mib_of(tcb).OutSegs += 1
        if tcb.quick_acks > 0:
            tcb.quick_acks -= 1


@kernel
def send_syn(tcb: Tcb, flags: i64) -> i64:
    """Send our SYN, with or without ACK: SENT or SEND_...."""
    host = host_at(tcb.host)
    start_packet(host.packet, IPPROTO_TCP, HEADER)
    p = packet_at(host.packet)
    options = write_syn_options(
        p.transport + HEADER,
        own_mss(tcb),
        tcb.rcv_scale if tcb.scaling != 0 else NO_WINDOW_SCALE,
        tcb.sack,
        tcb.timestamps,
        timestamp_now(tcb),
        tcb.ts_recent if flags & ACK else 0,
    )
    p.transport_len = HEADER + options
    _begin(tcb, p, tcb.iss, flags)
    if flags & ACK:
        window = receive_window(receive_buffer_at(tcb.receive_buffer), tcb.rcv_mss, 0)
    else:
        window = min(tcb.receive_capacity, _FIELD_MAX)
    store16be(p.transport + 14, window)
    tcb.rcv_announced = window
    result = _hand_down(tcb, host, 1)
    if result == SENT and flags & ACK:
        _acknowledged(tcb)
    return result


@kernel
def send_reset(tcb: Tcb, position: i64) -> None:
    """Send a RST for a connection, with an acknowledgement, at ``position``."""
    host = host_at(tcb.host)
    start_packet(host.packet, IPPROTO_TCP, HEADER)
    p = packet_at(host.packet)
    _begin(tcb, p, position, RST | ACK)
    store16be(p.transport + 14, 0)
    mib = mib_of(tcb)
    mib.OutRsts += 1
    if _hand_down(tcb, host, 1) == SENT:
        mib.OutSegs += 1
