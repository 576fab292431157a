"""What the commands that turn captures into captures have in common: file checks, interrupts, progress, reports."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netemu.cli import harmless, is_terminal
from netemu.errors import ConfigError, NetemuError

if TYPE_CHECKING:
    from types import FrameType

    from netemu.capture import CaptureReader
    from netemu.job import Job

_PROGRESS_AFTER = 1.0
_PROGRESS_EVERY = 0.2
_PROGRESS_NAME = 40
_WIDTH = 78
_COUNTED = {
    "segmented": "large packets were segmented",
    "segments": "segments were made of them",
    "fragmented": "datagrams were fragmented",
    "fragments": "fragments were made of them",
    "completed": "checksums were finished",
    "handed_on": "frames went on with something left to the guest",
    "over_mtu": "frames over the MTU went on as they came",
    "merged": "frames were merged",
    "large": "large frames were made of them",
}
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def check_files(inputs: Sequence[str], output: str | None, loop: int = 1, *, besides: str | None = None) -> None:
    """Refuse what can be seen to be wrong before anything is loaded and a file is made: OUT, and one ``besides``."""
    from netemu.capture import open_capture, same_file  # noqa: PLC0415 - loads NumPy

    if "-" in inputs and (loop > 1 or inputs.count("-") > 1):
        raise ConfigError("standard input can be played only once: name a file to use --loop")
    if "-" in inputs and is_terminal(sys.stdin):
        raise ConfigError("standard input is a terminal, and no capture comes from there: name a file, or use a pipe")
    if "-" in (output, besides) and is_terminal(sys.stdout):
        raise ConfigError("standard output is a terminal, which cannot show a capture: name a file, or use a pipe")
    if output is not None and (output == besides or (besides is not None and same_file(besides, output))):
        raise ConfigError(f"{output}: cannot be two outputs at once; give each a name of its own")
    for path in inputs:
        for written in (output, besides):
            if written is not None and same_file(path, written):
                raise ConfigError(f"{written}: is an input too; writing it would destroy it")
    if inputs[0] != "-" and not Path(inputs[0]).is_fifo():
        open_capture(inputs[0]).close()  # so that a mistyped name costs no file that OUT would replace


def announce_compilation(what: str, seconds: int, longest: Callable[..., Any]) -> None:
    """Say what a first run waits for, where somebody is watching: above all for the entry point ``longest``."""
    from netemu.jit import is_kept  # noqa: PLC0415

    if is_terminal(sys.stderr) and not is_kept(longest):
        click.echo(f"netemu: compiling {what} for this machine, once (about {seconds} s) ...", err=True)


def play(
    job: Job,
    inputs: Sequence[str],
    output: str | None,
    figures: Callable[[], dict[str, Any]],
    in_words: Callable[[dict[str, Any]], str],
    *,
    as_json: bool,
) -> None:
    """Run a job to its end and print its figures; raises its error, or the exit status of an interrupt."""
    fault: NetemuError | None = None
    with _stops_whole(job) as signals, _progress() as report:
        try:
            job.play(inputs, report)
        except NetemuError as error:
            fault = error
    counted = figures()
    click.echo(json.dumps(counted, indent=2) if as_json else in_words(counted), err=output == "-")
    if fault is not None:
        raise fault
    if job.interrupted:
        raise click.exceptions.Exit(128 + signals[0])


@contextmanager
def _stops_whole(job: Job) -> Iterator[list[int]]:
    """Let Ctrl-C or SIGTERM end the job between two batches, so that the capture is whole up to there.

    A second signal ends the process on the spot. The value is the list of signals that came.
    """
    came: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if came:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        came.append(number)
        job.stop()
        if job.reading:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _INTERRUPTS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress() -> Iterator[Callable[[CaptureReader], None] | None]:
    """A line on the terminal, for work of more than a second; the value is what to call after each batch."""
    if not is_terminal(sys.stderr):
        yield None
        return
    started = shown = time.monotonic()
    drawn = False

    def report(reader: CaptureReader) -> None:
        nonlocal shown, drawn
        now = time.monotonic()
        if now - started < _PROGRESS_AFTER or now - shown < _PROGRESS_EVERY:
            return
        shown, drawn = now, True
        done, size = reader.progress()
        part = f"{100 * done // size:3d} %" if size else f"{done >> 20} MiB"
        name = harmless(reader.path)[-_PROGRESS_NAME:]
        click.echo(f"\r{name}: {part}, {now - started:.0f} s\x1b[K", err=True, nl=False)

    try:
        yield report
    finally:
        if drawn:
            click.echo("\r\x1b[K", err=True, nl=False)


def wrapped(line: str, indent: int) -> list[str]:
    """The line in pieces of the report's width, the later ones indented."""
    return textwrap.wrap(line, _WIDTH, subsequent_indent=" " * indent)


def columns(counters: dict[str, int]) -> list[str]:
    """Name and value, two to a line."""
    width = _WIDTH // 2 - 1
    cells = [f"{name} {value:>{width - len(name) - 1}}" for name, value in counters.items()]
    return ["  ".join(cells[at : at + 2]) for at in range(0, len(cells), 2)]


def totals_in_words(figures: dict[str, Any]) -> list[str]:
    """Frames and bytes in and out, and the time: the head of a report."""
    lines = [
        f"frames in    {figures['frames_in']:>13,}   {figures['bytes_in']:>17,} bytes",
        f"frames out   {figures['frames_out']:>13,}   {figures['bytes_out']:>17,} bytes",
        f"time         {figures['seconds']:>13.3f} s {figures['frames_per_second']:>17,} frames/s",
    ]
    if figures["interrupted"]:
        lines.append("interrupted: the figures and the capture end where it stopped")
    return lines


def stage_in_words(figures: dict[str, Any]) -> list[str]:
    """What a stage of the offloads counted, a line each; counters that did not move are left out."""
    lines = [f"  {value:>11,}  {_COUNTED[key]}" for key, value in figures.items() if key in _COUNTED and value]
    for key, count in figures["unchanged"].items():
        lines += wrapped(f"  {count:>11,}  {_why(key)}", indent=15)
    return lines or ["  nothing was left to do"]


def _why(key: str) -> str:
    """Why frames went on as they came, in words."""
    from netemu.offload.reasons import Why  # noqa: PLC0415

    why = Why[key.upper()]
    return f"{'refused' if why.refused else 'as they came'}: {why.words}"
