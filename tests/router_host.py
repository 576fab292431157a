"""A real Linux router to compare with: two TAP devices in a network namespace of its own, and what it sends.

Run as ``unshare --net python -m tests.router_host MTU``. It answers each line ``INTERFACE FRAME`` on its standard input
(a digit, a frame in hexadecimal) with a line of JSON: the frames that came out, with their interface, and the counters
that moved.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
from pathlib import Path

from tests.stack_host import _counters

MACS = ("02:00:00:00:00:01", "02:00:00:00:00:11")
PEER_MACS = ("02:00:00:00:00:02", "02:00:00:00:00:12")
NETWORKS = ("10.9.0", "10.8.0")
"""Interface n is .1 of its network, the peer there .2, and nobody else is there."""

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SETTINGS = {
    "ipv4/ip_forward": "1",
    "ipv4/icmp_ratemask": "0",
    "ipv4/icmp_msgs_per_sec": "100000",
    "ipv4/icmp_msgs_burst": "100000",
    "ipv4/conf/all/rp_filter": "0",
}


def _make_tap(number: int, mtu: int) -> int:
    name = f"tap{number}"
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
    network = NETWORKS[number]
    for command in (
        f"link set {name} address {MACS[number]} mtu {mtu} up",
        f"address add {network}.1/24 broadcast + dev {name}",
        f"neighbour add {network}.2 lladdr {PEER_MACS[number]} dev {name}",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    return tap


def _drain(taps: list[int], wait: float) -> list[tuple[int, str]]:
    """The frames that come out within ``wait`` seconds of one another."""
    frames = []
    while ready := select.select(taps, [], [], wait)[0]:
        for tap in ready:
            with contextlib.suppress(BlockingIOError):
                frames.append((taps.index(tap), os.read(tap, 1 << 17).hex()))
    return frames


def main() -> None:
    """Serve until standard input ends."""
    taps = [_make_tap(0, 1500), _make_tap(1, int(sys.argv[1]))]
    for name, value in _SETTINGS.items():
        Path("/proc/sys/net", name).write_text(value)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "route", "add", "unreachable", "203.0.113.0/24"], check=True)
    subprocess.run(["ip", "route", "add", "192.0.2.0/24", "via", "10.8.0.2"], check=True)
    _drain(taps, 0.2)
    for line in sys.stdin:
        number, frame = line.split()
        before = _counters()
        os.write(taps[int(number)], bytes.fromhex(frame))
        frames = _drain(taps, 0.002)
        after = _counters()
        moved = {name: value - before.get(name, 0) for name, value in after.items()}
        answer = {"frames": frames, "moved": {name: value for name, value in moved.items() if value}}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
