"""Hosts that talk, in netemu: what the rivals in ns3_hosts.cc and nspy_hosts.py do. Prints a line of JSON.

Usage: python -m bench.netemu_hosts bulk|bulk-tso|flood|pings SIMULATED_SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from bench.simulators import Simulated
from netemu.jit import hook
from netemu.lab import Guest, Lab
from netemu.lab.guest import Offloads
from netemu.stack.tcp.apps import tcp_sink, tcp_source
from netemu.timers import NEVER
from netemu.traffic.udp import UdpReceiver, UdpSender, ping_flow

MSS = 1448
DATAGRAM = 1000
INTERVAL = "8.5us"
DISCARD = 9
HOSTS = 100
PING_BYTES = 56
PING_EVERY = 0.01
PING_LAG = 100e-6
"""Seconds from the first ping of one host to that of the next."""


def road(lab: Lab, offloads: Offloads) -> tuple[Guest, Guest]:
    """Two guests with a router between them."""
    a = lab.guest("a", "10.0.0.1/24", gateway="10.0.0.254", offloads=offloads)
    b = lab.guest("b", "10.0.1.1/24", gateway="10.0.1.254", offloads=offloads)
    router = lab.router("router", ["10.0.0.254/24", "10.0.1.254/24"])
    for guest in (a, b):
        lab.link(guest, router, "delay 1ms", rate="1gbit", queue="1000p")
    return a, b


async def bulk(a: Guest, b: Guest, seconds: float) -> Simulated:
    """A TCP connection, as much as goes; what the receiver acknowledged counts."""
    b.tcp.listen(DISCARD, app=hook(tcp_sink))
    connection = a.tcp.connect(await a.resolve(b), DISCARD, app=hook(tcp_source))
    connection.tcb.app_count = NEVER
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    real = time.perf_counter() - start
    acked = int(connection.info()["bytes_acked"])
    return Simulated(seconds, real, acked // MSS, acked)


async def flood(a: Guest, b: Guest, seconds: float) -> Simulated:
    """Datagrams at nearly the rate of the road."""
    address = await a.resolve(b)
    with (
        UdpReceiver(b, DISCARD) as receiver,
        UdpSender(a, address, DISCARD, interval=INTERVAL, size=DATAGRAM, time=seconds) as sender,
    ):
        sender.start()
        start = time.perf_counter()
        await asyncio.sleep(seconds)
        real = time.perf_counter() - start
        stats = receiver.stats()
        return Simulated(seconds, real, stats.received, stats.received_bytes)


def switched(lab: Lab) -> list[Guest]:
    """A hundred guests on one switch."""
    switch = lab.switch("switch")
    guests = [lab.guest(f"g{number}", f"10.0.0.{number + 1}/24") for number in range(HOSTS)]
    for guest in guests:
        lab.link(guest, switch, "delay 10us", rate="1gbit", queue="1000p")
    return guests


async def pings(guests: list[Guest], seconds: float) -> Simulated:
    """Each pings the one opposite."""

    async def one(number: int) -> int:
        await asyncio.sleep(number * PING_LAG)
        opposite = guests[(number + HOSTS // 2) % HOSTS]
        count = round((seconds - number * PING_LAG) / PING_EVERY)
        flow = await ping_flow(
            guests[number], opposite, interval=PING_EVERY, size=PING_BYTES, count=count, drain=PING_EVERY
        )
        return flow.received

    start = time.perf_counter()
    received = sum(await asyncio.gather(*map(one, range(HOSTS))))
    real = time.perf_counter() - start
    return Simulated(seconds, real, 2 * received, 2 * received * PING_BYTES)


def main() -> None:
    """Build the hosts, let time go by, and tell what came through and how long that took."""
    work, seconds = sys.argv[1], float(sys.argv[2])
    with Lab() as lab:
        if work == "pings":
            told = lab.run(pings(switched(lab), seconds))
        else:
            a, b = road(lab, "on" if work == "bulk-tso" else "csum")
            told = lab.run(flood(a, b, seconds) if work == "flood" else bulk(a, b, seconds))
    print(json.dumps(vars(told)))


if __name__ == "__main__":
    main()
