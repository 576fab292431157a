"""What guests offer each other: echo and its kin, HTTP, DHCP, DNS. Each is a small program over `netemu.aio`.

Protocols above TCP and UDP are parsed by libraries: h11 for HTTP, dnslib for DNS, scapy for DHCP. A service is a module
of its own, imported by who uses it.
"""
