"""The protocol stack against a real Linux host: the same frames must move the same counters.

The host is the kernel these tests run on, in a network namespace of its own, behind a TAP device (`tests.stack_host`).
"""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from netemu.skb import CHECKSUM_PARTIAL
from netemu.stack import ProtocolStack, StackReason
from tests import wire
from tests.skb_kit import SkbKit, receive
from tests.stack_host import OPEN_PORT
from tests.support import REPO, needs
from tests.wire import A6, DEST, FRAGMENT, ICMP, ICMPV6, NONE, ROUTING, TCP, UDP, put

NOT_RECEIVED = re.compile("Out|TcpExt")
"""Counters of what the host answers."""

NEEDS_CSUM = 1
GSO_TCPV4 = 1

ALL_HOSTS = wire.pack_addresses("10.9.0.2", "224.0.0.1")
BROADCAST = wire.pack_addresses("10.9.0.2", "255.255.255.255")
ALL_NODES = wire.pack_addresses("2001:db8:9::2", "ff02::1")
ALL_HOSTS_MAC, ALL_NODES_MAC = bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")

pytestmark = [needs("ip"), needs("unshare")]


class Host:
    """A real host, and the emulated one: each frame goes to both."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.kit = SkbKit()
        self.verdict = 0

    def linux(self, frame: bytes, header: bytes = bytes(10)) -> dict[str, int]:
        """The counters of received packets that the frame moves in the real host."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write((header + frame).hex() + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the host in the namespace ended"
        moved: dict[str, int] = json.loads(answer)
        return {name: value for name, value in moved.items() if not NOT_RECEIVED.search(name)}

    def netemu(
        self,
        frame: bytes,
        *,
        open_port: bool = False,
        csum: tuple[int, int] | None = None,
        gso: tuple[int, int] = (0, 0),
    ) -> dict[str, int]:
        """The counters it moves in a new emulated host."""
        stack = ProtocolStack(promiscuous=False, any_port=open_port)
        skb = self.kit.build(frame)
        if frame[:6] != wire.HOST_MAC and not frame[0] & 1:
            skb.pkt_type = 3
        if csum is not None:
            skb.ip_summed = CHECKSUM_PARTIAL
            skb.csum_start, skb.csum_offset = csum
        skb.gso_type, skb.gso_size = gso
        self.verdict = receive(stack, skb)
        return {name: value for name, value in stack.snmp().items() if value}

    def agree(
        self,
        frame: bytes,
        *,
        open_port: bool = False,
        csum: tuple[int, int] | None = None,
        gso: tuple[int, int] = (0, 0),
        gso_header: int = 0,
    ) -> dict[str, int]:
        """Give a frame to both, and return the counters that both moved.

        ``csum`` is (csum_start, csum_offset) of an unfinished checksum, ``gso`` (gso_type, gso_size), ``gso_header``
        the bytes of headers of a GSO frame.
        """
        start, offset = csum or (0, 0)
        header = struct.pack("<BBHHHH", NEEDS_CSUM if csum else 0, gso[0], gso_header, gso[1], start, offset)
        theirs = self.linux(frame, header)
        ours = self.netemu(frame, open_port=open_port, csum=csum, gso=gso)
        assert ours == theirs, frame.hex()
        return ours


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    process = subprocess.Popen(
        ["unshare", "--net", sys.executable, "-m", "tests.stack_host"],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(bytes(10 + 14).hex() + "\n")
            process.stdin.flush()
            if not process.stdout.readline():
                pytest.skip(f"no namespace with a TAP device can be made here: {process.stderr.read().strip()[-200:]}")
            yield Host(process)
        finally:
            process.stdin.close()
            process.wait(timeout=10)
            process.stdout.close()
            process.stderr.close()


def moved(counters: dict[str, int]) -> set[str]:
    """The counters that tell of faults, of those that moved."""
    plain = ("InReceives", "InDelivers", "Octets", "ECTPkts", "InMsgs", "InSegs")
    return {name for name in counters if not name.endswith(plain) and "InType" not in name}


GOOD4 = wire.ipv4(wire.udp(), UDP)
GOOD6 = wire.ipv6(wire.udp(addresses=A6), UDP)

FAULTS_IPV4: dict[str, tuple[bytes, set[str]]] = {
    "header checksum": (wire.ipv4(wire.udp(), UDP, checksum=1), {"IpInHdrErrors", "IpExtInCsumErrors"}),
    "version": (wire.ipv4(wire.udp(), UDP, first=0x55), {"IpInHdrErrors"}),
    "ihl 4": (wire.ipv4(wire.udp(), UDP, first=0x44), {"IpInHdrErrors"}),
    "ihl beyond the frame": (wire.ipv4(wire.udp(), UDP, first=0x4F), {"IpInHdrErrors"}),
    "no byte of IP": (GOOD4[:14], {"IpInHdrErrors"}),
    "19 bytes of IP": (GOOD4[:33], {"IpInHdrErrors"}),
    "total length too long": (wire.ipv4(wire.udp(), UDP, length=34), {"IpExtInTruncatedPkts"}),
    "total length too short": (wire.ipv4(wire.udp(), UDP, length=19), {"IpInHdrErrors"}),
    "total length 0": (wire.ipv4(wire.udp(), UDP, length=0), {"IpInHdrErrors"}),
    "protocol": (wire.ipv4(b"x", 99), {"IpInUnknownProtos"}),
    "fragment": (wire.ipv4(bytes(16), UDP, fragment=0x2000), {"IpReasmReqds"}),
    "last fragment": (wire.ipv4(bytes(16), UDP, fragment=0x0008), {"IpReasmReqds"}),
    "UDP checksum": (wire.ipv4(wire.udp(checksum=1), UDP), {"UdpInErrors", "UdpInCsumErrors"}),
    "UDP header cut": (wire.ipv4(wire.udp()[:7], UDP), {"UdpInErrors"}),
    "UDP length 7": (wire.ipv4(wire.udp(length=7), UDP), {"UdpInErrors"}),
    "UDP length 0": (wire.ipv4(wire.udp(length=0), UDP), {"UdpInErrors"}),
    "UDP length too long": (wire.ipv4(wire.udp(length=14), UDP), {"UdpInErrors"}),
    "UDP port": (GOOD4, {"UdpNoPorts"}),
    "UDP zero checksum is none": (wire.ipv4(wire.udp(checksum=0), UDP), {"UdpNoPorts"}),
    "UDP shorter than IP": (wire.ipv4(wire.udp() + b"more", UDP), {"UdpNoPorts"}),
    "padding": (GOOD4 + bytes(20), {"UdpNoPorts"}),
    "UDP to some": (
        wire.ipv4(wire.udp(addresses=ALL_HOSTS), UDP, addresses=ALL_HOSTS, dst=ALL_HOSTS_MAC),
        {"UdpIgnoredMulti", "IpExtInMcastPkts"},
    ),
    "UDP to all": (
        wire.ipv4(wire.udp(addresses=BROADCAST), UDP, addresses=BROADCAST, dst=wire.EVERYONE),
        {"UdpIgnoredMulti", "IpExtInBcastPkts"},
    ),
    "TCP to all": (
        wire.ipv4(wire.tcp(addresses=BROADCAST), TCP, addresses=BROADCAST, dst=wire.EVERYONE),
        {"IpExtInBcastPkts"},
    ),
    "TCP checksum": (wire.ipv4(wire.tcp(checksum=1), TCP), {"TcpInErrs", "TcpInCsumErrors"}),
    "TCP checksum, long": (wire.ipv4(wire.tcp(bytes(1400), checksum=1), TCP), {"TcpInErrs", "TcpInCsumErrors"}),
    "TCP header cut": (wire.ipv4(wire.tcp()[:19], TCP), set()),
    "TCP data offset 4": (wire.ipv4(wire.tcp(data_offset=4), TCP), {"TcpInErrs"}),
    "TCP data offset 15": (wire.ipv4(wire.tcp(data_offset=15), TCP), set()),
    "TCP odd length": (wire.ipv4(wire.tcp(b"odd"), TCP), set()),
    "ICMP checksum": (wire.ipv4(wire.icmp(8, bytes(4), checksum=1), ICMP), {"IcmpInErrors", "IcmpInCsumErrors"}),
    "ICMP cut": (wire.ipv4(wire.icmp(8), ICMP), {"IcmpInErrors"}),
    "ICMP empty": (wire.ipv4(b"", ICMP), {"IcmpInErrors", "IcmpInCsumErrors"}),
    "another station": (put(GOOD4, 0, bytes.fromhex("020000000099")), set()),
    "no protocol of ours": (wire.ethernet(bytes(46), 0x9999), set()),
    "802.2": (wire.ethernet(b"\x42\x42\x03" + bytes(40), 38), set()),
    "ARP": (wire.ethernet(bytes.fromhex("0001080006040002") + wire.PEER_MAC + bytes(16), 0x0806), set()),
    "ARP cut": (wire.ethernet(bytes.fromhex("0001080006040002"), 0x0806), set()),
}
"""Frames with one fault each (or none but a closed port), and the counters that tell of it by the MIBs' definitions."""

FAULTS_IPV6: dict[str, tuple[bytes, set[str]]] = {
    "version": (wire.ipv6(b"", NONE, version=5), {"Ip6InHdrErrors"}),
    "39 bytes of IP": (GOOD6[:53], {"Ip6InHdrErrors"}),
    "payload too long": (wire.ipv6(wire.udp(addresses=A6), UDP, length=14), {"Ip6InTruncatedPkts"}),
    "from ::1": (wire.ipv6(b"", NONE, addresses=wire.pack_addresses("::1", "2001:db8:9::1")), {"Ip6InHdrErrors"}),
    "to ::1": (wire.ipv6(b"", NONE, addresses=wire.pack_addresses("2001:db8:9::2", "::1")), {"Ip6InHdrErrors"}),
    "from some": (wire.ipv6(b"", NONE, addresses=wire.pack_addresses("ff02::1", "2001:db8:9::1")), {"Ip6InHdrErrors"}),
    "scope 0": (wire.ipv6(b"", NONE, addresses=wire.pack_addresses("2001:db8:9::2", "ff00::1")), {"Ip6InHdrErrors"}),
    "scope 1": (wire.ipv6(b"", NONE, addresses=wire.pack_addresses("2001:db8:9::2", "ff01::1")), {"Ip6InHdrErrors"}),
    "nothing follows": (wire.ipv6(b"xyz", NONE), set()),
    "protocol": (wire.ipv6(b"x", 99), {"Ip6InUnknownProtos"}),
    "padding": (GOOD6 + bytes(9), {"Udp6NoPorts"}),
    "UDP port": (GOOD6, {"Udp6NoPorts"}),
    "UDP checksum": (wire.ipv6(wire.udp(addresses=A6, checksum=1), UDP), {"Udp6InErrors", "Udp6InCsumErrors"}),
    "UDP zero checksum": (wire.ipv6(wire.udp(addresses=A6, checksum=0), UDP), {"Udp6InErrors", "Udp6InCsumErrors"}),
    "UDP zero checksum to some": (
        wire.ipv6(wire.udp(addresses=ALL_NODES, checksum=0), UDP, addresses=ALL_NODES, dst=ALL_NODES_MAC),
        {"Udp6IgnoredMulti", "Ip6InMcastPkts"},
    ),
    "UDP length 7": (wire.ipv6(wire.udp(addresses=A6, length=7), UDP), {"Udp6InErrors"}),
    "UDP length too long": (wire.ipv6(wire.udp(addresses=A6, length=14), UDP), {"Udp6InErrors"}),
    "TCP checksum": (wire.ipv6(wire.tcp(addresses=A6, checksum=1), TCP), {"TcpInErrs", "TcpInCsumErrors"}),
    "TCP data offset 3": (wire.ipv6(wire.tcp(addresses=A6, data_offset=3), TCP), {"TcpInErrs"}),
    "ICMPv6 checksum": (
        wire.ipv6(wire.icmpv6(128, bytes(4), checksum=1), ICMPV6),
        {"Icmp6InErrors", "Icmp6InCsumErrors"},
    ),
    "ICMPv6 cut": (wire.ipv6(wire.icmpv6(128), ICMPV6), {"Icmp6InErrors"}),
    "fragment": (wire.ipv6(bytes.fromhex("1100000100000001") + bytes(16), FRAGMENT), {"Ip6ReasmReqds"}),
    "fragment of 15 bytes": (
        wire.ipv6(bytes.fromhex("1100000100000002") + bytes(15), FRAGMENT),
        {"Ip6ReasmReqds", "Ip6InHdrErrors"},
    ),
    "fragment beyond 65535": (
        wire.ipv6(bytes.fromhex("1100fff800000003") + bytes(16), FRAGMENT),
        {"Ip6ReasmReqds", "Ip6InHdrErrors"},
    ),
    "fragment header cut": (wire.ipv6(bytes.fromhex("11000001"), FRAGMENT), {"Ip6ReasmReqds", "Ip6InHdrErrors"}),
    "atomic fragment": (
        wire.ipv6(bytes.fromhex("11ff000000000004") + wire.udp(addresses=A6), FRAGMENT),
        {"Ip6ReasmReqds", "Ip6ReasmOKs", "Udp6NoPorts"},
    ),
    "atomic fragment twice": (
        wire.ipv6(bytes.fromhex("2c000000000000051100000000000006") + wire.udp(addresses=A6), FRAGMENT),
        {"Ip6ReasmReqds", "Ip6ReasmOKs", "Ip6InHdrErrors"},
    ),
    "hop-by-hop twice": (wire.ipv6(bytes.fromhex("00000104000000003b00010400000000"), 0), {"Ip6InUnknownProtos"}),
}


@pytest.mark.parametrize("fault", FAULTS_IPV4)
def test_faults_over_ipv4(host: Host, fault: str) -> None:
    frame, counters = FAULTS_IPV4[fault]
    assert moved(host.agree(frame)) == counters


@pytest.mark.parametrize("fault", FAULTS_IPV6)
def test_faults_over_ipv6(host: Host, fault: str) -> None:
    frame, counters = FAULTS_IPV6[fault]
    assert moved(host.agree(frame)) == counters


@pytest.mark.parametrize("size", [0, 1, 60, 200, 1400])
def test_datagrams_for_an_open_port(host: Host, size: int) -> None:
    datagram = wire.ipv4(wire.udp(bytes(size), port=OPEN_PORT), UDP)
    assert host.agree(datagram, open_port=True)["UdpInDatagrams"] == 1
    packet = wire.ipv6(wire.udp(bytes(size), addresses=A6, port=OPEN_PORT), UDP)
    assert host.agree(packet, open_port=True)["Udp6InDatagrams"] == 1
    wrong = wire.ipv4(wire.udp(bytes(size), port=OPEN_PORT, checksum=0x1234), UDP)
    assert host.agree(wrong, open_port=True)["UdpInCsumErrors"] == 1


@pytest.mark.parametrize("codepoint", range(4))
def test_congestion_codepoints(host: Host, codepoint: int) -> None:
    name = ("InNoECTPkts", "InECT1Pkts", "InECT0Pkts", "InCEPkts")[codepoint]
    assert host.agree(wire.ipv4(wire.udp(), UDP, tos=0xFC | codepoint))["IpExt" + name] == 1
    assert host.agree(wire.ipv6(b"", NONE, traffic_class=0xFC | codepoint))["Ip6" + name] == 1


OPTIONS_IPV4 = """
01010101 07010000 07030400 07070400000000 07070300000000 070b0800000000 0709070000000000 0707050000000000
83000000 83030400 83070400000000 830303 83040489040400 00ffffff 44040500 440c0500 4408050300000000 440809f300000000
440809f000000000 44050500 44040400 4404 4404050044040500 94040000 94030000 ff040000 ff020000 ff010000 ff000000
88030000 860a0000000100000000 07040600000000 0703040007030400 440c05010000000000000000 440c0d030000000000000000
"""


@pytest.mark.parametrize("options", OPTIONS_IPV4.split())
def test_ipv4_options(host: Host, options: str) -> None:
    padded = bytes.fromhex(options) + bytes(-len(options) // 2 % 4)
    host.agree(wire.ipv4(wire.udp(), UDP, options=padded))


QUOTED4 = wire.ipv4(wire.udp(bytes(12)), UDP)[14:]
QUOTED6 = wire.ipv6(wire.udp(bytes(12), addresses=A6), UDP)[14:]


@pytest.mark.parametrize("kind", [*range(20), 42, 43, 44, 255])
def test_icmp_types(host: Host, kind: int) -> None:
    host.agree(wire.ipv4(wire.icmp(kind, bytes(4) + QUOTED4), ICMP))
    echo_to_all = wire.icmp(kind, bytes(20))
    host.agree(wire.ipv4(echo_to_all, ICMP, addresses=BROADCAST, dst=wire.EVERYONE))
    for size in (0, 4, 19, 20, 27, 28):
        host.agree(wire.ipv4(wire.icmp(kind, bytes(4) + QUOTED4[:size]), ICMP))
    host.agree(wire.ipv4(wire.icmp(kind, bytes(4) + b"\x44" + QUOTED4[1:]), ICMP))
    host.agree(wire.ipv4(wire.icmp(kind, bytes(4) + b"\x46" + QUOTED4[1:30]), ICMP))


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 100, 127, *range(128, 140), 143, 148, 160, 161, 200, 255])
def test_icmpv6_types(host: Host, kind: int) -> None:
    for hop_limit in (64, 255):
        for size in (0, 39, 40, 47, 48, 60):
            message = wire.icmpv6(kind, bytes(4) + QUOTED6[:size])
            host.agree(wire.ipv6(message, ICMPV6, hop_limit=hop_limit))


