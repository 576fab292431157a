"""From nothing to a download: DHCP, DNS and ARP.

The client begins with a MAC address and nothing else. It asks everybody for an address (DISCOVER, from 0.0.0.0 to
255.255.255.255) and gets one, with a router and a name server. Before it may ask the name server for anything it needs
the MAC address to an IP address of the same network, which ARP finds. The web server is in another network: for that
the client asks ARP for the router, and never for the server.

    netemu run examples/bring_up.py
    netemu show bring-up.pcapng
"""

from __future__ import annotations

from netemu.lab import Lab
from netemu.services.dhcp_client import DhcpClient
from netemu.services.dhcp_server import DhcpServer
from netemu.services.dns_server import DnsServer
from netemu.services.http_client import fetch
from netemu.services.http_server import HttpServer


async def main(lab: Lab) -> None:
    """From nothing to a file."""
    client = lab.guest("client")
    helper = lab.guest("helper", "10.0.0.53/24", gateway="10.0.0.254")
    web = lab.guest("web", "10.0.1.80/24", gateway="10.0.1.254")
    switch = lab.switch("switch")
    router = lab.router("router", ["10.0.0.254/24", "10.0.1.254/24"])
    for node in (client, helper, router):
        lab.link(node, switch, "delay 1ms")
    lab.link(router, web, "delay 10ms")
    lab.capture(client, "bring-up.pcapng")

    lab.expect("seen 2 times at client: udp.srcport == 68 and ip.dst == 255.255.255.255")
    lab.expect("seen 2 times at client: udp.srcport == 67 and ip.src == 10.0.0.53")
    for neighbour in ("10.0.0.53", "10.0.0.254"):
        lab.expect(f"seen at client: arp.src.proto_ipv4 == 10.0.0.100 and arp.dst.proto_ipv4 == {neighbour}")
    lab.expect("never seen at client: arp.dst.proto_ipv4 == 10.0.1.80")
    lab.expect("seen at client: udp.dstport == 53 and ip.dst == 10.0.0.53")
    lab.expect('seen at client: ip.src == 10.0.1.80 and tcp.payload contains "It works."')

    gives = DhcpServer("10.0.0.0/24", "10.0.0.100", "10.0.0.199", router="10.0.0.254", dns=["10.0.0.53"])
    await gives.serve(helper)
    await DnsServer({"www.example.org": "10.0.1.80"}).serve(helper)
    await HttpServer({"/hello.txt": b"It works.\n"}).serve(web)

    lease = await DhcpClient(client).acquire()
    print(f"{lab.now / 1e6:8.3f} ms  the client has {lease}")
    response = await fetch(client, "http://www.example.org/hello.txt")
    print(f"{lab.now / 1e6:8.3f} ms  it has a file, too: {response.status}, {response.body!r}")
    assert lease.address == "10.0.0.100"
    assert response.body == b"It works.\n"
