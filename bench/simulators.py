"""The simulators that a lab is compared with: how their programs are made and run, and what they tell.

Each program does one of three works for a number of simulated seconds and prints a line of JSON with what came through
and the real seconds that its run alone took: ``bulk``, ``flood`` and ``pings`` (ns-3 only), as the page
docs/performance.md describes them.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import AbsentError, BenchError
from bench.measure import run

HERE = Path(__file__).resolve().parent
NS3_PARTS = ("applications", "bridge", "csma", "internet-apps", "point-to-point", "traffic-control")


@dataclass(frozen=True)
class Simulated:
    """A run: ``simulated`` seconds in ``real`` ones, and the ``frames`` with data, ``bytes`` of it, that arrived."""

    simulated: float
    real: float
    frames: int
    bytes: int

    @property
    def speed(self) -> float:
        """Simulated seconds in a real one."""
        return self.simulated / self.real

    @property
    def mpps(self) -> float:
        """Million frames with data that arrived in a real second."""
        return self.frames / self.real / 1e6

    @property
    def gbits(self) -> float:
        """Gigabits of data that arrived in a real second."""
        return self.bytes * 8 / self.real / 1e9


def simulate(command: Sequence[str | Path], *, cwd: Path | None = None) -> Simulated:
    """Run a program that tells of its run as described above; BenchError where it fails or nothing came through."""
    output = run(command, cwd=cwd).output
    try:
        told = Simulated(**json.loads(output.splitlines()[-1]))
    except (ValueError, TypeError, IndexError) as error:
        raise BenchError(f"{command[0]} did not tell of its run: {error!r}") from error
    if told.frames <= 0 or told.real <= 0:
        raise BenchError(f"{command[0]}: nothing came through")
    return told


def ns3_program(folder: Path) -> Path:
    """Compile the program for ns-3 into ``folder``, once; AbsentError where its libraries are not installed."""
    program = folder / "ns3_hosts"
    if program.exists():
        return program
    try:
        told = run(["pkg-config", "--cflags", "--libs", *(f"ns3-{part}" for part in NS3_PARTS)]).output
    except BenchError as error:
        raise AbsentError("not installed: ns-3 with its headers (libns3-dev)") from error
    # Debian 12 names libraries by paths that it does not depend on (GSL); what ns-3 itself needs of them is linked.
    flags = [flag for flag in told.split() if not flag.startswith("/") or Path(flag).exists()]
    run(["g++", "-std=c++17", "-O2", HERE / "ns3_hosts.cc", "-o", program, *flags])
    return program


def nspy_command() -> list[str]:
    """The beginning of a command that simulates with ns.py; AbsentError where it is not installed."""
    if importlib.util.find_spec("ns") is None or importlib.util.find_spec("simpy") is None:
        raise AbsentError("not installed: ns.py (pip install 'virtio-netemu[bench]')")
    return [sys.executable, str(HERE / "nspy_hosts.py")]
