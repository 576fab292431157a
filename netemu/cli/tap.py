"""``netemu tap``: a guest behind a TAP device of this machine."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING, Any

import click

from netemu.cli.jobs import announce_compilation
from netemu.cli.options import HeadedCommand, under
from netemu.errors import ConfigError

if TYPE_CHECKING:
    from netemu.aio import AsyncHost
    from netemu.lab import Guest, Lab
    from netemu.net.link import Link
    from netemu.peers.tap import TapPort

Start = Callable[["AsyncHost"], Awaitable[Any]]
"""Starts a service at a guest; gives what has a ``close``."""

_guest = under("The guest")
_between = under("What lies between")
_machine = under("This machine")
_run = under("The run")


@click.command(
    cls=HeadedCommand,
    epilog="\b\nExamples:\n"
    "  netemu tap tap0 --stack 10.9.0.2/24 --host-address 10.9.0.1/24\n"
    "  netemu tap tap0 --stack 10.9.0.2/24 --serve http:pcaps --link 'delay 10ms'\n"
    "  ping 10.9.0.2; curl http://10.9.0.2/web.pcapng -o /dev/null",
)
@click.argument("name", metavar="NAME")
@_guest(
    "--stack",
    "addresses",
    metavar="ADDRESS/LEN",
    multiple=True,
    required=True,
    help="An address of the guest's, IPv4 or IPv6; repeatable.",
)
@_guest("--gateway", metavar="ADDRESS", help="Its router.")
@_guest("--mac", metavar="ADDRESS", help="Its station's address, as in 02:00:00:00:00:01.")
@_guest(
    "--serve",
    "services",
    metavar="SERVICE",
    multiple=True,
    help="echo, discard, chargen or http:DIR, each at its usual port; repeatable.",
)
@_guest(
    "--mode",
    type=click.Choice(["mergeable", "small", "big"]),
    default="mergeable",
    show_default=True,
    help="The receive buffers its driver posts.",
)
@_guest("--ring", type=click.Choice(["split", "packed"]), default="split", show_default=True, help="Its rings' layout.")
@_guest("--queue-size", metavar="N", type=int, default=256, show_default=True, help="Entries of each ring.")
@_guest("--features", metavar="+X,-Y", default="", help="Change what its card offers: see 'netemu features'.")
@_guest(
    "--driver",
    type=click.Choice(["linux-4.19", "linux-6.1", "linux-7.0"]),
    default="linux-7.0",
    show_default=True,
    help="The kernel its driver follows.",
)
@_between("--link", "netem", metavar="WORDS", default="", help="As tc netem has them: 'delay 10ms loss 1%'.")
@_between("--capture", metavar="FILE", help="Write what passes: .pcap or .pcapng (packed, if .gz follows).")
@_between("--mtu", metavar="N", type=click.IntRange(68, 65521), default=1500, show_default=True, help="At both ends.")
@_machine(
    "--host-address",
    "host_addresses",
    metavar="ADDRESS/LEN",
    multiple=True,
    help="Give this machine an address on NAME; repeatable.",
)
@_machine("--persistent", is_flag=True, help="Leave the TAP device there at the end.")
@_run("--duration", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="End after so long.")
@_run("--seed", metavar="N", type=int, default=1, show_default=True, help="What is left to chance follows from it.")
@_run("--json", "as_json", is_flag=True, help="Print the figures at the end as one JSON object.")
def tap(
    name: str,
    addresses: tuple[str, ...],
    gateway: str | None,
    mac: str | None,
    services: tuple[str, ...],
    mode: Any,
    ring: Any,
    queue_size: int,
    features: str,
    driver: str,
    netem: str,
    capture: str | None,
    mtu: int,
    host_addresses: tuple[str, ...],
    persistent: bool,
    duration: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Put a guest behind a TAP device of this machine.

    Linux sees a network interface NAME; behind it is a guest, with a virtio-net card, its driver, and protocols.
    It answers ARP, neighbour discovery and ping, and serves what is asked for with --serve. Time is real. It goes on
    until Ctrl-C or --duration, and then prints what passed. Making the device needs root, or one that root made.
    """
    own = [_interface(text, "--stack") for text in addresses]
    theirs = [_interface(text, "--host-address") for text in host_addresses]
    starts = [_service(text) for text in services]
    from netemu.peers.tun import Tun  # noqa: PLC0415

    device = Tun(name, persistent=persistent)
    try:
        device.bring_up(mtu)
        for address in theirs:
            device.add_address(address)
        from netemu.lab import Lab  # noqa: PLC0415 - loads NumPy
        from netemu.peers.tap import TapPort  # noqa: PLC0415
        from netemu.stack.tcp.input import tcp_input  # noqa: PLC0415

        announce_compilation("guests and their protocols", 30, tcp_input)

        with Lab(seed, realtime=True) as lab:
            guest = lab.guest(
                "guest",
                addresses,
                gateway=gateway,
                mac=mac,
                mode=mode,
                ring=ring,
                queue_size=queue_size,
                features=features,
                driver=driver,
                mtu=mtu,
            )
            port = TapPort(lab.world, device, mtu=mtu)
            link = lab.link(guest, port.port, netem)
            if capture is not None:
                lab.capture(link, capture)
            lab.run(_serve(lab, guest, port, starts, duration, _greeting(name, own, theirs, services)))
            figures = _figures(guest, link, port)
    finally:
        device.close()
    click.echo(json.dumps(figures, indent=2) if as_json else _in_words(figures))


