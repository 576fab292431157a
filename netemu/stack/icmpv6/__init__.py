"""ICMPv6 with neighbour discovery and MLD: `receive` checks every message, the others are for a host that talks."""
