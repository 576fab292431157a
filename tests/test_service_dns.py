"""The DNS server and the resolver; scapy reads what the one answers and the other asks."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from netemu.errors import ConfigError
from netemu.services.dns_client import DnsClient
from netemu.services.dns_server import DnsServer
from netemu.stack.addresses import halves_of
from tests.aio_kit import run
from tests.ether_kit import Net
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")

RECORDS: dict[str, str | list[str]] = {
    "www.example": ["10.0.0.80", "2001:db8::80"],
    "six.example": "2001:db8::6",
    "alias.example": "www.example",
    "loop.example": "pool.example",
    "pool.example": "loop.example",
    "nowhere.example": "gone.example",
}


def ask(server: DnsServer, name: str, kind: str, **how: Any) -> DNS:
    """The answer to scapy's query, as scapy reads it."""
    answer = server.answer(bytes(DNS(id=99, qd=DNSQR(qname=name, qtype=kind), **how)))
    assert answer is not None
    reply = DNS(answer)
    assert (reply.id, reply.qr) == (99, 1)
    return reply


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("www.example", "A", ["10.0.0.80"]),
        ("WWW.Example", "A", ["10.0.0.80"]),
        ("www.example", "AAAA", ["2001:db8::80"]),
        ("six.example", "A", []),
        ("alias.example", "A", [b"www.example.", "10.0.0.80"]),
        ("alias.example", "CNAME", [b"www.example."]),
        ("www.example", "ALL", ["10.0.0.80", "2001:db8::80"]),
    ],
)
def test_records_are_told(name: str, kind: str, values: list[Any]) -> None:
    """RFC 1034 section 4.3.2; names are equal whatever their case (RFC 4343)."""
    reply = ask(DnsServer(RECORDS), name, kind)
    assert (reply.rcode, reply.aa) == (0, 1)
    assert [record.rdata for record in reply.an] == values
    assert all(record.ttl == 60 for record in reply.an)


@pytest.mark.parametrize(
    ("name", "how", "rcode"),
    [
        ("no.example", {}, 3),
        ("nowhere.example", {}, 3),
        ("loop.example", {}, 2),
        ("www.example", {"opcode": 2}, 4),
    ],
)
def test_what_cannot_be_told_has_a_code(name: str, how: dict[str, int], rcode: int) -> None:
    """RFC 1035 section 4.1.1: 2 server failure, 3 name error, 4 not implemented."""
    assert ask(DnsServer(RECORDS), name, "A", **how).rcode == rcode


def test_another_class_is_refused() -> None:
    answer = DnsServer(RECORDS).answer(bytes(DNS(qd=DNSQR(qname="www.example", qclass=3))))
    assert answer is not None
    assert DNS(answer).rcode == 5


def test_an_answer_is_no_longer_than_512_bytes() -> None:
    """RFC 1035 sections 2.3.4, 4.2.1: TC says that something is missing."""
    server = DnsServer({"many.example": [f"10.0.{n // 250}.{n % 250}" for n in range(100)]})
    answer = server.answer(bytes(DNS(qd=DNSQR(qname="many.example"))))
    assert answer is not None
    reply = DNS(answer)
    assert len(answer) <= 512
    assert reply.tc == 1
    assert 20 < len(reply.an) < 100


def test_a_response_is_never_answered() -> None:
    """Or two servers would answer each other for ever."""
    server = DnsServer(RECORDS)
    assert server.answer(bytes(DNS(qr=1, qd=DNSQR(qname="www.example")))) is None
    assert server.refused == 1


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".example"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a host"):
        DnsServer({name: "10.0.0.1"})


@given(st.binary(max_size=200))
def test_anything_at_all_is_answered_in_order_or_not_at_all(data: bytes) -> None:
    server = DnsServer(RECORDS)
    answer = server.answer(data)
    if answer is not None:
        assert answer[:2] == data[:2]
        assert answer[2] & 0x80
    assert server.queries + server.refused == 1


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_a_query_with_wrong_bytes_in_it_does_no_harm(at: int, wrong: bytes) -> None:
    query = bytes(DNS(qd=DNSQR(qname="alias.example", qtype="A")))
    at %= len(query)
    DnsServer(RECORDS).answer(query[:at] + wrong + query[at + len(wrong) :])
    DnsServer(RECORDS).answer(query[:at])


# The resolver.


def lab() -> Net:
    return Net("10.0.0.1/24", "10.0.0.53/24")


def queries(net: Net) -> list[DNS]:
    """The queries on the wire, as scapy reads them."""
    packets = [packet for packet in map(Ether, net.frames) if UDP in packet and packet[UDP].dport == 53]
    return [DNS(bytes(packet[UDP].payload)) for packet in packets]


