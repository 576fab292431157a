"""DHCP: a guest gets an address, keeps it, gives it back. The messages on the wire are read by scapy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from netemu.errors import ConfigError
from netemu.services.dhcp_client import DhcpClient, DhcpError, lease_of
from netemu.services.dhcp_messages import ACK, DISCOVER, NAK, OFFER, REQUEST, DhcpMessage, parse
from netemu.services.dhcp_server import DhcpServer
from netemu.services.dns_server import DnsServer
from tests.aio_kit import run
from tests.ether_kit import Net
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")

MAC, OTHER = b"\2\0\0\0\0\2", b"\2\0\0\0\0\3"
SERVER = "10.0.0.1"
SECOND = 1_000_000_000


def server(**how: Any) -> DhcpServer:
    return DhcpServer("10.0.0.0/24", "10.0.0.100", how.pop("last", "10.0.0.101"), **how)


def options_of(packet: Any) -> dict[str, Any]:
    """The options of one value, by name."""
    return {option[0]: option[1] for option in packet[DHCP].options if isinstance(option, tuple)}


def exchanges(net: Net) -> list[tuple[int, str, str]]:
    """Kind, source and target of each DHCP message on the wire."""
    packets = [packet for packet in map(Ether, net.frames) if DHCP in packet]
    return [(options_of(packet)["message-type"], packet[IP].src, packet[IP].dst) for packet in packets]


# A guest comes up.


def test_a_guest_comes_up_with_address_router_and_names() -> None:
    net = Net([f"{SERVER}/24"], [])
    a, b = net.hosts
    given_out = server(router=SERVER, dns=[SERVER], lease=3600)

    async def main() -> tuple[str, int]:
        await given_out.serve(a)
        await DnsServer({"www.example": SERVER}).serve(a)
        lease = await DhcpClient(b).acquire()
        stats = await b.ping("www.example", count=1)
        assert str(lease) == "10.0.0.100/24 from 10.0.0.1 for 3600 s, router 10.0.0.1"
        return lease.address, stats.received

    assert run(net.world, main()) == ("10.0.0.100", 1)
    everybody = "255.255.255.255"
    assert exchanges(net) == [
        (1, "0.0.0.0", everybody),
        (2, SERVER, everybody),
        (3, "0.0.0.0", everybody),
        (5, SERVER, everybody),
    ]
    assert [str(route.network) for route in b.stack.ip.routes if route.via is not None] == ["0.0.0.0/0"]


def test_the_messages_are_what_the_rfc_has() -> None:
    """RFC 2131 table 5: fields of DISCOVER and REQUEST; ports 68 and 67; the magic cookie comes with scapy's layer."""
    net = Net([f"{SERVER}/24"], [])

    async def main() -> None:
        await server().serve(net.hosts[0])
        await DhcpClient(net.hosts[1]).acquire()

    run(net.world, main())
    discover, offer, request, ack = [packet for packet in map(Ether, net.frames) if DHCP in packet]
    assert {packet[BOOTP].xid for packet in (offer, request, ack)} == {discover[BOOTP].xid}
    assert [packet[BOOTP].op for packet in (discover, offer, request, ack)] == [1, 2, 1, 2]
    assert (discover[UDP].sport, discover[UDP].dport, offer[UDP].sport, offer[UDP].dport) == (68, 67, 67, 68)
    assert all(packet[BOOTP].chaddr[:6] == MAC for packet in (discover, offer, request, ack))
    options = options_of(request)
    assert (options["requested_addr"], options["server_id"]) == ("10.0.0.100", SERVER)
    told = options_of(ack)
    assert (told["subnet_mask"], told["lease_time"], ack[BOOTP].yiaddr) == ("255.255.255.0", 3600, "10.0.0.100")


def test_a_lease_is_renewed_at_half_its_time_by_unicast() -> None:
    """RFC 2131 section 4.4.5: T1 is half of the lease."""
    net = Net([f"{SERVER}/24"], [])
    a, b = net.hosts

    async def main() -> int:
        await server(lease=1000).serve(a)
        client = DhcpClient(b)
        await client.acquire()
        await asyncio.sleep(1200)
        client.close()
        return client.renewals

    assert run(net.world, main()) == 2
    assert exchanges(net)[4:6] == [(3, "10.0.0.100", SERVER), (5, SERVER, "10.0.0.100")]


