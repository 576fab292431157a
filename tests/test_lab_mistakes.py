"""What cannot be in a lab is refused in words, before anything runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from netemu.errors import ConfigError
from netemu.lab import Guest, Lab
from tests.aio_kit import run
from tests.ether_kit import Net
from tests.plain import plain_entries

__all__ = ["plain_entries"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda lab: lab.guest(""), "not empty"),
        (lambda lab: lab.router("r", ["10.0.0.1/24", "10.0.1.1/24"], mtu=[1500]), "has 2 ports"),
        (lambda lab: lab.router("r", ["10.0.0.1/24"], mtu=[1500, 1500]), "has 1 ports"),
        (lambda lab: lab.link("a", lab.switch("sw")), "nothing in the lab is called 'a'"),
        (lambda lab: lab.link(lab.switch("sw"), None), "joins guests, routers"),
    ],
)
def test_what_is_no_node_is_refused(make: Callable[[Lab], object], words: str) -> None:
    with Lab() as lab, pytest.raises(ConfigError, match=words):
        make(lab)


def test_a_guest_is_not_linked_with_itself() -> None:
    with Lab() as lab:
        guest: Guest = lab.guest("a", "10.0.0.1/24")
        with pytest.raises(ConfigError, match="same port"):
            lab.link(guest, guest)


Call = Callable[[Any, Any], Awaitable[object]]


async def _send(host: Any, target: tuple[Any, int]) -> None:
    with await host.datagram() as sock:
        await sock.send(b"x", target)


@pytest.mark.usefixtures("plain_entries")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a, b: a.connect(b, 65536), "a TCP port is a number"),
        (lambda a, b: a.connect(b, -1), "a TCP port is a number"),
        (lambda a, b: a.connect(b, "http"), "a TCP port is a number"),
        (lambda a, b: a.connect(b, 80, local_port=1 << 16), "a TCP port is a number"),
        (lambda a, _: a.start_server(print, 65536), "a TCP port is a number"),
        (lambda a, _: a.datagram(65536), "a UDP port is a number"),
        (lambda a, b: a.datagram(remote=(b, 65536)), "a UDP port is a number"),
        (lambda a, b: _send(a, (b, 65536)), "a UDP port is a number"),
        (lambda a, b: a.ping(b, interval=-1), "not negative"),
        (lambda a, b: a.ping(b, hop_limit=256), "a hop limit is from 1 to 255"),
    ],
)
def test_numbers_out_of_range_are_refused(call: Call, words: str) -> None:
    net = Net("10.0.0.1/24", "10.0.0.2/24")

    async def main() -> None:
        await call(*net.hosts)

    with pytest.raises(ConfigError, match=words):
        run(net.world, main())
