"""A link between two real Linux hosts: their TCP and their ping are the judges of what its words do."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from netemu.net.options import LinkOptions
from tests.support import needs
from tests.tap_kit import Joined, Namespace, linux


@pytest.fixture
def left() -> Iterator[Namespace]:
    with linux() as namespace:
        yield namespace


@pytest.fixture
def right() -> Iterator[Namespace]:
    with linux() as namespace:
        yield namespace


@needs("curl")
@pytest.mark.parametrize(
    "words",
    [
        "delay 2ms 1ms 25% distribution normal",
        "delay 1ms loss 0.5%",
        "delay 1ms loss gemodel 0.1% 20%",
        "delay 1ms duplicate 2% corrupt 0.5%",
        "delay 3ms reorder 2% 50%",
        "delay 1ms rate 300mbit",
    ],
)
def test_a_file_arrives_whole(left: Namespace, right: Namespace, tmp_path: Path, words: str) -> None:
    """Whatever a link does to frames: Linux sees what is not whole, and has it sent again."""
    data = hashlib.shake_128(words.encode()).digest(4_000_000)
    (tmp_path / "body").write_bytes(data)
    joined = Joined(left, right, LinkOptions.of(words))
    right.start("python3", "-m", "http.server", "--directory", str(tmp_path), "8000")
    right.wait_for_port(8000)
    joined.run(left, "curl", "-sSf", "-o", str(tmp_path / "got"), "http://10.7.0.2:8000/body")
    assert (tmp_path / "got").read_bytes() == data
    assert [port.dropped for port in joined.ports] == [0, 0]
    assert joined.all_buffers_are_back()


@needs("iperf3")
def test_the_rate_is_kept(left: Namespace, right: Namespace) -> None:
    """Frames of 1514 bytes carry 1448 of data; however fast the machine is, no more than 20 Mbit/s of them come."""
    joined = Joined(left, right, LinkOptions.of(rate="20mbit", queue="50p"))
    right.start("iperf3", "--server", "--one-off")
    right.wait_for_port(5201)
    told = json.loads(joined.run(left, "iperf3", "--client", "10.7.0.2", "--json", "--time", "2"))
    goodput = told["end"]["sum_received"]["bits_per_second"]
    assert goodput < 20e6 * 1448 / 1514 * 1.01
    assert goodput > 5e6


def test_a_ping_is_delayed(left: Namespace, right: Namespace) -> None:
    joined = Joined(left, right, LinkOptions.of("delay 15ms"))
    said = joined.run(left, "ping", "-c", "4", "-i", "0.02", "10.7.0.2")
    least = re.search(r"= ([\d.]+)/", said)
    assert least is not None
    assert float(least[1]) >= 30


def test_pings_are_lost(left: Namespace, right: Namespace) -> None:
    """Every one of 200 gets through a way of 5 % loss each way with a probability of 3e-9."""
    joined = Joined(left, right, LinkOptions.of("loss 5%"))
    right.run("sysctl", "-qw", "net.ipv6.conf.tap7.disable_ipv6=1")
    said = joined.run(left, "sh", "-c", "ping -q -c 200 -i 0.002 -W 1 10.7.0.2 || true")
    received = re.search(r"(\d+) received", said)
    assert received is not None
    assert 100 < int(received[1]) < 200
    assert joined.link.forward.stats().dropped["loss"] > 0
