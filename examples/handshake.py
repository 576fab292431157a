"""A TCP handshake over a wire that is cut at the wrong moment.

    netemu run examples/handshake.py
    netemu show handshake.pcapng

The SYN is lost, and sent again 1 s later, then 2 s, 4 s...: the client's timer starts at 1 s and doubles (RFC 6298).
The wire is back after 2.5 s, and yet the connection stands only when the third SYN has been answered, 3 s after the
first.
"""

from __future__ import annotations

import asyncio

from netemu.lab import Lab

MS = 1_000_000


async def main(lab: Lab) -> None:
    """Connect while the wire is down."""
    client = lab.guest("client", "10.0.0.1/24")
    server = lab.guest("server", "10.0.0.2/24")
    wire = lab.link(client, server, "delay 20ms", name="wire")
    lab.capture(wire, "handshake.pcapng")
    lab.expect("seen 3 times at client: tcp.flags.syn == 1 and tcp.flags.ack == 0")
    lab.expect("seen 1 time at client: tcp.flags.syn == 1 and tcp.flags.ack == 1")
    lab.expect("never seen at client: tcp.flags.reset == 1")
    lab.expect("wire: dropped_down == 2")

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    await server.start_server(greet, 80)
    await client.ping(server, count=1)  # so that both know each other's MAC address

    start = lab.now
    wire.down()
    lab.at((start + 2500 * MS) / 1e9, wire.up)
    reader, writer = await client.connect(server, 80)
    took = lab.now - start
    assert took == 3040 * MS, f"the connection stood after {took / MS} ms"
    assert await reader.read() == b"hello\n"
    writer.close()
    await writer.wait_closed()
