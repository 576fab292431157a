"""Frames through a qdisc of this machine's kernel: which arrive, and after how long.

    unshare --net python -m tests.veth_times WORDS COUNT SIZE GAP

makes a veth pair whose first end has the root qdisc that the words say, sends COUNT frames of SIZE bytes into it, one
each GAP ns, and prints a JSON list of [number, ns] in order of arrival. It exits with 75 where the kernel has no such
qdisc, and with 76 where it gives no veth pair.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import subprocess
import sys
import time

ETHERTYPE = 0x88B5
"""Local experimental (IEEE 802)."""
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 32, 33, 35
NO_QDISC = 75
NO_PAIR = 76
QUIET = 1.0
"""Seconds without a frame after which none is expected any more."""


def main(words: str, count: int, size: int, gap: int) -> int:
    """Run it; the exit status."""
    for command in ("link add near type veth peer name far", "link set near up", "link set far up"):
        if subprocess.run(["ip", *command.split()], check=False).returncode:
            return NO_PAIR
    done = subprocess.run(
        ["tc", "qdisc", "add", "dev", "near", "root", *words.split()], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        return NO_QDISC
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 24)
    out.bind(("near", 0))
    back = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    back.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
    back.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    back.bind(("far", ETHERTYPE))
    back.settimeout(QUIET)
    time.sleep(0.1)  # until both ends are up
    head = b"\xff" * 6 + bytes.fromhex("020000000001") + ETHERTYPE.to_bytes(2, "big")
    start = time.monotonic_ns()
    for n in range(count):
        while time.monotonic_ns() < start + n * gap:
            pass
        try:
            out.send((head + struct.pack(">Iq", n, time.time_ns())).ljust(size, b"\0"))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise  # else the queue has dropped it, and says so
    arrived = []
    while True:
        try:
            data, ancillary, _, _ = back.recvmsg(65536, 256)
        except TimeoutError:
            break
        seconds, rest = struct.unpack("qq", ancillary[0][2][:16])
        number, sent = struct.unpack(">Iq", data[14:26])
        arrived.append((number, seconds * 1_000_000_000 + rest - sent))
    json.dump(arrived, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *(int(word) for word in sys.argv[2:5])))