EXTENSIONS = """
0000000000000000 0000010400000000 0000050200000100 0000050300000000 0000c20400010000 0000c20400000010 0000010500000000
0001010c000000000000000000000000 00010105000000000005020000000000 00003e0400000000 0000410400000000 0000810400000000
0000c10400000000 0000010400000100 00010000000000000000000000000000 00000e0200000000 00ff000000000000
00010e000e000e000e000e000e000e00 00020e000e000e000e000e000e000e000e000e000e000102 0000000401000000 0000020100000000
00010201000000000000000000000000 0000040100000000 0000030100000000 0000000100000000 0000000800000000 0000030000000000
0000040000000000 00000500 000001030000c204
"""
"""Extension headers for each type to make of what it can: options good and bad, routing types, segments left."""


@pytest.mark.parametrize("header", EXTENSIONS.split())
def test_ipv6_extension_headers(host: Host, header: str) -> None:
    given = bytes([UDP]) + bytes.fromhex(header)[1:]
    for kind in (0, DEST, ROUTING):
        for size in (1, 7, len(given)):
            host.agree(wire.ipv6(given[:size], kind))
        host.agree(wire.ipv6(given + wire.udp(addresses=A6), kind))
        to_some = given + wire.udp(addresses=ALL_NODES)
        host.agree(wire.ipv6(to_some, kind, addresses=ALL_NODES, dst=ALL_NODES_MAC))
        host.agree(wire.ipv6(given + wire.udp(addresses=A6), kind, length=0))


