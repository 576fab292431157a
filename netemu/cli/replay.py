"""``netemu replay``: captures through the virtio-net receive path."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netemu.cli import harmless, is_terminal
from netemu.errors import ConfigError, NetemuError

if TYPE_CHECKING:
    from types import FrameType

    from netemu.capture import CaptureReader
    from netemu.replay import Replay

_PROGRESS_AFTER = 1.0
_PROGRESS_EVERY = 0.2
_PROGRESS_NAME = 40
_WIDTH = 78
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@click.command(
    epilog="\b\nExamples:\n"
    "  netemu replay pcaps/web.pcapng -o out.pcapng --mode mergeable --queues 2\n"
    "  netemu replay big.pcap --mode small --json\n"
    "  tcpdump -U -w - | netemu replay - -o - --journey | tshark -r -"
)
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="Write what was delivered: a name in .pcap or .pcapng (packed, if .gz follows), or - for standard output.",
)
@click.option(
    "--mode",
    type=click.Choice(["mergeable", "small", "big"]),
    default="mergeable",
    show_default=True,
    help="The receive buffers the driver posts.",
)
@click.option(
    "--queue-size",
    metavar="N",
    type=int,
    default=256,
    show_default=True,
    help="Entries of each ring, up to 32768; of a split ring a power of two.",
)
@click.option("--queues", metavar="N", type=int, default=1, show_default=True, help="Queue pairs, up to 64.")
@click.option(
    "--driver",
    type=click.Choice(["linux-4.19", "linux-6.1", "linux-7.0"]),
    default="linux-7.0",
    show_default=True,
    help="The kernel the driver follows.",
)
@click.option(
    "--ring", type=click.Choice(["split", "packed"]), default="split", show_default=True, help="The rings' layout."
)
@click.option(
    "--features",
    metavar="+X,-Y",
    default="",
    help="Change what the device offers: see 'netemu features'. What X requires comes along, what requires Y goes.",
)
@click.option("--mtu", metavar="N", type=int, help="The device says this MTU (feature MTU).")
@click.option("--mac", metavar="ADDRESS", help="The station's address, as in 02:00:00:00:00:01.")
@click.option("--limit", metavar="N", type=click.IntRange(0), help="Stop after N frames.")
@click.option("--loop", metavar="N", type=click.IntRange(1), default=1, show_default=True, help="Play IN N times.")
@click.option(
    "--burst",
    metavar="N",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Frames that arrive between an interrupt and its poll.",
)
@click.option(
    "--no-buffer",
    type=click.Choice(["wait", "drop"]),
    default="wait",
    show_default=True,
    help="What becomes of a frame when no receive buffer is posted.",
)
@click.option(
    "--encap",
    type=click.Choice(["ethernet", "virtio"]),
    default="ethernet",
    show_default=True,
    help="Write frames as the guest got them, or as they lay in the ring, header included.",
)
@click.option("--journey", is_flag=True, help="Comment each frame with the way it took (pcapng).")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def replay(
    inputs: tuple[str, ...],
    output: str | None,
    mode: Any,
    queue_size: int,
    queues: int,
    driver: str,
    ring: Any,
    features: str,
    mtu: int | None,
    mac: str | None,
    limit: int | None,
    loop: int,
    burst: int,
    no_buffer: str,
    encap: Any,
    journey: bool,
    as_json: bool,
) -> None:
    """Play captures through the virtio-net receive path.

    A host device writes each frame of IN into receive buffers in guest memory; a driver that follows Linux takes it
    out again. OUT gets what arrived, and figures are printed. IN is pcap or pcapng, also packed with gzip, or - for
    standard input. With "-o -" the capture goes to standard output and the figures to standard error.
    """
    _check_files(inputs, output, loop)
    _announce_compilation()
    from netemu.replay import Replay, ReplayOptions  # noqa: PLC0415 - loads NumPy

    options = ReplayOptions(
        mode=mode,
        queue_size=queue_size,
        queues=queues,
        driver=driver,
        ring=ring,
        features=features,
        mtu=mtu,
        mac=mac,
        burst=burst,
        wait=no_buffer == "wait",
        limit=limit,
        loop=loop,
        encap=encap,
        journey=journey,
    )
    job = Replay(options, output)
    fault: NetemuError | None = None
    with _stops_whole(job) as signals, _progress() as report:
        try:
            job.play(inputs, report)
        except NetemuError as error:
            fault = error
    figures = job.summary()
    text = json.dumps(figures, indent=2) if as_json else _in_words(figures)
    click.echo(text, err=output == "-")
    if fault is not None:
        raise fault
    if job.interrupted:
        raise click.exceptions.Exit(128 + signals[0])


def _check_files(inputs: tuple[str, ...], output: str | None, loop: int) -> None:
    """Refuse what can be seen to be wrong before anything is loaded, and before OUT is made."""
    from netemu.capture import open_capture, same_file  # noqa: PLC0415 - loads NumPy

    if "-" in inputs and (loop > 1 or inputs.count("-") > 1):
        raise ConfigError("standard input can be played only once: name a file to use --loop")
    if "-" in inputs and is_terminal(sys.stdin):
        raise ConfigError("standard input is a terminal, and no capture comes from there: name a file, or use a pipe")
    if output == "-" and is_terminal(sys.stdout):
        raise ConfigError("standard output is a terminal, which cannot show a capture: name a file, or use a pipe")
    for path in inputs:
        if output is not None and same_file(path, output):
            raise ConfigError(f"{output}: is an input too; writing it would destroy it")
    if inputs[0] != "-" and not Path(inputs[0]).is_fifo():
        open_capture(inputs[0]).close()  # so that a mistyped name costs no file that OUT would replace


def _announce_compilation() -> None:
    """Say what a first run waits for, where somebody is watching."""
    from netemu.jit import cache, mode  # noqa: PLC0415

    if mode.JIT and not cache.is_warm() and is_terminal(sys.stderr):
        click.echo("netemu: compiling the receive path for this machine, once (about 10 s) ...", err=True)


@contextmanager
def _stops_whole(job: Replay) -> Iterator[list[int]]:
    """Let Ctrl-C or SIGTERM end the replay between two batches, so that the capture is whole up to there.

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


