"""Routes: the longest prefix wins, both IP versions in one table, and what is known of paths (RFC 1812, RFC 1191)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.stack.addresses import Address, Network, from_halves, halves, mask_halves, parse_address
from netemu.stack.route_table import RouteEntry, RouteTable
from netemu.stack.routes import (
    MIN_PMTU,
    MTU_EXPIRES,
    PATH_BUCKET,
    PATH_BUCKETS,
    learn_mtu,
    learned_mtu,
    mtu_locked,
    route_at,
    route_lookup,
    route_lookup_by,
)
from tests.host_kit import PEER_MAC, HostBench

v4 = st.integers(0, (1 << 32) - 1).map(ipaddress.IPv4Address)
v6 = st.integers(0, (1 << 128) - 1).map(ipaddress.IPv6Address)


@st.composite
def prefixes(draw: st.DrawFn) -> Network:
    """Prefixes that are often of one another."""
    if draw(st.booleans()):
        return ipaddress.ip_network(
            (draw(st.sampled_from([0x0A000000, 0x0A010203, 0xC0000201])), draw(st.integers(0, 32))), strict=False
        )
    base = draw(st.sampled_from([0x20010DB8 << 96, 0xFE80 << 112 | 1, (0x20010DB8 << 96) | (1 << 63)]))
    return ipaddress.ip_network((base, draw(st.integers(0, 128))), strict=False)


@given(address=st.one_of(v4, v6))
def test_an_address_is_two_halves(address: Address) -> None:
    assert from_halves(*halves(address)) == address
    assert all(-(1 << 63) <= half < 1 << 63 for half in halves(address))


@pytest.mark.parametrize(
    ("text", "hi", "lo"),
    [
        ("10.0.0.1", 0, 0xFFFF0A000001),
        ("2001:db8::1", 0x20010DB800000000, 1),
        ("fe80::8000:0:0:1", 0xFE80 << 48, -(1 << 63) + 1),
    ],
)
def test_halves_by_hand(text: str, hi: int, lo: int) -> None:
    expected = hi - (1 << 64) if hi >= 1 << 63 else hi
    assert halves(parse_address(text)) == (expected, lo)


@given(network=prefixes(), address=st.one_of(v4, v6))
def test_a_mask_takes_what_is_in_the_network(network: Network, address: Address) -> None:
    hi, lo = halves(address)
    mask_hi, mask_lo = mask_halves(network)
    inside = (hi & mask_hi, lo & mask_lo) == halves(network.network_address)
    if address.version == network.version:
        assert inside == (address in network)
    elif network.version == 4:
        assert not inside


def filled(networks: list[Network]) -> RouteTable:
    table = RouteTable()
    for number, network in enumerate(networks):
        table.add(RouteEntry(network, interface=1000 + number, device=f"eth{number}"))
    return table


def found(table: RouteTable, address: Address) -> int:
    """The interface of the route to an address; 0: there is none."""
    at = route_lookup(table.struct, *halves(address))
    return route_at(at).interface if at else 0


@given(
    networks=st.lists(prefixes(), max_size=20, unique=True),
    addresses=st.lists(
        st.one_of(
            v4, v6, st.sampled_from(["10.1.2.3", "192.0.2.1", "2001:db8::8000:0:0:1", "fe80::1"]).map(parse_address)
        ),
        min_size=1,
        max_size=10,
    ),
)
@settings(max_examples=100, deadline=None)
def test_the_longest_prefix_wins(networks: list[Network], addresses: list[Address]) -> None:
    table = filled(networks)
    for address in [*addresses, *addresses]:  # the second time from the cache
        matches = [n for n, network in enumerate(networks) if address in network]
        best = max(matches, key=lambda n: networks[n].prefixlen, default=None)
        if address.version == 6:  # ::/n with n below 96 covers mapped addresses, which no IPv6 packet has
            assert found(table, address) == (0 if best is None else 1000 + best)
        elif best is not None:
            assert found(table, address) == 1000 + best


def test_a_change_is_seen_at_once() -> None:
    table = filled([ipaddress.IPv4Network("10.0.0.0/8")])
    target = parse_address("10.1.2.3")
    assert found(table, target) == 1000
    table.add(RouteEntry(ipaddress.IPv4Network("10.1.0.0/16"), interface=7))
    assert found(table, target) == 7
    table.remove(ipaddress.IPv4Network("10.1.0.0/16"))
    assert found(table, target) == 1000
    table.remove(ipaddress.IPv4Network("10.0.0.0/8"))
    assert found(table, target) == 0


def test_of_equal_prefixes_the_lesser_metric_wins_unless_an_interface_is_asked_for() -> None:
    table = RouteTable()
    network = ipaddress.IPv4Network("10.0.0.0/8")
    for interface, metric in ((1, 20), (2, 10), (3, 30)):
        table.add(RouteEntry(network, interface=interface, metric=metric))
    target = halves(parse_address("10.1.2.3"))
    assert found(table, parse_address("10.1.2.3")) == 2
    assert route_at(route_lookup_by(table.struct, *target, 3)).interface == 3
    assert route_lookup_by(table.struct, *target, 4) == 0
    with pytest.raises(ConfigError, match=r"there is a route to 10\.0\.0\.0/8 already"):
        table.add(RouteEntry(network, interface=1, metric=20))


def test_a_table_grows() -> None:
    networks: list[Network] = [ipaddress.IPv4Network((n << 8, 24)) for n in range(1, 300)]
    table = filled(networks)
    assert [found(table, network[5]) for network in networks] == list(range(1000, 1299))


# Paths.


def test_paths_share_buckets_and_the_one_that_expires_first_makes_room() -> None:
    table = RouteTable()
    routes = table.struct
    targets = [halves(ipaddress.IPv4Address(0x0A000000 + n)) for n in range(PATH_BUCKETS * PATH_BUCKET * 2)]
    for n, target in enumerate(targets):
        assert learn_mtu(routes, *target, 1000 + n % 400, MIN_PMTU, n) == 1000 + n % 400
    known = [n for n, target in enumerate(targets) if learned_mtu(routes, *target, 600)]
    assert len(known) == routes.path_count <= PATH_BUCKETS * PATH_BUCKET
    assert all(learned_mtu(routes, *targets[n], 600) == 1000 + n % 400 for n in known)
    assert known[-1] == len(targets) - 1
    table.forget_paths()
    assert not any(learned_mtu(routes, *target, 600) for target in targets)


def test_an_ipv6_path_takes_1280_bytes_at_least() -> None:
    """RFC 8201 section 4: the caller says what is the least."""
    table = RouteTable()
    routes = table.struct
    target = halves(parse_address("2001:db8::1"))
    assert learn_mtu(routes, *target, 600, 1280, 0) == 1280
    assert mtu_locked(routes, *target, 0) == 1
    assert learned_mtu(routes, *target, MTU_EXPIRES - 1) == 1280
    assert learned_mtu(routes, *target, MTU_EXPIRES) == 0


# For people.


def test_routes_read_as_ip_route_prints_them() -> None:
    bench = HostBench("10.9.0.1/24")
    bench.stack.add_route("default", via="10.9.0.254", metric=100)
    bench.stack.add_route("192.0.2.0/24", via="10.9.0.7", source="10.9.0.1", mtu=1400)
    bench.stack.add_route("198.51.100.9/32", kind="unreachable")
    assert [str(entry) for entry in bench.stack.ip.routes] == [
        "local 127.0.0.1 dev lo src 127.0.0.1",
        "local 10.9.0.1 dev eth0 src 10.9.0.1",
        "broadcast 10.9.0.255 dev eth0 src 10.9.0.1",
        "unreachable 198.51.100.9",
        "10.9.0.0/24 dev eth0 src 10.9.0.1",
        "192.0.2.0/24 via 10.9.0.7 dev eth0 src 10.9.0.1 mtu 1400",
        "local 127.0.0.0/8 dev lo src 127.0.0.1",
        "default via 10.9.0.254 dev eth0 metric 100",
    ]


def test_an_address_goes_with_its_routes() -> None:
    bench = HostBench("10.9.0.1/24")
    bench.stack.add_address(bench.eth0, "10.8.0.1/31")
    before = [str(entry) for entry in bench.stack.ip.routes]
    assert "broadcast 10.8.0.1 dev eth0 src 10.8.0.1" not in before  # RFC 3021
    assert bench.eth0.ipv4 == 0x0A090001
    bench.stack.ip.remove_address(bench.eth0, "10.9.0.1/24")
    assert not any("10.9" in str(entry) for entry in bench.stack.ip.routes)
    assert bench.eth0.ipv4 == 0x0A080001
    bench.stack.ip.remove_address(bench.eth0, "10.8.0.1/31")
    assert bench.eth0.ipv4 == 0
    assert bench.stack.ip.addresses(bench.eth0) == []


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda ip, eth0: ip.add_address(eth0, "10.9.0.1/24"), r"10\.9\.0\.1/24 is an address of eth0 already"),
        (lambda ip, eth0: ip.add_address(eth0, "10.9.0/24"), "is no address with a prefix"),
        (lambda ip, eth0: ip.remove_address(eth0, "10.7.0.1/24"), r"10\.7\.0\.1/24 is no address of eth0"),
        (lambda ip, _: ip.add_route("10.0.0.0/33", via="10.9.0.2"), r"10\.0\.0\.0/33 is no prefix"),
        (lambda ip, _: ip.add_route("10.0.0.1/24", via="10.9.0.2"), "has host bits set"),
        (lambda ip, _: ip.add_route("default", via="10.7.0.1"), r"the gateway 10\.7\.0\.1 is on no link of this host"),
        (lambda ip, _: ip.add_route("default", via="fe80::1"), "are of different IP versions"),
        (lambda ip, _: ip.add_route("default", via="nowhere"), "nowhere is no IP address"),
        (lambda ip, _: ip.add_route("default"), "needs a gateway or an interface"),
        (lambda ip, _: ip.remove_route("default"), r"there is no route to 0\.0\.0\.0/0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(what: object, words: str) -> None:
    bench = HostBench("10.9.0.1/24")
    with pytest.raises(ConfigError, match=words):
        what(bench.stack.ip, bench.eth0)  # type: ignore[operator]


def test_neighbours_read_as_ip_neigh_prints_them() -> None:
    bench = HostBench("10.9.0.1/24")
    bench.know("10.9.0.2", PEER_MAC)
    bench.send("10.9.0.3")
    assert [str(neighbour) for neighbour in bench.stack.ip.neighbour_list()] == [
        "10.9.0.2 dev eth0 lladdr 02:00:00:00:00:02 PERMANENT",
        "10.9.0.3 dev eth0 INCOMPLETE",
    ]
    bench.stack.ip.flush_neighbours()
    assert len(bench.stack.ip.neighbour_list()) == 1
