"""Links against the qdiscs of this machine's kernel: the same words, the same frames; the same statistics come out.

Each test skips, with the reason, where the kernel has no such qdisc, or gives no network namespace.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys

import pytest

from tests.net_kit import MS, Rig
from tests.support import REPO, needs
from tests.veth_times import NO_PAIR, NO_QDISC

pytestmark = [
    needs("unshare", "ip", "tc"),
    pytest.mark.skipif(os.geteuid() != 0, reason="root alone makes a network namespace with veth and qdiscs"),
]

Arrived = list[tuple[int, int]]


def by_linux(words: str, count: int, size: int, gap: int) -> Arrived:
    command = ["unshare", "--net", sys.executable, "-m", "tests.veth_times", words, str(count), str(size), str(gap)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=60, check=False)
    if done.returncode == NO_QDISC:
        pytest.skip(f"{words.split(maxsplit=1)[0]}: {done.stderr.strip()}")
    if done.returncode == NO_PAIR or done.stderr.startswith("unshare:"):
        pytest.skip(f"no veth pair in a network namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return [(number, delay) for number, delay in json.loads(done.stdout)]


def by_netemu(words: str, count: int, size: int, gap: int) -> Arrived:
    rig = Rig(words)
    for n in range(count):
        rig.send(n.to_bytes(4, "big").ljust(size, b"\0"), at=n * gap)
    rig.run()
    found = [(int.from_bytes(arrival.data[:4], "big"), arrival.when) for arrival in rig.arrivals]
    return [(number, when - number * gap) for number, when in found]


def close(one: float, other: float, count: int) -> bool:
    """Whether two shares of as many frames differ by no more than four deviations of their difference."""
    mean = (one + other) / 2
    return abs(one - other) <= 4 * math.sqrt(2 * mean * (1 - mean) / count) + 1e-9


def test_a_rate_and_a_queue_are_as_the_token_bucket_has_them() -> None:
    """A burst of 60 frames at once: one in the bucket, 20 in the queue; each 1 ms after the one before."""
    linux = by_linux("tbf rate 8mbit burst 1040b limit 20000b", 60, 1000, 0)
    ours = by_netemu("rate 8mbit queue 20000b", 60, 1000, 0)
    assert [number for number, _ in ours] == list(range(21))
    # The sender takes a moment for its 60 frames, in which the queue may have made room.
    numbers = [number for number, _ in linux]
    assert numbers[:21] == list(range(21))
    assert len(numbers) <= 23
    # What a bucket sends at once takes a frame's time here: that is the difference between the two.
    lead = [our - 1 * MS - their for (_, our), (_, their) in zip(ours, linux, strict=False)]
    assert statistics.median(abs(value) for value in lead) < 1.5 * MS


def test_losses_are_as_netem_has_them() -> None:
    for words in ("loss 10%", "loss gemodel 2% 10%", "loss state 2% 20% 30% 40% 1%", "loss 20% 25%"):
        linux = by_linux(f"netem limit 10000 {words}", 8000, 60, 20_000)
        ours = by_netemu(words, 8000, 60, 20_000)
        # Bursts make shares vary more than single losses do: by the burst's length, some five.
        assert close(len(linux) / 8000, len(ours) / 8000, 8000 // (1 if words == "loss 10%" else 10)), words


def test_duplicates_are_as_netem_has_them() -> None:
    words = "duplicate 20% loss 10%"
    assert close(
        len(by_linux(f"netem limit 10000 {words}", 4000, 60, 20_000)) / 8000,
        len(by_netemu(words, 4000, 60, 20_000)) / 8000,
        4000,
    )


@pytest.mark.parametrize("distribution", ["uniform", "normal", "pareto", "paretonormal"])
def test_delays_are_distributed_as_netem_has_them(distribution: str) -> None:
    words = "delay 40ms 10ms" + (f" distribution {distribution}" if distribution != "uniform" else "")
    linux = sorted(delay for _, delay in by_linux(f"netem limit 10000 {words}", 3000, 60, 200_000))
    ours = sorted(delay for _, delay in by_netemu(words, 3000, 60, 200_000))
    assert len(linux) == len(ours) == 3000
    for part in (0.1, 0.25, 0.5, 0.75, 0.9):
        # Half a millisecond for the kernel's clock and this machine's other work, and four standard errors.
        assert ours[int(part * 3000)] == pytest.approx(linux[int(part * 3000)], abs=2 * MS), part


def test_reordering_is_as_netem_has_it() -> None:
    linux = by_linux("netem limit 10000 delay 5ms reorder 100% gap 5", 500, 60, 200_000)
    ours = by_netemu("delay 5ms reorder 100% gap 5", 500, 60, 200_000)
    early = [[number for number, delay in arrived if delay < 4 * MS] for arrived in (linux, ours)]
    assert early[0] == early[1]


def test_a_rate_with_overhead_is_as_netem_has_it() -> None:
    words = "rate 4mbit 20 100 5"
    linux = by_linux(f"netem limit 10000 {words}", 100, 500, 0)
    ours = by_netemu(words, 100, 500, 0)
    assert ours[-1][1] == pytest.approx(linux[-1][1], rel=0.03)
