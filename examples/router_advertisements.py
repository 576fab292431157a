"""IPv6 addresses that nobody configured.

Two guests begin with a link-local address, made of their MAC address (RFC 4862). Each first asks whether somebody has
it (a neighbour solicitation from ::), and keeps it when a second went by without an answer. Then it asks for routers
(RFC 4861), and the router says what the prefix is here, and that it is the way to everywhere else. The guests make
addresses of the prefix, look for duplicates again, and reach a server in another network. Nobody ran DHCP.

    netemu run examples/router_advertisements.py
    netemu show router-advertisements.pcapng
"""

from __future__ import annotations

import asyncio

from netemu.lab import Lab


async def main(lab: Lab) -> None:
    """From nothing to a ping beyond the router."""
    first = lab.guest("first", mac="02:00:5e:00:53:01")
    second = lab.guest("second", mac="02:00:5e:00:53:02")
    server = lab.guest("server", "2001:db8:2::80/64", gateway="2001:db8:2::1")
    router = lab.router("router", ["2001:db8:1::1/64", "2001:db8:2::1/64"])
    switch = lab.switch("switch")
    for node in (router, first, second):
        lab.link(node, switch, "delay 1ms")
    lab.link(router, server, "delay 5ms")
    lab.capture(first, "router-advertisements.pcapng")

    lab.expect("seen 2 times at first: icmpv6.type == 135 and ipv6.src == :: and eth.src == 02:00:5e:00:53:01")
    lab.expect("seen at first: icmpv6.type == 133 and ipv6.dst == ff02::2")
    lab.expect("seen at first: icmpv6.type == 134 and ipv6.dst == ff02::1")
    lab.expect("never seen at first: udp")

    router.stack.ip6.advertise(router.stack.interfaces[0])
    await asyncio.sleep(60)  # its first advertisements go by, which nobody takes yet
    for guest in (first, second):
        guest.stack.enable_ipv6(guest.interface)
    await asyncio.sleep(5)
    for guest in (first, second):
        print(f"{guest.name} has", ", ".join(str(address) for address in guest.stack.ip6.addresses()))

    lab.expect("loss == 0 %", of=await first.ping(server, count=3))
    lab.expect("loss == 0 %", of=await first.ping(second, count=3))
    # The host part of an address is its MAC address, ff:fe in the middle, and a bit turned over (RFC 4291).
    assert "2001:db8:1::5eff:fe00:5301/64 dynamic" in [str(address) for address in first.stack.ip6.addresses()]
