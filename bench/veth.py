"""The row against tcpreplay, which sends a capture into a veth pair as fast as it can.

The pair lives in a network namespace that belongs to the process: it is gone when tcpreplay ends, however it ends.
"""

from __future__ import annotations

import os
import re

from bench.errors import AbsentError, BenchError
from bench.files import work
from bench.inputs import Capture
from bench.measure import in_turn, run
from bench.results import Limit, Line
from bench.session import Session

SEND = """
ip link add veth0 type veth peer name veth1 && ip link set veth0 up && ip link set veth1 up || exit
exec tcpreplay --topspeed --preload-pcap --intf1=veth0 "$0"
"""


def tcpreplay(session: Session) -> list[Line]:
    """Compare frames a second with ``tcpreplay -t -K`` into a veth pair; each by its own clock, loading not counted."""
    capture = session.capture(session.frames // 5, 64)
    unshare = namespace()
    mpps = in_turn(
        session.turns,
        {"netemu": lambda: session.replay(capture).mpps, "tcpreplay": lambda: send(capture, unshare)},
    )
    return [
        Line(
            "tcpreplay",
            f"{work(capture)}, tcpreplay into a veth pair",
            "Mpps",
            ours=mpps["netemu"],
            rival="tcpreplay",
            theirs=mpps["tcpreplay"],
            limit=Limit("at least", 8.0, "x"),
            judged=session.full,
        )
    ]


def namespace() -> list[str]:
    """Return the command that runs another one in a fresh network namespace, or raise AbsentError."""
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    try:
        run([*command, "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"])
    except BenchError as error:
        raise AbsentError(f"no veth pair in a network namespace: {error}") from error
    return command


def send(capture: Capture, unshare: list[str]) -> float:
    """Send a capture with tcpreplay and return million frames a second, by tcpreplay's own account."""
    output = run([*unshare, "sh", "-c", SEND, capture.path]).output
    actual = re.search(r"Actual: (\d+) packets .* sent in ([\d.]+) seconds", output)
    failed = re.search(r"Failed packets:\s+(\d+)", output)
    if not actual or not failed or int(actual[1]) != capture.frames or int(failed[1]) != 0:
        raise BenchError(f"tcpreplay did not send all {capture.frames} frames")
    return capture.frames / float(actual[2]) / 1e6
