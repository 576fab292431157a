"""TCP as a whole: what a transfer comes to under random loss, against the formulae; and the table of goodput.

The bands are wide enough for what the formulae leave out. They have one loss at every 1/p segments where here each
segment is lost by chance, which makes mean windows some 10 % larger; and no timeouts and nothing of what a recovery
costs, which shows at small windows. Acknowledgements are delayed, and count by bytes (RFC 3465, as in Linux): the
window grows as if each segment were acknowledged, so Mathis's constant is that without delayed ones, sqrt(3/2).
"""

from __future__ import annotations

import difflib

import pytest

from tests.tcp_goodput import TABLE, table
from tests.tcp_path_kit import MS, SECOND, Path

PAYLOAD = 1448
"""Bytes of a full segment: an MTU of 1500, less headers and timestamps."""


def mean_window(algorithm: str, loss: float, delay: int, seconds: int, seed: int = 1, **settings: int) -> float:
    """Goodput times round trip, in segments, on a path whose rate has no limit."""
    path = Path(f"loss {100 * loss}%", delay=delay * MS, seed=seed, settings={"congestion": algorithm, **settings})
    path.start()
    return path.goodput(seconds, warm_up=seconds / 10) * 2 * delay * MS / SECOND / PAYLOAD


def mathis(loss: float) -> float:
    """Mathis, Semke, Mahdavi, Ott (1997): the mean window of additive increase by one, decrease by half."""
    return float((1.5 / loss) ** 0.5)


def rfc_9438(loss: float, rtt: float) -> float:
    """Section 5.1, equation 6 with C = 0.4 and beta = 0.7, where it exceeds what AIMD has (section 4.3)."""
    cubic = (0.4 * 3.7 / (4 * 0.3)) ** 0.25 * rtt**0.75 / loss**0.75
    return max(float(cubic), mathis(loss))


@pytest.mark.parametrize(
    ("loss", "delay", "seconds", "low", "high"),
    [
        (0.0003, 25, 300, 0.9, 1.2),
        (0.001, 25, 600, 0.9, 1.15),
        (0.001, 5, 100, 0.9, 1.15),
        (0.003, 25, 600, 0.9, 1.1),
        (0.01, 25, 600, 0.8, 1.0),
        (0.03, 25, 600, 0.65, 0.85),
    ],
)
def test_reno_under_random_loss_has_mathis_window(
    loss: float, delay: int, seconds: int, low: float, high: float
) -> None:
    assert low <= mean_window("reno", loss, delay, seconds) / mathis(loss) <= high


def test_delayed_acknowledgements_do_not_slow_reno_down() -> None:
    """Counting bytes (RFC 3465); counting acknowledgements it would be a factor of sqrt(2)."""
    delayed, at_once = (mean_window("reno", 0.001, 25, 600, delayed_ack=delay) for delay in (40 * MS, 0))
    assert 0.9 <= delayed / at_once <= 1.1


@pytest.mark.parametrize(
    ("loss", "delay", "seconds"),
    [(0.0001, 50, 600), (0.001, 50, 600), (0.01, 50, 600), (0.001, 5, 100), (0.01, 250, 1000), (0.003, 150, 600)],
)
def test_cubic_under_random_loss_has_the_window_of_rfc_9438(loss: float, delay: int, seconds: int) -> None:
    """On long paths with few losses by the cubic function, else as Reno; 5.1 and 4.3."""
    assert 0.95 <= mean_window("cubic", loss, delay, seconds) / rfc_9438(loss, 2 * delay / 1000) <= 1.3


def test_a_path_without_loss_is_filled() -> None:
    """20 Mbit/s, in frames of 1514 bytes of which 1448 are payload."""
    path = Path(delay=10 * MS, rate="20mbit", queue="100p")
    path.start()
    assert path.goodput(10, warm_up=1) * 8 == pytest.approx(20e6 * PAYLOAD / 1514, rel=0.001)


def test_a_transfer_with_loss_ends_and_closes() -> None:
    path = Path("loss 10%", delay=10 * MS)
    sock = path.start(1_000_000)
    path.run(200)
    assert path.acked == 1_000_000
    assert (sock.state, sock.error) == ("CLOSED", None)
    table = path.b.tcp.table
    assert table.free_count == table.total - 1  # the listener is left


def test_the_same_seed_does_the_same_and_another_does_not() -> None:
    assert mean_window("cubic", 0.01, 20, 20) == mean_window("cubic", 0.01, 20, 20)
    assert mean_window("cubic", 0.01, 20, 20) != mean_window("cubic", 0.01, 20, 20, seed=2)


def test_the_table_of_goodput_is_as_it_was() -> None:
    """A change of it has to be explained: `python -m tests.tcp_goodput` writes the file anew."""
    before, now = TABLE.read_text(), table()
    assert now == before, "\n" + "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm=""))
