"""Round-trip time and retransmission timeout: RFC 6298, with the changes that Linux makes and RFC 7323 asks for.

Times are ns. `rtt_sample` is fed with measurements, by whichever clock: `netemu.stack.tcp.send_times` measures what was
sent once (Karn's rule), timestamps measure anything that moves SND.UNA.

Linux differs from RFC 6298 in one number. The RFC wants a timeout of at least 1 s (2.4); Linux takes ``rto_min``,
200 ms, as the least of the *variance's* share, so the timeout is SRTT + max(4 * RTTVAR, 200 ms) and never spurious for
lack of variance. Here it is the same; set ``rto_min`` to 1 s to be at least as slow as the RFC.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct

_MS = 1_000_000
RTO_INITIAL = 1000 * _MS
"""Before the first measurement (RFC 6298 2.1)."""
RTO_MIN = 200 * _MS
RTO_MAX = 120_000 * _MS
"""As in Linux; RFC 6298 2.5 wants at least 60 s."""
RTO_AFTER_LOST_SYN = 3000 * _MS
"""RFC 6298 5.7."""


@struct
class Rtt(Struct):
    """What is known of a path's round-trip time; ns."""

    srtt: i64
    """Smoothed; 0 before the first measurement."""
    rttvar: i64
    rto: i64
    """The timeout as computed, without back-off."""
    backoff: i64
    """How often it was doubled since the last measurement."""
    rto_min: i64
    rto_max: i64
    latest: i64
    """The last measurement."""
    lowest: i64
    """The shortest one."""


rtt_at = pointer(Rtt)
RTT_SIZE = Rtt.dtype.itemsize


@kernel
def start_rtt(rtt: Rtt, rto_min: i64) -> None:
    """Nothing is known yet. ``rto_min``: RTO_MIN unless somebody wants another."""
    rtt.srtt = 0
    rtt.rttvar = 0
    rtt.rto = RTO_INITIAL
    rtt.backoff = 0
    rtt.rto_min = rto_min
    rtt.rto_max = RTO_MAX
    rtt.latest = 0
    rtt.lowest = 0


@kernel
def rtt_sample(rtt: Rtt, sample: i64, samples_per_rtt: i64) -> None:
    """Take a measurement (ns), of which there are about so many in a round trip (at least 1).

    Where there are many they share the weight that RFC 6298 gives to one (RFC 7323 section 4.2), so that the memory of
    the average goes back equally far.
    """
    sample = max(sample, 1)
    rtt.latest = sample
    rtt.lowest = sample if rtt.lowest == 0 else min(rtt.lowest, sample)
    rtt.backoff = 0
    if rtt.srtt == 0:
        rtt.srtt = sample
        rtt.rttvar = sample >> 1
    else:
        rtt.rttvar += (abs(rtt.srtt - sample) - rtt.rttvar) // (4 * samples_per_rtt)
        rtt.srtt += (sample - rtt.srtt) // (8 * samples_per_rtt)
    rtt.rto = min(rtt.srtt + max(4 * rtt.rttvar, rtt.rto_min), rtt.rto_max)


@kernel
def rtt_timeout(rtt: Rtt) -> i64:
    """The timeout to set (ns), back-off included."""
    rto = rtt.rto
    for _ in range(rtt.backoff):
        if rto >= rtt.rto_max:
            break
        rto *= 2
    return min(rto, rtt.rto_max)


@kernel
def rtt_backoff(rtt: Rtt) -> None:
    """The timer expired: double the timeout (5.5), until there is a measurement again."""
    rtt.backoff += 1


@kernel
def rtt_syn_lost(rtt: Rtt) -> None:
    """The connection stands, and its SYN had to be sent again: without a measurement, begin with 3 s (5.7)."""
    if rtt.srtt == 0:
        rtt.rto = RTO_AFTER_LOST_SYN
    rtt.backoff = 0
