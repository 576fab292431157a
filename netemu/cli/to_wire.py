"""``netemu to-wire``: a capture from a host with offloads, as it would be on the wire."""

from __future__ import annotations

from typing import Any

import click

from netemu.cli.jobs import announce_compilation, check_files, play, stage_in_words, totals_in_words


@click.command(
    "to-wire",
    epilog="\b\nExamples:\n"
    "  netemu to-wire pcaps/web.pcapng -o wire.pcapng\n"
    "  netemu to-wire host.pcap -o wire.pcap --mtu 9000 --json\n"
    "  tcpdump -U -w - | netemu to-wire - -o - | tshark -r -",
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
    "--mtu", metavar="N", type=click.IntRange(68, 65535), default=1500, show_default=True, help="The wire's MTU."
)
@click.option(
    "--udp-size",
    metavar="N",
    type=click.IntRange(0, 65507),
    default=0,
    help="UDP over the MTU is many datagrams of N bytes (UDP_SEGMENT); without it, one that becomes fragments.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def to_wire(source: str, output: str, mtu: int, udp_size: int, as_json: bool) -> None:
    """Finish what a host left to its hardware.

    A capture made on a host has frames that never were on a wire: larger than the MTU, with checksums that are not
    finished. OUT has them as the hardware would have sent them, segmented as Linux does it. What cannot be judged is
    passed on as it came, and said: in the figures, and in pcapng as a comment. IN and OUT are pcap or pcapng, also
    packed with gzip; "-" is standard input or output.
    """
    check_files([source], output)
    from netemu.offload import Finisher  # noqa: PLC0415 - loads NumPy
    from netemu.offload.finish import finish  # noqa: PLC0415

    announce_compilation("the offloads", 5, finish)
    from netemu.wire import WireJob  # noqa: PLC0415

    job = WireJob(Finisher(mtu=mtu, udp_size=udp_size), output)
    play(job, [source], output, job.summary, _in_words, as_json=as_json)


def _in_words(figures: dict[str, Any]) -> str:
    rest = {key: figures[key] for key in ("segmented", "segments", "fragmented", "fragments", "completed", "over_mtu")}
    return "\n".join([*totals_in_words(figures), *stage_in_words(rest | {"unchanged": figures["unchanged"]})])
