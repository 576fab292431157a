"""IPv4 and ARP: what is checked of every packet (`receive`), and what a host that talks does with it (the others).

A replay imports `receive`, `options` and `arp` alone, and compiles nothing else.
"""
