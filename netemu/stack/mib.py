"""The counters of the protocols, under the names that Linux prints in /proc/net/snmp, snmp6 and netstat.

Each struct is one line of those files, cut down to what frames can move here; a field's name after the prefix of
its line (``Ip`` + ``InReceives``) is the name that ``nstat -az`` shows. RFC 4293 (IP), 4022 (TCP) and 4113 (UDP) define
most of them.
"""

from __future__ import annotations

from netemu.jit import Struct, add64_any, i64, kernel, pointer, struct

ICMP_TYPES = 256


@struct
class IpMib(Struct):
    """``Ip``: IPv4."""

    InReceives: i64
    InHdrErrors: i64
    InAddrErrors: i64
    ForwDatagrams: i64
    InUnknownProtos: i64
    InDiscards: i64
    InDelivers: i64
    OutRequests: i64
    OutDiscards: i64
    OutNoRoutes: i64
    ReasmTimeout: i64
    ReasmReqds: i64
    ReasmOKs: i64
    ReasmFails: i64
    FragOKs: i64
    FragFails: i64
    FragCreates: i64
    OutTransmits: i64


@struct
class IpExtMib(Struct):
    """``IpExt``: IPv4, what the standard MIB has no name for. Octets count from the IP header on."""

    InNoRoutes: i64
    InTruncatedPkts: i64
    InMcastPkts: i64
    OutMcastPkts: i64
    InBcastPkts: i64
    OutBcastPkts: i64
    InOctets: i64
    OutOctets: i64
    InMcastOctets: i64
    OutMcastOctets: i64
    InBcastOctets: i64
    OutBcastOctets: i64
    InCsumErrors: i64
    InNoECTPkts: i64
    InECT1Pkts: i64
    InECT0Pkts: i64
    InCEPkts: i64
    ReasmOverlaps: i64


@struct
class Ip6Mib(Struct):
    """``Ip6``: IPv6."""

    InReceives: i64
    InHdrErrors: i64
    InTooBigErrors: i64
    InNoRoutes: i64
    InAddrErrors: i64
    InUnknownProtos: i64
    InTruncatedPkts: i64
    InDiscards: i64
    InDelivers: i64
    OutForwDatagrams: i64
    OutRequests: i64
    OutDiscards: i64
    OutNoRoutes: i64
    ReasmTimeout: i64
    ReasmReqds: i64
    ReasmOKs: i64
    ReasmFails: i64
    FragOKs: i64
    FragFails: i64
    FragCreates: i64
    InMcastPkts: i64
    OutMcastPkts: i64
    InOctets: i64
    OutOctets: i64
    InMcastOctets: i64
    OutMcastOctets: i64
    InNoECTPkts: i64
    InECT1Pkts: i64
    InECT0Pkts: i64
    InCEPkts: i64
    OutTransmits: i64


@struct
class IcmpMib(Struct):
    """``Icmp`` and ``Icmp6``; the messages of each type are counted beside it, by `count_at`."""

    InMsgs: i64
    InErrors: i64
    InCsumErrors: i64
    OutMsgs: i64
    OutErrors: i64
    OutRateLimitGlobal: i64
    OutRateLimitHost: i64
    types: i64
    """Address of ICMP_TYPES counters, one per message type received."""
    out_types: i64
    """The same for those sent."""


@struct
class UdpMib(Struct):
    """``Udp`` and ``Udp6``."""

    InDatagrams: i64
    NoPorts: i64
    InErrors: i64
    OutDatagrams: i64
    RcvbufErrors: i64
    SndbufErrors: i64
    InCsumErrors: i64
    IgnoredMulti: i64


@struct
class TcpMib(Struct):
    """``Tcp``, which IPv4 and IPv6 share (RFC 4022)."""

    ActiveOpens: i64
    PassiveOpens: i64
    AttemptFails: i64
    EstabResets: i64
    InSegs: i64
    OutSegs: i64
    """Without those that only repeat what was sent."""
    RetransSegs: i64
    InErrs: i64
    OutRsts: i64
    InCsumErrors: i64


@struct
class TcpExtMib(Struct):
    """``TcpExt``: what Linux counts besides, as far as `netemu.stack.tcp` does it."""

    OutOfWindowIcmps: i64
    TW: i64
    """TIME-WAITs that ran their time."""
    TWRecycled: i64
    """TIME-WAITs that a new SYN ended."""
    PAWSActive: i64
    """SYN-ACKs with a timestamp that we never sent."""
    PAWSEstab: i64
    DelayedACKs: i64
    ListenOverflows: i64
    ListenDrops: i64
    TCPPureAcks: i64
    TCPRenoRecovery: i64
    TCPSackRecovery: i64
    TCPSACKReneging: i64
    TCPSACKReorder: i64
    TCPFullUndo: i64
    TCPPartialUndo: i64
    TCPDSACKUndo: i64
    TCPLossUndo: i64
    TCPFastRetrans: i64
    TCPSlowStartRetrans: i64
    TCPTimeouts: i64
    TCPAbortOnData: i64
    TCPAbortOnClose: i64
    TCPAbortOnTimeout: i64
    TCPRetransFail: i64
    TCPOFOQueue: i64
    TCPOFODrop: i64
    TCPChallengeACK: i64
    TCPSYNChallenge: i64
    TCPFromZeroWindowAdv: i64
    TCPToZeroWindowAdv: i64
    TCPSynRetrans: i64
    TCPOrigDataSent: i64
    TCPACKSkippedPAWS: i64
    TCPACKSkippedSeq: i64
    TCPWinProbe: i64
    TCPKeepAlive: i64


ip_mib_at = pointer(IpMib)
ip_ext_mib_at = pointer(IpExtMib)
ip6_mib_at = pointer(Ip6Mib)
icmp_mib_at = pointer(IcmpMib)
udp_mib_at = pointer(UdpMib)
tcp_mib_at = pointer(TcpMib)
tcp_ext_mib_at = pointer(TcpExtMib)

_COUNTER = 8
IP_EXT_ECN = list(IpExtMib.__annotations__).index("InNoECTPkts") * _COUNTER
"""Offset of the four counters by ECN codepoint (RFC 3168 section 5), in the order of the codepoints."""
IP6_ECN = list(Ip6Mib.__annotations__).index("InNoECTPkts") * _COUNTER


@kernel
def count_at(counters: i64, index: i64) -> None:
    """Add one to the counter number ``index`` of those at address ``counters``."""
    add64_any(counters + index * _COUNTER, 1)