def _interface(text: str, option: str) -> IPv4Interface | IPv6Interface:
    try:
        address = ip_interface(text)
    except ValueError:
        raise ConfigError(f"{option} {text}: not an address with its prefix, as in 10.9.0.2/24") from None
    if "/" not in text:
        raise ConfigError(f"{option} {text}: the prefix is missing, as in {text}/{24 if address.version == 4 else 64}")
    return address


def _service(text: str) -> Start:
    """What starts a service, from its words."""
    from netemu.services import simple  # noqa: PLC0415
    from netemu.services.http_server import HttpServer  # noqa: PLC0415

    name, _, folder = text.partition(":")
    if name == "http" and folder:
        return HttpServer(folder).serve
    plain: dict[str, Start] = {"echo": simple.echo, "discard": simple.discard, "chargen": simple.chargen}
    if text not in plain:
        raise ConfigError(f"--serve {text}: there are echo, discard, chargen, and http:DIR with a folder")
    return plain[text]


async def _serve(
    lab: Lab, guest: Guest, port: TapPort, starts: list[Start], duration: float | None, greeting: str
) -> None:
    """Let the guest be there until Ctrl-C, SIGTERM or the end of ``duration``."""
    ended = port.serve(lab.loop)
    running = [await start(guest) for start in starts]  # they live for as long as somebody has them
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        lab.loop.add_signal_handler(number, stop.set)
    click.echo(greeting, err=True)
    waits = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(asyncio.wait_for(ended, duration))}
    done, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in left:
        each.cancel()
    for each in done:
        if not isinstance(each.exception(), TimeoutError):
            each.result()
    for service in running:
        service.close()
    port.close()


def _greeting(
    name: str,
    own: list[IPv4Interface | IPv6Interface],
    theirs: list[IPv4Interface | IPv6Interface],
    services: tuple[str, ...],
) -> str:
    """Who is where, and what is left to do on this machine."""
    lines = [f"{' and '.join(str(each.ip) for each in own)} behind {name}; Ctrl-C ends it"]
    if services:
        lines.append(f"serving {', '.join(services)}")
    missing = [each for each in own if not any(each.network == one.network for one in theirs)]
    if missing:
        lines.append("for this machine to reach it:")
        lines += [f"  ip address add {_neighbour_of(each)} dev {name}" for each in missing]
    return "\n".join(lines)


def _neighbour_of(own: IPv4Interface | IPv6Interface) -> str:
    """Another address of the same network: the first, or the one before or behind."""
    for each in (own.network.network_address + 1, own.ip - 1 if int(own.ip) else own.ip, own.ip + 1):
        if each != own.ip and each in own.network and each != own.network.network_address:
            return f"{each}/{own.network.prefixlen}"
    return str(own)


def _figures(guest: Guest, link: Link, port: TapPort) -> dict[str, Any]:
    """What passed, by name; Linux's counters of the guest are those that moved."""
    forward, backward = link.forward.stats(), link.backward.stats()
    return {
        "from_linux": {"frames": port.port.tx_packets, "bytes": port.port.tx_bytes},
        "to_linux": {"frames": port.port.rx_packets, "bytes": port.port.rx_bytes},
        "lost": {"link": forward.dropped_total + backward.dropped_total, "device": port.dropped},
        "link": {"to_linux": forward.to_dict(), "from_linux": backward.to_dict()},
        "guest": {key: value for key, value in guest.stack.snmp().items() if value},
    }


def _in_words(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures[key]['frames']:>12,} frames {words}, {figures[key]['bytes'] / 1e6:,.1f} MB"
        for key, words in (("from_linux", "came from Linux"), ("to_linux", "went to Linux"))
    ]
    lines.append(f"{figures['lost']['link']:>12,} were lost by the link")
    if figures["lost"]["device"]:
        lines.append(f"{figures['lost']['device']:>12,} more were lost at the TAP device: Linux did not take them")
    lines.append("the guest counted:")
    lines += [f"{value:>12,} {key}" for key, value in figures["guest"].items()]
    return "\n".join(lines)
