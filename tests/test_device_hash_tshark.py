"""Field selection judged by tshark: over captures, the hash of what tshark says the addresses and ports are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.hashing import (
    IPV4,
    IPV6,
    KEY,
    NONE,
    TCPV4,
    TCPV6,
    UDPV4,
    UDPV6,
    hash_of,
    hasher,
    packed,
    port_pair,
    toeplitz_by_bits,
    types,
)
from tests.replay_kit import ETHERNET, seen_in
from tests.support import PCAPS, SHARED_PCAPS, needs, needs_shared_pcaps

FIELDS = (
    "frame.protocols", "ip.src", "ip.dst", "ip.flags.mf", "ip.frag_offset", "ipv6.src", "ipv6.dst",
    "ipv6.fraghdr.more", "ipv6.fraghdr.offset",
    "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport",
)  # fmt: skip
BELOW_IP = {"eth", "ethertype", "vlan", "ieee8021ad"}
EXTENSIONS = {"ipv6.hopopts", "ipv6.routing", "ipv6.dstopts", "ipv6.fraghdr", "ah"}
PLAIN_TYPES = types(IPV4, TCPV4, UDPV4, IPV6, TCPV6, UDPV6)
FRAMES = 1500


def told_by_tshark(path: Path) -> list[dict[str, str]]:
    """What tshark says of each frame; of a field that is there more than once, the outermost."""
    command = ["tshark", "-n", "-r", str(path), "-c", str(FRAMES), "-T", "fields", "-E", "occurrence=f"]
    for switch in ("ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE"):
        command += ["-o", switch]
    for field in FIELDS:
        command += ["-e", field]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]


def expected(told: dict[str, str]) -> tuple[int, int] | None:
    """Report and hash of a frame; None where tshark does not say enough."""
    layers = [layer for layer in told["frame.protocols"].split(":") if layer not in BELOW_IP]
    if not layers or layers[0] not in ("ip", "ipv6"):
        return NONE, 0
    if "_ws.malformed" in layers or "_ws.short" in layers:
        return None
    name, *above = layers
    if not told[f"{name}.dst"]:
        return None
    addresses = packed(told[f"{name}.src"], told[f"{name}.dst"])
    report = IPV4 if name == "ip" else IPV6
    above = [layer for layer in above if layer not in EXTENSIONS]
    more, offset = ("ip.flags.mf", "ip.frag_offset") if name == "ip" else ("ipv6.fraghdr.more", "ipv6.fraghdr.offset")
    fragment = told[more] in ("1", "True") or told[offset] not in ("", "0")
    if above and above[0] in ("tcp", "udp") and not fragment:
        kind = above[0]
        report += 1 if kind == "tcp" else 2
        addresses += port_pair(int(told[f"{kind}.srcport"]), int(told[f"{kind}.dstport"]))
    return report, toeplitz_by_bits(KEY, addresses)


def compare(path: Path) -> set[int]:
    """Hash the frames of a capture as tshark would have them; the reports that came up."""
    rss = hasher(PLAIN_TYPES)
    frames = seen_in(path)[:FRAMES]
    if any(frame.link_type != ETHERNET for frame in frames):
        pytest.skip("not a capture of Ethernet")
    reports = set()
    for number, (frame, told) in enumerate(zip(frames, told_by_tshark(path), strict=True), 1):
        wanted = expected(told)
        if wanted is not None:
            assert hash_of(rss, frame.data) == wanted, f"{path.name}, frame {number}: {told}"
            reports.add(wanted[0])
    return reports


@needs("tshark")
@pytest.mark.parametrize(
    "name",
    ["basics.pcap", "flows.pcapng", "vlan.pcap", "fragments.pcap", "dns.pcap", "web6.pcap", "ping6.pcap", "bad.pcap"],
)
def test_fields_of_own_captures_are_those_tshark_sees(name: str) -> None:
    """HASH-D-05, HASH-D-06, HASH-D-07, HASH-D-08."""
    assert compare(PCAPS / name)


SHARED = ["tcpdump", "suricata-verify", "PcapPlusPlus"]


@needs("tshark")
@needs_shared_pcaps
@pytest.mark.parametrize("folder", SHARED)
def test_fields_of_captures_that_nobody_here_made(folder: str) -> None:
    """HASH-D-05, HASH-D-08: a sample of them, the same each time."""
    seen: set[int] = set()
    paths = sorted((SHARED_PCAPS / folder).rglob("*.pcap"))
    for path in paths[:: max(1, len(paths) // 12)]:
        try:
            seen |= compare(path)
        except (pytest.skip.Exception, subprocess.CalledProcessError, ValueError, IndexError):
            continue
    assert seen & {TCPV4, UDPV4, TCPV6, UDPV6}
