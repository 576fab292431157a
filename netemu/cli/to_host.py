"""``netemu to-host``: a capture from the wire, as a host that merges segments would see it."""

from __future__ import annotations

from typing import Any

import click

from netemu.cli.jobs import announce_compilation, check_files, play, stage_in_words, totals_in_words


@click.command(
    "to-host",
    epilog="\b\nExamples:\n"
    "  netemu to-host wire.pcap -o host.pcapng\n"
    "  netemu to-host wire.pcap -o host.pcapng --flush-us 20 --udp",
)
@click.argument("source", metavar="IN")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    help="The capture to write: a name in .pcap or .pcapng (packed, if .gz follows), or - for standard output.",
)
@click.option(
    "--flush-us",
    metavar="N",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Frames wait for others of their flow for so many microseconds at most.",
)
@click.option(
    "--budget",
    metavar="N",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Frames of one poll, at the end of which none waits any more.",
)
@click.option("--udp", is_flag=True, help="Merge UDP too, as Linux does where a socket or a bridge asks for it.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def to_host(source: str, output: str, flush_us: int, budget: int, udp: bool, as_json: bool) -> None:
    """Merge the segments of a flow, as a host's receive offload does.

    Segments of a TCP flow that follow each other become one large frame, by the rules of Linux's GRO: same headers and
    options, right checksums, up to 64 kB. OUT has the frames as a capture on such a host shows them, with the
    checksums of merged frames left unfinished. IN and OUT are pcap or pcapng, also packed with gzip; "-" is standard
    input or output.
    """
    check_files([source], output)
    from netemu.offload import Coalescer  # noqa: PLC0415 - loads NumPy
    from netemu.offload.coalesce import coalesce  # noqa: PLC0415

    announce_compilation("the offloads", 5, coalesce)
    from netemu.wire import WireJob  # noqa: PLC0415

    job = WireJob(Coalescer(budget=budget, flush_ns=1000 * flush_us, udp=udp), output)
    play(job, [source], output, job.summary, _in_words, as_json=as_json)


def _in_words(figures: dict[str, Any]) -> str:
    rest = {"merged": figures["merged"], "large": figures["large"], "unchanged": figures["unchanged"]}
    return "\n".join([*totals_in_words(figures), *stage_in_words(rest)])
