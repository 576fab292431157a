"""The congestion window: RFC 5681, 3465, 6928, 9406 by hand, and what the verbs do whichever algorithm it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.stack.tcp.congestion import (
    CONSERVATIVE,
    CUBIC,
    HYSTART,
    HYSTART_PLUS,
    LOSS_ONLY,
    RENO,
    SLOW_START,
    UNLIMITED,
    Congestion,
    initial_window,
    start_congestion,
)
from netemu.stack.tcp.congestion_control import (
    after_idle,
    on_ack,
    on_recovery_ack,
    on_recovery_end,
    on_recovery_sent,
    on_recovery_start,
    on_timeout,
    on_undo,
)

MSS = 1000
MS = 1_000_000


def control(algorithm: int = RENO, cwnd: int = 10, ssthresh: int = UNLIMITED // MSS, hystart: int = 0) -> Congestion:
    """A connection with a window and a threshold of so many segments."""
    c = Congestion()
    start_congestion(c, algorithm, MSS)
    c.cwnd, c.ssthresh, c.hystart = cwnd * MSS, ssthresh * MSS, hystart
    return c


def ack(c: Congestion, acked: int, now: int = 1, limited: int = 1, rtt: int = 100 * MS) -> None:
    on_ack(c, acked, 0, 0, rtt, rtt, limited, now)


@pytest.mark.parametrize(("smss", "window"), [(1460, 14600), (536, 5360), (9000, 18000), (2000, 14600)])
def test_a_connection_begins_with_ten_segments(smss: int, window: int) -> None:
    """RFC 6928: min(10 * MSS, max(2 * MSS, 14600))."""
    assert initial_window(smss) == window


def test_slow_start_doubles_the_window_in_a_round_trip() -> None:
    """RFC 5681 section 3.1, with an acknowledgement for two segments each, and for all at once."""
    for size in (1, 2, 10):
        c = control()
        for _ in range(10 // size):
            ack(c, size * MSS)
        assert c.cwnd == 20 * MSS


def test_slow_start_by_two_segments_an_ack() -> None:
    """RFC 3465 section 2.2 with L = 2, for those who want it."""
    c = control()
    c.abc_limit = 2
    ack(c, 10 * MSS)
    assert c.cwnd == 12 * MSS


def test_slow_start_ends_at_the_threshold_and_the_rest_counts_for_avoidance() -> None:
    c = control(cwnd=9, ssthresh=10)
    ack(c, 4 * MSS)
    assert (c.cwnd, c.acked) == (10 * MSS, 3 * MSS)


def test_reno_adds_a_segment_for_each_window_acknowledged() -> None:
    """RFC 5681 section 3.1 by RFC 3465 section 2.1: however the acknowledgements are cut."""
    for size in (1, 500, 2 * MSS, 10 * MSS):
        c = control(cwnd=10, ssthresh=10)
        total = 0
        while total < (10 + 11 + 12) * MSS:
            step = min(size if size > 1 else 7 * MSS, (10 + 11 + 12) * MSS - total)
            ack(c, step)
            total += step
        assert c.cwnd == 13 * MSS


def test_a_window_that_is_not_used_does_not_grow() -> None:
    for algorithm in (RENO, CUBIC):
        for ssthresh in (10, 100):
            c = control(algorithm, ssthresh=ssthresh)
            for n in range(100):
                ack(c, 10 * MSS, now=n * 100 * MS, limited=0)
            assert c.cwnd == 10 * MSS


@pytest.mark.parametrize(("algorithm", "expected"), [(RENO, 50), (CUBIC, 70)])
def test_a_loss_takes_half_or_three_tenths(algorithm: int, expected: int) -> None:
    """RFC 5681 equation 4: FlightSize / 2; RFC 9438 section 4.6: beta is 0.7."""
    c = control(algorithm, cwnd=100)
    on_recovery_start(c, 100 * MSS)
    assert (c.cwnd, c.ssthresh) == (expected * MSS, expected * MSS)
    on_recovery_end(c)
    assert c.cwnd == expected * MSS


@pytest.mark.parametrize("algorithm", [RENO, CUBIC])
def test_the_threshold_is_of_flight_and_two_segments_at_least(algorithm: int) -> None:
    c = control(algorithm, cwnd=100)
    on_recovery_start(c, 2 * MSS)
    assert c.ssthresh == 2 * MSS


def test_what_limited_transmit_sent_does_not_count() -> None:
    """RFC 5681 section 3.2, step 2: 12 segments are outstanding, two of them beyond the window."""
    c = control(cwnd=10)
    on_recovery_start(c, 12 * MSS)
    assert c.ssthresh == 5 * MSS


@pytest.mark.parametrize("algorithm", [RENO, CUBIC])
def test_a_timeout_begins_again_with_one_segment(algorithm: int) -> None:
    """RFC 5681 section 3.1: the loss window; a second timeout of the same segment leaves the threshold alone."""
    c = control(algorithm, cwnd=100)
    on_timeout(c, 100 * MSS, 0)
    threshold = c.ssthresh
    assert (c.cwnd, threshold) == (MSS, (50 if algorithm == RENO else 70) * MSS)
    on_timeout(c, MSS, 1)
    assert (c.cwnd, c.ssthresh) == (MSS, threshold)
    ack(c, MSS)
    assert c.cwnd == 2 * MSS


@pytest.mark.parametrize("algorithm", [RENO, CUBIC])
def test_a_reduction_for_nothing_is_taken_back(algorithm: int) -> None:
    """RFC 4015, RFC 9438 section 4.9."""
    c = control(algorithm, cwnd=100, ssthresh=80)
    on_recovery_start(c, 100 * MSS)
    on_undo(c)
    assert (c.cwnd, c.ssthresh) == (100 * MSS, 80 * MSS)
    on_timeout(c, 100 * MSS, 0)
    on_undo(c)
    assert (c.cwnd, c.ssthresh) == (100 * MSS, 80 * MSS)


def test_each_timeout_of_idleness_halves_the_window_down_to_the_initial_one() -> None:
    """RFC 2861, tcp_cwnd_restart; the threshold remembers three quarters of what it was."""
    c = control(cwnd=100, ssthresh=20)
    after_idle(c, 200 * MS, 200 * MS, 0)
    assert c.cwnd == 100 * MSS
    after_idle(c, 201 * MS, 200 * MS, 0)
    assert (c.cwnd, c.ssthresh) == (50 * MSS, 75 * MSS)
    after_idle(c, 10_000 * MS, 200 * MS, 0)
    assert c.cwnd == 10 * MSS
    small = control(cwnd=4)
    after_idle(small, 10_000 * MS, 200 * MS, 0)
    assert small.cwnd == 4 * MSS


# HyStart, as in Linux's tcp_cubic.c.


def hystart_acks(window: int, gap: int, rtt: int, count: int, first: int = 1) -> list[tuple[int, bool]]:
    """A round of ``count`` ACKs, ``gap`` ns apart, on a path of 40 ms: segment and whether slow start was over."""
    c = control(CUBIC, cwnd=window, hystart=HYSTART)
    on_ack(c, 0, 1, 1000, 40 * MS, 40 * MS, 1, 1)  # the first round ends: 40 ms is the shortest round trip
    seen = []
    for n in range(count):
        on_ack(c, 0, 1001, 2000, rtt, rtt, 1, 1000 * MS + n * gap)
        seen.append((n + first, c.ssthresh <= c.cwnd))
    return seen


def test_an_ack_train_of_half_a_round_trip_ends_slow_start() -> None:
    """40 ms: the ACK that comes more than 20 ms after the round's first one, if none of the gaps is over 2 ms."""
    assert [n for n, over in hystart_acks(40, 1 * MS, 40 * MS, 22) if over] == [22]
    assert [n for n, over in hystart_acks(40, 2 * MS, 40 * MS, 12) if over] == [12]
    assert not hystart_acks(40, 2 * MS + 1, 40 * MS, 100)[-1][1]


