"""``netemu run``: a scenario, or a script that has a lab: what comes of it, and whether what was expected held."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netemu.cli import harmless, is_terminal
from netemu.cli.jobs import announce_compilation
from netemu.cli.run_report import report
from netemu.errors import ConfigError

if TYPE_CHECKING:
    from netemu.scenario.outcome import Outcome

FAILED = 1
"""Exit status: something that was expected did not hold, or the lab or the script stopped with an error."""
WRONG = 2
"""Exit status: there is nothing to run, as the scenario has mistakes."""
_PROGRESS_AFTER = 1.0
_PROGRESS_EVERY = 0.2
_WIDTH = 80
_COMPILING = 30
"""Seconds that the first lab takes on two processors which nobody else wants."""


@click.command(
    epilog="\b\nExamples:\n"
    "  netemu run examples/lossy-download.toml\n"
    "  netemu run examples/lossy-download.toml --set 'link.wan.loss=5%' --seed 7\n"
    "  netemu run examples/handshake.py --out captures --json"
)
@click.argument("file", metavar="SCENARIO.toml|SCRIPT.py")
@click.option("--seed", metavar="N", type=click.IntRange(0, (1 << 32) - 1), help="Of all chances; else the file's.")
@click.option("--duration", metavar="TIME", help='End after so much emulated time, as in "30s".')
@click.option(
    "--set",
    "changes",
    metavar="KEY=VALUE",
    multiple=True,
    help="Another value for a key of the scenario, as in guest.a.queue_size=64; repeatable.",
)
@click.option("--out", metavar="DIR", help="Where captures are written; else the current folder.")
@click.option("--no-capture", is_flag=True, help="Write no captures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--traceback", is_flag=True, help="Show where in Python a script's error comes from.")
def run(
    file: str,
    seed: int | None,
    duration: str | None,
    changes: tuple[str, ...],
    out: str | None,
    no_capture: bool,
    as_json: bool,
    traceback: bool,
) -> None:
    """Run a scenario, and say whether what it expects held.

    A scenario (TOML) names guests, links, traffic and expectations; a script (Python) has a function `async def
    main(lab)`. Time is emulated: the run takes as long as there is something to compute, and the same seed gives the
    same captures, byte for byte. Exit status: 0 all held, 1 something did not, 2 the file has mistakes.
    """
    from netemu.scenario.mistakes import ScenarioError  # noqa: PLC0415 - loads what a run needs

    is_script = file.endswith(".py")
    if is_script and changes:
        raise click.UsageError("--set changes keys of a scenario, and a script has none")
    if not is_script and not file.endswith(".toml"):
        raise click.UsageError(f"{file!r} is neither a scenario (.toml) nor a script (.py)")
    folder = None if no_capture else Path(out or ".")
    try:
        execute = (
            _script(file, seed, duration, folder) if is_script else _scenario(file, seed, duration, changes, folder)
        )
    except ScenarioError as error:
        _tell(error.lines())
        raise click.exceptions.Exit(WRONG) from None
    except ConfigError as error:
        _tell([str(error)])
        raise click.exceptions.Exit(WRONG) from None
    # What a script prints is for people, and stays out of what programs read.
    aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    with _progress() as shown, _interrupts() as signals, aside:
        outcome = execute(shown)
    if as_json:
        click.echo(json.dumps(outcome.to_dict(), indent=2))
    else:
        click.echo(report(outcome))
    if traceback and outcome.traceback:
        click.echo(outcome.traceback, err=True)
    if signals:
        raise click.exceptions.Exit(128 + signals[0])
    if not outcome.held:
        raise click.exceptions.Exit(FAILED)


Execute = Callable[[Callable[[int, int | None], None] | None], "Outcome"]
"""What is left to be done: run, and call back with the emulated time and its end (ns) now and then."""


def _scenario(
    file: str, seed: int | None, duration: str | None, changes: tuple[str, ...], folder: Path | None
) -> Execute:
    from netemu.scenario.read import read_scenario  # noqa: PLC0415
    from netemu.scenario.run import ScenarioRun  # noqa: PLC0415

    values = dict(_change(text) for text in changes)
    if seed is not None:
        values["lab.seed"] = seed
    if duration is not None:
        values["lab.duration"] = duration
    scenario = read_scenario(file, values)
    _announce()
    return ScenarioRun(scenario, folder).execute


def _announce() -> None:
    from netemu.stack.tcp.input import tcp_input  # noqa: PLC0415 - loads NumPy

    announce_compilation("the lab", _COMPILING, tcp_input)


def _script(file: str, seed: int | None, duration: str | None, folder: Path | None) -> Execute:
    from netemu.net.units import parse_time  # noqa: PLC0415
    from netemu.scenario.script import Script  # noqa: PLC0415

    _announce()
    return Script(file, seed, None if duration is None else parse_time(duration), folder).execute


def _change(text: str) -> tuple[str, Any]:
    """KEY=VALUE: the value is TOML, or if it is none a text without its quotes."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.UsageError(f"--set takes KEY=VALUE, as in guest.a.queue_size=64, not {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _tell(lines: list[str]) -> None:
    """Mistakes on standard error, a line each, folded where they are longer than the screen is wide."""
    for line in lines:
        for part in textwrap.wrap(
            f"netemu: {harmless(line)}",
            _WIDTH,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        ):
            click.echo(part, err=True)


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """SIGTERM ends a run as Ctrl-C does; the value is the list of signals that came."""
    came: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None] | None]:
    """A line on the terminal, for a run of more than a second: emulated time, its end, and real time."""
    if not is_terminal(sys.stderr):
        yield None
        return
    started = shown = time.monotonic()
    drawn = False

    def tell(now: int, end: int | None) -> None:
        nonlocal shown, drawn
        clock = time.monotonic()
        if clock - started < _PROGRESS_AFTER or clock - shown < _PROGRESS_EVERY:
            return
        shown, drawn = clock, True
        of = f" of {end / 1e9:g}" if end is not None else ""
        passed = clock - started
        click.echo(f"\r{now / 1e9:.3f}{of} s emulated, {passed:.0f} s real\x1b[K", err=True, nl=False)

    try:
        yield tell
    finally:
        if drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
