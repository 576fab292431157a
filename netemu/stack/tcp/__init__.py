"""TCP (RFC 9293): what is checked of each segment, and connections built from parts that know nothing of each other."""

from netemu.stack.tcp.receive import tcp_rcv

__all__ = ["tcp_rcv"]
