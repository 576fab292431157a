"""UDP: what is checked of every datagram (`receive`), and the sockets of a host that talks (the other modules).

A replay imports `receive` alone, and compiles nothing else.
"""
