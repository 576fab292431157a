"""What a program expects of its lab: judged at once where a flow is given, else when the program is over."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from netemu.capture import read_capture
from netemu.errors import ConfigError
from netemu.expect import Expectation, Measured, Sighting, Verdict, judge, parse_expectation
from netemu.expect.measured import Value
from netemu.expect.metrics import METRICS
from netemu.expect.words import did_you_mean
from netemu.lab.metrics import metrics_of


class CapturedFrames:
    """The frames of a capture file, read anew each time."""

    def __init__(self, path: Path) -> None:
        """Those of a file."""
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        """One after the other."""
        for frame in read_capture(str(self._path)):
            yield frame.data


class Expectations:
    """The expectations of one lab, in the order in which they were uttered."""

    def __init__(
        self,
        capture: Callable[[str, Path], tuple[str, Path]],
        counters: Callable[[], dict[str, dict[str, Value]]],
    ) -> None:
        """``counters`` are the lab's, by scope.

        ``capture`` has the frames at a place captured, into the file it gets or one that is there already; it gives
        the place's full name and the file.
        """
        self._capture, self._counters = capture, counters
        self._uttered: list[Expectation | Verdict] = []
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._places: dict[str, tuple[str, Path]] = {}

    def expect(self, text: str, of: Any = None) -> Verdict | None:
        """Expect something: ``of`` what a ping or a flow gave back, and it is judged now; else of the lab, in the end.

        Frames that must or must not be seen are looked for from now on. Raises `ConfigError` for what is no
        expectation, or is about what is not there.
        """
        wanted = parse_expectation(text)
        if of is not None:
            if isinstance(wanted, Sighting):
                raise ConfigError(f"'{text}' is about frames, which are seen at a guest or a link, not in a flow")
            metrics = metrics_of(of)
            if wanted.metric not in metrics:
                raise ConfigError(f"there is no {wanted.metric!r} of that{did_you_mean(wanted.metric, metrics)}")
            scope = wanted.scope or "this"
            verdict = judge(wanted, Measured({f"traffic.{scope}": metrics}))
            self._uttered.append(verdict)
            return verdict
        if isinstance(wanted, Sighting):
            self._look_at(wanted.place)
        elif not (measured := Measured(self._counters())).scopes(wanted.scope, wanted.metric):
            if wanted.scope is None and wanted.metric in METRICS:
                raise ConfigError(
                    f"{wanted.metric} is measured of traffic, and needs of=...: what a ping or a flow gave"
                )
            known = {name: None for scope in measured.values.values() for name in scope}
            where = f"{wanted.scope} has no" if wanted.scope else "nothing in the lab has a"
            raise ConfigError(f"{where} counter {wanted.metric!r}{did_you_mean(wanted.metric, known)}")
        self._uttered.append(wanted)
        return None

    def _look_at(self, place: str) -> None:
        if place not in self._places:
            self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="netemu-")
            path = Path(self._scratch.name) / f"{len(self._places)}.pcapng"
            self._places[place] = self._capture(place, path)

    def judge(self) -> list[Verdict]:
        """All verdicts; the lab's captures have to be finished."""
        frames: dict[str, Any] = {scope: CapturedFrames(path) for scope, path in self._places.values()}
        measured = Measured(self._counters(), frames)
        return [one if isinstance(one, Verdict) else judge(one, measured) for one in self._uttered]

    def close(self) -> None:
        """Let go of what was captured for expectations alone."""
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
