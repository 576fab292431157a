"""A client for iperf3's server, over any streams of asyncio's kind: as much of its protocol as one TCP flow takes.

The server leads: it sends a byte for each state it enters, on a control connection that began with the client's cookie;
parameters and results travel there as JSON behind their length (iperf's iperf_api.h and iperf_client_api.c).
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

TEST_START, TEST_RUNNING, TEST_END = 1, 2, 4
PARAM_EXCHANGE, CREATE_STREAMS, EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = 9, 10, 13, 14, 16
COOKIE = b"netemu-netemu-netemu-netemu-netemu--\0"
"""36 letters and a zero."""
BLOCK = 1 << 17
SETTLE = 1.0
"""Seconds for the last data to arrive: the word that the test is over has a connection of its own, and overtakes it."""

Streams = tuple[Any, Any]
"""A reader and a writer, as asyncio.open_connection gives them."""


async def push(connect: Callable[[], Awaitable[Streams]], blocks: int) -> dict[str, Any]:
    """Send ``blocks`` of 128 KiB to the server that ``connect`` reaches; the server's results of the only stream."""
    reader, writer = await connect()
    writer.write(COOKIE)
    await _expect(reader, PARAM_EXCHANGE)
    await _send(writer, {"tcp": True, "omit": 0, "time": 60, "parallel": 1, "len": BLOCK, "client_version": "3.12"})
    await _expect(reader, CREATE_STREAMS)
    _, data = await connect()
    data.write(COOKIE)
    await data.drain()
    await _expect(reader, TEST_START)
    await _expect(reader, TEST_RUNNING)
    block = bytes(BLOCK)
    for _ in range(blocks):
        data.write(block)
        await data.drain()
    await asyncio.sleep(SETTLE)
    writer.write(bytes([TEST_END]))
    await _expect(reader, EXCHANGE_RESULTS)
    stream = {"id": 1, "bytes": blocks * BLOCK, "retransmits": -1, "jitter": 0, "errors": 0, "packets": 0}
    cpu = {"cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0}
    await _send(writer, {**cpu, "sender_has_retransmits": 0, "streams": [stream]})
    results = json.loads(await reader.readexactly(struct.unpack(">I", await reader.readexactly(4))[0]))
    await _expect(reader, DISPLAY_RESULTS)
    writer.write(bytes([IPERF_DONE]))
    await writer.drain()
    for each in (data, writer):
        each.close()
    [result] = results["streams"]
    assert isinstance(result, dict)
    return result


async def _expect(reader: Any, state: int) -> None:
    said = (await asyncio.wait_for(reader.readexactly(1), 30))[0]
    assert said == state, f"iperf3's server is in state {said}, not {state}"


async def _send(writer: Any, message: dict[str, Any]) -> None:
    text = json.dumps(message).encode()
    writer.write(struct.pack(">I", len(text)) + text)
    await writer.drain()
