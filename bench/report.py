"""The results as a Markdown table, as JSON, and on a page of the documentation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.errors import BenchError
from bench.measure import spread
from bench.results import Line, Unmeasured

BEGIN = "<!-- bench: the table begins -->"
END = "<!-- bench: the table ends -->"
HEADINGS = ("row", "work", "netemu", "against", "measured (lowest to highest)", "wanted", "holds")
ONLY_RATIOS = (
    "Seconds, Mpps and MB are those of this machine on that day; only the ratios, taken in turn, "
    "mean something elsewhere."
)
NOT_JUDGED = "This was less work than the wanted values are meant for: they are not judged, but for the starting times."


def amount(value: float, unit: str) -> str:
    """Write a figure with its unit, as `decimals` says."""
    return f"{value:.{decimals(value)}f} {unit}"


def decimals(value: float) -> int:
    """Return how many decimals show three digits of a figure, or all digits before the point."""
    return max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0


def cells(line: Line | Unmeasured) -> tuple[str, ...]:
    """Return the cells of a line of the table, in the order of HEADINGS."""
    if isinstance(line, Unmeasured):
        return (line.row, f"{line.outcome}: {line.reason}".replace("|", "/"), "", "", "", "", "")
    unit, measured = line.measured_unit, line.measured
    digits = decimals(measured.median)
    return (
        line.row,
        line.work,
        amount(spread(line.ours).median, line.unit),
        f"{line.rival}: {amount(spread(line.theirs).median, line.unit)}" if line.rival else "",
        f"{amount(measured.median, unit)} ({measured.lowest:.{digits}f} to {measured.highest:.{digits}f})",
        f"{line.limit.kind} {line.limit.value:g} {line.limit.unit}" if line.limit else "",
        verdict(line),
    )


def verdict(line: Line) -> str:
    """Say whether what is wanted holds."""
    if line.limit is None:
        return ""
    return {True: "yes", False: "NO", None: "not judged"}[line.holds]


def table(lines: Sequence[Line | Unmeasured]) -> str:
    """Return the results as a Markdown table whose columns stand in line."""
    rows = [HEADINGS, *(cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    rows.insert(1, tuple("-" * width for width in widths))
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def text(lines: Sequence[Line | Unmeasured], facts: Mapping[str, str], turns: int, *, full: bool) -> str:
    """Return all there is to read: the table, how to read it, and the machine."""
    how = f"Medians of {turns} turns after one to warm up. {ONLY_RATIOS}" + ("" if full else f" {NOT_JUDGED}")
    return "\n".join([table(lines), "", how, "", *(f"* {name}: {fact}" for name, fact in facts.items())])


def as_json(lines: Sequence[Line | Unmeasured], facts: Mapping[str, str], options: Mapping[str, object]) -> str:
    """Return everything as JSON: the machine, the options, and each line with the figures of every turn."""
    return json.dumps({"machine": facts, "options": options, "lines": [_plain(line) for line in lines]}, indent=2)


def _plain(line: Line | Unmeasured) -> dict[str, object]:
    plain = asdict(line)
    if isinstance(line, Line):
        plain |= {
            "outcome": "measured",
            "measured": asdict(line.measured),
            "measured_unit": line.measured_unit,
            "holds": line.holds,
        }
    return plain


def fill(page: Path, content: str) -> None:
    """Put ``content`` between the two marks on a page; BenchError where they are not there."""
    written = page.read_text(encoding="utf-8")
    before, begin, rest = written.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"{page}: no place for the table between {BEGIN!r} and {END!r}")
    page.write_text(f"{before}{begin}\n\n{content}\n\n{end}{after}", encoding="utf-8")
