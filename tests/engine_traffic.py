"""Mixed traffic through every kind of virtual card; what was left behind, as JSON: run as a program by test_engine.py.

The same program with and without ``NETEMU_JIT=0`` has to print the same text.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import sys

from netemu.driver.eras import ERAS
from netemu.nic import Nic
from netemu.offer import MODES

RING_SIZES = (16, 256)
FRAMES = 70
OFFLOADS = "+CSUM,+HOST_TSO4,+HOST_TSO6,+HOST_USO"
MACS = bytes.fromhex("020000000001 02000000000a")


def ipv4(draw: random.Random, payload: bytes) -> bytes:
    """A packet that is right in all but, now and then, its checksum, length or version."""
    total = 20 + len(payload) + draw.choice([0, 0, 0, 0, 5])
    protocol = draw.choice([1, 6, 17, 17, 47])
    source = draw.choice([0xC0000201, 0x0A000001, 0x7F000001, draw.randrange(1 << 32)])
    words = [0x4500 + draw.choice([0, 0, 0, 0x100]), total & 0xFFFF, 7, draw.choice([0, 0x4000, 0x2000, 3])]
    words += [0x4000 | protocol, 0, source >> 16, source & 0xFFFF, 0xC000, 0x0202]
    summed = sum(words)
    while summed >> 16:
        summed = (summed & 0xFFFF) + (summed >> 16)
    words[5] = summed ^ draw.choice([0xFFFF] * 5 + [0])
    return struct.pack(">10H", *words) + payload


def traffic(seed: int, count: int) -> list[bytes]:
    """Frames of all sizes and of many kinds, valid or not; the same for the same seed."""
    draw = random.Random(seed)
    frames = []
    for _ in range(count):
        size = draw.choice([0, 4, 18, 46, 100, 114, 115, 300, 1486, 1486, 1500, 4000, 9000, draw.randrange(65536)])
        payload = struct.pack(">HHHH", draw.randrange(1024, 65536), 53, 8 + size, 0) + draw.randbytes(size)
        kind = draw.randrange(8)
        if kind < 4:
            frame = MACS + b"\x08\x00" + ipv4(draw, payload)
        elif kind == 4:
            head = struct.pack(">IHBB", 6 << 28, len(payload) & 0xFFFF, 17, 64)
            frame = MACS + b"\x86\xdd" + head + draw.randbytes(32) + payload
        elif kind == 5:
            frame = MACS + b"\x81\x00\x00\x2a\x08\x00" + ipv4(draw, payload)
        elif kind == 6:
            frame = b"\xff" * 6 + MACS[6:] + b"\x08\x06" + bytes.fromhex("0001 0800 06 04 0001") + draw.randbytes(20)
        else:
            frame = draw.randbytes(draw.choice([0, 1, 13, 14, 60, size]))
        frames.append(frame)
    return frames


def left_behind(nic: Nic) -> dict[str, object]:
    """A digest of guest memory, and every counter."""
    return {
        "memory": hashlib.blake2b(nic.memory.snapshot(), digest_size=16).hexdigest(),
        "frames": [nic.engine.frames_in, nic.engine.frames_out, nic.engine.bytes_in, nic.engine.bytes_out],
        "dropped": nic.dropped,
        "ethtool": nic.ethtool,
        "netdev": nic.netdev,
        "queues": nic.queue_counters(),
        "send queues": nic.send_counters(),
        "snmp": nic.stack.snmp(),
        "broken": nic.device.broken + nic.driver.broken,
    }


def play(nic: Nic, seed: int) -> str:
    """Play some traffic; a digest of what came up."""
    digest = hashlib.blake2b(digest_size=16)
    for skb in nic.receive(traffic(seed, FRAMES), tstamp=1_000_000 * seed):
        digest.update(repr(skb.skb.to_dict()).encode() + skb.data)
        digest.update(repr([event.to_dict() for event in skb.buffers]).encode())
    return digest.hexdigest()


def play_back(nic: Nic, seed: int) -> str:
    """Have a guest that reflects get some traffic, and send as much itself; a digest of what left it."""
    _, back = nic.exchange(traffic(seed, FRAMES), tstamp=1_000_000 * seed)
    own = nic.send(traffic(seed + 1, FRAMES), tstamp=1_000_000 * (seed + 1))
    digest = hashlib.blake2b(digest_size=16)
    for frame in back + own:
        digest.update(repr((frame.id, frame.queue, frame.tstamp, frame.header)).encode() + frame.data)
    return f"{len(back)} {len(own)} {digest.hexdigest()}"


def main() -> None:
    """Every mode, every kernel that the driver follows, two ring sizes; and several queues."""
    result: dict[str, object] = {}
    for mode in MODES:
        for kernel in ERAS:
            for size in RING_SIZES:
                nic = Nic(mode, size, driver=kernel)
                came_up = play(nic, seed=len(result) + 1)
                result[f"{mode} {kernel} {size}"] = {"skbs": came_up, **left_behind(nic)}
        nic = Nic(mode, 16, queues=3, burst=5, wait=False)
        came_up = play(nic, seed=99)
        result[f"{mode} three queues, impatient"] = {"skbs": came_up, **left_behind(nic)}
    for kernel in ERAS:
        nic = Nic("mergeable", 64, 2, kernel, features=OFFLOADS if kernel != "linux-4.19" else "", guest="reflect")
        left = play_back(nic, seed=200 + len(result))
        result[f"{kernel} sends"] = {"sent": left, **left_behind(nic)}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
