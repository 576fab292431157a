"""``python -m bench``: measure netemu against other programs, print a table and write JSON."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from bench import machine, report
from bench.errors import BenchError
from bench.results import Line, Unmeasured
from bench.rows import ROWS, measure
from bench.session import FULL_FRAMES, Session

QUICK_FRAMES = 200_000
QUICK_WINDOW = 0.5


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="[ROW]...", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="Name the rows and leave.")
@click.option("--quick", is_flag=True, help=f"{QUICK_FRAMES:,} frames, 2 turns: does everything still run?")
@click.option(
    "--frames",
    type=click.IntRange(min=1000),
    help=f"64-byte frames in the largest comparison, other sizes in proportion.  [default: {FULL_FRAMES:,}]",
)
@click.option("--turns", type=click.IntRange(min=1), help="How often each contender runs.  [default: 5]")
@click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder on the disk to measure on; all files are removed afterwards.  [default: for temporary files]",
)
@click.option("--netemu", help="The netemu command to measure.  [default: the one beside this Python, or on the path]")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bench.json"),
    show_default=True,
    help="Where to write all figures.",
)
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Markdown page with the marks for the table: put it there too.",
)
def main(
    *,
    names: tuple[str, ...],
    listing: bool,
    quick: bool,
    frames: int | None,
    turns: int | None,
    directory: Path | None,
    netemu: str | None,
    json_file: Path,
    page: Path | None,
) -> None:
    """Measure netemu against other programs, all rows or the named ROWs.

    Prints a table, and writes the figures of every turn as JSON. Ends with status 1 where a row could not be measured,
    or where a wanted value does not hold.

    Example: python -m bench editcap-64 memory --turns 3
    """
    if listing:
        for row in ROWS:
            click.echo(f"{row.name:14}{row.meaning}")
        return
    unknown = sorted(set(names) - {row.name for row in ROWS})
    if unknown:
        raise click.UsageError(f"no row is named {', '.join(unknown)}; --list names them all")
    chosen = [row for row in ROWS if not names or row.name in names]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end cleans up like Ctrl-C
    with tempfile.TemporaryDirectory(prefix="netemu-bench-", dir=directory) as folder:
        session = Session(Path(folder).resolve(), command(netemu))
        if quick:
            session.frames, session.turns, session.window = QUICK_FRAMES, 2, QUICK_WINDOW
        session.frames, session.turns = frames or session.frames, turns or session.turns
        facts = machine.facts(session.folder)
        lines: list[Line | Unmeasured] = []
        for row in chosen:
            click.echo(f"{row.name} ...", nl=False, err=True)
            start = time.perf_counter()
            lines += measure(row, session)
            click.echo(f" {time.perf_counter() - start:.0f} s", err=True)
    click.echo(report.text(lines, facts, session.turns, full=session.full))
    options = {"frames": session.frames, "turns": session.turns, "window": session.window}
    json_file.write_text(report.as_json(lines, facts, options) + "\n", encoding="utf-8")
    if page:
        try:
            report.fill(page, report.text(lines, facts, session.turns, full=session.full))
        except BenchError as error:
            raise click.ClickException(str(error)) from error
    if any(failed(line) for line in lines):
        sys.exit(1)


def command(given: str | None) -> list[str]:
    """Return the netemu command: the given one, else the script beside this Python, else the one on the path."""
    if given:
        return shlex.split(given)
    beside = Path(sys.executable).with_name("netemu")
    found = str(beside) if beside.exists() else shutil.which("netemu")
    if found is None:
        raise click.UsageError("netemu is not installed beside this Python nor on the path; name it with --netemu")
    return [found]


def failed(line: Line | Unmeasured) -> bool:
    """Tell whether a line makes the benchmark fail."""
    return line.outcome == "failed" if isinstance(line, Unmeasured) else line.holds is False


if __name__ == "__main__":
    main()
