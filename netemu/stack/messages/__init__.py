"""Sockets of whole messages: what UDP, ping and raw ones share, and the latter two themselves."""
