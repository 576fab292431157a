"""The captures in pcaps/: their scripts, their README, and that Wireshark sees in them what the README says.

The expected values come from README.md, from hand calculation and from tshark, never from netemu: these files are what
netemu's readers are tried on.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support import PCAPS, REPO, needs, own_captures

START = 1_700_000_000  # seconds; when the made-up captures begin

UNFINISHED = {"web.pcapng", "web6.pcap", "big-tcp.pcap", "vlan-linux.pcap", "udp-gso.pcap", "dns.pcap"}
"""Captures taken with checksums left to the device."""


def listed() -> dict[str, tuple[int, int]]:
    """Frames and bytes of each file, as README.md has them."""
    row = re.compile(r"^\| `([\w.-]+)` \| (\d+) \| (\d+) \|", re.MULTILINE)
    text = (PCAPS / "README.md").read_text()
    return {name: (int(frames), int(size)) for name, frames, size in row.findall(text.replace(",", ""))}


def records(path: Path) -> list[tuple[int, bytes]]:
    """Length on the wire and kept bytes of each frame, read in the plainest way."""
    data = path.read_bytes()
    found, at = [], 0
    if path.suffix == ".pcap":
        order = "<" if data[:4] in (bytes.fromhex("d4c3b2a1"), bytes.fromhex("4d3cb2a1")) else ">"
        at = 24
        while at < len(data):
            kept, length = struct.unpack_from(order + "II", data, at + 8)
            found.append((length, data[at + 16 : at + 16 + kept]))
            at += 16 + kept
    else:
        order = "<" if data[8:12] == bytes.fromhex("4d3c2b1a") else ">"
        while at < len(data):
            kind, total = struct.unpack_from(order + "II", data, at)
            if kind == 6:
                kept, length = struct.unpack_from(order + "II", data, at + 20)
                found.append((length, data[at + 28 : at + 28 + kept]))
            at += total
    assert at == len(data)
    return found


LAYERS = ("ip", "tcp", "udp", "icmp", "icmpv6")
CHECKSUMS = tuple(f"{layer}.checksum.status" for layer in LAYERS)
BAD, GOOD, ILLEGAL = "0", "1", "4"  # values of these


@cache
def tshark(name: str, *fields: str) -> dict[str, list[str]]:
    """What tshark prints for each field, a string a frame (empty where it has none), all checksums verified."""
    argv = ["tshark", "-n", "-r", str(PCAPS / name), "-T", "fields"]
    for protocol in ("ip", "tcp", "udp"):
        argv += ["-o", f"{protocol}.check_checksum:TRUE"]
    for field in ("frame.number", *fields):
        argv += ["-e", field]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
    assert done.returncode == 0, done.stderr
    assert complaints == []
    rows = [line.split("\t")[1:] for line in done.stdout.splitlines()]
    return {field: [row[i] for row in rows] for i, field in enumerate(fields)}


def overview(name: str) -> dict[str, list[str]]:
    """The fields that are of interest in every capture."""
    addresses = ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "arp.src.proto_ipv4", "arp.dst.proto_ipv4")
    return tshark(name, "frame.len", "frame.cap_len", "frame.protocols", *addresses, *CHECKSUMS)


def frames_with(values: list[str], *wanted: str) -> list[int]:
    """The numbers of the frames whose value is one of those wanted; of all that have one when none is given."""
    return [number for number, value in enumerate(values, start=1) if (value in wanted if wanted else value)]


def frames_over(protocol: str, name: str) -> list[int]:
    """The numbers of the frames that hold this protocol."""
    chains = overview(name)["frame.protocols"]
    return [number for number, chain in enumerate(chains, start=1) if protocol in chain.split(":")]


def build(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a build.py."""
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


# The scripts and the README ------------------------------------------------------------------------------------------


def test_build_makes_the_same_bytes_again() -> None:
    done = build(PCAPS / "build.py", "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_build_check_notices_one_changed_byte_and_an_absent_file(tmp_path: Path) -> None:
    shutil.copy(PCAPS / "build.py", tmp_path)
    assert build(tmp_path / "build.py").returncode == 0
    changed = bytearray((tmp_path / "vlan.pcap").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "vlan.pcap").write_bytes(changed)
    (tmp_path / "basics.pcap").unlink()
    done = build(tmp_path / "build.py", "--check")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["basics.pcap", "vlan.pcap"]


def test_readme_lists_every_file_with_its_frames_and_bytes() -> None:
    there = {path.name: (len(records(path)), path.stat().st_size) for path in own_captures()}
    assert listed() == there


def test_all_captures_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in own_captures()) < 2_000_000


