"""What came of ``netemu run``, in words: traffic, expectations, and why one did not hold."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import click

from netemu.cli import harmless

if TYPE_CHECKING:
    from netemu.expect.measured import Value
    from netemu.scenario.outcome import Outcome, TrafficOutcome

_WIDTH = 80
_NAME = 12
_ENDS = 14
_MARK = 6
_BOUND = "\N{NO-BREAK SPACE}"
_TEXT = 50
"""Columns of an expectation, before what was measured."""


def report(outcome: Outcome) -> str:
    """The outcome in lines of at most 80 columns; colours are codes that `click.echo` takes out where none belong."""
    lines: list[str] = []
    if outcome.title:
        lines += textwrap.wrap(harmless(outcome.title), _WIDTH)
    for paragraph in filter(None, outcome.story.strip().split("\n\n")):
        lines += [*textwrap.wrap(harmless(" ".join(paragraph.split())), _WIDTH), ""]
    if lines and lines[-1]:
        lines.append("")
    if outcome.traffic:
        lines += [*_traffic(outcome), ""]
    if outcome.verdicts:
        lines += [*_expectations(outcome), ""]
    for capture in outcome.captures:
        lines += _folded(f"{capture.file}: {capture.frames:,} frames at {capture.at}", 2)
    lines += _summary(outcome)
    return "\n".join(lines)


def _summary(outcome: Outcome) -> Iterator[str]:
    emulated = outcome.emulated_ns / 1e9
    yield f"{emulated:.6g} s of emulated time in {outcome.real_seconds:.2f} s, seed {outcome.seed}"
    if outcome.error is not None:
        first, *rest = outcome.error.splitlines() or [""]
        yield from _folded(f"{_bad('stopped')}: {harmless(first)}", 2)
        for line in rest:
            yield from textwrap.wrap(harmless(line), _WIDTH, initial_indent="  ", subsequent_indent="    ")
    elif not outcome.emulated_ns and not outcome.traffic and not outcome.interrupted:
        yield "nothing was to happen: there is no traffic, and no duration"
    if outcome.interrupted:
        yield f"{_bad('interrupted')}: what is told is as far as it got"
    count = len(outcome.verdicts)
    failed = sum(not verdict.held for verdict, _ in outcome.verdicts)
    if count:
        plural = "expectation" if count == 1 else "expectations"
        yield _bad(f"{failed} of {count} {plural} did not hold") if failed else _good(f"{count} {plural} held")


def _expectations(outcome: Outcome) -> Iterator[str]:
    """A line for each, or two for a long one; the reason follows one that did not hold."""
    yield f"{'':<{_MARK}}{'expected':<{_TEXT}}measured"
    for verdict, why in outcome.verdicts:
        mark = _good(f"{'ok':<{_MARK}}") if verdict.held else _bad(f"{'FAIL':<{_MARK}}")
        text, measured = harmless(str(verdict.expectation)), verdict.measured
        where = verdict.scope.partition(".")[2] if verdict.scope else ""
        if where and not _names(text, where):
            measured += f" ({where})"
        first, *rest = textwrap.wrap(text, _WIDTH - _MARK, break_long_words=True, break_on_hyphens=False)
        if not rest and len(first) < _TEXT and len(measured) <= _WIDTH - _MARK - _TEXT:
            yield f"{mark}{first:<{_TEXT}}{measured}"
        else:
            yield f"{mark}{first}"
            for line in rest:
                yield " " * _MARK + line
            yield f"{measured:<{_WIDTH - _MARK - _TEXT}}".rjust(_WIDTH).rstrip()
        if why and not verdict.held:
            for line in textwrap.wrap(harmless(why), _WIDTH - _MARK):
                yield " " * _MARK + line


def _names(text: str, where: str) -> bool:
    """Whether an expectation says itself what it is about."""
    return text.startswith((f"{where}:", f"traffic.{where}:", f"guest.{where}:", f"link.{where}:")) or " at " in text


def _traffic(outcome: Outcome) -> Iterator[str]:
    for name, one in outcome.traffic.items():
        ends = f"{one.source} > {one.target}" if one.target else one.source
        head = f"{_short(name, _NAME):<{_NAME}} {one.kind:<6} {_short(ends, _ENDS):<{_ENDS}} "
        text = f"{one.error}; {_figures(one)}" if one.error else _figures(one)
        # No line ends within a figure.
        bound = harmless(text) if one.error else harmless(text).replace(" ", _BOUND).replace(f",{_BOUND}", ", ")
        first, *rest = [line.replace(_BOUND, " ") for line in textwrap.wrap(bound, _WIDTH - len(head))] or [""]
        yield head + first
        for line in rest:
            yield " " * len(head) + line


def _figures(one: TrafficOutcome) -> str:
    """The figures that matter for a kind of traffic."""
    from netemu.samples import Samples  # noqa: PLC0415

    has = one.metrics
    parts = []
    if "sent" in has and "received" in has:
        parts.append(f"{_in(has, 'received')} of {_in(has, 'sent')}")
        if "loss" in has and has["loss"] is not None:
            parts.append(f"loss {_in(has, 'loss')}")
    elif "sent" in has:
        parts.append(f"{_in(has, 'sent')} sent")
    parts += [_in(has, name) for name in ("bytes", "goodput") if has.get(name) is not None]
    for name in ("rtt", "delay", "connect"):
        value = has.get(name)
        if isinstance(value, Samples) and len(value):
            parts.append(f"{name} {_range(value)}")
    for name in ("retransmits", "reordered", "duplicates", "errors"):
        if has.get(name):
            parts += [f"{_in(has, name)} {name.removesuffix('s') if has[name] == 1 else name}"]
    if has.get("duration") is not None:
        parts.append(f"in {_in(has, 'duration')}")
    return ", ".join(parts)


def _range(samples: object) -> str:
    """Minimum, median and maximum in one unit."""
    from netemu.expect.measured import statistic  # noqa: PLC0415
    from netemu.expect.units import TIME, suited, written  # noqa: PLC0415
    from netemu.samples import Samples  # noqa: PLC0415

    assert isinstance(samples, Samples)
    if len(samples) == 1:
        value = statistic(samples, "max") or Fraction(0)
        return written(value, suited(value, TIME))
    unit = suited(statistic(samples, "max") or 0, TIME)
    parts = [written(statistic(samples, name) or 0, unit).removesuffix(unit).strip() for name in ("min", "p50", "max")]
    return f"{'/'.join(parts)} {unit}"


def _in(has: dict[str, Value], name: str) -> str:
    """A metric in the unit that suits it."""
    from netemu.expect.metrics import METRICS  # noqa: PLC0415
    from netemu.expect.units import suited, written  # noqa: PLC0415

    value = has[name]
    if not isinstance(value, int | Fraction):
        return "none"
    return written(value, suited(value, METRICS[name].dimension))


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "~"


def _folded(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _good(text: str) -> str:
    return click.style(text, fg="green")


def _bad(text: str) -> str:
    return click.style(text, fg="red", bold=True)