class TestUnfinishedChecksums:
    def test_are_believed_in_the_header_they_belong_to(self, host: Host) -> None:
        counters = host.agree(wire.ipv4(wire.udp(checksum=1), UDP), csum=(34, 6))
        assert moved(counters) == {"UdpNoPorts"}
        counters = host.agree(wire.ipv6(wire.tcp(addresses=A6, checksum=1), TCP), csum=(54, 16))
        assert moved(counters) == set()

    def test_are_believed_further_in(self, host: Host) -> None:
        counters = host.agree(wire.ipv4(wire.udp(bytes(40), checksum=1), UDP), csum=(50, 6))
        assert moved(counters) == {"UdpNoPorts"}

    def test_are_not_believed_further_out(self, host: Host) -> None:
        counters = host.agree(wire.ipv4(wire.tcp(checksum=1), TCP), csum=(20, 16))
        assert moved(counters) == {"TcpInErrs", "TcpInCsumErrors"}

    def test_do_not_spare_the_ipv4_header(self, host: Host) -> None:
        counters = host.agree(wire.ipv4(wire.udp(), UDP, checksum=1), csum=(34, 6))
        assert moved(counters) == {"IpInHdrErrors", "IpExtInCsumErrors"}

    @pytest.mark.parametrize("size", [3000, 60000])
    def test_a_gso_frame(self, host: Host, size: int) -> None:
        segment = wire.tcp(bytes(size), checksum=1)
        counters = host.agree(wire.ipv4(segment, TCP), csum=(34, 16), gso=(GSO_TCPV4, 1448), gso_header=54)
        assert moved(counters) == set()
        assert counters["TcpInSegs"] == 1

    def test_a_gso_frame_with_total_length_0(self, host: Host) -> None:
        segment = wire.tcp(bytes(3000), checksum=1)
        frame = wire.ipv4(segment, TCP, length=0)
        counters = host.agree(frame, csum=(34, 16), gso=(GSO_TCPV4, 1448), gso_header=54)
        assert moved(counters) == set()


