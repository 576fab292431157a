"""The rows about a lab: hosts that talk, against the same hosts in ns-3 and in ns.py; see docs/performance.md.

What counts are frames with data that arrived, bytes of that data, and simulated seconds, each in a second of the run
alone: to build the hosts and to load compiled code is left out for all.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.errors import AbsentError
from bench.measure import in_turn
from bench.results import Limit, Line
from bench.session import FULL_FRAMES, Session
from bench.simulators import Simulated, ns3_program, nspy_command, simulate

REPOSITORY = Path(__file__).resolve().parent.parent
FULL_SECONDS = 2.0
"""Simulated by netemu and ns-3 at full size; ns.py, the slowest, gets a part of it."""
SHORTEST_SECONDS = 0.1
NSPY_PART = 0.25

Measured = dict[str, list[Simulated]]


def lab_bulk(session: Session) -> list[Line]:
    """Move data over TCP through a router at 1 Gbit/s, segments of 1448 bytes or TSO, against ns-3 and ns.py."""
    runs = _runs(session, "bulk", {"TSO off": "bulk", "TSO on": "bulk-tso"}, nspy=True)
    work = "TCP through a router at 1 Gbit/s"
    small, large = f"{work}, TSO off", f"{work}, TSO on"
    lines = _frames("lab-bulk", small, runs, "TSO off", 1.5)
    lines.append(_against("lab-bulk", large, "Gbit/s", _gbits, runs, "TSO on", "ns-3"))
    lines.append(replace(lines[-1], rival="", theirs=(), limit=Limit("at least", 5.0, "Gbit/s")))
    lines += [_speed("lab-bulk", small, runs, "TSO off"), _speed("lab-bulk", large, runs, "TSO on")]
    return [replace(line, judged=session.full) for line in lines]


def lab_flood(session: Session) -> list[Line]:
    """Send UDP datagrams of 1000 bytes through a router at nearly 1 Gbit/s, against ns-3 and ns.py."""
    runs = _runs(session, "flood", {"netemu": "flood"}, nspy=True)
    work = "UDP, 1000 bytes, through a router"
    lines = [*_frames("lab-flood", work, runs, "netemu", 2.0), _speed("lab-flood", work, runs, "netemu")]
    return [replace(line, judged=session.full) for line in lines]


def lab_pings(session: Session) -> list[Line]:
    """Have 100 hosts on a switch ping each other 100 times a second, against ns-3."""
    runs = _runs(session, "pings", {"netemu": "pings"}, nspy=False)
    work = "100 hosts on a switch ping"
    return [
        _against("lab-pings", work, "Mpps", _mpps, runs, "netemu", "ns-3"),
        _speed("lab-pings", work, runs, "netemu"),
    ]


def _runs(session: Session, work: str, ours: dict[str, str], *, nspy: bool) -> Measured:
    """Let netemu do the works ``ours``, and the rivals that are there do ``work``, in turn."""
    seconds = max(SHORTEST_SECONDS, FULL_SECONDS * session.frames / FULL_FRAMES)
    lab = [sys.executable, "-m", "bench.netemu_hosts"]
    commands: dict[str, list[str | Path]] = {name: [*lab, each, str(seconds)] for name, each in ours.items()}
    commands["ns-3"] = [ns3_program(session.folder), work, str(seconds)]
    if nspy:
        with contextlib.suppress(AbsentError):  # the wanted values are about ns-3
            commands["ns.py"] = [*nspy_command(), work, str(max(SHORTEST_SECONDS, seconds * NSPY_PART))]
    runs: Measured = {name: [] for name in commands}

    def contender(name: str) -> Callable[[], float]:
        def once() -> float:
            runs[name].append(simulate(commands[name], cwd=REPOSITORY))
            return runs[name][-1].real

        return once

    in_turn(session.turns, {name: contender(name) for name in commands})
    return {name: each[1:] for name, each in runs.items()}  # the turn to warm up does not count


def _gbits(run: Simulated) -> float:
    return run.gbits


def _mpps(run: Simulated) -> float:
    return run.mpps


def _against(
    row: str, work: str, unit: str, figure: Callable[[Simulated], float], runs: Measured, ours: str, rival: str
) -> Line:
    return Line(row, work, unit, [figure(run) for run in runs[ours]], rival, [figure(run) for run in runs[rival]])


def _frames(row: str, work: str, runs: Measured, ours: str, wanted: float) -> list[Line]:
    """Frames and goodput against ns-3, frames against ns.py."""
    first = _against(row, work, "Mpps", _mpps, runs, ours, "ns-3")
    lines = [replace(first, limit=Limit("at least", wanted, "x"))]
    lines.append(_against(row, work, "Gbit/s", _gbits, runs, ours, "ns-3"))
    if "ns.py" in runs:
        lines.append(_against(row, work, "Mpps", _mpps, runs, ours, "ns.py"))
    return lines


def _speed(row: str, work: str, runs: Measured, ours: str) -> Line:
    return Line(row, f"{work}, simulated seconds", "in 1 s", [run.speed for run in runs[ours]])
