"""What a connection tells its congestion control, whichever it is.

Theory of operation
-------------------
The connection counts and decides (what is acknowledged, when a recovery begins and ends); here the window follows.

In a recovery the window goes to ``ssthresh`` by proportional rate reduction (RFC 6937), as in Linux. At first so much
is sent for what arrives that the window is there when all is acknowledged. Once less than that is under way, as much is
sent as arrives, so that a queue that has just overflowed does not do so at once again. A connection without SACK does
not call `on_recovery_ack`: its window stands at ``ssthresh`` from the beginning.
"""

from __future__ import annotations

from netemu.jit import i64, kernel
from netemu.stack.tcp.congestion import CUBIC, HYSTART, HYSTART_PLUS, Congestion, initial_window, remember, slow_start
from netemu.stack.tcp.cubic import cubic_avoid, cubic_ssthresh
from netemu.stack.tcp.hystart import hystart_ack
from netemu.stack.tcp.hystart_plus import hystart_plus_ack
from netemu.stack.tcp.reno import reno_avoid, reno_ssthresh


@kernel
def on_ack(c: Congestion, acked: i64, una: i64, snd_nxt: i64, sample: i64, srtt: i64, limited: i64, now: i64) -> None:
    """``acked`` new bytes were acknowledged, outside of a recovery.

    ``una`` and ``snd_nxt`` are positions after it, ``sample`` the round trip that this ACK measured (ns, 0: none),
    ``srtt`` the smoothed one. ``limited`` is 1 if the window was what kept the sender from sending more when it last
    sent: a window that is not used does not grow (RFC 5681 and 9438 section 5.8, as tcp_is_cwnd_limited in Linux).
    ``now`` in ns.
    """
    if c.cwnd < c.ssthresh:
        if c.hystart == HYSTART:
            hystart_ack(c, sample, una, snd_nxt, now)
        elif c.hystart == HYSTART_PLUS and c.reductions == 0:
            hystart_plus_ack(c, sample, una, snd_nxt)
        if limited == 0:
            return
        acked = slow_start(c, acked)
        if acked == 0:
            return
    if c.algorithm == CUBIC:
        cubic_avoid(c, acked, srtt, limited, now)
    elif limited != 0:
        reno_avoid(c, acked)


@kernel
def _ssthresh(c: Congestion, flight: i64) -> i64:
    return cubic_ssthresh(c, flight) if c.algorithm == CUBIC else reno_ssthresh(c, flight)


@kernel
def on_recovery_start(c: Congestion, flight: i64) -> None:
    """A loss was found, with ``flight`` bytes outstanding (SND.NXT - SND.UNA).

    What limited transmit sent on top of the window does not count (RFC 5681 section 3.2, step 2).
    """
    remember(c)
    c.ssthresh = _ssthresh(c, min(flight, c.cwnd))
    c.cwnd = c.ssthresh
    c.recover_fs = max(flight, 1)
    c.prr_delivered = 0
    c.prr_out = 0


@kernel
def on_recovery_ack(c: Congestion, delivered: i64, pipe: i64, advanced: i64) -> None:
    """An ACK in a recovery: it told of ``delivered`` bytes that arrived, and ``pipe`` are under way now.

    ``advanced`` is 1 if SND.UNA moved: retransmissions arrive, so that slow start up to ``ssthresh`` is safe.
    """
    c.prr_delivered += delivered
    if pipe > c.ssthresh:
        send = -(-c.prr_delivered * c.ssthresh // c.recover_fs) - c.prr_out
    else:
        send = max(c.prr_delivered - c.prr_out, delivered)
        if advanced != 0:
            send += c.smss
        send = min(send, c.ssthresh - pipe)
    if c.prr_out == 0:
        send = max(send, c.smss)  # the first retransmission goes whatever it says
    c.cwnd = pipe + max(send, 0)


@kernel
def on_recovery_sent(c: Congestion, size: i64) -> None:
    """``size`` bytes are sent in a recovery, new ones or again."""
    c.prr_out += size


@kernel
def on_recovery_end(c: Congestion) -> None:
    """All that was outstanding when the recovery began is acknowledged."""
    c.cwnd = c.ssthresh


@kernel
def on_timeout(c: Congestion, flight: i64, again: i64) -> None:
    """The retransmission timer expired with ``flight`` bytes outstanding.

    ``again`` is 1 if it did before for the same data: the threshold stays (RFC 5681 section 3.1). Slow start begins
    with one segment.
    """
    if again == 0:
        remember(c)
        c.ssthresh = _ssthresh(c, min(flight, c.cwnd))
    c.cwnd = c.smss
    c.acked = 0
    c.epoch = 0


@kernel
def on_undo(c: Congestion) -> None:
    """The last reduction was for nothing: all came twice (RFC 3708, RFC 4015, RFC 9438 section 4.9)."""
    c.cwnd = max(c.cwnd, c.prior_cwnd)
    c.ssthresh = max(c.ssthresh, c.prior_ssthresh)
    c.epoch = 0
    c.w_max = max(c.w_max, c.prior_cwnd)


@kernel
def after_idle(c: Congestion, idle: i64, rto: i64, now: i64) -> None:
    """Something is sent for the first time in ``idle`` ns, with nothing outstanding; ``rto`` is the timeout, ns.

    The window is halved for each timeout that went by, down to the initial one (RFC 2861, as Linux does; RFC 5681
    section 4.1 would go there at once). CUBIC's clock stood still.
    """
    if c.epoch != 0:
        c.epoch += max(now - c.last_ack, 0)
        c.last_ack = now
    if idle <= rto:
        return
    c.ssthresh = max(c.ssthresh, (c.cwnd >> 1) + (c.cwnd >> 2))
    floor = min(initial_window(c.smss), c.cwnd)
    while idle > rto and c.cwnd > floor:
        idle -= rto
        c.cwnd >>= 1
    c.cwnd = max(c.cwnd, floor)
