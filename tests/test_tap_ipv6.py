"""A guest's IPv6 and that of a real Linux on one link: who has an address, who is a router, who is told what."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator

import pytest

from netemu.stack.ipv6.state import interface_ip6
from tests.tap_talk import GUEST6, HOST6, Talk, talk

PREFIX = "2001:db8:cafe"


PROBES = 3
"""Of each detection: on a busy machine real time may stand still for a second, and longer while kernels compile."""


@pytest.fixture(scope="module")
def plain() -> Iterator[Talk]:
    with talk() as talking:
        # Whatever is compiled when it is first used is, after this.
        talking.run(talking.linux("ping", "-c", "3", "-i", "0.2", "-W", "5", GUEST6))
        interface_ip6(talking.guest.stack.host, talking.guest.interface.address).detect = PROBES
        setting = "/proc/sys/net/ipv6/conf/tap0/dad_transmits"
        talking.run(talking.linux("sh", "-c", f"echo {PROBES} > {setting}"))
        yield talking


def link_local(talking: Talk) -> str:
    for entry in talking.guest.stack.ip6.addresses():
        if entry.address.is_link_local:
            return str(entry.address.ip)
    raise AssertionError("the guest has no link-local address")


def state(talking: Talk, address: str) -> str | None:
    for entry in talking.guest.stack.ip6.addresses():
        if entry.address.ip == ipaddress.IPv6Address(address):
            return entry.state
    return None


def test_neighbours_by_their_link_local_addresses(plain: Talk) -> None:
    target = f"{link_local(plain)}%tap0"
    said = plain.run(plain.linux("ping", "-c", "3", "-i", "0.01", "-W", "5", target))
    assert "3 received, 0% packet loss" in said
    known = plain.run(plain.linux("ip", "-6", "neighbour", "show", "dev", "tap0"))
    mac = plain.guest.interface.mac.to_bytes(6, "big").hex(":")
    assert f"{link_local(plain)} lladdr {mac}" in known


def test_linux_hears_that_a_port_is_closed(plain: Talk) -> None:
    async def main() -> None:
        with plain.socket(address=HOST6) as theirs:
            theirs.connect((GUEST6, 9999))
            await plain.lab.loop.sock_sendall(theirs, b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.wait_for(plain.lab.loop.sock_recv(theirs, 100), 10)

    plain.run(main())


def test_linux_counts_no_error_of_ours(plain: Talk) -> None:
    """Whatever the guest sent so far: Linux found its headers, options and checksums in order."""
    said = plain.run(plain.linux("nstat", "-asz", "Ip6InHdrErrors", "Icmp6InErrors", "Icmp6InCsumErrors"))
    counts = [int(line.split()[1]) for line in said.splitlines() if line and not line.startswith("#")]
    assert counts == [0, 0, 0]


def test_the_guest_does_not_take_an_address_that_linux_has(plain: Talk) -> None:
    """RFC 4862 section 5.4: Linux answers the guest's question."""

    async def main() -> str | None:
        plain.guest.stack.add_address(plain.guest.interface, f"{HOST6}/64")
        assert state(plain, HOST6) == "tentative"
        for _ in range(60):
            await asyncio.sleep(0.1)
            if state(plain, HOST6) != "tentative":
                break
        return state(plain, HOST6)

    assert plain.run(main()) == "dadfailed"


def test_linux_does_not_take_an_address_that_the_guest_has(plain: Talk) -> None:
    async def main() -> str:
        await plain.linux("ip", "address", "add", f"{GUEST6}/64", "dev", "tap0")
        said = ""
        for _ in range(60):
            await asyncio.sleep(0.1)
            said = await plain.linux("ip", "-6", "address", "show", "dev", "tap0", "to", GUEST6)
            if "dadfailed" in said:
                break
        await plain.linux("ip", "address", "delete", f"{GUEST6}/64", "dev", "tap0")
        return said

    assert "dadfailed" in plain.run(main())


def test_linux_believes_a_router_of_ours() -> None:
    """RFC 4861 section 6: a default route by the guest, an address of its prefix, the MTU that it tells."""
    with talk() as talking:
        stack, interface = talking.guest.stack, talking.guest.interface

        async def main() -> tuple[str, str, str]:
            stack.host.forwarding = 1
            stack.add_address(interface, f"{PREFIX}::1/64")
            await asyncio.sleep(3)
            stack.ip6.advertise(interface, mtu=1400, lifetime=600)
            for _ in range(60):
                await asyncio.sleep(0.1)
                route = await talking.linux("ip", "-6", "route", "show", "default")
                address = await talking.linux("ip", "-6", "address", "show", "dev", "tap0", "to", f"{PREFIX}::/64")
                if route and address and "tentative" not in address:
                    break
            mtu = await talking.linux("cat", "/proc/sys/net/ipv6/conf/tap0/mtu")
            return route, address, mtu

        route, address, mtu = talking.run(main())
        assert f"via {link_local(talking)}" in route
        assert "dynamic" in address
        assert mtu.strip() == "1400"