def test_a_lease_that_nobody_renews_is_given_up_and_got_anew() -> None:
    net = Net([f"{SERVER}/24"], [])
    a, b = net.hosts

    async def main() -> list[list[str]]:
        service = await server(lease=1000, router=SERVER).serve(a)
        client = DhcpClient(b)
        await client.acquire()
        service.close()
        seen = []
        for wait in (990, 20):
            await asyncio.sleep(wait)
            seen.append([str(address) for address in b.stack.ip.addresses(b.interface)])
        assert client.lease is None
        await server(lease=1000).serve(a)
        await asyncio.sleep(200)
        seen.append([str(address) for address in b.stack.ip.addresses(b.interface)])
        client.close()
        return seen

    assert run(net.world, main()) == [["10.0.0.100/24"], [], ["10.0.0.100/24"]]
    assert (3, "10.0.0.100", "255.255.255.255") in exchanges(net)  # rebinding: any server may answer


def test_releasing_gives_the_address_back() -> None:
    net = Net([f"{SERVER}/24"], [])
    a, b = net.hosts
    given_out = server()

    async def main() -> None:
        await given_out.serve(a)
        async with DhcpClient(b) as client:
            assert client.lease is not None
            assert list(given_out.bindings) == ["10.0.0.100"]
        await asyncio.sleep(1)

    run(net.world, main())
    assert given_out.bindings == {}
    assert exchanges(net)[-1] == (7, "10.0.0.100", SERVER)
    assert b.stack.ip.addresses(b.interface) == []


def test_messages_that_are_lost_are_sent_again() -> None:
    net = Net([f"{SERVER}/24"], [])
    count = 0

    def lose_every_other(_number: int, frame: bytes) -> list[bytes]:
        nonlocal count
        count += DHCP in Ether(frame)
        return [] if DHCP in Ether(frame) and count in (1, 4) else [frame]

    net.spoil = lose_every_other

    async def main() -> str:
        await server().serve(net.hosts[0])
        return (await DhcpClient(net.hosts[1]).acquire()).address

    assert run(net.world, main()) == "10.0.0.100"


def test_without_a_server_there_is_an_error_in_the_end() -> None:
    net = Net([f"{SERVER}/24"], [])
    with pytest.raises(DhcpError, match="host2: no DHCP server gave an address within 124 seconds"):
        run(net.world, DhcpClient(net.hosts[1]).acquire())


# The server by itself.


def ask(of: DhcpServer, kind: int, mac: bytes = MAC, now: int = 0, ciaddr: str = "0.0.0.0", **options: Any) -> Any:
    """What it answers to scapy's message: kind and address; None if nothing."""
    packet = BOOTP(op=1, xid=7, chaddr=mac, ciaddr=ciaddr) / DHCP(
        options=[("message-type", kind), *options.items(), "end"]
    )
    answer = of.answer(bytes(packet), SERVER, now)
    if answer is None:
        return None
    back = BOOTP(answer[0].pack())
    assert back.xid == 7
    return options_of(back)["message-type"], back.yiaddr


def test_a_client_gets_the_same_address_again_and_another_client_another() -> None:
    of = server()
    assert ask(of, DISCOVER) == (OFFER, "10.0.0.100")
    assert ask(of, DISCOVER, OTHER) == (OFFER, "10.0.0.101")
    assert ask(of, DISCOVER) == (OFFER, "10.0.0.100")
    assert ask(of, REQUEST, requested_addr="10.0.0.100", server_id=SERVER) == (ACK, "10.0.0.100")
    assert ask(of, DISCOVER) == (OFFER, "10.0.0.100")


