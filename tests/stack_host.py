"""A real Linux host to compare with: a TAP device in a network namespace of its own, and the namespace's counters.

Run as ``unshare --net python -m tests.stack_host``, so that the namespace goes when the process does. It answers each
line of hexadecimal on its standard input (a virtio header of 10 bytes and a frame) with a line of JSON: the counters
that the frame moved, by the names of ``nstat``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
IP4, PEER4 = "10.9.0.1", "10.9.0.2"
IP6, PEER6 = "2001:db8:9::1", "2001:db8:9::2"
OPEN_PORT = 5000
"""The only UDP port with a socket, over IPv4 and IPv6."""

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


def _make_tap() -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH14x", b"tap0", _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    for setting in ("ipv6/conf/tap0/accept_ra", "ipv6/conf/tap0/accept_dad", "ipv4/conf/tap0/rp_filter"):
        Path("/proc/sys/net", setting).write_text("0")
    for command in (
        f"link set tap0 address {MAC} up",
        f"address add {IP4}/24 broadcast + dev tap0",
        f"address add {IP6}/64 dev tap0 nodad",
        f"neighbour add {PEER4} lladdr {PEER_MAC} dev tap0",
        f"neighbour add {PEER6} lladdr {PEER_MAC} dev tap0",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    return tap


def _counters() -> dict[str, int]:
    """All counters, as nstat reads them."""
    values = {}
    for name in ("snmp", "netstat"):
        lines = Path("/proc/net", name).read_text().splitlines()
        for titles, numbers in zip(lines[::2], lines[1::2], strict=True):
            prefix, *names = titles.split()
            for title, number in zip(names, numbers.split()[1:], strict=True):
                values[prefix.rstrip(":") + title] = int(number)
    for line in Path("/proc/net/snmp6").read_text().splitlines():
        title, number = line.split()
        values[title] = int(number)
    return values


def _drain(sources: list[int]) -> None:
    """Read what the host sends, and what its sockets got: UDP counts a datagram when it is read."""
    while ready := select.select(sources, [], [], 0)[0]:
        for source in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(source, 1 << 18)


def main() -> None:
    """Serve until standard input ends."""
    tap = _make_tap()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as udp4,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as udp6,
    ):
        udp6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        udp4.bind(("", OPEN_PORT))
        udp6.bind(("", OPEN_PORT))
        sources = [tap, udp4.fileno(), udp6.fileno()]
        for line in sys.stdin:
            _drain(sources)
            before = _counters()
            os.write(tap, bytes.fromhex(line))
            _drain(sources)
            after = _counters()
            moved = {name: value - before.get(name, 0) for name, value in after.items()}
            sys.stdout.write(json.dumps({name: value for name, value in moved.items() if value}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
