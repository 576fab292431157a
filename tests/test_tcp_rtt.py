"""Round trips and timeouts: RFC 6298 worked out by hand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.jit import allocate
from netemu.stack.tcp.rtt import (
    RTO_MIN,
    Rtt,
    rtt_backoff,
    rtt_sample,
    rtt_syn_lost,
    rtt_timeout,
    start_rtt,
)
from netemu.stack.tcp.send_times import (
    NO_SAMPLE,
    SEND_TIMES,
    SEND_TIMES_BYTES,
    SendTimes,
    forget_sent,
    measure_acked,
    note_sent,
    start_send_times,
)

MS = 1_000_000
US = 1_000


def estimator(*samples: int, rto_min: int = RTO_MIN) -> Rtt:
    rtt = Rtt()
    start_rtt(rtt, rto_min)
    for sample in samples:
        rtt_sample(rtt, sample, 1)
    return rtt


def test_before_any_measurement_the_timeout_is_a_second() -> None:
    """RFC 6298 (2.1)."""
    assert rtt_timeout(estimator()) == 1000 * MS


def test_the_first_measurement_sets_both_averages() -> None:
    """(2.2): SRTT = R, RTTVAR = R / 2, RTO = R + 4 * R / 2."""
    rtt = estimator(100 * MS)
    assert (rtt.srtt, rtt.rttvar, rtt_timeout(rtt)) == (100 * MS, 50 * MS, 300 * MS)


def test_later_measurements_are_smoothed_with_an_eighth_and_a_quarter() -> None:
    """(2.3), RTTVAR before SRTT: 3/4 * 50 + 1/4 * 100 = 62.5; 7/8 * 100 + 1/8 * 200 = 112.5; 112.5 + 4 * 62.5."""
    rtt = estimator(100 * MS, 200 * MS)
    assert (rtt.srtt, rtt.rttvar, rtt_timeout(rtt)) == (112_500 * US, 62_500 * US, 362_500 * US)
    rtt_sample(rtt, 100 * MS, 1)
    assert (rtt.srtt, rtt.rttvar) == (110_937_500, 50 * MS)


def test_the_variance_counts_as_200_ms_at_least() -> None:
    """As `ss -i` of Linux shows a connection on a steady path of 4 ms: rto:204."""
    assert rtt_timeout(estimator(*[4 * MS] * 40)) == 204 * MS
    assert rtt_timeout(estimator(*[4 * MS] * 40, rto_min=1000 * MS)) == 1004 * MS


def test_many_measurements_in_a_round_trip_share_the_weight_of_one() -> None:
    """RFC 7323 section 4.2: ten samples of ten weigh about what one sample of one does."""
    one, ten = estimator(100 * MS, 180 * MS), estimator(100 * MS)
    for _ in range(10):
        rtt_sample(ten, 180 * MS, 10)
    assert one.srtt == 110 * MS
    assert abs(ten.srtt - one.srtt) < MS
    assert abs(ten.rttvar - one.rttvar) < 2 * MS


def test_each_expiry_doubles_the_timeout_up_to_two_minutes() -> None:
    """(5.5), (2.5)."""
    rtt = estimator(100 * MS)
    seen = []
    for _ in range(12):
        rtt_backoff(rtt)
        seen.append(rtt_timeout(rtt) // MS)
    assert seen == [600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, 120_000, 120_000, 120_000, 120_000]


def test_a_measurement_ends_the_back_off() -> None:
    """Section 5, the last paragraph: the timeout is computed anew."""
    rtt = estimator(100 * MS, rto_min=MS)
    rtt_backoff(rtt)
    rtt_sample(rtt, 100 * MS, 1)
    assert rtt_timeout(rtt) == 100 * MS + 4 * 37_500 * US


def test_a_connection_whose_syn_was_lost_begins_with_three_seconds() -> None:
    """(5.7)."""
    rtt = estimator()
    rtt_backoff(rtt)
    assert rtt_timeout(rtt) == 2000 * MS
    rtt_syn_lost(rtt)
    assert rtt_timeout(rtt) == 3000 * MS
    measured = estimator(100 * MS)
    rtt_syn_lost(measured)
    assert rtt_timeout(measured) == 300 * MS


@given(st.lists(st.tuples(st.integers(-5, 10**12), st.integers(1, 2000)), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_the_averages_stay_within_what_was_measured(samples: list[tuple[int, int]]) -> None:
    rtt = estimator()
    for sample, number in samples:
        rtt_sample(rtt, sample, number)
        assert 0 <= rtt.rttvar
        assert rtt_timeout(rtt) <= 120_000 * MS
    measured = [max(sample, 1) for sample, _ in samples]
    # Whole nanoseconds are rounded down at each step.
    assert min(measured) - len(samples) <= rtt.srtt <= max(measured)
    assert rtt.lowest == min(measured)
    assert rtt.latest == measured[-1]


# When data was sent.


class Times:
    def __init__(self, position: int = 0) -> None:
        self._memory = allocate(SEND_TIMES_BYTES)
        self.struct = SendTimes()
        start_send_times(self.struct, self._memory.address, position)

    def sent(self, right: int, now: int, window: int = 10_000) -> None:
        note_sent(self.struct, right, window, now)

    def acked(self, una: int, now: int) -> int:
        return int(measure_acked(self.struct, una, now))


def test_a_segment_is_measured_by_the_acknowledgement_that_covers_it() -> None:
    times = Times()
    times.sent(1000, 10)
    times.sent(2000, 20)
    assert times.acked(999, 100) == NO_SAMPLE
    assert times.acked(1000, 110) == 100
    assert times.acked(2000, 125) == 105
    assert times.acked(2000, 130) == NO_SAMPLE


def test_an_acknowledgement_of_several_measures_the_latest() -> None:
    """The first one may have waited for the second: delayed acknowledgements do that."""
    times = Times()
    times.sent(1000, 10)
    times.sent(2000, 20)
    assert times.acked(2500, 125) == 105


def test_nothing_is_measured_that_was_under_way_at_a_retransmission() -> None:
    """Karn's rule, RFC 6298 section 3."""
    times = Times()
    times.sent(1000, 10)
    times.sent(2000, 20)
    forget_sent(times.struct)
    assert times.acked(2000, 300) == NO_SAMPLE
    times.sent(3000, 310)
    assert times.acked(3000, 400) == 90


def test_a_large_window_is_measured_at_some_thirty_places() -> None:
    times = Times()
    window = 1_000_000
    for right in range(1000, window + 1, 1000):
        times.sent(right, right, window)
    samples = [times.acked(una, una + 77) for una in range(1000, window + 1, 1000)]
    assert 25 <= sum(sample != NO_SAMPLE for sample in samples) <= SEND_TIMES
    assert {sample for sample in samples if sample != NO_SAMPLE} == {77}
