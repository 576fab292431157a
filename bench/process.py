"""Rows about netemu's own process: how much memory it takes, and how soon it is there."""

from __future__ import annotations

import itertools
from dataclasses import replace

from bench.errors import BenchError
from bench.inputs import Capture
from bench.measure import in_turn, own_peak_bytes, run
from bench.results import Limit, Line
from bench.session import Session

FIRST_TURNS = 2
"""The very first replay compiles for seconds on end; it is not repeated more often than this."""


def memory(session: Session) -> list[Line]:
    """Compare the peak memory of replaying a large file with that of a small one: 1 GB and 80 MB at full size."""
    small, large = session.capture(session.frames // 10, 64), session.capture(session.frames * 5 // 4, 64)

    def peak(capture: Capture) -> float:
        peak_bytes = session.replay(capture).whole.peak_bytes
        if peak_bytes <= own_peak_bytes():
            raise BenchError("netemu's peak memory is below the benchmark's own and cannot be told from it")
        return peak_bytes / 1e6

    peaks = in_turn(session.turns, {"small": lambda: peak(small), "large": lambda: peak(large)})
    alone = Line(
        "memory",
        f"peak, {large.file_bytes / 1e6:.0f} MB file",
        "MB",
        ours=peaks["large"],
        limit=Limit("at most", 350, "MB"),
        judged=session.full,
    )
    rival = f"{small.file_bytes / 1e6:.0f} MB file"
    return [replace(alone, rival=rival, theirs=peaks["small"], limit=Limit("at most", 1.05, "x")), alone]


def start_help(session: Session) -> list[Line]:
    """Time ``netemu --help``."""
    seconds = in_turn(session.turns, {"netemu": lambda: run([*session.netemu, "--help"]).seconds})
    return [Line("start-help", "netemu --help", "s", seconds["netemu"], limit=Limit("at most", 0.3, "s"))]


def start_warm(session: Session) -> list[Line]:
    """Time a replay of ten frames with everything compiled before."""
    capture = session.capture(10, 64)
    seconds = in_turn(session.turns, {"netemu": lambda: session.replay(capture).whole.seconds})
    return [Line("start-warm", "replay of 10 frames", "s", seconds["netemu"], limit=Limit("at most", 1.0, "s"))]


def start_first(session: Session) -> list[Line]:
    """Time the first replay after installation, which compiles: each turn has an empty cache of its own."""
    capture = session.capture(10, 64)
    numbers = itertools.count()

    def first() -> float:
        cache = session.folder / f"cache-{next(numbers)}"
        cache.mkdir()
        seconds = session.replay(capture, env={"NETEMU_CACHE_DIR": str(cache)}).whole.seconds
        if not any(cache.iterdir()):
            raise BenchError("nothing was compiled into NETEMU_CACHE_DIR: this was not a first replay")
        return seconds

    seconds = [first() for _ in range(min(session.turns, FIRST_TURNS))]  # no warm-up: being cold is the point
    return [Line("start-first", "the same, nothing compiled yet", "s", seconds, limit=Limit("at most", 20.0, "s"))]