def test_eight_round_trips_that_are_longer_by_an_eighth_end_slow_start() -> None:
    """40 ms and 5 ms: not at the ninth of 45 ms, at the ninth of 46 ms; far apart, so that there is no train."""
    assert not hystart_acks(40, 5 * MS, 45 * MS, 30)[-1][1]
    assert [n for n, over in hystart_acks(40, 5 * MS, 46 * MS, 9) if over] == [9]


def test_a_window_under_16_segments_is_left_alone() -> None:
    assert not hystart_acks(15, 1 * MS, 90 * MS, 60)[-1][1]
    assert hystart_acks(16, 1 * MS, 90 * MS, 60)[-1][1]


# HyStart++, RFC 9406.


class Rounds:
    """A connection whose rounds are acknowledged by an ACK for each of the given round trips.

    Positions only tell rounds apart: number n lies between n and n + 1 million.
    """

    def __init__(self) -> None:
        self.c = control(CUBIC, cwnd=10, hystart=HYSTART_PLUS)
        self.end = 1_000_000

    def round(self, rtts: list[int]) -> int:
        """One round; how many segments the window grew by."""
        before = self.c.cwnd
        for n, rtt in enumerate(rtts, start=1):
            last = n == len(rtts)
            una, nxt = (self.end, self.end + 1_000_000) if last else (self.end - 1_000_000 + n, self.end)
            on_ack(self.c, before // len(rtts), una, nxt, rtt, rtt, 1, 1)
        self.end += 1_000_000
        return (self.c.cwnd - before) // MSS


def test_a_longer_round_trip_makes_slow_start_conservative() -> None:
    """An eighth of 100 ms is 12.5 ms, of 112 ms it is 14. Growth is a quarter from the eighth sample on."""
    rounds = Rounds()
    rounds.round([100 * MS] * 10)
    assert rounds.round([112 * MS] * 10) == 20
    assert rounds.c.phase == SLOW_START
    grown = rounds.round([126 * MS] * 10)
    assert rounds.c.phase == CONSERVATIVE
    assert grown == 7 * 4 + 3 * 1


@pytest.mark.parametrize(("before", "after", "phase"), [
    (8, 11, SLOW_START), (8, 12, CONSERVATIVE),  # 4 ms at least
    (400, 415, SLOW_START), (400, 416, CONSERVATIVE),  # 16 ms at most
    (80, 89, SLOW_START), (80, 90, CONSERVATIVE),
])  # fmt: skip
def test_the_threshold_is_an_eighth_within_its_bounds(before: int, after: int, phase: int) -> None:
    rounds = Rounds()
    rounds.round([before * MS] * 10)
    rounds.round([after * MS] * 10)
    assert rounds.c.phase == phase


def test_seven_samples_say_nothing() -> None:
    rounds = Rounds()
    rounds.round([100 * MS] * 7)
    rounds.round([300 * MS] * 7)
    assert rounds.c.phase == SLOW_START
    assert rounds.c.cwnd > 30 * MSS


def test_a_false_alarm_is_taken_back() -> None:
    rounds = Rounds()
    rounds.round([100 * MS] * 10)
    rounds.round([150 * MS] * 10)
    assert rounds.c.phase == CONSERVATIVE
    rounds.round([149 * MS] * 10)
    assert rounds.c.phase == SLOW_START
    assert rounds.c.ssthresh == UNLIMITED // MSS * MSS


def test_after_five_conservative_rounds_congestion_avoidance_begins() -> None:
    """The round in which it became conservative counts."""
    rounds = Rounds()
    rounds.round([100 * MS] * 10)
    for _ in range(4):
        rounds.round([150 * MS] * 10)
        assert rounds.c.ssthresh > rounds.c.cwnd
    rounds.round([150 * MS] * 10)
    assert rounds.c.ssthresh <= rounds.c.cwnd
    assert rounds.round([150 * MS] * 10) < 3


def test_only_the_first_slow_start_looks_at_round_trips() -> None:
    rounds = Rounds()
    on_timeout(rounds.c, 100 * MSS, 0)
    for rtt in (100, 200, 300):
        rounds.round([rtt * MS])
        rounds.round([rtt * MS] * 8)
    assert rounds.c.phase == SLOW_START


# Proportional rate reduction, RFC 6937.


def recovery(cwnd: int, pipe: int, acks: list[tuple[int, int]]) -> list[int]:
    """Segments sent after each ACK, each of (delivered, advanced), by a sender that sends what it may."""
    c = control(RENO, cwnd=cwnd)
    on_recovery_start(c, cwnd * MSS)
    sent = []
    for delivered, advanced in acks:
        pipe -= delivered
        on_recovery_ack(c, delivered * MSS, pipe * MSS, advanced)
        may = max(c.cwnd // MSS - pipe, 0)
        on_recovery_sent(c, may * MSS)
        pipe += may
        sent.append(may)
    return sent


def test_one_loss_halves_the_window_over_a_round_trip() -> None:
    """The example of RFC 6937 section 4: of 20 segments one is lost; one is sent for every two ACKs, 10 in all.

    The first goes early, and is made up for.
    """
    sent = recovery(20, 19, [(1, 0)] * 19)
    assert sent[:14] == [1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert sum(sent) == 10


def test_after_a_burst_of_losses_as_much_is_sent_as_arrives() -> None:
    """RFC 6937, section 3.1: pipe is below ssthresh at once; packet conservation, then slow start."""
    assert recovery(20, 4, [(1, 0), (1, 0), (1, 0)]) == [1, 1, 1]
    assert recovery(20, 4, [(1, 0), (1, 1), (1, 1), (1, 1)]) == [1, 2, 2, 2]


def test_the_first_retransmission_goes_whatever_the_reduction_says() -> None:
    assert recovery(100, 96, [(1, 0)]) == [1]


def test_a_reduction_ends_at_the_threshold() -> None:
    assert sum(recovery(20, 19, [(1, 1)] * 60)) + 19 - 60 == 10


# Whatever happens.


@given(
    st.sampled_from([RENO, CUBIC]),
    st.sampled_from([LOSS_ONLY, HYSTART, HYSTART_PLUS]),
    st.lists(
        st.one_of(
            st.tuples(st.just("ack"), st.integers(1, 1 << 20)),
            st.tuples(st.just("loss"), st.integers(0, 1 << 30)),
            st.tuples(st.just("timeout"), st.integers(0, 1 << 30)),
            st.tuples(st.just("undo"), st.just(0)),
            st.tuples(st.just("idle"), st.integers(0, 1 << 40)),
        ),
        max_size=60,
    ),
    st.integers(1, 1 << 34),
)
@settings(max_examples=200, deadline=None)
def test_the_window_stays_between_a_segment_and_what_tcp_can_announce(
    algorithm: int, hystart: int, steps: list[tuple[str, int]], pace: int
) -> None:
    c = control(algorithm, hystart=hystart)
    now = una = 0
    for what, value in steps:
        now += pace
        if what == "ack":
            una += value
            on_ack(c, value, una, una + c.cwnd, pace, pace, 1, now)
        elif what == "loss":
            on_recovery_start(c, value)
        elif what == "timeout":
            on_timeout(c, value, 0)
        elif what == "undo":
            on_undo(c)
        else:
            after_idle(c, value, 200 * MS, now)
        assert MSS <= c.cwnd <= 1 << 30
        assert c.ssthresh >= 2 * MSS
        for number in c.to_dict().values():
            assert -(1 << 63) <= number < 1 << 63
