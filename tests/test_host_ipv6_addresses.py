"""Addresses of IPv6: which one a packet comes from (RFC 6724), their lifetimes (RFC 4862 section 5.5.4), groups."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.stack.addresses import from_halves, halves
from netemu.stack.icmpv6.ndp_routers import interface_id
from netemu.stack.ipv6.addresses import common_prefix6, is_member6, scope6, select_source6
from netemu.stack.ipv6.state import ip6_address_at
from tests.host_kit import HostBench
from tests.ipv6_kit import HOST, HOST_LINK, SixBench

ANY = st.integers(0, (1 << 128) - 1).map(ipaddress.IPv6Address)


def bench_with(*addresses: str) -> HostBench:
    """A host with just these addresses, at once; ``-`` in front: a deprecated one."""
    bench = HostBench(None)
    bench.stack.enable_ipv6(bench.eth0, link_local=False, detect=0, report=False)
    for text in addresses:
        address = ipaddress.IPv6Interface(text.lstrip("-") + "/64")
        bench.stack.ip6.add_address(bench.eth0, address, preferred=0 if text.startswith("-") else None)
    return bench


def source(bench: HostBench, target: str) -> str | None:
    at = select_source6(bench.host, bench.eth0.address, *halves(ipaddress.IPv6Address(target)))
    return str(from_halves(ip6_address_at(at).hi, ip6_address_at(at).lo)) if at else None


class TestSource:
    @pytest.mark.parametrize(
        ("target", "candidates", "expected"),
        [
            # The examples of RFC 6724 section 10.1.
            ("2001:db8:1::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1"),
            ("ff05::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1"),
            ("2001:db8:1::1", ["-2001:db8:1::1", "2001:db8:2::1"], "2001:db8:1::1"),
            ("fe80::1", ["-fe80::2", "2001:db8:1::1"], "fe80::2"),
            ("2001:db8:1::1", ["2001:db8:1::2", "2001:db8:3::2"], "2001:db8:1::2"),
            (
                "2002:c633:6401::1",
                ["2002:c633:6401:0:d5e3:7953:13eb:22e8", "2001:db8:1::2"],
                "2002:c633:6401:0:d5e3:7953:13eb:22e8",
            ),
            # Rule 3 alone, rule 6 for local addresses (RFC 4193) against global ones.
            ("2001:db8:1::9", ["-2001:db8:1::1", "2001:db8:3::1"], "2001:db8:3::1"),
            ("fd00:1::1", ["2001:db8::1", "fd77::1"], "fd77::1"),
            ("2001:db8::9", ["fd77::1", "2001:db9::1"], "2001:db9::1"),
        ],
    )
    def test_of_several(self, target: str, candidates: list[str], expected: str) -> None:
        assert source(bench_with(*candidates), target) == expected
        assert source(bench_with(*reversed(candidates)), target) == expected

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_longer_match_counts_only_inside_the_sources_own_prefix(self, order: int) -> None:
        """Rule 8: beyond the 64 bits of the prefix nothing is compared, so the first one stays."""
        candidates = ["2001:db8:1::1", "2001:db8:1:0:fffe::1"][::order]
        assert source(bench_with(*candidates), "2001:db8:1:0:ffff::1") == candidates[0]

    def test_none_without_an_address(self) -> None:
        assert source(bench_with(), "2001:db8::1") is None

    def test_a_tentative_address_is_no_candidate(self) -> None:
        bench = SixBench(ready=False)
        assert source(bench, "2001:db8:9::2") is None
        bench.run(3)
        assert source(bench, "2001:db8:9::2") == HOST

    def test_to_a_neighbour_only_addresses_of_its_link(self) -> None:
        bench = bench_with("2001:db8:1::1", "fe80::1")
        other = bench.interface(bytes(5) + b"\x09")
        bench.stack.enable_ipv6(other, link_local=False, detect=0)
        bench.stack.ip6.add_address(other, ipaddress.IPv6Interface("fe80::2/64"))
        assert source(bench, "fe80::9") == "fe80::1"
        assert source(bench, "ff02::1") == "fe80::1"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *[("fe80::1", 2), ("febf::1", 2), ("fec0::1", 5), ("2001:db8::1", 14), ("fd00::1", 14), ("::1", 2)],
        *[("ff01::1", 1), ("ff02::1", 2), ("ff05::2", 5), ("ff0e::1", 14)],
    ],
)
def test_scope(address: str, expected: int) -> None:
    """RFC 4291 section 2.7, RFC 6724 section 3.1."""
    assert scope6(*halves(ipaddress.IPv6Address(address))) == expected


@given(ANY, ANY, st.integers(0, 128))
@settings(max_examples=200, deadline=None)
def test_common_prefix(one: ipaddress.IPv6Address, two: ipaddress.IPv6Address, shared: int) -> None:
    mask = ((1 << shared) - 1) << (128 - shared)
    other = ipaddress.IPv6Address(int(one) & mask | int(two) & ~mask & (1 << 128) - 1)
    expected = 128 - (int(one) ^ int(other)).bit_length()
    assert common_prefix6(*halves(one), *halves(other)) == expected


@pytest.mark.parametrize(
    ("mac", "expected"),
    [
        ("020000000001", "fe80::ff:fe00:1"),
        ("3456789abcde", "fe80::3656:78ff:fe9a:bcde"),
        ("ffffffffffff", "fe80::fdff:ffff:feff:ffff"),
    ],
)
def test_interface_identifier(mac: str, expected: str) -> None:
    """RFC 4291 appendix A: 34-56-78-9A-BC-DE becomes 36-56-78-FF-FE-9A-BC-DE."""
    assert halves(ipaddress.IPv6Address(expected))[1] == interface_id(int(mac, 16))


class TestLifetimes:
    def test_preferred_deprecated_gone(self) -> None:
        bench = bench_with()
        address = ipaddress.IPv6Interface("2001:db8::1/64")
        bench.stack.ip6.add_address(bench.eth0, address, preferred=100, valid=200)

        def state() -> list[str]:
            return [entry.state for entry in bench.stack.ip6.addresses()]

        assert state() == ["preferred"]
        bench.run(99.9)
        assert state() == ["preferred"]
        bench.run(0.1)
        assert state() == ["deprecated"]
        assert source(bench, "2001:db8::2") == "2001:db8::1"
        bench.run(99.9)
        assert state() == ["deprecated"]
        bench.run(0.1)
        assert state() == []
        assert source(bench, "2001:db8::2") is None


class TestGroups:
    def test_whose_packets_are_taken(self) -> None:
        bench = bench_with("2001:db8::12:3456")
        eth0 = bench.eth0.address

        def member(group: str) -> int:
            return is_member6(bench.host, eth0, *halves(ipaddress.IPv6Address(group)))

        assert member("ff02::1") == member("ff02::1:ff12:3456") == 1
        assert member("ff02::2") == member("ff02::1:ff12:3457") == member("ff02::fb") == member("ff05::1") == 0
        bench.host.forwarding = 1
        assert member("ff02::2") == 1
        bench.stack.ip6.join(bench.eth0, "ff02::fb")
        bench.stack.ip6.join(bench.eth0, "ff02::fb")
        bench.stack.ip6.leave(bench.eth0, "ff02::fb")
        assert member("ff02::fb") == 1
        bench.stack.ip6.leave(bench.eth0, "ff02::fb")
        assert member("ff02::fb") == 0

    def test_there_is_room_for_64(self) -> None:
        bench = bench_with()
        for number in range(64):
            bench.stack.ip6.join(bench.eth0, f"ff02::1:{number:x}")
        with pytest.raises(ConfigError, match="no more than 64 groups"):
            bench.stack.ip6.join(bench.eth0, "ff02::2:1")


class TestRefusals:
    def test_what_cannot_be(self) -> None:
        bench = SixBench()
        layer = bench.stack.ip6
        for text, words in [("ff02::1/64", "cannot be an address"), ("::/64", "cannot be"), (f"{HOST}/64", "already")]:
            with pytest.raises(ConfigError, match=words):
                layer.add_address(bench.eth0, ipaddress.IPv6Interface(text))
        with pytest.raises(ConfigError, match="already"):
            bench.stack.enable_ipv6(bench.eth0)
        with pytest.raises(ConfigError, match="only a router"):
            layer.advertise(bench.eth0)
        with pytest.raises(ConfigError, match="no IPv6 multicast group"):
            layer.join(bench.eth0, "2001:db8::1")
        small = bench.interface(bytes(6), mtu=1279)
        with pytest.raises(ConfigError, match="1280"):
            bench.stack.enable_ipv6(small)
        other = bench.interface(bytes(5) + b"\x07")
        with pytest.raises(ConfigError, match="not switched on"):
            layer.add_address(other, ipaddress.IPv6Interface("2001:db8:7::1/64"))

    def test_more_addresses_than_there_is_room_for(self) -> None:
        bench = bench_with()
        for number in range(64):
            bench.stack.ip6.add_address(bench.eth0, ipaddress.IPv6Interface(f"2001:db8::{number + 1:x}/64"))
        with pytest.raises(ConfigError, match="no more than 64 addresses"):
            bench.stack.ip6.add_address(bench.eth0, ipaddress.IPv6Interface("2001:db8::99:1/64"))

    def test_an_address_switches_ipv6_on(self) -> None:
        bench = HostBench("10.9.0.1/24")
        bench.stack.add_address(bench.eth0, "2001:db8:9::1/64")
        assert [str(entry.address.ip) for entry in bench.stack.ip6.addresses()] == [HOST_LINK, HOST]
        assert from_halves(bench.eth0.ipv6_hi, bench.eth0.ipv6_lo) == ipaddress.IPv6Address(HOST)
