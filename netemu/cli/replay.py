"""``netemu replay``: captures through the virtio-net receive path."""

from __future__ import annotations

from typing import Any

import click

from netemu.cli.jobs import announce_compilation, check_files, columns, play, stage_in_words, wrapped
from netemu.cli.sent import sent_in_words


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
@click.option(
    "--rss",
    metavar="on|WHAT",
    help="Receive-side scaling: 'on', or parts of key=HEX,table=0,1,2,3,types=ipv4+tcpv4.",
)
@click.option("--no-promisc", is_flag=True, help="Receive only what is for this station (CTRL_RX).")
@click.option(
    "--vlan",
    "vlans",
    metavar="ID",
    type=int,
    multiple=True,
    help="Of tagged frames, let only those of this VLAN in (CTRL_VLAN); may be given several times.",
)
@click.option(
    "--coalesce",
    metavar="RULE",
    default="",
    help="Hold interrupts back, as in 'rx-usecs=50,rx-frames=32'; both have to be more than 0.",
)
@click.option("--adaptive-rx", is_flag=True, help="The driver chooses how receive queues coalesce, by their traffic.")
@click.option(
    "--guest-offloads", metavar="+X,-Y", default="", help="Switch offloads once the driver is up, as in '-GUEST_TSO4'."
)
@click.option("--hash-report", is_flag=True, help="The device reports each frame's hash (pcapng keeps it).")
@click.option("--threads", is_flag=True, help="A thread for each queue pair.")
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
@click.option(
    "--offloads",
    type=click.Choice(["as-is", "host"]),
    default="as-is",
    show_default=True,
    help="What frames are: complete, or from a host that leaves checksums and segmentation to hardware.",
)
@click.option("--host-gro", is_flag=True, help="With --offloads host: the host merges segments of a flow.")
@click.option(
    "--pressure",
    metavar="RULE",
    multiple=True,
    help="Allocations that fail: pages, skbs or tables, as in 'pages:p=0.2,seed=7' or 'skbs:after=1,until=2'.",
)
@click.option(
    "--quirk",
    "quirks",
    metavar="RULE",
    multiple=True,
    help="What goes wrong on purpose: see 'netemu quirks', as in 'chain-loop:at=1000,count=1'.",
)
@click.option(
    "--guest",
    type=click.Choice(["sink", "reflect", "send"]),
    default="sink",
    show_default=True,
    help="The guest takes frames, sends each back with addresses swapped, or sends IN itself.",
)
@click.option(
    "--tap", type=click.Choice(["rx", "tx", "both"]), help="What OUT holds: received or sent frames, or both."
)
@click.option(
    "--xmit-more",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Frames the guest sends for each kick.",
)
@click.option("--journey", is_flag=True, help="Comment each frame with the way it took (pcapng).")
@click.option("--gro", is_flag=True, help="The guest merges TCP segments of a flow that come in one poll (GRO).")
@click.option(
    "--xdp",
    metavar="FILE[:NAME]",
    help="An XDP program, a function marked with netemu.xdp.xdp_program, that sees each frame first.",
)
@click.option("--xdp-redirect", metavar="OUT", help="Write the frames that the XDP program redirects.")
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
    check_files(inputs, output, loop)
    announce_compilation("the receive path", 10)
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
    play(job, inputs, output, job.summary, _in_words, as_json=as_json)


def _in_words(figures: dict[str, Any]) -> str:
    """The figures as a short report of at most 80 columns."""
    rate = figures["frames_per_second"]
    unsent = {key: count for key, count in figures["dropped"].items() if key.startswith("tx_")}
    dropped = {key: count for key, count in figures["dropped"].items() if key not in unsent}
    lines = [
        f"frames in    {figures['frames_in']:>13,}   {figures['bytes_in']:>17,} bytes",
        f"delivered    {figures['frames_out']:>13,}   {figures['bytes_out']:>17,} bytes",
        f"dropped      {sum(dropped.values()):>13,}",
        *_reasons(dropped),
    ]
    if unsent:
        lines += [f"not sent     {sum(unsent.values()):>13,}", *_reasons(unsent)]
    if figures["sent_by_xdp"]:
        lines.append(f"sent by XDP  {figures['sent_by_xdp']:>13,}   back to the host, or redirected")
    if figures["merged"]:
        lines.append(f"merged       {figures['merged']:>13,}   by GRO, into frames before them")
    lines.append(f"time         {figures['seconds']:>13.3f} s {rate:>17,} frames/s")
    if figures["interrupted"]:
        lines.append("interrupted: the figures and the capture end where it stopped")
    rings = "packed rings" if "RING_PACKED" in figures["features"] else "rings"
    lines += ["", f"{figures['driver']}, {figures['mode']} buffers, {rings} of {figures['queue_size']}"]
    titles = ("packets", "buffers", "descriptors", "interrupts", "polls", "refills")
    lines.append("queue" + "".join(f"{name:>12}" for name in titles))
    for n, queue in enumerate(figures["queues"]):
        lines.append(f"{n:>5}" + "".join(f"{queue[name]:>12}" for name in titles))
    lines += sent_in_words(figures["sent"])
    for kind, times in figures["refused"].items():
        lines.append(f"refused: {times:,} allocations of {kind}")
    for name, times in figures["quirks"].items():
        lines.append(f"quirk {name}: {times:,} times")
    if figures["made_up"]:
        lines.append(f"made up: {figures['made_up']:,} frames came of buffers that a quirk confused")
    for text in figures["broken"]:
        lines += wrapped(f"broken: {text}", indent=8)
    for key, stage in figures["offloads"].items():
        lines += ["", f"{key} at the host", *stage_in_words(stage)]
    for title, key in (("ethtool -S", "ethtool"), ("ip -s link", "netdev"), ("nstat", "snmp")):
        counters = {name: value for name, value in figures[key].items() if value}
        lines += ["", f"{title} (counters that moved)"]
        lines += columns(counters) if counters else ["  none"]
    return "\n".join(lines)


def _reasons(counts: dict[str, int]) -> list[str]:
    """Lines for drop reasons, each with its words."""
    from netemu.reasons import DropReason  # noqa: PLC0415

    lines = []
    for key, count in counts.items():
        lines += wrapped(f"  {count:>11,}  {key}: {DropReason[key.upper()].words}", indent=15)
    return lines
