"""The congestion window: what all algorithms share, and where they keep what is their own.

Windows are in bytes and times in ns. `netemu.stack.tcp.congestion_control` has the verbs that a connection calls; the
algorithms are `netemu.stack.tcp.reno` (RFC 5681) and `netemu.stack.tcp.cubic` (RFC 9438).
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct

RENO = 0
CUBIC = 1

# What may end slow start before a loss does (`Congestion.hystart`).
LOSS_ONLY = 0
HYSTART = 1
"""As Linux's CUBIC: `netemu.stack.tcp.hystart`."""
HYSTART_PLUS = 2
"""RFC 9406: `netemu.stack.tcp.hystart_plus`."""

UNLIMITED = 1 << 40
"""The slow start threshold of a connection that has lost nothing yet."""
_CWND_MAX = 1 << 30
"""What a window scale of 14 can announce (RFC 7323 section 2.3)."""
_IW_SEGMENTS = 10
_IW_BYTES = 14600

# Phases of slow start (RFC 9406); also those of an algorithm without HyStart++.
SLOW_START = 0
CONSERVATIVE = 1
"""Conservative slow start."""


@struct
class Congestion(Struct):
    """A congestion window and its history."""

    algorithm: i64
    """RENO or CUBIC."""
    hystart: i64
    """LOSS_ONLY, HYSTART or HYSTART_PLUS."""
    abc_limit: i64
    """Slow start grows by at most so many segments an ACK (L in RFC 3465); 0: by what was acknowledged, as in Linux."""
    smss: i64
    cwnd: i64
    ssthresh: i64
    acked: i64
    """Congestion avoidance: bytes acknowledged that did not make the window grow yet."""
    prior_cwnd: i64
    prior_ssthresh: i64
    """Before the last reduction, for `on_undo`."""
    reductions: i64
    """How often the window was reduced."""
    # Proportional rate reduction (RFC 6937).
    recover_fs: i64
    """Bytes outstanding when the recovery began (RecoverFS)."""
    prr_delivered: i64
    prr_out: i64
    """Bytes that arrived, and that were sent, since."""
    # CUBIC (RFC 9438).
    w_max: i64
    """Window before the last reduction, bytes; fast convergence makes it less."""
    w_est: i64
    """What Reno's window would be, bytes."""
    w_est_rest: i64
    """What is left of its growth below a byte."""
    cwnd_prior: i64
    """Window before the last reduction, bytes; fast convergence does not touch it."""
    epoch: i64
    """When this stage of congestion avoidance began, ns; 0: it has not. Moves with time that does not count."""
    origin: i64
    """K: from ``epoch`` until the cubic function comes back to ``w_max``, in 1/1024 s."""
    last_ack: i64
    """When congestion avoidance last looked at the window, ns."""
    # HyStart and HyStart++ (RFC 9406).
    phase: i64
    """SLOW_START or CONSERVATIVE."""
    window_end: i64
    """Position whose acknowledgement ends the round; 0: none has begun."""
    round_rtt: i64
    last_round_rtt: i64
    """Shortest round trip of this round and of the one before, ns; 0: none yet."""
    round_samples: i64
    baseline_rtt: i64
    """Shortest round trip when conservative slow start began, ns."""
    rounds: i64
    """Rounds of conservative slow start."""
    min_rtt: i64
    """Shortest round trip of all, ns."""
    round_start: i64
    train_ack: i64
    """When the round began, and its last acknowledgement that followed the others closely came; ns."""


congestion_at = pointer(Congestion)
CONGESTION_SIZE = Congestion.dtype.itemsize


@kernel
def initial_window(smss: i64) -> i64:
    """Ten segments, or 14600 bytes where these are large, but two at least (RFC 6928)."""
    return min(_IW_SEGMENTS * smss, max(2 * smss, _IW_BYTES))


@kernel
def start_congestion(c: Congestion, algorithm: i64, smss: i64) -> None:
    """A connection begins; CUBIC has HyStart, as in Linux."""
    c.algorithm = algorithm
    c.hystart = HYSTART if algorithm == CUBIC else LOSS_ONLY
    c.abc_limit = 0
    c.smss = smss
    c.cwnd = initial_window(smss)
    c.ssthresh = UNLIMITED
    c.acked = 0
    c.prior_cwnd = c.cwnd
    c.prior_ssthresh = UNLIMITED
    c.reductions = 0
    c.recover_fs = 0
    c.prr_delivered = 0
    c.prr_out = 0
    c.w_max = 0
    c.w_est = 0
    c.w_est_rest = 0
    c.cwnd_prior = 0
    c.epoch = 0
    c.origin = 0
    c.last_ack = 0
    c.phase = SLOW_START
    c.window_end = 0
    c.round_rtt = 0
    c.last_round_rtt = 0
    c.round_samples = 0
    c.baseline_rtt = 0
    c.rounds = 0
    c.min_rtt = 0
    c.round_start = 0
    c.train_ack = 0


@kernel
def grow(c: Congestion, size: i64) -> None:
    """Make the window larger by ``size`` bytes."""
    c.cwnd = min(c.cwnd + size, _CWND_MAX)


@kernel
def slow_start(c: Congestion, acked: i64) -> i64:
    """Grow by what was acknowledged, up to ``ssthresh``; the bytes that are left for congestion avoidance."""
    step = acked
    if c.abc_limit > 0:
        step = min(step, c.abc_limit * c.smss)
    if c.phase == CONSERVATIVE:
        step >>= 2  # CSS_GROWTH_DIVISOR
    used = min(step, c.ssthresh - c.cwnd)
    grow(c, used)
    return acked - used if used < step else 0


@kernel
def remember(c: Congestion) -> None:
    """Note the window before it is reduced."""
    c.prior_cwnd = c.cwnd
    c.prior_ssthresh = c.ssthresh
    c.reductions += 1
    c.acked = 0
    c.phase = SLOW_START
    c.window_end = 0
