"""What happens when nothing comes: retransmission, probes of a closed window, delayed acknowledgements, TIME-WAIT.

Theory of operation
-------------------
A connection has three timers. The *retransmission* timer runs while something is outstanding (RFC 6298); with nothing
outstanding and a peer that lets nothing go it is the *persist* timer (RFC 9293 section 3.8.6.1). The *ack* timer runs
while an acknowledgement waits. The *wait* timer is that of TIME-WAIT, of FIN-WAIT-2 when the user is gone, and before
that of keep-alives. All expire in one entry point, `tcp_timer`.

A probe of a closed window is an acknowledgement of the byte before ``snd_una``: it carries nothing new, so that nothing
has to be taken back, and has to be answered all the same. Linux does it so.
"""

from __future__ import annotations

from netemu.jit import call2, entry, i64, kernel
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.events import tell
from netemu.stack.tcp.lifetime import count_time_wait, finish, mib_of, release, settings_of, timers_of
from netemu.stack.tcp.output import IPV4_HEADER, network_header, set_mss
from netemu.stack.tcp.recovery import timed_out
from netemu.stack.tcp.rtt import rtt_at, rtt_backoff, rtt_timeout
from netemu.stack.tcp.segment import HEADER
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import (
    CLOSED,
    ERROR_TIMED_OUT,
    ESTABLISHED,
    EVENT_CLOSED,
    FIN_WAIT_2,
    LISTEN,
    NO_ERROR,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    Tcb,
    tcb_at,
)
from netemu.timers import timer_start

RETRANSMIT_TIMER = 0
ACK_TIMER = 1
WAIT_TIMER = 2

_PROBE_AFTER = 3
"""Timeouts in a row that make a black hole likely (tcp_retries1 of Linux)."""
_MTU_FLOOR_IPV4 = 552
_MTU_FLOOR_IPV6 = 1280
_BACKOFF_MAX = 16


@kernel
def _give_up(address: i64) -> None:
    """The peer has not answered for too long."""
    tcb = tcb_at(address)
    tcp_ext_mib_at(table_at(tcb.table).ext).TCPAbortOnTimeout += 1
    finish(address, tcb.soft_error if tcb.soft_error != NO_ERROR else ERROR_TIMED_OUT)


@kernel
def _is_over(tcb: Tcb, retries: i64) -> i64:
    """1 if it was tried for long enough: as the connection's user says, or so often."""
    if tcb.user_timeout > 0:
        return 1 if timers_of(tcb).now - tcb.stalled_since >= tcb.user_timeout else 0
    return 1 if tcb.retries >= retries else 0


@kernel
def _syn_timeout(address: i64) -> None:
    tcb = tcb_at(address)
    if _is_over(tcb, settings_of(tcb).syn_retries) != 0:
        _give_up(address)
        return
    ext = tcp_ext_mib_at(table_at(tcb.table).ext)
    if tcb.state == SYN_SENT:
        ext.TCPTimeouts += 1
    ext.TCPSynRetrans += 1
    mib_of(tcb).RetransSegs += 1
    tcb.total_retrans += 1
    tcb.retries += 1
    tcb.syn_now = 1
    rtt_backoff(rtt_at(tcb.rtt))
    _restart(tcb)


@kernel
def _restart(tcb: Tcb) -> None:
    timers = timers_of(tcb)
    timer_start(timers, tcb.retransmit_timer, timers.now + rtt_timeout(rtt_at(tcb.rtt)))


@kernel
def _shrink(tcb: Tcb) -> None:
    """Try smaller segments: what is lost again and again may be too long for one who does not say so (RFC 4821)."""
    headers = network_header(tcb) + HEADER
    floor = _MTU_FLOOR_IPV4 if headers == IPV4_HEADER + HEADER else _MTU_FLOOR_IPV6
    if tcb.mtu_limit == 0:
        limit = min(settings_of(tcb).base_mss + headers, tcb.path_mtu)
    else:
        limit = headers + (tcb.mtu_limit - headers) // 2
    tcb.mtu_limit = max(limit, floor)
    set_mss(tcb)


