"""What the jobs over capture files share: reading batch by batch, live pipes, interrupts, and the time it took."""

from __future__ import annotations

import select
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from netemu.capture import CaptureReader, open_capture
from netemu.capture.frames import FrameBatch
from netemu.errors import NetemuError

_PAUSE = 0.1
"""Seconds."""


class Job(ABC):
    """One walk through captures; a subclass says what becomes of the frames: `_take`, `_catch_up` and `_finish`.

    Memory does not grow with the input: frames are read and written in batches of about a MiB.
    """

    def __init__(self, loop: int = 1) -> None:
        """Prepare a walk that goes through the inputs ``loop`` times."""
        self._loop = loop
        self._played = False
        self.seconds = 0.0
        self.interrupted = False
        self.reading = False
        """It may be waiting for a pipe: `stop` is then not enough, and a KeyboardInterrupt does no harm."""
        self._first_tstamp: int | None = None
        self._last_tstamp: int | None = None

    def play(self, inputs: Sequence[str], progress: Callable[[CaptureReader], None] | None = None) -> None:
        """Play the captures one after the other; ``progress`` is called after each batch.

        Raises `CaptureError` for a fault of an input, after all frames before it were played and written, and for an
        output that cannot be written.
        """
        if self._played:
            raise NetemuError(f"a {type(self).__name__} plays once: build another one")
        self._played = True
        started = time.perf_counter()
        try:
            for _ in range(self._loop):
                for path in inputs:
                    if self._over:
                        return
                    self._play_file(path, progress)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.reading = False
            try:
                self._finish()
            finally:
                self.seconds = time.perf_counter() - started

    def stop(self) -> None:
        """End the job after the batch at hand, as an interrupt does."""
        self.interrupted = True

    @property
    def _over(self) -> bool:
        """Whether no more frames are wanted."""
        return self.interrupted

    def _play_file(self, path: str, progress: Callable[[CaptureReader], None] | None) -> None:
        waits = not Path(path).is_file()
        self.reading = waits
        with open_capture(path) as reader:
            while not self._over:
                if path == "-" and _input_pauses():
                    self.reading = False
                    self._catch_up()
                    self.reading = waits
                batch = reader.read_batch()
                if batch is None:
                    break
                self.reading = False
                self._take(reader, batch)
                if progress is not None:
                    progress(reader)
                self.reading = waits
        self.reading = False

    @abstractmethod
    def _take(self, reader: CaptureReader, batch: FrameBatch) -> None:
        """Do the job with a batch."""

    @abstractmethod
    def _catch_up(self) -> None:
        """Let nothing wait: whoever reads along on a pipe is to see all that came."""

    @abstractmethod
    def _finish(self) -> None:
        """Catch up, and close the output."""

    def _note_times(self, batch: FrameBatch, count: int) -> None:
        """Remember the earliest and latest time of what was played, for the interface's statistics."""
        if count == 0:
            return
        times = batch.column("tstamp")[:count]
        first, last = int(times.min()), int(times.max())
        self._first_tstamp = first if self._first_tstamp is None else min(first, self._first_tstamp)
        self._last_tstamp = last if self._last_tstamp is None else max(last, self._last_tstamp)


def _input_pauses() -> bool:
    """Whether nothing comes from standard input for a moment: whoever reads along should not wait for a full burst."""
    try:
        return not select.select([sys.stdin], [], [], _PAUSE)[0]
    except (OSError, ValueError):  # no file of the operating system is behind it
        return False
