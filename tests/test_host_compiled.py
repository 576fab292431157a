"""The kernels of a host as machine code: what they answer is what they answer as plain Python."""

from __future__ import annotations

import ctypes

import pytest

from netemu.jit import allocate, call2, entry, hook, i64, load64, memcpy, store64
from netemu.stack.host_stack import HostStack, ReadyList
from netemu.stack.packet import packet_at, packet_len
from netemu.timers import TimerQueue, fire_next, next_due, timers_at
from tests.host_kit import HostBench
from tests.router_host import MACS, NETWORKS, PEER_MACS
from tests.skb_kit import SkbKit
from tests.test_host_linux import CASES, SMALL, Emulated, mac

LOG_SIZE = 1 << 20


@entry
def write_down(log: i64, packet: i64) -> i64:
    """An ``xmit``: append length and bytes to a log, whose first word is the place of its end."""
    at = load64(log)
    p = packet_at(packet)
    head = p.transport + p.transport_len - p.data
    store64(at, packet_len(packet))
    memcpy(at + 8, p.data, head)
    memcpy(at + 8 + head, p.payload, p.payload_len)
    memcpy(at + 8 + head + p.payload_len, p.more, p.more_len)
    store64(log, at + 8 + packet_len(packet))
    return 1


@entry
def take(deliver: i64, interface: i64, skb: i64, timers: i64, until: i64) -> i64:
    """A frame comes in, and time goes on; the verdict."""
    verdict = call2(deliver, interface, skb)
    queue = timers_at(timers)
    while next_due(queue) <= until:
        fire_next(queue)
    queue.now = until
    return verdict


class Compiled:
    """The router of `tests.test_host_linux`, compiled."""

    def __init__(self) -> None:
        self.queue = TimerQueue(4096)
        self.stack = HostStack(self.queue.struct, ReadyList(64), forwarding=True)
        self.logs = [allocate(LOG_SIZE) for _ in range(2)]
        self.skbs = SkbKit()
        xmit = hook(write_down)
        for number, log in enumerate(self.logs):
            store64(log.address, log.address + 8)
            interface = self.stack.add_interface(mac(MACS[number]), xmit, log.address, mtu=SMALL if number else 1500)
            self.stack.add_address(interface, f"{NETWORKS[number]}.1/24")
            self.stack.ip.add_neighbour(interface, f"{NETWORKS[number]}.2", mac(PEER_MACS[number]))
        self.stack.add_route("203.0.113.0/24", kind="unreachable")
        self.stack.add_route("192.0.2.0/24", via=f"{NETWORKS[1]}.2")

    def take(self, bench: HostBench, frame: bytes, until: int) -> int:
        skb = self.skbs.build(frame, linear=20, pieces=(9, 40))
        skb.pkt_type = bench.skb(frame).pkt_type
        interface = self.stack.interfaces[0].address
        return take(self.stack.deliver, interface, skb.address, self.queue.struct.address, until)

    def sent(self, number: int) -> list[str]:
        log = self.logs[number]
        at, end, frames = log.address + 8, load64(log.address), []
        while at < end:
            size = load64(at)
            frames.append(ctypes.string_at(at + 8, size).hex())
            at += 8 + size
        return frames


@pytest.fixture(scope="module")
def machine() -> Compiled:
    return Compiled()


def test_compiled_and_plain_answer_the_same(machine: Compiled) -> None:
    """All the conversations one after the other, ten seconds apart: timers, neighbours and fragments included."""
    plain = Emulated()
    now = 0
    for frames in CASES.values():
        for frame in frames:
            now += 10_000_000_000
            expected = plain.receive(frame)
            plain.queue.run_until(now)
            assert machine.take(plain, frame, now) == expected
    taken = plain.taken()
    for number in range(2):
        assert machine.sent(number) == [sent.data.hex() for sent in taken if sent.interface == number + 1]
    assert machine.stack.snmp() == plain.stack.snmp()
    assert machine.stack.reasons() == plain.stack.reasons()
    assert [str(n) for n in machine.stack.ip.neighbour_list()] == [str(n) for n in plain.stack.ip.neighbour_list()]
