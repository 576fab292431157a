"""Record the captures of this folder that hold traffic of Linux's own stack.

Two network namespaces are joined by a veth pair; programs talk across it, and tcpdump records at the first one. A veth
pair has the offloads of a virtio-net device (checksums unfinished, large segments), so its frames look as they do at a
guest's interface.

Run it as root; it needs ip, ethtool, tcpdump, ping, curl, dnsmasq and dig. ``record.py`` records everything,
``record.py NAME...`` what is named. Timestamps, ports and sequence numbers differ from one recording to the next, and
the number of frames may: look over README.md, which names them, afterwards. The namespaces have names of their own and
are removed at the end, whatever happens.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from build import IP6_A, IP6_B, IP_A, IP_B, MAC_A, MAC_B, Frame, Interface, marked, pcapng

HERE = Path(__file__).resolve().parent
PROGRAMS = ("ip", "ethtool", "tcpdump", "ping", "curl", "dnsmasq", "dig")
LIMIT_S = 20
"""Seconds that any one program may take."""


class RecordingError(Exception):
    """A program did not do what it was started for; the message has its last words."""


def run(*argv: str) -> None:
    """Run a program to its end; RecordingError when it fails or takes too long."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RecordingError(f"{' '.join(argv)}: not done after {LIMIT_S} s") from error
    if done.returncode != 0:
        raise RecordingError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")