def _in_words(figures: dict[str, Any]) -> str:
    """The figures as a short report of at most 80 columns."""
    rate = figures["frames_per_second"]
    dropped = figures["dropped"]
    lines = [
        f"frames in    {figures['frames_in']:>13,}   {figures['bytes_in']:>17,} bytes",
        f"delivered    {figures['frames_out']:>13,}   {figures['bytes_out']:>17,} bytes",
        f"dropped      {sum(dropped.values()):>13,}",
    ]
    for key, count in dropped.items():
        lines += _wrapped(f"  {count:>11,}  {key}: {_reason(key)}", indent=15)
    lines.append(f"time         {figures['seconds']:>13.3f} s {rate:>17,} frames/s")
    if figures["interrupted"]:
        lines.append("interrupted: the figures and the capture end where it stopped")
    lines += ["", f"{figures['driver']}, {figures['mode']} buffers, rings of {figures['queue_size']}"]
    columns = ("packets", "buffers", "descriptors", "interrupts", "polls", "refills")
    lines.append("queue" + "".join(f"{name:>12}" for name in columns))
    for n, queue in enumerate(figures["queues"]):
        lines.append(f"{n:>5}" + "".join(f"{queue[name]:>12}" for name in columns))
    for text in figures["broken"]:
        lines += _wrapped(f"broken: {text}", indent=8)
    for title, key in (("ethtool -S", "ethtool"), ("ip -s link", "netdev"), ("nstat", "snmp")):
        counters = {name: value for name, value in figures[key].items() if value}
        lines += ["", f"{title} (counters that moved)"]
        lines += _columns(counters) if counters else ["  none"]
    return "\n".join(lines)


def _wrapped(line: str, indent: int) -> list[str]:
    """The line in pieces of the report's width, the later ones indented."""
    return textwrap.wrap(line, _WIDTH, subsequent_indent=" " * indent)


def _columns(counters: dict[str, int]) -> list[str]:
    """Name and value, two to a line."""
    width = _WIDTH // 2 - 1
    cells = [f"{name} {value:>{width - len(name) - 1}}" for name, value in counters.items()]
    return ["  ".join(cells[at : at + 2]) for at in range(0, len(cells), 2)]


def _reason(key: str) -> str:
    """A drop reason in words."""
    from netemu.reasons import DropReason  # noqa: PLC0415

    return DropReason[key.upper()].words
