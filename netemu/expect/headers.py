"""The headers of a frame as fields (`netemu.expect.fields`), each with the values it has in it.

Only the frame's own headers are read: not what an ICMP error quotes, nor what lies in a tunnel. A header that is cut
short has the fields that are whole; nothing is raised for any bytes.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

FieldValue = int | bytes | IPv4Address | IPv6Address
"""A number, a flag or a MAC address (48 bits) is an int; a layer is the number 1."""
Fields = dict[str, list[FieldValue]]

_VLAN, _SERVICE_VLAN = 0x8100, 0x88A8
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_TCP_FLAGS = ("fin", "syn", "reset", "push", "ack", "urg", "ece", "cwr")
_BAD, _GOOD, _UNVERIFIED, _NOT_PRESENT = 0, 1, 2, 3
"""What becomes of a checksum, in Wireshark's numbers. One that is left to hardware is bad."""
_ECHO = {0, 8, 13, 14, 15, 16, 17, 18}
"""ICMP messages with an identifier and a sequence number."""


def read_fields(frame: bytes) -> Fields:
    """All fields of an Ethernet frame."""
    return _Reading(frame).fields


def _sums_up(*parts: bytes) -> int:
    """_GOOD if the 16-bit words of parts of even lengths (but for the last) sum up to 0, in one's complement."""
    data = b"".join(parts)
    number = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    return _GOOD if number % 0xFFFF == 0 else _BAD


