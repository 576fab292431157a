"""A scenario as it runs: its lab, its traffic, its captures, and what was measured.

Theory of operation
-------------------
The lab is built before anything is written, so that what cannot be is said while nothing has happened. Then each piece
of traffic is a task that sleeps until its start; the run is over when all of them are done, or when the scenario's
duration is. Places that expectations look at are captured, into the scenario's own file if it has one there, else into
one that is thrown away. An interrupt, or an error, ends the run where it is, and what was measured so far is told.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path as FilePath

from netemu.capture.formats import LINKTYPE_ETHERNET, LINKTYPE_USER0
from netemu.capture.packets import read_packets
from netemu.errors import ConfigError, NetemuError
from netemu.expect import Measured, Quantity, Sighting, judge
from netemu.expect.metrics import METRICS
from netemu.expect.words import did_you_mean
from netemu.lab import Lab
from netemu.lab.expectations import CapturedFrames
from netemu.lab.measure import lab_counters
from netemu.scenario.build import build_lab
from netemu.scenario.flow import Flow, sleep_until
from netemu.scenario.flows import flow_of
from netemu.scenario.mistakes import Mistakes
from netemu.scenario.outcome import CaptureOutcome, Outcome, TrafficOutcome
from netemu.scenario.services import ScenarioServices
from netemu.scenario.traffic_kinds import Targeted, Traffic
from netemu.scenario.whole import Scenario

Progress = Callable[[int, int | None], None]
"""Called now and then with the emulated time and when the run ends at the latest (ns)."""


def frames_in(path: str) -> int:
    """Frames of a capture file, or of one of a ring."""
    return sum(1 for _ in read_packets(path, frozenset({LINKTYPE_ETHERNET, LINKTYPE_USER0})))


class ScenarioRun:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, folder: FilePath | None) -> None:
        """Build the lab; captures will go to ``folder`` (None: nowhere).

        Raises `netemu.scenario.mistakes.ScenarioError` for what only shows now.
        """
        self.scenario = scenario
        self._folder = folder
        self.lab = self._built()
        self._services = ScenarioServices(scenario, self.lab)
        self._flows: dict[str, Flow] = {}
        self._errors: dict[str, str] = {}
        try:
            self._check_counters()
        except BaseException:
            self.lab.close()
            raise

    def _built(self) -> Lab:
        mistakes = Mistakes(self.scenario.path, self.scenario.lines)
        try:
            return build_lab(self.scenario)
        except ConfigError as error:
            mistakes.add((), str(error))
        mistakes.raise_any()
        raise AssertionError("unreachable")

    def _check_counters(self) -> None:
        """Every counter that is expected to be something exists."""
        measured = Measured(lab_counters(self.lab.nodes, self.lab.links))
        mistakes = Mistakes(self.scenario.path, self.scenario.lines)
        for one in self.scenario.expected:
            wanted = one.expectation
            if not isinstance(wanted, Quantity) or measured.scopes(wanted.scope, wanted.metric):
                continue
            if wanted.metric in METRICS and self._is_of_traffic(wanted):
                continue
            scopes = [scope for scope in measured.values if wanted.scope in {None, scope, scope.partition(".")[2]}]
            known = {name: None for scope in scopes for name in measured.values[scope]}
            where = wanted.scope or "nothing in this lab"
            near = did_you_mean(wanted.metric, [*known, *METRICS])
            none = "has no" if wanted.scope else "has a"
            mistakes.add(one.where, f"{where} {none} counter {wanted.metric!r}{near}")
        mistakes.raise_any()

    def _is_of_traffic(self, wanted: Quantity) -> bool:
        names = {name for _, name, _ in self.scenario.traffic}
        return wanted.scope is None or wanted.scope.removeprefix("traffic.") in names

    def execute(self, progress: Progress | None = None) -> Outcome:
        """Run to the end and judge. Raises `NetemuError` only if a capture cannot be written."""
        of = self.scenario.lab
        outcome = Outcome(self.scenario.path, of.title, of.story, of.seed)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="netemu-") as scratch:
            places = self._capture(FilePath(scratch), outcome)
            if progress is not None:
                self.lab.world.on_pause = lambda: progress(self.lab.now, of.duration)
            try:
                self.lab.run(self._main())
            except KeyboardInterrupt:
                outcome.interrupted = True
            except NetemuError as error:
                outcome.error = str(error)
            outcome.emulated_ns = self.lab.now
            self._measure(outcome)
            self.lab.close()
            self._judge(outcome, places)
        outcome.real_seconds = time.monotonic() - started
        return outcome

    # Captures.

    def _capture(self, scratch: FilePath, outcome: Outcome) -> dict[str, FilePath]:
        """Begin all captures; the file of each place that an expectation looks at, by its full name."""
        places: dict[str, FilePath] = {}
        for _, one in self.scenario.captures:
            if self._folder is None:
                continue
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / one.file
            scope, thing = self.lab.place(one.at)
            self.lab.capture(thing, path, ring=one.ring, raw=one.raw)
            if not one.ring:
                places[scope] = path
            outcome.captures.append(CaptureOutcome(str(path), scope, 0))
        for expected in self.scenario.expected:
            wanted = expected.expectation
            if isinstance(wanted, Sighting):
                scope, thing = self.lab.place(wanted.place)
                if scope not in places:
                    places[scope] = scratch / f"{len(places)}.pcapng"
                    self.lab.capture(thing, places[scope])
        return places

    # Traffic.

    async def _main(self) -> None:
        await self._services.start()
        nodes = self.lab.nodes
        for _, name, traffic in self.scenario.traffic:
            self._flows[name] = flow_of(self.scenario, traffic, nodes)
        tasks = [asyncio.create_task(self._play(name, traffic)) for _, name, traffic in self.scenario.traffic]
        try:
            await self._until_over(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_over(self, tasks: list[asyncio.Task[None]]) -> None:
        end = self.scenario.lab.duration
        if tasks and end is None:
            await asyncio.gather(*tasks)
        elif tasks:
            await asyncio.wait(tasks, timeout=(end or 0) / 1e9)
        if end is not None:
            await sleep_until(end)
        for task in tasks:
            if task.done():
                task.result()

    async def _play(self, name: str, traffic: Traffic) -> None:
        await sleep_until(traffic.start)
        try:
            if traffic.stop is None or traffic.kind in {"ping", "udp"}:  # these stop by themselves
                await self._flows[name].run()
            else:
                async with asyncio.timeout((traffic.stop - self.lab.now) / 1e9):
                    await self._flows[name].run()
        except TimeoutError:
            pass
        except OSError as error:
            self._errors[name] = error.strerror or str(error)

    # What came of it.

    def _measure(self, outcome: Outcome) -> None:
        values = outcome.measured.values
        for _, name, traffic in self.scenario.traffic:
            flow = self._flows.get(name)
            target = traffic.target if isinstance(traffic, Targeted) else None
            metrics = {} if flow is None else flow.metrics()
            error = self._errors.get(name)
            outcome.traffic[name] = TrafficOutcome(traffic.kind, traffic.source, target, metrics, error)
            values[f"traffic.{name}"] = metrics
        values |= lab_counters(self.lab.nodes, self.lab.links)

    def _judge(self, outcome: Outcome, places: dict[str, FilePath]) -> None:
        outcome.measured.frames = {scope: CapturedFrames(path) for scope, path in places.items()}
        outcome.verdicts = [(judge(one.expectation, outcome.measured), one.why) for one in self.scenario.expected]
        for capture in outcome.captures:
            capture.frames = frames_in(capture.file)