TO_MUTATE = [
    frame
    for frame, _ in (*FAULTS_IPV4.values(), *FAULTS_IPV6.values())
    if len(frame) >= 54 and frame[:6] == wire.HOST_MAC and frame[12:14] in (b"\x08\x00", b"\x86\xdd")
]


def mutated(rng: random.Random) -> bytes:
    """A frame with a few bytes changed, perhaps cut or padded; addresses stay, or the host would route it elsewhere."""
    frame = bytearray(rng.choice(TO_MUTATE))
    over_ipv4 = frame[12] == 0x08
    addresses = range(26, 34) if over_ipv4 else range(22, 54)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(14, len(frame))
        if at not in addresses:
            frame[at] = rng.choice((0, 1, 255, rng.randrange(256), frame[at] ^ 1 << rng.randrange(8)))
    if rng.random() < 0.3:
        del frame[rng.randrange(14, len(frame)) :]
    if over_ipv4 and rng.random() < 0.8 and len(frame) >= 34:
        frame[24:26] = bytes(2)
        size = (frame[14] & 15) * 4
        frame[24:26] = struct.pack(">H", wire.internet_checksum(bytes(frame[14 : 14 + size])))
    return bytes(frame)


@pytest.mark.parametrize("seed", range(5))
def test_frames_with_random_faults(host: Host, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(150):
        frame = mutated(rng)
        theirs, ours = host.linux(frame), host.netemu(frame)
        if host.verdict == StackReason.FRAGMENT:
            # Reassembly in the real host may end at once, for instance where fragments of two frames overlap.
            theirs = {name: value for name, value in theirs.items() if name not in ("IpReasmFails", "Ip6ReasmFails")}
        opened = host.netemu(frame, open_port=True)
        assert theirs in (ours, opened), frame.hex()


@needs("nstat")
def test_names_and_their_order_are_those_of_nstat() -> None:
    printed = subprocess.run(["nstat", "-asz"], capture_output=True, text=True, check=True).stdout
    names = [line.split()[0] for line in printed.splitlines()[1:]]
    ours = list(ProtocolStack().snmp())
    assert ours == [name for name in names if name in set(ours)]
