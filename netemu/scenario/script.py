"""A script with a lab of its own making: ``async def main(lab)``, run in emulated time."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import linecache
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path as FilePath
from types import ModuleType, TracebackType
from typing import Any

from netemu.errors import ConfigError, NetemuError
from netemu.lab import Lab
from netemu.scenario.mistakes import Mistake, ScenarioError
from netemu.scenario.outcome import CaptureOutcome, Outcome
from netemu.scenario.run import Progress, frames_in

EXAMPLE = "async def main(lab: Lab) -> None"


class Script:
    """One run of a script."""

    def __init__(self, path: str, seed: int | None, duration: int | None, folder: FilePath | None) -> None:
        """Load it. ``seed`` is the lab's, ``duration`` (ns) when the run ends at the latest.

        Captures that the script takes go to ``folder``; None: they are not written. Raises `ScenarioError` or
        `ConfigError` for a script that cannot be loaded, or has no main.
        """
        self._path, self._duration = path, duration
        self._module = self._loaded()
        self._main = self._main_of(self._module)
        wanted = getattr(self._module, "SEED", 1) if seed is None else seed
        self.lab = Lab(seed=wanted)
        self._folder = folder

    def _loaded(self) -> ModuleType:
        path = FilePath(self._path)
        if not path.is_file():
            raise ConfigError(f"{self._path}: no such file")
        spec = importlib.util.spec_from_file_location("__netemu_script__", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        sys.path.insert(0, str(path.resolve().parent))
        try:
            spec.loader.exec_module(module)
        except SyntaxError as error:
            raise ScenarioError(self._path, [Mistake(error.lineno or 0, f"not Python: {error.msg}")]) from None
        except Exception as error:  # noqa: BLE001 - a script may raise anything
            line, words = place_in(self._path, error)
            raise ScenarioError(self._path, [Mistake(line, words)]) from None
        return module

    def _main_of(self, module: ModuleType) -> Callable[[Lab], Any]:
        main = getattr(module, "main", None)
        if main is None:
            raise ConfigError(f"{self._path}: has no main; expected {EXAMPLE}")
        if not inspect.iscoroutinefunction(main):
            raise ConfigError(f"{self._path}: main is no coroutine function; expected {EXAMPLE}")
        if len(inspect.signature(main).parameters) != 1:
            raise ConfigError(f"{self._path}: main takes one argument, the lab; expected {EXAMPLE}")
        return main  # type: ignore[no-any-return]

    def execute(self, progress: Progress | None = None) -> Outcome:
        """Run it to its end and judge what it expected."""
        title, story = told_by(self._module.__doc__ or "")
        outcome = Outcome(self._path, title=title, story=story, seed=self.lab.seed)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="netemu-") as scratch:
            self.lab.folder = self._folder or FilePath(scratch)
            self.lab.folder.mkdir(parents=True, exist_ok=True)
            self._run(outcome, progress)
        outcome.real_seconds = time.monotonic() - started
        return outcome

    def _run(self, outcome: Outcome, progress: Progress | None) -> None:
        if progress is not None:
            self.lab.world.on_pause = lambda: progress(self.lab.now, self._duration)
        try:
            self.lab.run(self._whole())
        except KeyboardInterrupt:
            outcome.interrupted = True
        except Exception as error:  # noqa: BLE001 - a script may raise anything
            line, words = place_in(self._path, error)
            outcome.error = f"{self._path}:{line}: {words}" if line else words
            outcome.traceback = "".join(traceback.format_exception(error))
        outcome.emulated_ns = self.lab.now
        outcome.measured.values = self.lab.counters()
        files = [(str(one.path), one.place) for one in self.lab.captures]
        self.lab.close()
        outcome.verdicts = [(verdict, "") for verdict in self.lab.verdicts]
        if self._folder is not None:
            outcome.captures = [CaptureOutcome(path, place, frames_in(path)) for path, place in files]

    async def _whole(self) -> None:
        task = asyncio.ensure_future(self._main(self.lab))
        await asyncio.wait([task], timeout=None if self._duration is None else self._duration / 1e9)
        if task.done():
            task.result()
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told_by(docstring: str) -> tuple[str, str]:
    """A script's title, the first line of its docstring, and its story: what follows, but for what is indented."""
    title, _, rest = inspect.cleandoc(docstring).partition("\n")
    paragraphs = [part for part in rest.strip("\n").split("\n\n") if not part.startswith(" ")]
    return title, "\n\n".join(paragraphs).strip()


def place_in(path: str, error: BaseException) -> tuple[int, str]:
    """The line of a script in which an error came up (0: in none), and the error in words."""
    line = 0
    for frame, number in _frames(error.__traceback__):
        if frame in {path, str(FilePath(path).resolve())}:
            line = number
    text = str(error)
    if isinstance(error, AssertionError):
        return line, f"does not hold: {text or linecache.getline(path, line).strip().removeprefix('assert ')}"
    if isinstance(error, NetemuError | OSError):
        return line, text
    return line, f"{type(error).__name__}: {text}" if text else type(error).__name__


def _frames(trace: TracebackType | None) -> list[tuple[str, int]]:
    """File and line of each frame, outermost first."""
    found = []
    while trace is not None:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found
