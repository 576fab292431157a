"""``netemu replay``: captures through the virtio-net receive path."""

from __future__ import annotations

from typing import Any

import click

from netemu.cli.jobs import announce_compilation, check_files, play
from netemu.cli.options import HeadedCommand, under
from netemu.cli.replay_report import report
from netemu.errors import ConfigError

_files = under("Files")
_device = under("Device")
_driver = under("Driver and guest")
_settings = under("Settings once the driver is up")
_offloads = under("Offloads and XDP")
_faults = under("Faults on purpose")
_run = under("The run")


@click.command(
    cls=HeadedCommand,
    epilog="\b\nExamples:\n"
    "  netemu replay pcaps/web.pcapng -o out.pcapng --mode mergeable --queues 2\n"
    "  netemu replay big.pcap --mode small --json\n"
    "  tcpdump -U -w - | netemu replay - -o - --journey | tshark -r -",
)
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@_files("-o", "--output", metavar="OUT", help="Write a capture: a .pcap or .pcapng (packed, if .gz follows), or -.")
@_files(
    "--encap",
    type=click.Choice(["ethernet", "virtio"]),
    default="ethernet",
    show_default=True,
    help="What OUT holds: frames, or what lay in the ring, header included.",
)
@_files("--tap", type=click.Choice(["rx", "tx", "both"]), help="OUT has received or sent frames, or both.")
@_files("--journey", is_flag=True, help="Comment each frame with the way it took (pcapng).")
@_files("--xdp-redirect", metavar="OUT", help="Write the frames that the XDP program redirects.")
@_files("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
@_device("--features", metavar="+X,-Y", default="", help="Change what is offered: see 'netemu features'.")
@_device(
    "--ring", type=click.Choice(["split", "packed"]), default="split", show_default=True, help="The rings' layout."
)
@_device(
    "--queue-size",
    metavar="N",
    type=int,
    default=256,
    show_default=True,
    help="Entries of each ring, up to 32768; of a split ring a power of two.",
)
@_device("--queues", metavar="N", type=int, default=1, show_default=True, help="Queue pairs, up to 64.")
@_device("--mtu", metavar="N", type=int, help="The MTU the device names (feature MTU).")
@_device("--mac", metavar="ADDRESS", help="The station's address, as in 02:00:00:00:00:01.")
@_device("--rss", metavar="on|WHAT", help="Steer by hash: 'on', or parts of key=HEX,table=0,1,types=ipv4+tcpv4.")
@_device("--hash-report", is_flag=True, help="Report each frame's hash (pcapng keeps it).")
@_driver(
    "--driver",
    type=click.Choice(["linux-4.19", "linux-6.1", "linux-7.0"]),
    default="linux-7.0",
    show_default=True,
    help="The kernel the driver follows.",
)
@_driver(
    "--mode",
    type=click.Choice(["mergeable", "small", "big"]),
    default="mergeable",
    show_default=True,
    help="The receive buffers it posts.",
)
@_driver(
    "--guest",
    type=click.Choice(["sink", "reflect", "send"]),
    default="sink",
    show_default=True,
    help="It takes frames, sends each back with addresses swapped, or sends IN itself.",
)
@_driver(
    "--xmit-more", metavar="N", type=click.IntRange(1), default=1, show_default=True, help="Frames it sends for a kick."
)
@_settings("--no-promisc", is_flag=True, help="Receive only what is for this station (CTRL_RX).")
@_settings(
    "--vlan",
    "vlans",
    metavar="ID",
    type=int,
    multiple=True,
    help="Of tagged frames, only those of this VLAN; repeatable.",
)
@_settings("--coalesce", metavar="RULE", default="", help="Hold calls back: 'rx-usecs=50,rx-frames=32'.")
@_settings("--adaptive-rx", is_flag=True, help="The driver chooses how to coalesce, by traffic.")
@_settings("--guest-offloads", metavar="+X,-Y", default="", help="Switch offloads, as in '-GUEST_TSO4'.")
@_offloads(
    "--offloads",
    type=click.Choice(["as-is", "host"]),
    default="as-is",
    show_default=True,
    help="Frames are complete, or of a host that leaves checksums and segmentation to hardware.",
)
@_offloads("--host-gro", is_flag=True, help="With --offloads host: it merges segments of a flow.")
@_offloads("--gro", is_flag=True, help="The guest merges TCP segments that come in one poll.")
@_offloads("--xdp", metavar="FILE[:NAME]", help="An XDP program that sees each frame first: see netemu.xdp.")
@_faults(
    "--pressure",
    metavar="RULE",
    multiple=True,
    help="Allocations that fail, as in 'pages:p=0.2,seed=7' or 'skbs:after=1,until=2'; repeatable.",
)
@_faults(
    "--quirk",
    "quirks",
    metavar="RULE",
    multiple=True,
    help="What goes wrong, as in 'chain-loop:at=9,count=1': see 'netemu quirks'; repeatable.",
)
@_faults(
    "--no-buffer",
    type=click.Choice(["wait", "drop"]),
    default="wait",
    show_default=True,
    help="What becomes of a frame that finds no buffer posted.",
)
@_run("--limit", metavar="N", type=click.IntRange(0), help="Stop after N frames.")
@_run("--loop", metavar="N", type=click.IntRange(1), default=1, show_default=True, help="Play IN N times.")
@_run(
    "--burst",
    metavar="N",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Frames that arrive between an interrupt and its poll.",
)
@_run("--threads", is_flag=True, help="A thread for each queue pair.")
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
    rss: str | None,
    no_promisc: bool,
    vlans: tuple[int, ...],
    coalesce: str,
    adaptive_rx: bool,
    guest_offloads: str,
    hash_report: bool,
    threads: bool,
    limit: int | None,
    loop: int,
    burst: int,
    no_buffer: str,
    encap: Any,
    offloads: Any,
    host_gro: bool,
    pressure: tuple[str, ...],
    quirks: tuple[str, ...],
    guest: Any,
    tap: Any,
    xmit_more: int,
    journey: bool,
    gro: bool,
    xdp: str | None,
    xdp_redirect: str | None,
    as_json: bool,
) -> None:
    """Play captures through the virtio-net receive path.

    A host device writes each frame of IN into receive buffers in guest memory; a driver that follows Linux takes it
    out again. OUT gets what arrived, and figures are printed. IN is pcap or pcapng, also packed with gzip, or - for
    standard input. With "-o -" the capture goes to standard output and the figures to standard error.
    """
    if journey and output is None:
        raise ConfigError("--journey writes comments into a capture: say which one with -o")
    check_files(inputs, output, loop, besides=xdp_redirect)
    from netemu import engine  # noqa: PLC0415 - loads NumPy

    announce_compilation("the receive path", 10, engine.run)
    from netemu.nic.control import Settings, parse_coalesce  # noqa: PLC0415 - loads NumPy
    from netemu.replay import Replay, ReplayOptions  # noqa: PLC0415

    settings = Settings(
        promisc=not no_promisc,
        vlans=vlans or None,
        coalesce=parse_coalesce(coalesce),
        adaptive_rx=adaptive_rx,
        guest_offloads=guest_offloads,
    )
    options = ReplayOptions(
        mode=mode,
        queue_size=queue_size,
        queues=queues,
        driver=driver,
        ring=ring,
        features=features,
        mtu=mtu,
        mac=mac,
        rss=rss,
        hash_report=hash_report,
        threads=threads,
        burst=burst,
        wait=no_buffer == "wait",
        limit=limit,
        loop=loop,
        encap=encap,
        journey=journey,
        offloads=offloads,
        host_gro=host_gro,
        gro=gro,
        xdp=xdp,
        xdp_redirect=xdp_redirect,
        pressure=pressure,
        quirks=quirks,
        settings=settings,
        guest=guest,
        tap=tap,
        xmit_more=xmit_more,
    )
    job = Replay(options, output)
    play(job, inputs, output, job.summary, report, as_json=as_json)
