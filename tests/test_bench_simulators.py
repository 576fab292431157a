"""The rivals of a lab do the work that they are said to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.errors import AbsentError, BenchError
from bench.simulators import Simulated, ns3_program, nspy_command, simulate

SECONDS = "0.02"


@pytest.fixture(scope="module")
def ns3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return ns3_program(tmp_path_factory.mktemp("ns3"))
    except AbsentError as error:
        pytest.skip(str(error))


def nspy() -> list[str]:
    try:
        return nspy_command()
    except AbsentError as error:
        pytest.skip(str(error))


class TestNs3:
    def test_a_flood_takes_two_links(self, ns3: Path) -> None:
        """1000 bytes of data, 28 of headers and 2 of its link's own take 8.24 us on each of two links, and 1 ms."""
        told = simulate([ns3, "flood", SECONDS])
        assert told.frames == pytest.approx((0.020 - 2 * (1e-3 + 8.24e-6)) / 8.5e-6, abs=1)
        assert told.bytes == 1000 * told.frames
        assert told.simulated == 0.02

    def test_a_transfer_fills_the_link_after_slow_start(self, ns3: Path) -> None:
        """1448 bytes of data in 1502 with headers: 83,222 a second at most; five round trips of 4 ms go by before."""
        short, longer = (simulate([ns3, "bulk", seconds]) for seconds in ("0.1", "0.2"))
        assert longer.frames - short.frames == pytest.approx(8322, rel=0.05)

    def test_every_host_has_its_pings_answered(self, ns3: Path) -> None:
        """Each of 100 hosts pings at 0 ms (plus up to 9.9), and 10 ms later: two requests and replies each in 30 ms."""
        told = simulate([ns3, "pings", "0.0199"])
        assert told.frames == pytest.approx(2 * 200, abs=4)


class TestNsPy:
    def test_a_flood_takes_two_links(self) -> None:
        told = simulate([*nspy(), "flood", SECONDS])
        assert told.frames == pytest.approx((0.020 - 2 * (1e-3 + 8.336e-6)) / 8.5e-6, abs=2)

    def test_a_transfer_fills_the_link_after_slow_start(self) -> None:
        short, longer = (simulate([*nspy(), "bulk", seconds]) for seconds in ("0.05", "0.1"))
        assert longer.frames - short.frames == pytest.approx(0.05 * 1e9 / (8 * 1448), rel=0.05)


def test_rates_are_those_of_the_run_alone() -> None:
    told = Simulated(simulated=2.0, real=4.0, frames=2_000_000, bytes=3_000_000_000)
    assert (told.speed, told.mpps, told.gbits) == (0.5, 0.5, 6.0)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_run_that_tells_nothing_is_refused() -> None:
    with pytest.raises(BenchError, match="did not tell of its run"):
        simulate(python("print('hello')"))
    with pytest.raises(BenchError, match="did not tell of its run"):
        simulate(python("pass"))


def test_a_run_in_which_nothing_came_through_is_refused() -> None:
    line = '{"simulated": 1, "real": 1, "frames": 0, "bytes": 0}'
    with pytest.raises(BenchError, match="nothing came through"):
        simulate(python(f"print('{line}')"))
