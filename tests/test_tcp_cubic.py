"""CUBIC against RFC 9438's formulae, computed here with floats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.stack.tcp.congestion import CUBIC, RENO, Congestion, start_congestion
from netemu.stack.tcp.congestion_control import after_idle, on_ack, on_recovery_end, on_recovery_start, on_timeout
from netemu.stack.tcp.cubic import cube_root, w_cubic

MSS = 1448
MS = 1_000_000
C, BETA = 0.4, 0.7
ALPHA = 3 * (1 - BETA) / (1 + BETA)


class Path:
    """A sender that always fills its window, on a path of one round-trip time; ``pieces`` ACKs in a round trip."""

    def __init__(self, algorithm: int, rtt: int, cwnd: int, pieces: int = 10) -> None:
        self.c = Congestion()
        start_congestion(self.c, algorithm, MSS)
        self.c.cwnd = self.c.ssthresh = cwnd * MSS
        self.rtt, self.pieces, self.now = rtt, pieces, 1000

    @property
    def cwnd(self) -> float:
        return self.c.cwnd / MSS

    def step(self, limited: int = 1) -> int:
        """One ACK of a share of the window; its bytes."""
        acked = self.c.cwnd // self.pieces
        self.now += self.rtt // self.pieces
        on_ack(self.c, acked, 0, 0, self.rtt, self.rtt, limited, self.now)
        return acked

    def lose(self) -> None:
        on_recovery_start(self.c, self.c.cwnd)
        on_recovery_end(self.c)


@given(st.integers(0, (1 << 63) - 1))
def test_a_cube_root_is_the_largest_that_is_not_too_large(value: int) -> None:
    root = cube_root(value)
    assert root**3 <= value < (root + 1) ** 3


@pytest.mark.parametrize("value", [0, 1, 7, 8, 9, 26, 27, 10**18, 2097151**3, 2097151**3 - 1, (1 << 63) - 1])
def test_cube_roots_at_their_borders(value: int) -> None:
    root = cube_root(value)
    assert root**3 <= value < (root + 1) ** 3


@pytest.mark.parametrize("lost_at", [50, 100, 1000, 20_000])
def test_after_a_loss_the_window_follows_the_cubic_function(lost_at: int) -> None:
    """Equations 1 and 2, section 4.1.2: W(t) = C (t - K)^3 + W_max, K the cube root of (W_max - cwnd) / C."""
    path = Path(CUBIC, 100 * MS, lost_at)
    path.lose()
    start, first = path.now, path.cwnd
    assert first == pytest.approx(BETA * lost_at, abs=0.01)
    k = ((lost_at - first) / C) ** (1 / 3)
    seen = 0
    while path.now - start < (k + 5) * 1e9:
        path.step()
        t = (path.now - start) / 1e9
        expected = C * (t - k) ** 3 + lost_at
        reno = first + ALPHA * t * 10  # ten round trips a second
        if reno > lost_at:
            reno = lost_at + (reno - lost_at) / ALPHA
        if t > 0.5 and expected > 1.02 * reno:
            seen += 1
            assert path.cwnd == pytest.approx(expected, rel=0.01, abs=1)
    assert seen > 40


def test_the_function_itself_at_some_times() -> None:
    """W_max 100 segments, cwnd 70: K = 75 ** (1/3) = 4.217 s."""
    path = Path(CUBIC, 100 * MS, 100)
    path.lose()
    path.step()
    for seconds, window in ((0, 70.0), (1, 86.68), (2, 95.64), (4.217, 100.0), (6, 102.27), (10, 177.36)):
        assert w_cubic(path.c, int(seconds * 1e9)) / MSS == pytest.approx(window, abs=0.2)


def test_on_a_short_path_the_window_follows_reno() -> None:
    """Section 4.3: it grows by 9/17 of a segment in a round trip, and by one once it is what it was."""
    path = Path(CUBIC, 1 * MS, 20)
    path.lose()
    first = path.cwnd
    for _ in range(8 * path.pieces):
        path.step()
    assert path.cwnd == pytest.approx(first + 8 * ALPHA, abs=0.2)
    while path.cwnd < 20:
        path.step()
    before = path.cwnd
    for _ in range(8 * path.pieces):
        path.step()
    assert path.cwnd == pytest.approx(before + 8, abs=0.3)


def test_a_window_grows_by_half_in_a_round_trip_at_most() -> None:
    """Section 4.1.2: the target is 1.5 cwnd at most, far behind K."""
    path = Path(CUBIC, 100 * MS, 100, pieces=1)
    path.lose()
    path.step()
    path.now += 60_000 * MS
    before = path.cwnd
    path.step()
    assert path.cwnd == pytest.approx(1.5 * before, rel=0.01)


def test_a_second_loss_below_the_first_makes_room_for_others() -> None:
    """Fast convergence, section 4.7: W_max is cwnd * (1 + beta) / 2."""
    path = Path(CUBIC, 100 * MS, 100)
    path.lose()
    assert path.c.w_max == 100 * MSS
    path.lose()
    assert path.c.w_max / MSS == pytest.approx(70 * 0.85, abs=0.01)
    assert path.cwnd == pytest.approx(49, abs=0.01)


def test_after_a_timeout_the_curve_begins_where_slow_start_ends() -> None:
    """Section 4.8."""
    path = Path(CUBIC, 100 * MS, 100)
    on_timeout(path.c, path.c.cwnd, 0)
    assert path.cwnd == 1
    while path.cwnd < 70:
        path.step()
    start, k = path.now, (30 / C) ** (1 / 3)
    while path.now - start < k * 1e9:
        path.step()
    assert path.cwnd == pytest.approx(100, abs=1)


def test_without_a_loss_the_curve_begins_in_its_middle() -> None:
    """Section 4.10: slow start that ended without one has W_max = cwnd and K = 0."""
    path = Path(CUBIC, 100 * MS, 100)
    start = path.now
    while path.now - start < 9e9:
        path.step()
    assert path.cwnd == pytest.approx(100 + C * 9**3, rel=0.01)


def test_time_without_data_does_not_count() -> None:
    """Section 5.8: the window is where it was, and so is the curve, after a pause or a slow writer."""
    quiet, paused, slow = (Path(CUBIC, 100 * MS, 100) for _ in range(3))
    for path in (quiet, paused, slow):
        path.lose()
        for _ in range(20):
            path.step()
    paused.now += 150 * MS
    after_idle(paused.c, 150 * MS, 200 * MS, paused.now)
    for _ in range(300):
        slow.step(limited=0)
    for path in (quiet, paused, slow):
        for _ in range(20):
            path.step()
    assert paused.cwnd == pytest.approx(quiet.cwnd, rel=0.001)
    assert slow.cwnd == pytest.approx(quiet.cwnd, rel=0.001)


# Averages under a loss at every 1/p segments.


def average_window(path: Path, p: float, losses: int) -> float:
    """Mean window in segments, over time, from the second loss on."""
    weighted = time = 0.0
    for number in range(losses):
        left = MSS / p
        while left > 0:
            left -= path.step()
            if number >= 4:
                weighted += path.cwnd
                time += 1
        path.lose()
    return weighted / time


@pytest.mark.parametrize("p", [0.01, 0.001, 0.0001])
def test_reno_with_a_loss_every_so_often_has_mathis_window(p: float) -> None:
    """Mathis et al. (1997): sqrt(3/2) / sqrt(p) segments without delayed acknowledgements."""
    path = Path(RENO, 100 * MS, 30)
    assert average_window(path, p, 14) == pytest.approx((1.5 / p) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("rtt", "p"), [(0.1, 1e-4), (0.1, 1e-5), (0.2, 1e-4), (0.5, 1e-3)])
def test_cubic_with_a_loss_every_so_often_has_the_rfcs_window(rtt: float, p: float) -> None:
    """Section 5.1, equation 6: (C (3 + beta) / 4 / (1 - beta)) ** 1/4 * RTT ** 3/4 / p ** 3/4."""
    path = Path(CUBIC, int(rtt * 1e9), 300, pieces=20)
    expected = (C * (3 + BETA) / 4 / (1 - BETA)) ** 0.25 * rtt**0.75 / p**0.75
    assert average_window(path, p, 14) == pytest.approx(expected, rel=0.08)


def test_cubic_on_a_short_path_with_frequent_losses_is_as_reno() -> None:
    """Section 5.2 has 120 segments for p = 1e-4 at 10 ms, where AIMD has as many."""
    path = Path(CUBIC, 10 * MS, 100)
    assert average_window(path, 1e-4, 14) == pytest.approx(120, rel=0.1)
