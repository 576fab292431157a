"""A router beside a real Linux one: the same frames bring the same frames out, and move the same counters.

The judge is the kernel these tests run on, in a network namespace of its own, with two TAP devices
(`tests.router_host`). What each is free to choose, the identification of packets of its own, is left out of account.

Two known differences are not among the cases. A redirect quotes the packet as it came, Linux's one as it left. A
fragment that ends beyond the longest packet is refused at once, by Linux when the others came or did not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests import wire
from tests.host_kit import HostBench
from tests.router_host import MACS, NETWORKS, PEER_MACS
from tests.support import REPO, needs
from tests.test_host_arp import OWN, PEER, arp
from tests.test_host_fragments import ECHO, fragment
from tests.wire import ICMP, UDP, put

pytestmark = [needs("ip"), needs("unshare")]

SMALL = 600
"""MTU of the second interface."""
PARTS = ("Ip", "IpExt", "Icmp", "IcmpMsg", "Udp")


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


class Emulated(HostBench):
    """The same router here."""

    def __init__(self) -> None:
        super().__init__(mac=mac(MACS[0]), forwarding=True)
        far = self.interface(mac(MACS[1]), f"{NETWORKS[1]}.1/24", mtu=SMALL)
        for number, interface in enumerate((self.eth0, far)):
            self.know(f"{NETWORKS[number]}.2", mac(PEER_MACS[number]), interface)
        self.stack.add_route("203.0.113.0/24", kind="unreachable")
        self.stack.add_route("192.0.2.0/24", via=f"{NETWORKS[1]}.2")

    def exchange(self, frames: list[bytes]) -> tuple[list[tuple[int, str]], dict[str, int]]:
        for frame in frames:
            self.receive(frame)
            self.run(0.001)
        return [(sent.interface - 1, sent.data.hex()) for sent in self.taken()], self.moved()


class Linux:
    """The real one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def exchange(self, frames: list[bytes]) -> tuple[list[tuple[int, str]], dict[str, int]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        out: list[tuple[int, str]] = []
        total: dict[str, int] = {}
        for frame in frames:
            self.process.stdin.write(f"0 {frame.hex()}\n")
            self.process.stdin.flush()
            answer: dict[str, Any] = json.loads(self.process.stdout.readline())
            out += [(number, data) for number, data in answer["frames"]]
            for name, value in answer["moved"].items():
                total[name] = total.get(name, 0) + value
        return out, total


@pytest.fixture(scope="module")
def linux() -> Iterator[Linux]:
    command = ["unshare", "--net", sys.executable, "-m", "tests.router_host", str(SMALL)]
    with subprocess.Popen(
        command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        router = Linux(process)
        try:
            router.exchange([arp(1, mac(PEER_MACS[0]), PEER, bytes(6), OWN)])
        except (json.JSONDecodeError, BrokenPipeError):
            process.kill()
            assert process.stderr is not None
            pytest.skip(f"no network namespace with TAP devices here: {process.stderr.read().strip()[-200:]}")
        yield router
        process.kill()


def there(address: str) -> bytes:
    return wire.pack_addresses("10.9.0.2", address)


def udp(address: str, size: int, **how: Any) -> bytes:
    return wire.ipv4(
        wire.udp(bytes(n & 0xFF for n in range(size)), addresses=there(address)), UDP, addresses=there(address), **how
    )


def ttl(frame: bytes, value: int) -> bytes:
    frame = put(put(frame, 22, bytes([value])), 24, bytes(2))
    return put(frame, 24, wire.internet_checksum(frame[14 : 14 + (frame[14] & 15) * 4]).to_bytes(2, "big"))


DF, MF = 0x4000, 0x2000
DATA = bytes(range(7, 67))
COPIED = bytes.fromhex("94040000")
CASES: dict[str, list[bytes]] = {
    "request": [arp(1, mac(PEER_MACS[0]), PEER, bytes(6), OWN)],
    "request for the other interface": [arp(1, mac(PEER_MACS[0]), PEER, bytes(6), bytes([10, 8, 0, 1]))],
    "request for another": [arp(1, mac(PEER_MACS[0]), PEER, bytes(6), bytes([10, 9, 0, 77]))],
    "probe": [arp(1, mac(PEER_MACS[0]), bytes(4), bytes(6), OWN)],
    "announcement": [arp(1, mac(PEER_MACS[0]), PEER, bytes(6), PEER)],
    "conflict": [arp(1, mac(PEER_MACS[0]), OWN, bytes(6), OWN)],
    "echo": [wire.ipv4(wire.icmp(8, DATA), ICMP, tos=0x28)],
    "odd echo": [wire.ipv4(wire.icmp(8, DATA + DATA[:1]), ICMP)],
    "echo to the other interface": [wire.ipv4(wire.icmp(8, DATA), ICMP, addresses=there("10.8.0.1"))],
    "echo to the subnet": [wire.ipv4(wire.icmp(8, DATA), ICMP, addresses=there("10.9.0.255"))],
    "echo to all hosts": [wire.ipv4(wire.icmp(8, DATA), ICMP, addresses=there("224.0.0.1"))],
    "echo in fragments": [fragment(0, 800), fragment(800, 1604)],
    "echo in fragments, last first": [fragment(800, 1604), fragment(0, 800)],
    "an overlap": [fragment(0, 800), fragment(392, 808, more=True), fragment(800, 1604)],
    "a duplicate": [fragment(0, 800), fragment(8, 400, more=True), fragment(800, 1604)],
    "another end": [fragment(800, 1604), fragment(800, 1200, more=False), fragment(0, 800)],
    "beyond the end": [fragment(800, 1604), fragment(1608, 1624, data=ECHO + bytes(90), more=True)],
    "a ragged middle": [fragment(0, 803, more=True), fragment(800, 1604)],
    "congestion experienced": [fragment(0, 800, tos=2), fragment(800, 1604, tos=3)],
    "ECN that does not agree": [fragment(0, 800, tos=0), fragment(800, 1604, tos=3)],
    "fragments with DF": [fragment(0, 800, flags=DF), fragment(800, 1604, flags=DF)],
    "unknown protocol": [wire.ipv4(b"abc", 99)],
    "unknown protocol, TOS": [wire.ipv4(b"abc", 99, tos=0xFF)],
    "closed port": [wire.ipv4(wire.udp(bytes(30)), UDP)],
    "closed port, long": [wire.ipv4(wire.udp(bytes(1400)), UDP)],
    "closed port to all": [
        wire.ipv4(wire.udp(bytes(30), addresses=there("10.9.0.255")), UDP, addresses=there("10.9.0.255"))
    ],
    "on": [udp("10.8.0.2", 30)],
    "on by a gateway": [udp("192.0.2.7", 30)],
    "on with options": [udp("10.8.0.2", 30, options=COPIED)],
    "on with padding": [udp("10.8.0.2", 3) + bytes(15)],
    "on, in fragments": [udp("10.8.0.2", 1400)],
    "on, in fragments with options": [udp("10.8.0.2", 1300, options=COPIED + bytes.fromhex("1e080000 00000000"))],
    "on, too long": [udp("10.8.0.2", 1400, fragment=DF)],
    "on, as long as can be": [udp("10.8.0.2", SMALL - 28, fragment=DF)],
    "on, a fragment": [wire.ipv4(bytes(1000), UDP, addresses=there("10.8.0.2"), fragment=MF | 5)],
    "on, a last fragment": [wire.ipv4(bytes(1001), UDP, addresses=there("10.8.0.2"), fragment=5)],
    "time over": [ttl(udp("10.8.0.2", 30), 1)],
    "time over at 0": [ttl(udp("10.8.0.2", 30), 0)],
    "last hop": [ttl(udp("10.8.0.2", 30), 2)],
    "time over here": [ttl(wire.ipv4(wire.icmp(8, DATA), ICMP), 1)],
    "no route": [udp("198.51.100.1", 30)],
    "no route, a later fragment": [wire.ipv4(bytes(32), UDP, addresses=there("198.51.100.1"), fragment=5)],
    "no route, an error": [wire.ipv4(wire.icmp(3, bytes(4) + ECHO[:40]), ICMP, addresses=there("198.51.100.1"))],
    "unreachable": [udp("203.0.113.9", 30)],
    "to 127/8": [udp("127.0.0.1", 30)],
    "to 0/8": [udp("0.1.2.3", 30)],
    "from a group": [wire.ipv4(wire.udp(), UDP, addresses=wire.pack_addresses("224.0.0.9", "10.9.0.1"))],
    "from everybody": [wire.ipv4(wire.udp(), UDP, addresses=wire.pack_addresses("255.255.255.255", "10.9.0.1"))],
    "from ourselves": [wire.ipv4(wire.udp(), UDP, addresses=wire.pack_addresses("10.9.0.1", "10.8.0.2"))],
    "from nobody": [wire.ipv4(wire.udp(), UDP, addresses=wire.pack_addresses("0.0.0.0", "10.9.0.1"))],
    "to a group": [udp("239.1.2.3", 30)],
    "to another subnet's all": [udp("10.8.0.255", 30)],
    "to all stations": [udp("10.8.0.2", 30, dst=wire.EVERYONE)],
    "to another station": [udp("10.8.0.2", 30, dst=bytes.fromhex("02000000dead"))],
    "echo without an identifier": [wire.ipv4(wire.icmp(8, b""), ICMP)],
    "timestamp, cut": [wire.ipv4(wire.icmp(13, bytes(4)), ICMP)],
    "an error about nothing": [wire.ipv4(wire.icmp(3, bytes(4) + bytes(8)), ICMP)],
    # The last one: Linux goes on asking.
    "for a neighbour that is not known": [udp("10.8.0.77", 30)],
}


def choices_left_out(frames: list[tuple[int, str]], came: list[bytes]) -> list[tuple[int, str]]:
    """The frames without identification and header checksum, where that is none of a packet that came."""
    known = {frame[18:20] for frame in came}
    out = []
    for number, text in frames:
        frame = bytes.fromhex(text)
        if frame[12:14] == b"\x08\x00" and frame[18:20] not in known:
            assert wire.internet_checksum(frame[14 : 14 + (frame[14] & 15) * 4]) == 0
            frame = put(put(frame, 18, bytes(2)), 24, bytes(2))
        out.append((number, frame.hex()))
    return out


def numbered(frames: list[bytes], number: int) -> list[bytes]:
    """The same IPv4 packets with an identification that no case before had."""
    return [put_identification(frame, number) if frame[12:14] == b"\x08\x00" else frame for frame in frames]


def put_identification(frame: bytes, number: int) -> bytes:
    frame = put(put(frame, 18, number.to_bytes(2, "big")), 24, bytes(2))
    return put(frame, 24, wire.internet_checksum(frame[14 : 14 + (frame[14] & 15) * 4]).to_bytes(2, "big"))


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES, 0x4000)), ids=list(CASES))
def test_the_same_frames_come_out_and_the_same_counters_move(linux: Linux, number: int, case: str) -> None:
    frames = numbered(CASES[case], number)
    their_frames, their_counters = linux.exchange(frames)
    emulated = Emulated()
    our_frames, our_counters = emulated.exchange(frames)
    assert choices_left_out(our_frames, frames) == choices_left_out(their_frames, frames)
    known = emulated.stack.snmp().keys() | our_counters.keys()
    theirs = {name: value for name, value in their_counters.items() if name.startswith(PARTS) and name in known}
    assert {name: value for name, value in our_counters.items() if name.startswith(PARTS)} == theirs
