"""What became of a frame in the protocol stack: delivered, or why not.

Names are those of Linux's ``SKB_DROP_REASON_*`` (include/net/dropreason-core.h) where it has one; the numbers are
netemu's. A reason is finer than a counter: several reasons may move the same one (`netemu.stack.mib`).
"""

from __future__ import annotations

from enum import IntEnum


class StackReason(IntEnum):
    """The verdict of `netemu.stack.netif_receive_skb` on one frame."""

    NOT_DROPPED_YET = 0
    OTHERHOST = 1
    UNHANDLED_PROTO = 2
    HDR_TRUNC = 3
    PKT_TOO_SMALL = 4
    IP_INHDR = 5
    IP_CSUM = 6
    IP_NOPROTO = 7
    IP_INADDRERRORS = 8
    IPV6_BAD_EXTHDR = 9
    FRAGMENT = 10
    ARP_INHDR = 11
    ICMP_CSUM = 12
    ICMP_INVALID = 13
    IPV6_NDISC_HOP_LIMIT = 14
    UDP_CSUM = 15
    TCP_CSUM = 16
    TCP_INHDR = 17
    TCP_NOT_UNICAST = 18
    NO_SOCKET = 19
    FORWARDED = 20
    IP_INNOROUTES = 21
    IP_MARTIAN = 22
    IP_TTL = 23
    PKT_TOO_BIG = 24
    IP_OUTDISCARDS = 25
    FRAG_REFUSED = 26
    SOCKET_RCVBUFF = 27
    DUP_FRAG = 28

    @property
    def key(self) -> str:
        """The name in JSON and in tables: lower case."""
        return "delivered" if self is StackReason.NOT_DROPPED_YET else self.name.lower()

    @property
    def words(self) -> str:
        """One phrase for people."""
        return _WORDS[self]


_WORDS = {
    StackReason.NOT_DROPPED_YET: "delivered",
    StackReason.OTHERHOST: "dropped: addressed to another station",
    StackReason.UNHANDLED_PROTO: "dropped: nobody takes this protocol",
    StackReason.HDR_TRUNC: "dropped: ends inside a header",
    StackReason.PKT_TOO_SMALL: "dropped: shorter than its length field says",
    StackReason.IP_INHDR: "dropped: bad IP header",
    StackReason.IP_CSUM: "dropped: bad IPv4 header checksum",
    StackReason.IP_NOPROTO: "dropped: nobody takes this IP protocol",
    StackReason.IP_INADDRERRORS: "dropped: addresses that IP does not allow here",
    StackReason.IPV6_BAD_EXTHDR: "dropped: bad IPv6 extension header",
    StackReason.FRAGMENT: "a fragment, held for reassembly",
    StackReason.ARP_INHDR: "dropped: bad ARP header",
    StackReason.ICMP_CSUM: "dropped: bad ICMP checksum",
    StackReason.ICMP_INVALID: "dropped: ICMP message that is not valid here",
    StackReason.IPV6_NDISC_HOP_LIMIT: "dropped: neighbour discovery from beyond the link (hop limit below 255)",
    StackReason.UDP_CSUM: "dropped: bad UDP checksum",
    StackReason.TCP_CSUM: "dropped: bad TCP checksum",
    StackReason.TCP_INHDR: "dropped: bad TCP header",
    StackReason.TCP_NOT_UNICAST: "dropped: TCP in a frame for several stations",
    StackReason.NO_SOCKET: "dropped: no socket at that port",
    StackReason.FORWARDED: "sent on to its next hop",
    StackReason.IP_INNOROUTES: "dropped: no route to where it goes",
    StackReason.IP_MARTIAN: "dropped: an address that cannot come from there",
    StackReason.IP_TTL: "dropped: its time to live is over",
    StackReason.PKT_TOO_BIG: "dropped: longer than the next link takes, and not to be cut",
    StackReason.IP_OUTDISCARDS: "dropped: no room at the interface it was to leave by",
    StackReason.FRAG_REFUSED: "dropped: a fragment that does not fit the others, or has no room",
    StackReason.SOCKET_RCVBUFF: "dropped: the socket's receive queue is full",
    StackReason.DUP_FRAG: "dropped: a fragment that is there already",
}

REASON_COUNT = len(StackReason)

# The same numbers for kernels, which take no enums.
DELIVERED = int(StackReason.NOT_DROPPED_YET)
OTHERHOST = int(StackReason.OTHERHOST)
UNHANDLED_PROTO = int(StackReason.UNHANDLED_PROTO)
HDR_TRUNC = int(StackReason.HDR_TRUNC)
PKT_TOO_SMALL = int(StackReason.PKT_TOO_SMALL)
IP_INHDR = int(StackReason.IP_INHDR)
IP_CSUM = int(StackReason.IP_CSUM)
IP_NOPROTO = int(StackReason.IP_NOPROTO)
IP_INADDRERRORS = int(StackReason.IP_INADDRERRORS)
IPV6_BAD_EXTHDR = int(StackReason.IPV6_BAD_EXTHDR)
FRAGMENT = int(StackReason.FRAGMENT)
ARP_INHDR = int(StackReason.ARP_INHDR)
ICMP_CSUM = int(StackReason.ICMP_CSUM)
ICMP_INVALID = int(StackReason.ICMP_INVALID)
IPV6_NDISC_HOP_LIMIT = int(StackReason.IPV6_NDISC_HOP_LIMIT)
UDP_CSUM = int(StackReason.UDP_CSUM)
TCP_CSUM = int(StackReason.TCP_CSUM)
TCP_INHDR = int(StackReason.TCP_INHDR)
TCP_NOT_UNICAST = int(StackReason.TCP_NOT_UNICAST)
NO_SOCKET = int(StackReason.NO_SOCKET)
FORWARDED = int(StackReason.FORWARDED)
IP_INNOROUTES = int(StackReason.IP_INNOROUTES)
IP_MARTIAN = int(StackReason.IP_MARTIAN)
IP_TTL = int(StackReason.IP_TTL)
PKT_TOO_BIG = int(StackReason.PKT_TOO_BIG)
IP_OUTDISCARDS = int(StackReason.IP_OUTDISCARDS)
FRAG_REFUSED = int(StackReason.FRAG_REFUSED)
SOCKET_RCVBUFF = int(StackReason.SOCKET_RCVBUFF)
DUP_FRAG = int(StackReason.DUP_FRAG)


def reason_words(verdict: int) -> str:
    """One phrase for a verdict of `netemu.stack.netif_receive_skb`."""
    return StackReason(verdict).words
