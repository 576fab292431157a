"""Record what Linux's own GSO and GRO do: pairs of captures, from in front of them and from behind.

* ``gso-before.pcap`` and ``gso-after.pcap``: host A has every offload, and between it and host B stands a bridge whose
  port to B has none. So the kernel of the bridge cuts every large packet in software.
* ``gro-before.pcap`` and ``gro-after.pcap``: host A sends complete frames, and host B's interface merges them.

Run it as root; it needs ip, ethtool and tcpdump. See record.py, whose tools it uses.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from build import IP6_B, IP_A, IP_B
from record import HERE, MARKED, Host, RecordingError, frames_of, recorded, run, running, two_hosts

NO_OFFLOADS = ("tx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off")
INSIDE_A, INSIDE_B = "198.51.100.1", "198.51.100.2"
"""Addresses inside of the tunnel."""
LONGEST = 300_000
"""Bytes that none of the files may exceed."""

SINK = f"""
import socket, threading
def serve(family, address, port):
    listener = socket.create_server((address, port), family=family)
    while True:
        peer, _ = listener.accept()
        while peer.recv(1_000_000):
            pass
        peer.close()
def swallow(family, address):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(17, 104, 1)  # UDP_GRO
    s.bind((address, 9))
    while True:
        s.recv(65536)
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "{IP6_B}")):
    threading.Thread(target=serve, args=(family, address, 5001), daemon=True).start()
    threading.Thread(target=swallow, args=(family, address), daemon=True).start()
import time; time.sleep(0.3); print("ready")
time.sleep(60)
"""


def tcp_source(address: str, size: int) -> str:
    """A program that sends ``size`` bytes over TCP."""
    return f"""{MARKED}
s = socket.create_connection(("{address}", 5001))
s.sendall(marked({size}))
s.shutdown(socket.SHUT_WR)
s.recv(1)
"""


UDP_SOURCE = f"""{MARKED}
for family, address in ((socket.AF_INET, "{IP_B}"), (socket.AF_INET6, "{IP6_B}")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.connect((address, 9))
    s.setsockopt(17, 103, 1200)  # UDP_SEGMENT
    for size in (700, 6000, 6001):
        s.send(marked(size))
"""


@contextmanager
def a_bridge_between() -> Iterator[tuple[Host, Host]]:
    """Hosts A and B with a bridge between them that cuts what goes to B."""
    with ExitStack() as cleanup:
        a, b = cleanup.enter_context(two_hosts())
        middle = Host(f"netemu-{os.getpid()}-m")
        run("ip", "netns", "add", middle.namespace)
        cleanup.callback(run, "ip", "netns", "delete", middle.namespace)
        # The pair that two_hosts made goes; each host gets one of its own to the bridge.
        addresses = {}
        for host in (a, b):
            addresses[host.namespace] = _mac(host)
        a.run("ip", "link", "delete", "eth0")
        middle.run("ip", "link", "add", "br0", "type", "bridge")
        for host, port in ((a, "p0"), (b, "p1")):
            end = ["name", "eth0", "netns", host.namespace, "address", addresses[host.namespace]]
            run("ip", "link", "add", *end, "type", "veth", "peer", "name", port, "netns", middle.namespace)
            middle.run("ip", "link", "set", port, "master", "br0")
            middle.run("ip", "link", "set", port, "up")
            host.run("ip", "link", "set", "eth0", "addrgenmode", "none")
            host.run("ip", "link", "set", "eth0", "up")
        middle.run("ip", "link", "set", "br0", "up")
        middle.run("ethtool", "-K", "p1", *NO_OFFLOADS)
        for host, ip, ip6 in ((a, IP_A, "2001:db8::1"), (b, IP_B, IP6_B)):
            host.run("ip", "address", "add", f"{ip}/24", "dev", "eth0")
            host.run("ip", "address", "add", f"{ip6}/64", "dev", "eth0", "nodad")
        yield a, b


def _mac(host: Host) -> str:
    import subprocess  # noqa: PLC0415

    argv = host.argv("cat", "/sys/class/net/eth0/address")
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def tunnel(a: Host, b: Host, checksum: str) -> Iterator[None]:
    """VXLAN between the hosts, with ("udpcsum") or without ("noudpcsum") a checksum outside."""
    for host, local, remote, inside in ((a, IP_A, IP_B, INSIDE_A), (b, IP_B, IP_A, INSIDE_B)):
        kind = ["type", "vxlan", "id", "42", "dstport", "4789", "local", local, "remote", remote, checksum]
        host.run("ip", "link", "add", "vx0", *kind)
        host.run("ip", "link", "set", "vx0", "addrgenmode", "none")
        host.run("ip", "link", "set", "vx0", "up")
        host.run("ip", "address", "add", f"{inside}/24", "dev", "vx0")
    try:
        yield
    finally:
        for host in (a, b):
            host.run("ip", "link", "delete", "vx0")


def gso(before: Path, after: Path) -> None:
    """TCP over IPv4 and IPv6, UDP_SEGMENT, and TCP in VXLAN without and with an outer checksum."""
    wanted = f"(ip or ip6) and not icmp6 and src host {IP_A} or src host 2001:db8::1"
    with (
        a_bridge_between() as (a, b),
        running("ready", *b.python(SINK)),
        recorded(a, before, wanted),
        recorded(b, after, wanted),
    ):
        run(*a.python(tcp_source(IP_B, 40_000)))
        run(*a.python(tcp_source(IP6_B, 40_000)))
        run(*a.python(UDP_SOURCE))
        for checksum in ("noudpcsum", "udpcsum"):
            with tunnel(a, b, checksum):
                run(*a.python(tcp_source(INSIDE_B, 20_000)))


def gro(before: Path, after: Path) -> None:
    """TCP over IPv4 and IPv6, and datagrams in trains to a socket that wants them merged."""
    wanted = f"(ip or ip6) and not icmp6 and src host {IP_A} or src host 2001:db8::1"
    with two_hosts() as (a, b):
        a.run("ethtool", "-K", "eth0", *NO_OFFLOADS)
        b.run("ethtool", "-K", "eth0", "gro", "on")
        with (
            running("ready", *b.python(SINK)),
            recorded(a, before, wanted),
            recorded(b, after, wanted),
        ):
            run(*a.python(tcp_source(IP_B, 40_000)))
            run(*a.python(tcp_source(IP6_B, 40_000)))
            run(*a.python(UDP_SOURCE))


PAIRS: dict[str, Callable[[Path, Path], None]] = {"gso": gso, "gro": gro}


def main() -> int:
    """Record the pairs that are named, or both."""
    for name in sys.argv[1:] or PAIRS:
        with tempfile.TemporaryDirectory(prefix="netemu-record-") as folder:
            before, after = Path(folder) / "before.pcap", Path(folder) / "after.pcap"
            try:
                PAIRS[name](before, after)
            except RecordingError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 1
            for path in (before, after):
                data = path.read_bytes()
                if len(data) > LONGEST:
                    print(f"{name}-{path.name}: {len(data)} bytes are too many", file=sys.stderr)
                    return 1
                (HERE / f"{name}-{path.name}").write_bytes(data)
                longest = max(frame.length for frame in frames_of(path))
                print(f"{name}-{path.name}: {len(data)} bytes, {len(frames_of(path))} frames to {longest} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
