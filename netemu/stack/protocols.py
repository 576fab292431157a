"""`ProtocolStack`: the stack's memory and its statistics, for Python."""

from __future__ import annotations

from netemu.jit import Struct, allocate
from netemu.stack.mib import ICMP_TYPES, IcmpMib, Ip6Mib, IpExtMib, IpMib, TcpExtMib, TcpMib, UdpMib
from netemu.stack.reasons import REASON_COUNT, StackReason
from netemu.stack.state import SCRATCH_SIZE, Stack

ICMP_NAMES = {
    3: "DestUnreachs",
    11: "TimeExcds",
    12: "ParmProbs",
    4: "SrcQuenchs",
    5: "Redirects",
    8: "Echos",
    0: "EchoReps",
    13: "Timestamps",
    14: "TimestampReps",
    17: "AddrMasks",
    18: "AddrMaskReps",
}
"""Message types that /proc/net/snmp has a column for, in its order; ``IcmpMsgInType`` and the number shows them all."""

ICMP6_NAMES = {
    1: "DestUnreachs",
    2: "PktTooBigs",
    3: "TimeExcds",
    4: "ParmProblems",
    128: "Echos",
    129: "EchoReplies",
    130: "GroupMembQueries",
    131: "GroupMembResponses",
    132: "GroupMembReductions",
    133: "RouterSolicits",
    134: "RouterAdvertisements",
    135: "NeighborSolicits",
    136: "NeighborAdvertisements",
    137: "Redirects",
    143: "MLDv2Reports",
}
"""The same for /proc/net/snmp6."""

ICMP6_ORDER = ("InMsgs", "InErrors", "OutMsgs", "OutErrors", "InCsumErrors", "OutRateLimitHost")
"""Linux has the counters of ICMPv6 in an order of their own."""

_ADDRESSES = ("types", "out_types")
"""Fields of a `IcmpMib` that are not counters."""


class ProtocolStack:
    """The protocols of one host: what `netemu.stack.netif_receive_skb` works on, and what it counted."""

    def __init__(self, *, promiscuous: bool = True, any_port: bool = True) -> None:
        """Make a stack with all counters at 0.

        ``promiscuous`` takes frames addressed to other stations too, as suits a replay, which has no station of its
        own. ``any_port`` takes every UDP and TCP port as open; without it all are closed.
        """
        self._ip, self._ip_ext, self._ip6 = IpMib(), IpExtMib(), Ip6Mib()
        self._tcp, self._tcp_ext, self._udp, self._udp6 = TcpMib(), TcpExtMib(), UdpMib(), UdpMib()
        self._icmp_types, self._icmp6_types = allocate(ICMP_TYPES * 8), allocate(ICMP_TYPES * 8)
        self._icmp_out_types, self._icmp6_out_types = allocate(ICMP_TYPES * 8), allocate(ICMP_TYPES * 8)
        self._icmp = IcmpMib(types=self._icmp_types.address, out_types=self._icmp_out_types.address)
        self._icmp6 = IcmpMib(types=self._icmp6_types.address, out_types=self._icmp6_out_types.address)
        self._reasons = allocate(REASON_COUNT * 8)
        self._scratch = allocate(SCRATCH_SIZE)
        self._mibs: tuple[Struct, ...] = (
            self._ip, self._ip_ext, self._ip6, self._tcp, self._tcp_ext, self._udp, self._udp6, self._icmp, self._icmp6,
        )  # fmt: skip
        self._arrays = (
            self._icmp_types, self._icmp6_types, self._icmp_out_types, self._icmp6_out_types, self._reasons,
        )  # fmt: skip
        self.struct = Stack(
            promiscuous=int(promiscuous),
            any_port=int(any_port),
            scratch=self._scratch.address,
            reasons=self._reasons.address,
            ip=self._ip.address,
            ip_ext=self._ip_ext.address,
            icmp=self._icmp.address,
            tcp=self._tcp.address,
            tcp_ext=self._tcp_ext.address,
            udp=self._udp.address,
            ip6=self._ip6.address,
            icmp6=self._icmp6.address,
            udp6=self._udp6.address,
        )

    @property
    def address(self) -> int:
        """Host address of the `Stack`, for a kernel; valid while this object lives."""
        return self.struct.address

    def absorb(self, other: ProtocolStack) -> None:
        """Add another stack's counters to these; the other one's start at 0 again."""
        for mine, theirs in zip(self._mibs, other._mibs, strict=True):
            for name, value in theirs.to_dict().items():
                if name not in _ADDRESSES:
                    setattr(mine, name, getattr(mine, name) + value)
                    setattr(theirs, name, 0)
        for mine_array, their_array in zip(self._arrays, other._arrays, strict=True):
            mine_array.array.view("<i8")[:] += their_array.array.view("<i8")
            their_array.array[:] = 0

    def reasons(self) -> dict[str, int]:
        """How many frames met which verdict, by `StackReason.key`; all of them, so the sum is the number of frames."""
        counts = self._reasons.array.view("<i8")
        return {reason.key: int(counts[reason]) for reason in StackReason}

    def snmp(self) -> dict[str, int]:
        """All counters under the names and in the order of ``nstat -az``.

        Of the message types without a name only those that came are there, as in Linux.
        """
        icmp_types = self._icmp_types.array.view("<i8")
        icmp6_types = self._icmp6_types.array.view("<i8")
        icmp_out = self._icmp_out_types.array.view("<i8")
        icmp6_out = self._icmp6_out_types.array.view("<i8")
        return {
            **_named("Ip", self._ip),
            **_named("Icmp", self._icmp, "In"),
            **{f"IcmpIn{name}": int(icmp_types[kind]) for kind, name in ICMP_NAMES.items()},
            **_named("Icmp", self._icmp, "Out"),
            **{f"IcmpOut{name}": int(icmp_out[kind]) for kind, name in ICMP_NAMES.items()},
            **{f"IcmpMsgInType{kind}": int(icmp_types[kind]) for kind in icmp_types.nonzero()[0]},
            **{f"IcmpMsgOutType{kind}": int(icmp_out[kind]) for kind in icmp_out.nonzero()[0]},
            **_named("Tcp", self._tcp),
            **_named("Udp", self._udp),
            **_named("Ip6", self._ip6),
            **{f"Icmp6{name}": getattr(self._icmp6, name) for name in ICMP6_ORDER},
            **{f"Icmp6In{name}": int(icmp6_types[kind]) for kind, name in ICMP6_NAMES.items()},
            **{f"Icmp6Out{name}": int(icmp6_out[kind]) for kind, name in ICMP6_NAMES.items()},
            **{f"Icmp6InType{kind}": int(icmp6_types[kind]) for kind in icmp6_types.nonzero()[0]},
            **{f"Icmp6OutType{kind}": int(icmp6_out[kind]) for kind in icmp6_out.nonzero()[0]},
            **_named("Udp6", self._udp6),
            **_named("TcpExt", self._tcp_ext),
            **_named("IpExt", self._ip_ext),
        }


def _named(prefix: str, mib: Struct, direction: str = "") -> dict[str, int]:
    """A line of counters with its prefix; ``direction``: only those that begin so."""
    counters = {name: value for name, value in mib.to_dict().items() if name not in _ADDRESSES}
    return {prefix + name: value for name, value in counters.items() if name.startswith(direction)}
