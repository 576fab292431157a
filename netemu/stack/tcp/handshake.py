"""How connections begin: our SYN, the peer's, both at once (RFC 9293 sections 3.5, 3.10.7.2 and 3.10.7.3)."""

from __future__ import annotations

from netemu.jit import call2, i64, kernel
from netemu.stack.host import SENT, host_at
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.packet import packet_at, start_packet
from netemu.stack.tcp.acks import set_window, timestamp_sample
from netemu.stack.tcp.congestion import congestion_at, start_congestion
from netemu.stack.tcp.events import notify, tell
from netemu.stack.tcp.lifetime import (
    SACKED_RANGES,
    enter_pair,
    expect_from,
    finish,
    leave_listener,
    mib_of,
    open_tcb,
    set_state,
    settings_of,
    timers_of,
    window_scale_for,
)
from netemu.stack.tcp.options import NO_WINDOW_SCALE, options_at
from netemu.stack.tcp.output import IPPROTO_TCP, set_mss
from netemu.stack.tcp.resets import answer_with_reset
from netemu.stack.tcp.rtt import rtt_at, rtt_sample, rtt_syn_lost, rtt_timeout
from netemu.stack.tcp.scoreboard import scoreboard_at, start_scoreboard
from netemu.stack.tcp.segment import ACK, HEADER, RST, SYN, Segment
from netemu.stack.tcp.send_buffer import send_buffer_at, start_send_buffer
from netemu.stack.tcp.send_times import send_times_at, start_send_times
from netemu.stack.tcp.sequence import unwrap
from netemu.stack.tcp.table import (
    POSITION_BASE,
    TcpTable,
    initial_sequence,
    table_at,
    timestamp_offset,
)
from netemu.stack.tcp.tcb import (
    ERROR_REFUSED,
    ESTABLISHED,
    EVENT_ACCEPT,
    EVENT_CONNECTED,
    EVENT_WRITABLE,
    FIN_WAIT_1,
    NOWHERE,
    SYN_RECEIVED,
    Tcb,
    tcb_at,
)
from netemu.timers import timer_start, timer_stop


@kernel
def find_path(tcb: Tcb) -> i64:
    """Ask routing for the way to the peer: source address (unless there is one) and path MTU; SENT or SEND_...."""
    host = host_at(tcb.host)
    start_packet(host.packet, IPPROTO_TCP, HEADER)
    p = packet_at(host.packet)
    p.source_hi = tcb.local_hi
    p.source_lo = tcb.local_lo
    p.target_hi = tcb.remote_hi
    p.target_lo = tcb.remote_lo
    p.interface = tcb.interface
    result = call2(host.route, tcb.host, host.packet)
    if result == SENT:
        tcb.local_hi = p.source_hi
        tcb.local_lo = p.source_lo
        tcb.path_mtu = p.path_mtu
        tcb.out_interface = p.interface
    return result


@kernel
def begin_send_space(tcb: Tcb, iss: i64) -> None:
    """Choose where our bytes begin, and make what counts them ready."""
    tcb.iss = iss
    tcb.rcv_scale = window_scale_for(tcb.receive_capacity) if tcb.scaling != 0 else 0
    tcb.snd_una = iss
    tcb.snd_nxt = iss + 1
    tcb.recover = iss
    tcb.snd_small = iss
    position = iss + 1
    start_send_buffer(send_buffer_at(tcb.send_buffer), tcb.send_memory, tcb.send_capacity, position)
    start_scoreboard(
        scoreboard_at(tcb.scoreboard), tcb.sacked_ranges, tcb.sacked_range_items, SACKED_RANGES, position, 0
    )
    start_send_times(send_times_at(tcb.send_times), tcb.send_time_items, position)
    tcb.ts_offset = timestamp_offset(table_at(tcb.table), tcb)


@kernel
def send_first_syn(tcb: Tcb) -> None:
    """Our SYN, or SYN-ACK, is to go out, and is watched."""
    timers = timers_of(tcb)
    tcb.syn_now = 1
    tcb.stalled_since = timers.now
    tcb.last_received = timers.now
    timer_start(timers, tcb.retransmit_timer, timers.now + rtt_timeout(rtt_at(tcb.rtt)))


@kernel
def _agree(tcb: Tcb, segment: Segment) -> None:
    """Take the options of the peer's SYN: what both ends want is used (RFC 7323, RFC 2018)."""
    options = options_at(segment.options)
    tcb.peer_mss = options.mss
    tcb.timestamps &= options.timestamps
    tcb.sack &= options.sack_permitted
    if tcb.scaling == 0 or options.window_scale == NO_WINDOW_SCALE:
        tcb.scaling = 0
        tcb.snd_scale = 0
        tcb.rcv_scale = 0
    else:
        tcb.snd_scale = options.window_scale
    if options.timestamps != 0:
        tcb.ts_recent = options.ts_val
        tcb.ts_recent_when = timers_of(tcb).now
    set_mss(tcb)