def test_an_empty_pool_offers_nothing_until_offers_and_leases_are_over() -> None:
    of = server(last="10.0.0.100", lease=100)
    assert ask(of, DISCOVER) == (OFFER, "10.0.0.100")
    assert ask(of, DISCOVER, OTHER) is None
    assert ask(of, DISCOVER, OTHER, now=61 * SECOND) == (OFFER, "10.0.0.100")
    assert ask(of, REQUEST, OTHER, now=61 * SECOND, requested_addr="10.0.0.100", server_id=SERVER)[0] == ACK
    assert ask(of, DISCOVER, now=160 * SECOND) is None
    assert ask(of, DISCOVER, now=162 * SECOND) == (OFFER, "10.0.0.100")


def test_an_address_that_is_anothers_or_nobodys_is_refused() -> None:
    """RFC 2131 section 4.3.2: DHCPNAK."""
    of = server()
    ask(of, REQUEST, OTHER, requested_addr="10.0.0.100", server_id=SERVER)
    for wanted in ("10.0.0.100", "10.0.0.7", "192.0.2.1"):
        assert ask(of, REQUEST, requested_addr=wanted) == (NAK, "0.0.0.0")


def test_a_client_that_took_another_servers_offer_is_let_go() -> None:
    of = server()
    ask(of, DISCOVER)
    assert ask(of, REQUEST, requested_addr="10.0.0.100", server_id="10.0.0.9") is None
    assert of.bindings == {}


def test_an_address_that_a_client_found_taken_is_not_given_out() -> None:
    """RFC 2131 section 4.3.3: DHCPDECLINE."""
    of = server()
    ask(of, REQUEST, requested_addr="10.0.0.100", server_id=SERVER)
    assert ask(of, 4, requested_addr="10.0.0.100", server_id=SERVER) is None
    assert ask(of, DISCOVER) == (OFFER, "10.0.0.101")


def test_inform_is_answered_with_settings_and_no_address() -> None:
    assert ask(server(router=SERVER), 8, ciaddr="10.0.0.50") == (ACK, "0.0.0.0")


@pytest.mark.parametrize(
    ("network", "first", "last"),
    [
        ("10.0.0.0/24", "10.0.1.1", "10.0.1.2"),
        ("10.0.0.0/24", "10.0.0.9", "10.0.0.2"),
        ("10.0.0.0/33", "10.0.0.1", "10.0.0.2"),
        ("2001:db8::/64", "2001:db8::1", "2001:db8::2"),
    ],
)
def test_a_pool_is_a_range_of_its_network(network: str, first: str, last: str) -> None:
    with pytest.raises(ConfigError):
        DhcpServer(network, first, last)


# Bad input.


@given(st.binary(max_size=400))
def test_anything_at_all_is_ignored(data: bytes) -> None:
    of = server()
    assert of.answer(data, SERVER, 0) is None
    assert parse(data) is None


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=6), st.booleans())
def test_a_message_with_wrong_bytes_in_it_does_no_harm(at: int, wrong: bytes, cut: bool) -> None:
    good = DhcpMessage(REQUEST, 1, MAC, options={"requested_addr": "10.0.0.100", "server_id": SERVER, "hostname": "a"})
    data = good.pack()
    at = 200 + at % (len(data) - 200)
    damaged = data[:at] if cut else data[:at] + wrong + data[at + len(wrong) :]
    server().answer(damaged, SERVER, 0)
    message = parse(damaged)
    if message is not None:
        lease_of(message)


def test_offers_without_what_a_lease_needs_are_none() -> None:
    full = {"server_id": SERVER, "lease_time": 60, "subnet_mask": "255.255.255.0"}
    assert lease_of(DhcpMessage(OFFER, 1, MAC, yiaddr="10.0.0.5", options=dict(full))) is not None
    for missing in ("server_id", "lease_time"):
        options = {name: value for name, value in full.items() if name != missing}
        assert lease_of(DhcpMessage(OFFER, 1, MAC, yiaddr="10.0.0.5", options=options)) is None
    assert lease_of(DhcpMessage(OFFER, 1, MAC, options=dict(full))) is None
    assert lease_of(DhcpMessage(OFFER, 1, MAC, yiaddr="10.0.0.5", options=full | {"subnet_mask": "1.2.3.4"})) is None
