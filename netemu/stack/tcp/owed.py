"""What a connection owes its peer, noted while a segment is looked at and sent when all is said about it."""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.mib import tcp_ext_mib_at
from netemu.stack.tcp.lifetime import settings_of, timers_of
from netemu.stack.tcp.segment import SYN, Segment
from netemu.stack.tcp.table import table_at
from netemu.stack.tcp.tcb import Tcb
from netemu.timers import timer_start

_SECOND = 1_000_000_000
OUT_OF_WINDOW_INTERVAL = _SECOND // 2
"""ns between two answers to what lies outside the window: Linux's tcp_invalid_ratelimit."""


@kernel
def challenge(tcb: Tcb) -> None:
    """Answer what may be forged with an acknowledgement, but not more often than the settings say (RFC 5961)."""
    table = table_at(tcb.table)
    second = timers_of(tcb).now // _SECOND
    if second != table.challenge_second:
        table.challenge_second = second
        table.challenge_count = 0
    if table.challenge_count < settings_of(tcb).challenge_acks:
        table.challenge_count += 1
        tcp_ext_mib_at(table.ext).TCPChallengeACK += 1
        tcb.ack_now = 1


@kernel
def answers_out_of_window(tcb: Tcb, segment: Segment) -> i64:
    """1 if a segment outside the window is to be acknowledged, and noted; after tcp_oow_rate_limited.

    Bytes always are: they were sent again since our acknowledgement was lost. Two ends that no longer agree on where
    they are would answer each other's bare acknowledgements without end, so these are answered now and then.
    """
    if segment.length == 0 or segment.flags & SYN:
        now = timers_of(tcb).now
        if now < tcb.silent_until:
            return 0
        tcb.silent_until = now + OUT_OF_WINDOW_INTERVAL
    tcb.ack_now = 1
    return 1


@kernel
def owe_ack(tcb: Tcb) -> None:
    """Bytes came in order: acknowledge every second full segment at once, and others soon (RFC 5681 section 4.2)."""
    delay = settings_of(tcb).delayed_ack
    if delay == 0 or tcb.quick_acks > 0 or tcb.rcv_nxt - tcb.rcv_acked >= 2 * tcb.rcv_mss:
        tcb.ack_now = 1
    elif tcb.ack_pending == 0:
        tcb.ack_pending = 1
        timers = timers_of(tcb)
        timer_start(timers, tcb.ack_timer, timers.now + delay)