def test_names_are_resolved_through_the_server() -> None:
    net = lab()
    a, b = net.hosts

    async def main() -> list[Any]:
        service = await DnsServer(RECORDS).serve(b)
        client = DnsClient(a, "10.0.0.53")
        a.resolver = client.addresses
        found = [await a.resolve("alias.example"), await a.resolve("six.example"), await a.resolve("host2")]
        assert await a.resolve("alias.example", 6) == halves_of("2001:db8::80")
        assert client.asked == 4  # what is known is not asked again
        service.close()
        return found

    assert run(net.world, main()) == [halves_of("10.0.0.80"), halves_of("2001:db8::6"), halves_of("10.0.0.53")]
    asked = [(query.qd[0].qname, query.qd[0].qtype) for query in queries(net)]
    assert asked == [(b"alias.example.", 1), (b"alias.example.", 28), (b"six.example.", 1), (b"six.example.", 28)]
    ports = {packet[UDP].sport for packet in map(Ether, net.frames) if UDP in packet and packet[UDP].dport == 53}
    assert len(ports) == 4


def test_what_is_known_is_forgotten_when_its_time_is_over() -> None:
    """RFC 1035 section 3.2.1: TTL."""
    net = lab()
    a, b = net.hosts

    async def main() -> int:
        await DnsServer(RECORDS, ttl=30).serve(b)
        client = DnsClient(a, "10.0.0.53")
        for wait in (0, 29, 2):
            await asyncio.sleep(wait)
            assert await client.lookup("www.example") == ["10.0.0.80"]
        return client.asked

    assert run(net.world, main()) == 2


def test_a_name_that_is_not_there_is_an_error() -> None:
    net = lab()
    a, b = net.hosts

    async def main() -> None:
        await DnsServer(RECORDS).serve(b)
        a.resolver = DnsClient(a, "10.0.0.53").addresses
        with pytest.raises(socket.gaierror, match=r"no\.example: there is no such name"):
            await a.ping("no.example")

    run(net.world, main())


def test_a_query_that_is_lost_is_asked_again() -> None:
    net = lab()
    a, b = net.hosts
    lost: list[int] = []

    def lose_the_first(number: int, frame: bytes) -> list[bytes]:
        if UDP in Ether(frame) and not lost:
            lost.append(number)
            return []
        return [frame]

    net.spoil = lose_the_first

    async def main() -> tuple[list[str], float]:
        await DnsServer(RECORDS).serve(b)
        values = await DnsClient(a, "10.0.0.53", timeout="2s").lookup("www.example")
        return values, asyncio.get_running_loop().time()

    values, now = run(net.world, main())
    assert values == ["10.0.0.80"]
    assert 2.0 < now < 2.2


def test_the_next_server_is_asked_where_one_does_not_answer() -> None:
    net = lab()
    a, b = net.hosts

    async def main() -> list[str]:
        await DnsServer(RECORDS).serve(b)
        return await DnsClient(a, "10.0.0.77", "10.0.0.53").lookup("www.example")

    assert run(net.world, main()) == ["10.0.0.80"]


def test_nobody_answers_in_the_end() -> None:
    net = lab()
    a = net.hosts[0]

    async def main() -> None:
        with pytest.raises(socket.gaierror, match="no server answers"):
            await DnsClient(a, "10.0.0.53", attempts=3).lookup("www.example")

    run(net.world, main())


@pytest.mark.parametrize("forgery", ["another-id", "another-name", "no-response", "no-dns"])
def test_an_answer_to_another_question_is_passed_over(forgery: str) -> None:
    """RFC 5452 section 9: identifier and question have to be those of the query."""
    net = lab()
    a, b = net.hosts

    async def lie() -> None:
        sock = await b.datagram(53)
        while True:
            data, source = await sock.receive()
            query = DNS(data)
            name = query.qd[0].qname
            good = DnsServer({"www.example": "10.9.9.9"}, ttl=1).answer(data)
            assert good is not None
            bad = {
                "another-id": bytes([good[0] ^ 1]) + good[1:],
                "another-name": bytes(DNS(id=query.id, qr=1, qd=DNSQR(qname=b"x" + name))),
                "no-response": data,
                "no-dns": b"\0\0garbage",
            }[forgery]
            await sock.send(bad, source)
            await asyncio.sleep(0.1)
            await sock.send(good, source)

    async def main() -> list[str]:
        liar = asyncio.ensure_future(lie())
        await asyncio.sleep(0)
        values = await DnsClient(a, "10.0.0.53").lookup("www.example")
        liar.cancel()
        return values

    assert run(net.world, main()) == ["10.9.9.9"]
    assert IP in Ether(net.frames[-1])
