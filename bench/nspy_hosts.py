"""Another rival of the lab's rows: the same traffic in ns.py, whose packets have sizes and no bytes. Prints JSON.

Usage: nspy_hosts.py bulk|flood SIMULATED_SECONDS

A road is two ports of 1 Gbit/s with room for 1000 packets and a wire of 1 ms behind each; ns.py has no router that
would do more. Its TCP sender scans its whole window at each acknowledgement.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import simpy
from ns.flow.cubic import TCPCubic
from ns.flow.flow import Flow
from ns.packet.dist_generator import DistPacketGenerator
from ns.packet.sink import PacketSink
from ns.packet.tcp_generator import TCPPacketGenerator
from ns.packet.tcp_sink import TCPSink
from ns.port.port import Port
from ns.port.wire import Wire

HEADERS = 42
"""Ethernet, IPv4, UDP: they take time on a wire, and count for the size of a packet here."""
DATAGRAM = 1000
INTERVAL = 8.5e-6
MSS = 1448
ROAD_FULL = 600_000
"""Slow start ends there, a little above what the road holds; ns.py would not recover from losing half a window."""


def road(env: simpy.Environment, target: Any) -> Any:
    """Two hops that end at ``target``; what packets are put into."""
    for _ in range(2):
        wire = Wire(env, lambda: 1e-3)
        wire.out = target
        port = Port(env, 1e9, qlimit=1000)
        port.out = wire
        target = port
    return target


def flood(env: simpy.Environment) -> PacketSink:
    """Datagrams at nearly the rate of the road."""
    sink = PacketSink(env, rec_arrivals=False, rec_waits=False)
    generator = DistPacketGenerator(env, "source", lambda: INTERVAL, lambda: DATAGRAM + HEADERS)
    generator.out = road(env, sink)
    return sink


def bulk(env: simpy.Environment, seconds: float) -> PacketSink:
    """A TCP flow with CUBIC, as much as goes."""
    sink = TCPSink(env, rec_arrivals=False, rec_waits=False)
    flow = Flow(fid=0, src="source", dst="sink", finish_time=seconds)
    sender = TCPPacketGenerator(env, flow, TCPCubic(mss=MSS, cwnd=10 * MSS, ssthresh=ROAD_FULL))
    sender.mss = MSS
    sender.out = road(env, sink)
    sink.out = road(env, sender)
    return sink


def main() -> None:
    """Simulate, and tell what came through and how long it took."""
    work, seconds = sys.argv[1], float(sys.argv[2])
    env = simpy.Environment()
    sink = bulk(env, seconds) if work == "bulk" else flood(env)
    start = time.perf_counter()
    env.run(until=seconds)
    real = time.perf_counter() - start
    frames = sum(sink.packets_received.values())
    payload = MSS if work == "bulk" else DATAGRAM
    print(json.dumps({"simulated": seconds, "real": real, "frames": frames, "bytes": frames * payload}))


if __name__ == "__main__":
    main()