class _Reading:
    """One frame while its headers are read, from the outside in."""

    def __init__(self, frame: bytes) -> None:
        self.frame = frame
        self.ends = b""
        """Both IP addresses, as a pseudo-header has them; empty where a fragment has not all that a checksum is of."""
        self.fields: Fields = {"frame": [frame], "frame.len": [len(frame)]}
        if len(frame) >= 14:
            self._ethernet()

    def _number(self, at: int, size: int) -> int:
        return int.from_bytes(self.frame[at : at + size], "big")

    def _add(self, **values: FieldValue) -> None:
        """Add fields; two underscores in a name stand for the point."""
        for name, value in values.items():
            self.fields.setdefault(name.replace("__", "."), []).append(value)

    def _ethernet(self) -> None:
        target, source = self._number(0, 6), self._number(6, 6)
        self.fields |= {"eth": [1], "eth.dst": [target], "eth.src": [source], "eth.addr": [target, source]}
        at, protocol = 14, self._number(12, 2)
        if protocol >= 0x600:
            self._add(eth__type=protocol)
        while protocol in {_VLAN, _SERVICE_VLAN} and len(self.frame) >= at + 4:
            kind, tag, protocol = protocol, self._number(at, 2), self._number(at + 2, 2)
            if kind == _VLAN:  # Wireshark has other names for a service tag
                self._add(vlan=1, vlan__id=tag & 0xFFF, vlan__priority=tag >> 13)
            at += 4
        if protocol == _ARP:
            self._arp(at)
        elif protocol == _IPV4:
            self._ipv4(at)
        elif protocol == _IPV6:
            self._ipv6(at)

    def _arp(self, at: int) -> None:
        if len(self.frame) < at + 8:
            return
        self._add(arp=1, arp__opcode=self._number(at + 6, 2))
        is_ipv4_over_ethernet = self.frame[at : at + 6] == bytes.fromhex("000108000604")
        if is_ipv4_over_ethernet and len(self.frame) >= at + 28:
            self._add(arp__src__hw_mac=self._number(at + 8, 6), arp__dst__hw_mac=self._number(at + 18, 6))
            self._add(arp__src__proto_ipv4=IPv4Address(self.frame[at + 14 : at + 18]))
            self._add(arp__dst__proto_ipv4=IPv4Address(self.frame[at + 24 : at + 28]))

    def _ipv4(self, at: int) -> None:
        frame = self.frame
        if len(frame) < at + 20 or frame[at] >> 4 != 4 or (header := 4 * (frame[at] & 15)) < 20:
            return
        length, fragment = self._number(at + 2, 2), self._number(at + 6, 2)
        source, target = IPv4Address(frame[at + 12 : at + 16]), IPv4Address(frame[at + 16 : at + 20])
        self._add(ip=1, ip__src=source, ip__dst=target, ip__addr=source, ip__len=length, ip__id=self._number(at + 4, 2))
        self._add(ip__addr=target, ip__ttl=frame[at + 8], ip__proto=frame[at + 9])
        self._add(ip__dsfield__dscp=frame[at + 1] >> 2, ip__dsfield__ecn=frame[at + 1] & 3)
        self._add(ip__flags__df=fragment >> 14 & 1, ip__flags__mf=fragment >> 13 & 1)
        self._add(ip__frag_offset=8 * (fragment & 0x1FFF))
        if len(frame) >= at + header:
            self._add(ip__checksum__status=_sums_up(frame[at : at + header]))
        # A length of 0 is that of a packet whose segmentation was left to hardware.
        end = min(at + length, len(frame)) if length >= header else len(frame)
        if fragment & 0x3FFF == 0 and len(frame) >= at + length:
            self.ends = frame[at + 12 : at + 20]
        if fragment & 0x1FFF == 0:
            self._transport(frame[at + 9], at + header, end)

    def _ipv6(self, at: int) -> None:
        frame = self.frame
        if len(frame) < at + 40 or frame[at] >> 4 != 6:
            return
        length, protocol = self._number(at + 4, 2), frame[at + 6]
        source, target = IPv6Address(frame[at + 8 : at + 24]), IPv6Address(frame[at + 24 : at + 40])
        self._add(ipv6=1, ipv6__src=source, ipv6__dst=target, ipv6__addr=source, ipv6__plen=length)
        self._add(ipv6__addr=target, ipv6__nxt=protocol, ipv6__hlim=frame[at + 7])
        self._add(ipv6__flow=self._number(at, 4) & 0xFFFFF)
        end = min(at + 40 + length, len(frame)) if length else len(frame)
        if len(frame) >= at + 40 + length:
            self.ends = frame[at + 8 : at + 40]
        at += 40
        while protocol in {_HOP_BY_HOP, _ROUTING, _DESTINATION, _FRAGMENT}:
            if at + 8 > end:
                return
            if protocol == _FRAGMENT:
                self._add(ipv6__fraghdr=1)
                self.ends = b"" if self._number(at + 2, 2) & 0xFFF9 else self.ends
                if self._number(at + 2, 2) >> 3:
                    return
                protocol, at = frame[at], at + 8
            else:
                protocol, at = frame[at], at + 8 * (frame[at + 1] + 1)
        self._transport(protocol, at, end)

    def _transport(self, protocol: int, at: int, end: int) -> None:
        if protocol == _TCP and end >= at + 20:
            self._tcp(at, end)
        elif protocol == _UDP and end >= at + 8:
            self._udp(at, end)
        elif protocol == _ICMP and end >= at + 4:
            self._icmp(at, end)
        elif protocol == _ICMPV6 and end >= at + 4:
            self._add(icmpv6=1, icmpv6__type=self.frame[at], icmpv6__code=self.frame[at + 1])

    def _icmp(self, at: int, end: int) -> None:
        kind, code = self.frame[at], self.frame[at + 1]
        self._add(icmp=1, icmp__type=kind, icmp__code=code)
        if kind in _ECHO and end >= at + 8:
            self._add(icmp__ident=self._number(at + 4, 2), icmp__seq=self._number(at + 6, 2))
        elif (kind, code) == (3, 4) and end >= at + 8:
            self._add(icmp__mtu=self._number(at + 6, 2))

    def _status(self, protocol: int, at: int, end: int) -> int:
        """What the checksum of a segment or a datagram is."""
        if not self.ends:
            return _UNVERIFIED
        pseudo_header = self.ends + (end - at).to_bytes(4, "big") + protocol.to_bytes(4, "big")
        return _sums_up(pseudo_header, self.frame[at:end])

    def _ports(self, name: str, at: int) -> None:
        source, target = self._number(at, 2), self._number(at + 2, 2)
        self.fields |= {name: [1], f"{name}.srcport": [source], f"{name}.dstport": [target]}
        self.fields[f"{name}.port"] = [source, target]

    def _udp(self, at: int, end: int) -> None:
        self._ports("udp", at)
        length = self._number(at + 4, 2)
        self._add(udp__length=length)
        end = min(end, at + length) if length >= 8 else end
        payload = self.frame[at + 8 : end]
        self._add(udp__checksum__status=self._status(_UDP, at, end) if self._number(at + 6, 2) else _NOT_PRESENT)
        if payload:
            self._add(udp__payload=payload)

    def _tcp(self, at: int, end: int) -> None:
        frame = self.frame
        header = 4 * (frame[at + 12] >> 4)
        self._ports("tcp", at)
        self._add(tcp__seq_raw=self._number(at + 4, 4), tcp__ack_raw=self._number(at + 8, 4), tcp__hdr_len=header)
        for bit, name in enumerate(_TCP_FLAGS):
            self.fields[f"tcp.flags.{name}"] = [frame[at + 13] >> bit & 1]
        self._add(tcp__window_size_value=self._number(at + 14, 2), tcp__checksum__status=self._status(_TCP, at, end))
        if header < 20 or at + header > end:
            return
        self._add(tcp__len=end - at - header)
        if end > at + header:
            self._add(tcp__payload=frame[at + header : end])
        self._tcp_options(at + 20, at + header)

    def _tcp_options(self, at: int, end: int) -> None:
        while at < end and (kind := self.frame[at]) != 0:
            if kind == 1:
                at += 1
                continue
            size = self.frame[at + 1] if at + 1 < end else 0
            if size < 2 or at + size > end:
                return
            if (kind, size) == (2, 4):
                self._add(tcp__options__mss_val=self._number(at + 2, 2))
            elif (kind, size) == (3, 3):
                self._add(tcp__options__wscale__shift=self.frame[at + 2])
            elif (kind, size) == (4, 2):
                self._add(tcp__options__sack_perm=1)
            elif kind == 5 and size >= 10:
                self._add(tcp__options__sack=1, tcp__options__sack__count=(size - 2) // 8)
            elif (kind, size) == (8, 10):
                self._add(tcp__options__timestamp__tsval=self._number(at + 2, 4))
                self._add(tcp__options__timestamp__tsecr=self._number(at + 6, 4))
            at += size