@kernel
def _data_timeout(address: i64) -> None:
    tcb = tcb_at(address)
    if _is_over(tcb, settings_of(tcb).retries) != 0:
        _give_up(address)
        return
    tcp_ext_mib_at(table_at(tcb.table).ext).TCPTimeouts += 1
    tcb.retries += 1
    if settings_of(tcb).mtu_probing != 0 and tcb.retries >= _PROBE_AFTER:
        _shrink(tcb)
    timed_out(tcb)
    _restart(tcb)


@kernel
def _persist_timeout(address: i64) -> None:
    """Send what the window lets through after all, or a probe of it."""
    tcb = tcb_at(address)
    if _is_over(tcb, settings_of(tcb).retries) != 0:
        _give_up(address)
        return
    tcb.retries += 1
    tcb.probes += 1
    tcb.probe_now = 1
    rtt = rtt_at(tcb.rtt)
    timers = timers_of(tcb)
    wait = min(rtt_timeout(rtt) << min(tcb.probes, _BACKOFF_MAX), rtt.rto_max)
    timer_start(timers, tcb.retransmit_timer, timers.now + wait)


@kernel
def _retransmit_expired(address: i64) -> None:
    tcb = tcb_at(address)
    if tcb.state in (SYN_SENT, SYN_RECEIVED):
        _syn_timeout(address)
    elif tcb.persisting != 0:
        _persist_timeout(address)
    elif tcb.snd_nxt > tcb.snd_una:
        _data_timeout(address)


@kernel
def _keepalive_expired(address: i64) -> None:
    """RFC 9293 section 3.8.4."""
    tcb = tcb_at(address)
    settings = settings_of(tcb)
    timers = timers_of(tcb)
    if tcb.keepalive == 0 or tcb.state < ESTABLISHED:
        return
    idle = timers.now - tcb.last_received
    if idle < tcb.keepalive or tcb.snd_nxt > tcb.snd_una:
        timer_start(timers, tcb.wait_timer, timers.now + max(tcb.keepalive - idle, settings.keepalive_interval))
        return
    if tcb.keepalive_count >= settings.keepalive_probes:
        tcb.reset_now = 1
        _give_up(address)
        return
    tcb.keepalive_count += 1
    tcb.probe_now = 1
    tcp_ext_mib_at(table_at(tcb.table).ext).TCPKeepAlive += 1
    timer_start(timers, tcb.wait_timer, timers.now + settings.keepalive_interval)


@kernel
def _wait_expired(address: i64) -> None:
    tcb = tcb_at(address)
    if tcb.state == TIME_WAIT:
        count_time_wait(tcb, 0)
        finish(address, NO_ERROR)
    elif tcb.state == FIN_WAIT_2 and tcb.rcv_closed != 0:
        tell(tcb, EVENT_CLOSED)
        finish(address, NO_ERROR)
    else:
        _keepalive_expired(address)


@kernel
def _ack_expired(tcb: Tcb) -> None:
    if tcb.ack_pending != 0:
        tcb.ack_pending = 0
        tcb.ack_now = 1
        tcp_ext_mib_at(table_at(tcb.table).ext).DelayedACKs += 1


@entry
def tcp_timer(address: i64, which: i64) -> i64:
    """A timer of the TCB at ``address`` has expired: RETRANSMIT_TIMER, ACK_TIMER or WAIT_TIMER."""
    tcb = tcb_at(address)
    if tcb.state in (CLOSED, LISTEN):
        return 0
    if which == RETRANSMIT_TIMER:
        _retransmit_expired(address)
    elif which == ACK_TIMER:
        _ack_expired(tcb)
    else:
        _wait_expired(address)
    call2(table_at(tcb.table).output, address, 0)
    release(address)
    return 0