@kernel
def establish(address: i64, segment: Segment) -> None:
    """Our SYN is acknowledged: the connection stands."""
    tcb = tcb_at(address)
    timers = timers_of(tcb)
    listener = tcb.parent
    leave_listener(address)
    set_state(tcb, ESTABLISHED if tcb.snd_fin == NOWHERE else FIN_WAIT_1)
    timer_stop(tcb.retransmit_timer)
    rtt = rtt_at(tcb.rtt)
    if tcb.total_retrans == 0:
        rtt_sample(rtt, max(timers.now - tcb.stalled_since, 1), 1)
    else:
        sample = timestamp_sample(tcb, segment)
        if sample > 0:
            rtt_sample(rtt, sample, 1)
        rtt_syn_lost(rtt)
    start_congestion(congestion_at(tcb.congestion), settings_of(tcb).algorithm, tcb.mss)
    if tcb.retries > 0:
        congestion_at(tcb.congestion).cwnd = tcb.mss  # RFC 5681 section 3.1
    set_mss(tcb)
    tcb.retries = 0
    tcb.snd_una = tcb.iss + 1
    tcb.last_sent = timers.now
    set_window(tcb, segment)
    if tcb.keepalive > 0:
        timer_start(timers, tcb.wait_timer, timers.now + tcb.keepalive)
    tell(tcb, EVENT_CONNECTED | EVENT_WRITABLE)
    if listener != 0:
        _offer(address, listener)


@kernel
def _offer(address: i64, listener_address: i64) -> None:
    """Put a new connection before its listener's user, unless an app takes it as it comes."""
    tcb = tcb_at(address)
    listener = tcb_at(listener_address)
    if tcb.app != 0:
        return
    tcb.parent = listener_address
    tcb.next = 0
    if listener.accept_first == 0:
        listener.accept_first = address
    else:
        tcb_at(listener.accept_last).next = address
    listener.accept_last = address
    listener.accept_count += 1
    tell(listener, EVENT_ACCEPT)
    notify(listener_address)


@kernel
def in_listen(table: TcpTable, listener_address: i64, segment: Segment, iss: i64) -> i64:
    """A segment for a listener (section 3.10.7.2); the connection that it makes, or 0.

    ``iss``: position of our SYN, or 0 for any.
    """
    if segment.flags & RST:
        return 0
    if segment.flags & ACK:
        answer_with_reset(table, segment)
        return 0
    if segment.flags & SYN == 0:
        return 0
    listener = tcb_at(listener_address)
    ext = tcp_ext_mib_at(table.ext)
    if listener.accept_count >= listener.backlog or listener.embryos >= listener.backlog:
        ext.ListenOverflows += 1
        ext.ListenDrops += 1
        return 0
    address = open_tcb(table)
    if address == 0:
        ext.ListenDrops += 1
        return 0
    tcb = tcb_at(address)
    tcb.local_hi = segment.local_hi
    tcb.local_lo = segment.local_lo
    tcb.local_port = segment.local_port
    tcb.remote_hi = segment.remote_hi
    tcb.remote_lo = segment.remote_lo
    tcb.remote_port = segment.remote_port
    tcb.interface = link_local_interface(tcb)
    tcb.app = listener.app
    tcb.app_state = listener.app_state
    tcb.app_count = listener.app_count
    tcb.send_capacity = listener.send_capacity
    tcb.receive_capacity = listener.receive_capacity
    tcb.nodelay = listener.nodelay
    tcb.keepalive = listener.keepalive
    tcb.user_timeout = listener.user_timeout
    find_path(tcb)
    begin_send_space(tcb, iss if iss != 0 else initial_sequence(table, tcb, timers_of(tcb).now))
    expect_from(tcb, POSITION_BASE + segment.sequence)
    _agree(tcb, segment)
    enter_pair(address, SYN_RECEIVED)
    tcb.parent = listener_address
    listener.embryos += 1
    mib_of(tcb).PassiveOpens += 1
    send_first_syn(tcb)
    return address


@kernel
def link_local_interface(tcb: Tcb) -> i64:
    """The interface that a segment came in on, if its sender's address means something on that link alone; or 0."""
    return host_at(tcb.host).input if (tcb.remote_hi >> 54) & 0x3FF == 0x3FA else 0


@kernel
def in_syn_sent(address: i64, segment: Segment) -> None:
    """A segment in SYN-SENT (section 3.10.7.3). Data in a SYN is left to be sent again."""
    tcb = tcb_at(address)
    table = table_at(tcb.table)
    segment.ack = unwrap(segment.acknowledgement, tcb.snd_una)
    acceptable = 1 if segment.flags & ACK and tcb.snd_una < segment.ack <= tcb.snd_nxt else 0
    options = options_at(segment.options)
    if segment.flags & ACK and acceptable == 0:
        answer_with_reset(table, segment)
        return
    if acceptable != 0 and tcb.timestamps != 0 and options.timestamps != 0 and options.ts_ecr != 0:
        now = (timers_of(tcb).now // 1_000_000 + tcb.ts_offset) & 0xFFFFFFFF
        if (now - options.ts_ecr) & 0xFFFFFFFF >= 1 << 31:
            tcp_ext_mib_at(table.ext).PAWSActive += 1
            answer_with_reset(table, segment)
            return
    if segment.flags & RST:
        if acceptable != 0:
            finish(address, ERROR_REFUSED)
        return
    if segment.flags & SYN == 0:
        return
    expect_from(tcb, POSITION_BASE + segment.sequence)
    segment.seq = tcb.irs
    _agree(tcb, segment)
    if acceptable != 0:
        establish(address, segment)
        tcb.ack_now = 1
        return
    # Both ends opened at once: answer the peer's SYN, and wait for its answer to ours.
    set_state(tcb, SYN_RECEIVED)
    send_first_syn(tcb)
