"""ICMP: what is checked of every message (`receive`), and what a host that talks does with it (the other modules)."""
