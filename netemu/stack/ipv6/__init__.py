"""IPv6: what is checked of every packet (`receive`), and what a host that talks does with it (the other modules).

A replay imports `receive` and `options` alone, and compiles nothing else. Neighbour discovery is ICMPv6's.
"""
