"""One run of the benchmark: its folder, its sizes, the captures it has made, and how it starts netemu."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import AbsentError, BenchError
from bench.inputs import Capture, pcap_bytes, write_pcap
from bench.measure import Run, run

FULL_FRAMES = 10_000_000
"""The number of 64-byte frames that the wanted values are meant for."""


@dataclass(frozen=True)
class Replay:
    """A replay that was complete: the whole process, and the ``seconds`` of the replay alone as netemu tells them."""

    whole: Run
    seconds: float
    frames: int

    @property
    def mpps(self) -> float:
        """Million frames a second, of the replay alone."""
        return self.frames / self.seconds / 1e6


@dataclass
class Session:
    """What rows need to know and to share.

    ``frames`` is the number of 64-byte frames in the largest comparison (other sizes follow from it), ``turns`` how
    often each contender runs, ``window`` the seconds for which an endless rival is watched.
    """

    folder: Path
    netemu: Sequence[str]
    frames: int = FULL_FRAMES
    turns: int = 5
    window: float = 2.0
    _captures: dict[tuple[int, int], Capture] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether the sizes are those that the wanted values are meant for."""
        return self.frames >= FULL_FRAMES

    def capture(self, frames: int, frame_bytes: int) -> Capture:
        """Return a capture of so many frames of this size, and make it first if need be."""
        key = (frames, frame_bytes)
        if key not in self._captures:
            size = pcap_bytes(frames, frame_bytes)
            self.need_space(3 * size)  # the capture, and an output that may be larger than it
            self._captures[key] = write_pcap(self.folder / f"{frames}x{frame_bytes}.pcap", frames, frame_bytes)
        return self._captures[key]

    def need_space(self, size: int) -> None:
        """Raise BenchError unless ``size`` bytes are free in the folder."""
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise BenchError(
                f"{size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free: choose a folder with --dir, or less "
                "work with --frames"
            )

    def output(self, suffix: str = ".pcap") -> Path:
        """Return the path for an output, where no file is: the one of the turn before is removed."""
        path = self.folder / f"output{suffix}"
        path.unlink(missing_ok=True)
        return path

    def replay(
        self,
        capture: Capture,
        *options: str,
        suffix: str = ".pcap",
        before: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Replay:
        """Replay a capture into a file with ``suffix`` and see that no frame was lost on the way.

        ``before`` stands before the command, ``taskset`` for one. Raises BenchError where netemu fails or where the
        output is not whole.
        """
        output = self.output(suffix)
        command = [*before, *self.netemu, "replay", str(capture.path), "-o", str(output), *options, "--json"]
        whole = run(command, env=env)
        try:
            report = json.loads(whole.output)
            frames_in, frames_out, seconds = report["frames_in"], report["frames_out"], float(report["seconds"])
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"netemu replay --json did not give the expected report: {error!r}") from error
        if not frames_in == frames_out == capture.frames:
            raise BenchError(f"of {capture.frames} frames netemu read {frames_in} and wrote {frames_out}")
        check_size(output, capture.file_bytes, exactly=suffix == ".pcap")
        return Replay(whole, seconds, capture.frames)


def check_size(output: Path, expected: int, *, exactly: bool = True) -> None:
    """Raise BenchError unless a file has ``expected`` bytes (at least so many, if not ``exactly``)."""
    size = output.stat().st_size if output.exists() else 0
    if size < expected or (exactly and size > expected):
        raise BenchError(f"the output has {size} bytes where {expected} were expected")


def cores(count: int) -> list[int]:
    """Return ``count`` processors that this process may use, and raise AbsentError where there are fewer."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < count:
        raise AbsentError(f"needs {count} processors, may use {len(usable)}")
    return usable[:count]
