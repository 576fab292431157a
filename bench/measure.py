"""How a figure comes about: one child process measured, contenders taken in turn, medians and ratios.

Two programs are never compared by two separate series. They run A B A B ..., each pair gives a ratio, and the median of
these ratios counts: a machine that is slow for a while is slow for both halves of a pair.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.errors import BenchError

LONGEST_RUN = 900.0
"""Seconds after which a program is killed."""


@dataclass(frozen=True)
class Run:
    """What a program took: wall-clock ``seconds`` from before its start to its end, and its peak of resident memory."""

    seconds: float
    peak_bytes: int
    output: str


@dataclass(frozen=True)
class Spread:
    """The median of some figures, and the lowest and the highest of them."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the lowest and the highest of ``values``."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of ours / theirs, where the figures at the same place were taken in the same turn."""
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


def in_turn(turns: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure the contenders one after the other, ``turns`` times, after one turn to warm up that does not count."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, measure in contenders.items():
            figure = measure()
            if turn > 0:
                figures[name].append(figure)
    return figures


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: Path | None = None,
    longest: float = LONGEST_RUN,
) -> Run:
    """Run a program to its end and measure it; its standard output goes to the file ``stdout``, or is returned.

    ``env`` is added to the environment. Raises BenchError, with the program's last words, where it fails or is not
    there, and where it takes more than ``longest`` seconds. The program is killed if this process is interrupted.

    The kernel starts the peak of a child at that of the process it was forked from. So this process must stay small:
    a child whose peak is not above our own has not been measured, and `own_peak_bytes` lets a row check that.
    """
    with _output(stdout) as out, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchError(f"{command[0]} cannot be started: {error.strerror}") from error
        watchdog = threading.Timer(longest, kill, [process])
        watchdog.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        except BaseException:
            kill(process)
            process.wait()
            raise
        finally:
            watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            late = f" after the {longest:g} s it may take" if seconds >= longest else ""
            raise BenchError(f"{command[0]} ended with status {process.returncode}{late}: {_last_line(errors)}")
        return Run(seconds, usage.ru_maxrss * 1024, "" if stdout else _text(out))


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and whatever it started, if it still runs; it must lead its own session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def own_peak_bytes() -> int:
    """Return the peak of resident memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def _output(stdout: Path | None) -> Iterator[IO[bytes]]:
    with stdout.open("wb") if stdout else tempfile.TemporaryFile() as file:
        yield file


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _last_line(file: IO[bytes]) -> str:
    lines = _text(file).strip().splitlines()
    return lines[-1] if lines else "it said nothing"