def test_pcapng_section_headers_name_no_machine() -> None:
    for path in PCAPS.glob("*.pcapng"):
        data = path.read_bytes()
        order = "<" if data[8:12] == bytes.fromhex("4d3c2b1a") else ">"
        assert struct.unpack_from(order + "I", data, 4) == (28,), f"{path.name}: a section header with options"


@pytest.mark.parametrize("name", sorted(listed()))
def test_frames_name_no_machine(name: str) -> None:
    """Every frame whose Ethernet header is whole has a local or group address on both sides."""
    for number, (_, frame) in enumerate(records(PCAPS / name), start=1):
        if len(frame) >= 14:
            assert frame[0] & 3, f"{name}: frame {number} goes to a manufacturer's address"
            assert frame[6] & 3, f"{name}: frame {number} comes from a manufacturer's address"


# What Wireshark sees -------------------------------------------------------------------------------------------------


@needs("tshark")
@pytest.mark.parametrize("name", sorted(listed()))
def test_tshark_reads_it_all(name: str) -> None:
    seen = overview(name)
    lengths = zip(map(int, seen["frame.len"]), map(int, seen["frame.cap_len"]), strict=True)
    assert list(lengths) == [(length, len(data)) for length, data in records(PCAPS / name)]

    documentation = re.compile(r"192\.0\.2\.|198\.51\.100\.|2001:db8:|ff02:|::$")
    for field in ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "arp.src.proto_ipv4", "arp.dst.proto_ipv4"):
        for address in filter(None, seen[field]):
            assert documentation.match(address), address

    if name not in UNFINISHED | {"bad.pcap", "fragments.pcap", "gso-before.pcap", "gro-after.pcap"}:
        for field in CHECKSUMS:
            assert frames_with(seen[field], BAD, ILLEGAL) == []


@needs("tshark")
def test_basics_has_what_it_says() -> None:
    name = "basics.pcap"
    assert frames_over("arp", name) == [1, 2]
    assert frames_over("icmp", name) == [3, 4]
    assert frames_over("tcp", name) == list(range(8, 16))
    assert frames_over("icmpv6", name) == [16, 17, 18, 19]
    assert frames_over("udp", name) == [5, 6, 7, 20, 21, 22, 23, 24]
    assert frames_over("dns", name) == [21, 22, 23, 24]
    seen = tshark(name, "udp.checksum", "dns.a", "dns.aaaa")
    assert frames_with(seen["udp.checksum"], "0x0000") == [7]
    assert (seen["dns.a"][21], seen["dns.aaaa"][23]) == ("192.0.2.2", "2001:db8::2")


@needs("tshark")
def test_vlan_has_its_tags() -> None:
    seen = tshark("vlan.pcap", "vlan.id", "ieee8021ad.id", "vlan.priority", "vlan.dei")
    assert seen["vlan.id"][:7] == ["", "10", "10", "10", "0", "4094", "4095"]
    assert seen["vlan.id"][7:] == ["10", "100,10", "", "10", "10", "10", "10"]
    assert frames_with(seen["ieee8021ad.id"], "100") == frames_with(seen["ieee8021ad.id"]) == [8, 10, 14]
    assert seen["vlan.priority"][1:5] == ["0", "5", "5", "7"]
    assert frames_with(seen["vlan.dei"], "1", "True") == [4]
    assert [length for length, _ in records(PCAPS / "vlan.pcap")][12:] == [1518, 1522]


@needs("tshark")
def test_sizes_has_exactly_these_lengths() -> None:
    seen = tshark("sizes.pcap", "frame.len", "udp.checksum.status", "_ws.expert", "ipv6.opt.jumbo")
    lengths = [int(length) for length in seen["frame.len"]]
    assert lengths[:9] == [14, 15, 42, 60, 64, 127, 128, 129, 142]
    assert lengths[9:16] == [1204, 1205, 1514, 1515, 1518, 1519, 1536]
    assert lengths[16:] == [4096, 9014, 16384, 65549, 80000]
    # all but the two that are too short have a right checksum, and nothing is out of the ordinary
    assert frames_with(seen["udp.checksum.status"], GOOD) == list(range(3, 22))
    assert frames_with(seen["_ws.expert"]) == []
    # the jumbogram: 80,000 - 14 - 40 bytes after the IPv6 header
    assert seen["ipv6.opt.jumbo"][20] == "79946"