@contextmanager
def running(ready: str, *argv: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """A program in the background, from the line of output that holds ``ready`` until the end of the block."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    output = process.stdout
    assert output is not None
    watchdog = signal.signal(signal.SIGALRM, lambda *_: process.kill())
    try:
        signal.alarm(LIMIT_S)
        said = []
        for line in output:
            said.append(line)
            if ready in line:
                break
        else:
            raise RecordingError(f"{' '.join(argv)}: {''.join(said).strip() or 'ended without a word'}")
        signal.alarm(0)
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, watchdog)
        process.send_signal(stop)
        try:
            process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


class Host:
    """One end: a network namespace with ``eth0`` in it."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def argv(self, *argv: str) -> tuple[str, ...]:
        """The command line that runs ``argv`` on this host."""
        return ("ip", "netns", "exec", self.namespace, *argv)

    def run(self, *argv: str) -> None:
        """Run a program on this host to its end."""
        run(*self.argv(*argv))

    def python(self, source: str) -> tuple[str, ...]:
        """The command line that runs a piece of Python on this host."""
        return self.argv(sys.executable, "-u", "-c", source)


@contextmanager
def two_hosts(*, mtu: int = 1500) -> Iterator[tuple[Host, Host]]:
    """Host A and host B on one veth pair, with the addresses of build.py, removed at the end."""
    with ExitStack() as cleanup:
        hosts = []
        for end in ("a", "b"):
            name = f"netemu-{os.getpid()}-{end}"
            run("ip", "netns", "add", name)
            cleanup.callback(run, "ip", "netns", "delete", name)
            hosts.append(Host(name))
        a, b = hosts
        end_a = ["name", "eth0", "netns", a.namespace, "address", MAC_A, "mtu", str(mtu)]
        end_b = ["name", "eth0", "netns", b.namespace, "address", MAC_B, "mtu", str(mtu)]
        run("ip", "link", "add", *end_a, "type", "veth", "peer", *end_b)
        for host, address, address6 in ((a, IP_A, IP6_A), (b, IP_B, IP6_B)):
            host.run("ip", "link", "set", "eth0", "addrgenmode", "none")  # no link-local address, so no chatter
            host.run("ip", "link", "set", "eth0", "up")
            host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            host.run("ip", "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
        yield a, b


@contextmanager
def recorded(host: Host, path: Path, *expression: str) -> Iterator[None]:
    """Record ``eth0`` of ``host`` during the block, whole frames, into a classic pcap file."""
    # not --immediate-mode: with it libpcap cuts what is over 65,535 bytes
    options = ["-i", "eth0", "-Z", "root", "-U", "-s", "0", "-w", str(path)]
    with running("listening on", *host.argv("tcpdump", *options, *expression), stop=signal.SIGINT):
        yield
        time.sleep(1.5)  # the kernel hands over a block that is not full after one second
    if any(len(frame.data) < frame.length for frame in frames_of(path)):
        raise RecordingError(f"{path.name}: tcpdump did not keep frames whole")


@contextmanager
def web_server(host: Host, address: str, folder: Path, size: int) -> Iterator[None]:
    """An HTTP server on port 80 with one file of ``size`` bytes, ``/marked``."""
    (folder / "marked").write_bytes(marked(size))
    command = ("-u", "-m", "http.server", "80", "--bind", address, "--directory", str(folder))
    with running("Serving HTTP", *host.argv(sys.executable, *command)):
        yield


def fetch(host: Host, address: str) -> None:
    """Download ``/marked`` and throw it away."""
    host.run("curl", "-sS", "--user-agent", "curl", "-o", os.devnull, f"http://{address}/marked")


def frames_of(path: Path) -> list[Frame]:
    """The frames of a little-endian microsecond pcap file, as tcpdump writes it on the machines this runs on."""
    data = path.read_bytes()
    if data[:4] != struct.pack("<I", 0xA1B2C3D4):
        raise RecordingError(f"{path}: not the kind of pcap file that tcpdump was asked for")
    frames, at = [], 24
    while at < len(data):
        seconds, microseconds, kept, length = struct.unpack_from("<IIII", data, at)
        at += 16 + kept
        frames.append(Frame(data[at - kept : at], seconds * 10**9 + microseconds * 1000, length))
    return frames


# The captures --------------------------------------------------------------------------------------------------------


def web(path: Path, folder: Path) -> None:
    """A download over IPv4 with every offload on."""
    with two_hosts() as (a, b), web_server(b, IP_B, folder, 270_000), recorded(a, path, "arp or tcp"):
        fetch(a, IP_B)


def web6(path: Path, folder: Path) -> None:
    """A download over IPv6 with every offload on."""
    with two_hosts() as (a, b), web_server(b, IP6_B, folder, 100_000), recorded(a, path, "icmp6 or (ip6 and tcp)"):
        fetch(a, f"[{IP6_B}]")


MARKED = """
import socket
def marked(size):  # as in build.py
    return b"".join(offset.to_bytes(4, "big") for offset in range(0, size, 4))[:size]
"""

# http.server writes 64 kB at a time, and a segment would hold no more
TCP_SOURCE = f"""{MARKED}
s = socket.create_server(("{IP6_B}", 5001), family=socket.AF_INET6)
print("ready")
peer, _ = s.accept()
peer.sendall(marked(300_000))
"""

TCP_SINK = f"""
import socket
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
s.settimeout(5)
s.connect(("{IP6_B}", 5001))
while s.recv(1_000_000):
    pass
"""


def big_tcp(path: Path, _folder: Path) -> None:
    """300 kB over IPv6 in segments to 120 kB (BIG TCP), each with a jumbo payload option."""
    with two_hosts() as (a, b):
        for host in (a, b):
            host.run("ip", "link", "set", "eth0", "gso_max_size", "120000", "gro_max_size", "120000")
        with running("ready", *b.python(TCP_SOURCE)), recorded(a, path, "ip6 and not host ff02::16"):
            run(*a.python(TCP_SINK))


def ping(path: Path, _folder: Path) -> None:
    """Three echo requests over IPv4, after ARP."""
    with two_hosts() as (a, _), recorded(a, path, "arp or icmp"):
        a.run("ping", "-4", "-c", "3", "-i", "0.2", IP_B)


def ping6(path: Path, _folder: Path) -> None:
    """Three echo requests over IPv6, after neighbour discovery."""
    with two_hosts() as (a, _), recorded(a, path, "icmp6"):
        a.run("ping", "-6", "-c", "3", "-i", "0.2", IP6_B)


def fragments(path: Path, _folder: Path) -> None:
    """Echo requests of 4000 bytes over IPv4 and IPv6, which take three fragments each."""
    with two_hosts() as (a, _), recorded(a, path, "not host ff02::16"):
        a.run("ping", "-4", "-c", "2", "-i", "0.2", "-s", "4000", IP_B)
        a.run("ping", "-6", "-c", "2", "-i", "0.2", "-s", "4000", IP6_B)


@contextmanager
def tagged(hosts: tuple[Host, Host], *tags: str) -> Iterator[None]:
    """Both hosts put these VLAN tags on all they send, and take them off, during the block; see vlan_tag.py."""
    with ExitStack() as stop:
        for host in hosts:
            stop.enter_context(running("attached", *host.argv(sys.executable, str(HERE / "vlan_tag.py"), *tags)))
        yield


def vlan(path: Path, folder: Path) -> None:
    """VLAN 10 with and without a priority, then VLAN 20 in service VLAN 100, recorded with the tags in the frames."""
    with two_hosts() as (a, b):
        for host in (a, b):
            # left on, the tag would travel beside the frame, and be in the file only as libpcap puts it back
            host.run("ethtool", "-K", "eth0", "txvlan", "off", "tx-vlan-stag-hw-insert", "off")
        with web_server(b, IP_B, folder, 30_000), recorded(a, path):
            with tagged((a, b), "8100:000a"):
                a.run("ping", "-c", "1", IP_B)
                fetch(a, IP_B)
            with tagged((a, b), "8100:600a"):
                a.run("ping", "-c", "1", IP_B)
                a.run("ping", "-c", "1", IP6_B)
            with tagged((a, b), "8100:0014", "88a8:0064"):
                a.run("ping", "-c", "1", IP_B)
                fetch(a, IP_B)


def dns(path: Path, _folder: Path) -> None:
    """Three questions to a name server: an address, an IPv6 address, a name that does not exist."""
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"]
    options += ["--no-resolv", "--no-hosts"]
    options += [f"--listen-address={IP_B}", "--bind-interfaces", "--log-facility=-", "--local=/example/"]
    options += [f"--host-record=host.example,{IP_B},{IP6_B}"]
    with two_hosts() as (a, b):
        b.run("ip", "link", "set", "lo", "up")
        with running("started", *b.argv("dnsmasq", *options)), recorded(a, path, "arp or udp"):
            for name, kind in (("host.example", "A"), ("host.example", "AAAA"), ("nobody.example", "A")):
                a.run("dig", f"@{IP_B}", name, kind, "+tries=1", "+time=5")


UDP_ECHO = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{IP_B}", 7))
print("ready")
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(data, peer)
"""

UDP_CLIENT = f"""{MARKED}
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect(("{IP_B}", 7))
for size in (1472, 1473, 8972, 12000):
    s.send(marked(size))
    assert s.recv(65536) == marked(size)
"""


def jumbo(path: Path, folder: Path) -> None:
    """UDP and TCP at an MTU of 9000 with every offload off: frames to 9,014 bytes with finished checksums."""
    with two_hosts(mtu=9000) as (a, b):
        for host in (a, b):
            host.run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        with (
            running("ready", *b.python(UDP_ECHO)),
            web_server(b, IP_B, folder, 60_000),
            recorded(a, path, "arp or udp or tcp or (ip[6:2] & 0x1fff != 0)"),
        ):
            run(*a.python(UDP_CLIENT))
            fetch(a, IP_B)


UDP_SINK = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 9))
print("ready")
while True:
    s.recv(65536)
"""

UDP_SEGMENTS = f"""{MARKED}
SOL_UDP, UDP_SEGMENT = 17, 103  # linux/udp.h
for family, address in ((socket.AF_INET, "{IP_B}"), (socket.AF_INET6, "{IP6_B}")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.connect((address, 9))
    s.send(marked(100))
    s.setsockopt(SOL_UDP, UDP_SEGMENT, 1400)
    for size in (1400, 14000, 14001):
        s.send(marked(size))
"""


def udp_gso(path: Path, _folder: Path) -> None:
    """Datagrams of 1,400 bytes handed over ten at a time (UDP_SEGMENT), over IPv4 and IPv6."""
    with two_hosts() as (a, b), running("ready", *b.python(UDP_SINK)), recorded(a, path, "udp"):
        run(*a.python(UDP_SEGMENTS))


CAPTURES: dict[str, Callable[[Path, Path], None]] = {
    "web.pcapng": web,
    "web6.pcap": web6,
    "big-tcp.pcap": big_tcp,
    "ping.pcap": ping,
    "ping6.pcap": ping6,
    "fragments-linux.pcap": fragments,
    "vlan-linux.pcap": vlan,
    "dns.pcap": dns,
    "jumbo.pcap": jumbo,
    "udp-gso.pcap": udp_gso,
}

LARGE = {"web.pcapng": 50_000, "web6.pcap": 30_000, "big-tcp.pcap": 70_000}
"""Bytes that the largest frame must have. TCP sizes segments by its timing, so that some tries see none so large."""
TRIES = 5


def record(name: str) -> bytes:
    """The capture file of this name, recorded anew; RecordingError when that cannot be done."""
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="netemu-record-") as folder:
            path = Path(folder) / "recorded.pcap"
            CAPTURES[name](path, Path(folder))
            frames, data = frames_of(path), path.read_bytes()
        if max(frame.length for frame in frames) >= LARGE.get(name, 0):
            # tcpdump writes classic pcap only
            return data if name.endswith(".pcap") else pcapng(frames, [Interface("eth0", snaplen=262144)])
    raise RecordingError(f"no frame of {LARGE[name]} bytes in {TRIES} tries")


def main() -> int:
    """Record what is named, or everything."""
    parser = argparse.ArgumentParser(description="Record captures between two network namespaces. Needs root.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CAPTURES)}; all when none is given")
    names = parser.parse_args().names or list(CAPTURES)
    unknown = [name for name in names if name not in CAPTURES]
    if unknown:
        parser.error(f"nothing is known of {', '.join(unknown)}")
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        parser.error(f"not installed: {', '.join(absent)}")
    if os.geteuid() != 0:
        parser.error("only root can make network namespaces and record")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that the namespaces are removed
    for name in names:
        try:
            data = record(name)
        except RecordingError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        (HERE / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