def test_sizes_payload_tells_its_own_place() -> None:
    for length, frame in records(PCAPS / "sizes.pcap"):
        start = 14 if length < 42 else 42 if length < 80_000 else 14 + 40 + 8 + 8
        whole = frame[start : start + (length - start) // 4 * 4]
        assert struct.unpack(f">{len(whole) // 4}I", whole) == tuple(range(0, len(whole), 4))


BAD_FRAMES = {
    "ip.bogus_ip_length": [10, 11, 12, 14],  # 14: its header is longer than what the total length says
    "ip.bogus_header_length": [13],
    "ip.bogus_ip_version": [15],
    "udp.length.bad": [11, 18, 19],  # 11: what was cut off is missing from UDP as well
    "tcp.bogus_header_length": [20],
    "tcp.short_segment": [21],
    "ipv6.bogus_ipv6_version": [25],
    "eth.invalid_lentype": [28],
}
"""Field of tshark, and the frames of bad.pcap that have it."""


@needs("tshark")
def test_bad_has_its_faults() -> None:
    values = ("ip.ttl", "ip.len", "ipv6.plen", "eth.src.ig", "eth.type", "stp.root.hw", "llc.type", "eth.len")
    seen = tshark("bad.pcap", *values, "_ws.expert", *CHECKSUMS, *BAD_FRAMES)
    assert {field: frames_with(seen[field]) for field in BAD_FRAMES} == BAD_FRAMES
    assert [frames_with(seen[field], BAD) for field in CHECKSUMS] == [[2], [4, 9], [3, 7], [5], [6]]
    assert frames_with(seen["udp.checksum.status"], ILLEGAL) == [8]
    assert (seen["ip.len"][9], seen["ip.len"][10]) == ("68", "68")  # of frames with 12 and 48 bytes after Ethernet
    assert frames_with(seen["ip.ttl"], "0") == [16]
    assert frames_with(seen["ipv6.plen"], "500") == [24]
    assert frames_with(seen["eth.src.ig"], "1", "True") == [26]
    assert frames_with(seen["eth.type"], "0x88b6") == [27]
    assert seen["stp.root.hw"][28] == "02:00:00:00:00:0a"
    assert frames_with(seen["llc.type"], "0x0800") == [30]
    assert frames_with(seen["eth.len"], "1000") == [31]
    # nothing else is out of the ordinary: 1 is right, 27, 29 and 30 are only strange
    assert [number for number in range(1, 46) if number not in frames_with(seen["_ws.expert"])] == [1, 27, 29, 30]


def test_bad_ends_with_runts() -> None:
    assert [length for length, _ in records(PCAPS / "bad.pcap")][32:] == list(range(1, 14))


def test_bad_has_a_tcp_checksum_of_the_pseudo_header_alone() -> None:
    frame = records(PCAPS / "bad.pcap")[8][1]
    # 0xc000 + 0x0201 + 0xc000 + 0x0202 + 6 (TCP) + 60 (its length) = 0x18445; 0x8445 + 1
    assert frame[14 + 20 + 16 : 14 + 20 + 18] == bytes.fromhex("8446")


@needs("tshark")
def test_fragments_come_together_where_they_can() -> None:
    overlaps = ("ip.fragment.overlap", "ip.fragment.overlap.conflict", "ipv6.fragment.overlap")
    seen = tshark("fragments.pcap", "udp.length", "udp.checksum.status", *overlaps)
    assert frames_with(seen["udp.length"]) == [3, 6, 10, 13, 16, 22, 25, 28, 29]
    assert frames_with(seen["udp.length"], "3008") == [3, 6, 10, 13, 16, 22, 25, 28]
    assert frames_with(seen["udp.checksum.status"], BAD) == [16]
    assert [frames_with(seen[field]) for field in overlaps] == [[10, 13, 16], [16], [28]]


def test_fragments_reach_past_the_end() -> None:
    frame = records(PCAPS / "fragments.pcap")[18][1]
    length, offset = struct.unpack_from(">H2xH", frame, 14 + 2)
    assert (offset & 0x1FFF) * 8 + length - 20 == 65_628


@needs("tshark")
def test_snapped_keeps_96_bytes() -> None:
    seen = overview("snapped.pcap")
    assert seen["frame.len"] == ["60", "96", "97", "142", "1514", "9014", "65549", "80000"]
    assert seen["frame.cap_len"] == ["60"] + ["96"] * 7


@needs("tshark")
@pytest.mark.parametrize(("name", "digits"), [("nanosecond.pcap", 9), ("big-endian.pcap", 6), ("big-endian.pcapng", 9)])
def test_variants_differ_in_their_format_only(name: str, digits: int) -> None:
    times = [f"{START}.{i * 1_000_001:09d}"[: 11 + digits].ljust(20, "0") for i in range(4)]
    assert tshark(name, "frame.time_epoch")["frame.time_epoch"] == times
    assert records(PCAPS / name) == records(PCAPS / "nanosecond.pcap")


@needs("tshark")
def test_flows_are_on_four_interfaces_that_count_time_their_way() -> None:
    unit = {"eth0": 10**6, "eth1": 10**9, "eth2": 10**3, "eth3": 2**20}  # a second
    seen = tshark("flows.pcapng", "frame.interface_name", "frame.time_epoch")
    for i, (interface, time) in enumerate(zip(*seen.values(), strict=True)):
        assert interface == f"eth{i // 8 % 4}"
        ticks = i * 1_250_000 * unit[interface] // 10**9
        seconds, fraction = time.split(".")
        shown = (int(seconds) - START) * 10**9 + int(fraction)
        # tshark rounds units of 2**-20 s to what it can print: less than a unit off
        assert abs(shown - ticks * 10**9 // unit[interface]) < (1000 if interface == "eth3" else 1)


@needs("tshark")
def test_flows_are_64_in_udp_and_tcp_over_ipv4_and_ipv6() -> None:
    fields = ("ip.src", "ipv6.src", "udp.srcport", "tcp.srcport")
    rows = list(zip(*tshark("flows.pcapng", *fields).values(), strict=True))
    flows = rows[:64]
    assert len(set(flows)) == 64
    assert rows == flows * 4
    assert sum(bool(udp) for _, _, udp, _ in flows) == sum(bool(tcp) for _, _, _, tcp in flows) == 32
    assert sum(bool(ipv6) for _, ipv6, _, _ in flows) == 16


# What Linux sent -----------------------------------------------------------------------------------------------------


def pseudo_header_sum(packet: bytes) -> int:
    """The folded sum of a TCP or UDP packet's pseudo-header; of IPv6 headers, hop-by-hop options alone are known."""
    if packet[0] >> 4 == 4:
        protocol, addresses, start = packet[9], packet[12:20], 20
    else:
        protocol, addresses, start = packet[6], packet[8:40], 40
        if protocol == 0:
            protocol, start = packet[40], 40 + 8 * (packet[41] + 1)
    words: tuple[int, ...] = struct.unpack(f">{len(addresses) // 2}H", addresses)
    length = len(packet) - start
    total = sum(words) + protocol + length % 65536 + length // 65536
    while total > 65535:
        total = total % 65536 + total // 65536
    return total


@needs("tshark")
@pytest.mark.parametrize("name", sorted(UNFINISHED))
def test_offload_leaves_checksums_unfinished(name: str) -> None:
    protocol = "udp" if name in {"dns.pcap", "udp-gso.pcap"} else "tcp"
    seen = overview(name)
    affected = frames_over(protocol, name)
    assert affected
    assert frames_with(seen[f"{protocol}.checksum.status"], BAD) == affected
    for layer in ("ip", "icmp", "icmpv6"):
        assert frames_with(seen[f"{layer}.checksum.status"], BAD) == []
    field = f"{protocol}.checksum"
    checksums = tshark(name, field)[field]
    for number in affected:
        frame = records(PCAPS / name)[number - 1][1]
        tags = {0x8100: 1, 0x88A8: 2}.get(int.from_bytes(frame[12:14]), 0)
        assert int(checksums[number - 1], 16) == pseudo_header_sum(frame[14 + 4 * tags :])


@needs("tshark")
@pytest.mark.parametrize(
    ("name", "size", "large"),
    [("web.pcapng", "270000", [22, 26, 30]), ("web6.pcap", "100000", [22]), ("jumbo.pcap", "60000", [])],
)
def test_downloads_are_whole(name: str, size: str, large: list[int]) -> None:
    seen = tshark(name, "http.content_length", "tcp.analysis.lost_segment", "tcp.analysis.ack_lost_segment")
    assert [value for value in seen["http.content_length"] if value] == [size]
    assert not any(seen["tcp.analysis.lost_segment"] + seen["tcp.analysis.ack_lost_segment"])
    lengths = [length for length, _ in records(PCAPS / name)]
    assert [number for number, length in enumerate(lengths, start=1) if length > 30_000] == large


@needs("tshark")
def test_big_tcp_has_jumbograms() -> None:
    seen = tshark("big-tcp.pcap", "frame.len", "ipv6.plen", "ipv6.opt.jumbo", "tcp.len")
    assert frames_with(seen["ipv6.opt.jumbo"]) == frames_with(seen["ipv6.plen"], "0") == [19, 22]
    assert (seen["frame.len"][18], seen["frame.len"][21]) == ("71494", "67210")
    # the true length counts what follows the IPv6 header: 14 + 40 less than the frame's
    assert (seen["ipv6.opt.jumbo"][18], seen["ipv6.opt.jumbo"][21]) == ("71440", "67156")
    assert sum(int(length) for length in seen["tcp.len"] if length) == 300_000


@needs("tshark")
@pytest.mark.parametrize(
    ("name", "field", "request_type", "reply_type"),
    [("ping.pcap", "icmp.type", "8", "0"), ("ping6.pcap", "icmpv6.type", "128", "129")],
)
def test_pings_are_answered(name: str, field: str, request_type: str, reply_type: str) -> None:
    seen = tshark(name, field)[field]
    assert frames_with(seen, request_type) == [3, 5, 7]
    assert frames_with(seen, reply_type) == [4, 6, 8]


@needs("tshark")
def test_linux_fragments_come_together() -> None:
    seen = tshark("fragments-linux.pcap", "ip.frag_offset", "ipv6.fraghdr.offset", "icmp.type", "icmpv6.type")
    assert frames_with(seen["ip.frag_offset"]) == list(range(3, 15))
    assert frames_with(seen["ipv6.fraghdr.offset"]) == list(range(17, 29))
    assert frames_with(seen["icmp.type"], "8", "0") == [5, 8, 11, 14]
    assert frames_with(seen["icmpv6.type"], "128", "129") == [19, 22, 25, 28]


@needs("tshark")
def test_linux_vlan_frames_have_their_tags() -> None:
    seen = tshark("vlan-linux.pcap", "vlan.id", "vlan.priority", "ieee8021ad.id")
    assert frames_with(seen["vlan.id"], "10") == list(range(1, 29))
    assert frames_with(seen["vlan.priority"], "3") == list(range(23, 29))
    assert frames_with(seen["vlan.id"], "20") == frames_with(seen["ieee8021ad.id"], "100") == list(range(29, 49))
    # in the bytes of the frame, not beside them
    frames = [frame for _, frame in records(PCAPS / "vlan-linux.pcap")]
    assert {frame[12:16] for frame in frames[:22]} == {bytes.fromhex("8100000a")}
    assert {frame[12:20] for frame in frames[28:48]} == {bytes.fromhex("88a8006481000014")}
    assert max(len(frame) for frame in frames) == 22 + 20 + 32 + 14_480


@needs("tshark")
def test_dns_is_answered() -> None:
    seen = tshark("dns.pcap", "dns.flags.rcode", "dns.a", "dns.aaaa")
    assert frames_with(seen["dns.flags.rcode"], "0") == [4, 6]
    assert frames_with(seen["dns.flags.rcode"], "3") == [8]
    assert (seen["dns.a"][3], seen["dns.aaaa"][5]) == ("192.0.2.2", "2001:db8::2")


def test_jumbo_fills_an_mtu_of_9000() -> None:
    lengths = [length for length, _ in records(PCAPS / "jumbo.pcap")]
    assert lengths[2:12] == [1514, 1514, 1515, 1515, 9014, 9014, 9010, 3066, 9010, 3066]
    assert max(lengths) == 9014
    assert lengths[12:].count(9014) == 6  # 60,000 bytes and a header, 8,948 a segment


@needs("tshark")
def test_udp_gso_hands_over_many_datagrams_at_once() -> None:
    assert tshark("udp-gso.pcap", "udp.length")["udp.length"] == ["108", "1408", "14008", "14009"] * 2
    assert frames_over("ipv6", "udp-gso.pcap") == [5, 6, 7, 8]


# The example ---------------------------------------------------------------------------------------------------------


def test_first_look_writes_its_frames(tmp_path: Path) -> None:
    done = build(REPO / "examples" / "first_look.py", str(tmp_path / "seen.pcap"))
    assert done.returncode == 0, done.stderr
    frames = records(tmp_path / "seen.pcap")
    assert [length for length, _ in frames] == [42, 98, 146, 1514, 14534]
    segment = frames[-1][1]
    # 0xc000 + 0x0201 + 0xc000 + 0x0202 + 6 + 14,500 = 0x1bcad; 0xbcad + 1
    assert segment[50:52] == bytes.fromhex("bcae")
    assert pseudo_header_sum(segment[14:]) == 0xBCAE
