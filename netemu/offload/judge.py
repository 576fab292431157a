"""What a captured frame's sender left undone, judged by the frame itself: no capture keeps the virtio-net header.

* A checksum that equals the sum of the pseudo-header is *unfinished*: the sender left it to hardware.
* A packet over the MTU was meant to be segmented. TCP is cut into segments that fill the MTU, options counted. A UDP
  datagram may have been one (fragments, UFO) or many (USO): its size does not tell, so it is one, unless ``udp_size``
  says how large the many were.
* A checksum that is neither right nor unfinished is wrong, and a frame with one is not touched.
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial
from netemu.jit import i64, kernel, load8, load16, load16be
from netemu.offload.dissect import TCP, UDP, Layers, dissect, enter_tunnel, find_tunnel, outermost
from netemu.offload.reasons import (
    FRAGMENT,
    NO_CHECKSUM,
    NO_ROOM,
    NOT_IP,
    OTHER_PROTOCOL,
    TOO_LONG,
    WHOLE,
    WRONG_CHECKSUM,
    WRONG_IP_CHECKSUM,
)
from netemu.offload.sums import check_at, packet_pseudo_sum, pseudo_sum
from netemu.offload.vnet import GSO_BITS, VnetHeader, clear_vnet
from netemu.virtio.net import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    GSO_UDP_L4,
    GSO_UDP_TUNNEL_IPV4,
    GSO_UDP_TUNNEL_IPV6,
    NEEDS_CSUM,
    UDP_TUNNEL_CSUM,
)

# What `judge` returns beside the reasons.
UNFINISHED = 64
"""A checksum has to be finished: `VnetHeader` says which."""
LARGE = 65
"""It has to be cut: `VnetHeader` says how."""

TCP_CWR = 0x80

# States of a checksum
RIGHT = 0
PARTIAL = 1
ABSENT = 2
WRONG = 3


@kernel
def checksum_state(frame: i64, d: Layers, large: i64) -> i64:
    """Whether the TCP or UDP checksum is RIGHT, PARTIAL (the pseudo-header's sum), ABSENT or WRONG.

    Some systems leave the length out of the pseudo-header of a ``large`` packet, as hardware wants it.
    """
    field = load16(frame + d.transport + check_at(d.protocol))
    if field == 0 and d.protocol == UDP:
        return ABSENT
    pseudo = packet_pseudo_sum(frame, d)
    if csum_fold(csum_partial(frame + d.transport, d.end - d.transport, pseudo)) == 0xFFFF:
        return RIGHT
    if field == csum_fold(pseudo):
        return PARTIAL
    if large and field == csum_fold(pseudo_sum(frame, d.network, d.version, d.protocol)):
        return PARTIAL
    return WRONG


@kernel
def ipv4_state(frame: i64, network: i64, header: i64) -> i64:
    """The same for an IPv4 header of ``header`` bytes; PARTIAL where its checksum or its length is zero."""
    if load16(frame + network + 10) == 0 or load16(frame + network + 2) == 0:
        return PARTIAL
    return RIGHT if csum_fold(csum_partial(frame + network, header, 0)) == 0xFFFF else WRONG


@kernel
def name_checksum(d: Layers, h: VnetHeader) -> None:
    """Point the header at the checksum of TCP or UDP."""
    h.flags |= NEEDS_CSUM
    h.csum_start = d.transport
    h.csum_offset = check_at(d.protocol)
    h.hdr_len = d.payload


@kernel
def _name_segmentation(frame: i64, d: Layers, h: VnetHeader, mtu: i64, udp_size: i64) -> i64:
    """Say how a packet over the MTU is to be cut: LARGE, or NO_ROOM."""
    start = outermost(d)
    room = mtu - (d.payload - start)
    if d.jumbo != 0:
        room += 8
    if d.protocol == TCP:
        h.gso_type = GSO_TCPV4 if d.version == 4 else GSO_TCPV6
        if load8(frame + d.transport + 13) & TCP_CWR:
            h.gso_type |= GSO_ECN
    elif d.outer_network != 0 or udp_size > 0:
        h.gso_type = GSO_UDP_L4
        room = min(room, udp_size) if udp_size > 0 else room
    else:
        h.gso_type = GSO_UDP
        headers = d.transport - start if d.version == 4 else d.fragmentable - start + 8
        room = (mtu - headers) & ~7
    h.gso_size = min(room, 0xFFFF)
    if d.outer_network != 0:
        h.gso_type |= GSO_UDP_TUNNEL_IPV4 if d.version == 4 else GSO_UDP_TUNNEL_IPV6
        h.outer_th_offset = d.outer_transport
        h.inner_nh_offset = d.network
        if load16(frame + d.outer_transport + 6) != 0:
            h.flags |= UDP_TUNNEL_CSUM
    return NO_ROOM if room < 8 else LARGE


@kernel
def look_inside(frame: i64, length: i64, d: Layers) -> i64:
    """`dissect`, and into a tunnel where TCP or UDP is in it."""
    why = dissect(frame, length, d)
    if why == WHOLE and d.protocol == UDP:
        at = find_tunnel(frame, d)
        if at != 0 and enter_tunnel(frame, at, d.inner_type, d) != WHOLE:
            why = dissect(frame, length, d)
    return why


@kernel
def judge(frame: i64, length: i64, mtu: i64, udp_size: i64, d: Layers, h: VnetHeader) -> i64:
    """Find out what is left to do to a frame, and write it to ``h``: UNFINISHED, LARGE, or a reason to leave it.

    ``udp_size``: bytes of the datagrams that a UDP packet over the MTU holds; 0: it is a single one.
    """
    clear_vnet(h)
    why = look_inside(frame, length, d)
    if why != WHOLE:
        if d.version == 4 and why in (OTHER_PROTOCOL, FRAGMENT):
            ip = ipv4_state(frame, d.network, d.transport - d.network)
            if ip != RIGHT:
                return UNFINISHED if ip == PARTIAL else WRONG_IP_CHECKSUM
        over = length - d.network > mtu
        return TOO_LONG if over and why in (NOT_IP, OTHER_PROTOCOL, FRAGMENT) else why
    large = 1 if d.end - outermost(d) > mtu else 0
    if d.outer_network != 0 and large and d.protocol == UDP and udp_size == 0:
        # What size the datagrams inside had does not show: the outer packet is one datagram.
        dissect(frame, length, d)
    header = d.transport - d.network
    ip = ipv4_state(frame, d.network, header) if d.version == 4 else RIGHT
    if ip == WRONG:
        return WRONG_IP_CHECKSUM
    state = checksum_state(frame, d, large)
    if state == WRONG:
        return WRONG_CHECKSUM
    if d.outer_network != 0 and state == RIGHT and large == 0:
        # Nothing is left to do inside. Outside it is a UDP datagram like others.
        dissect(frame, length, d)
        header = d.transport - d.network
        ip = ipv4_state(frame, d.network, header) if d.version == 4 else RIGHT
        state = checksum_state(frame, d, 0)
        if ip == WRONG:
            return WRONG_IP_CHECKSUM
        if state == WRONG:
            return WRONG_CHECKSUM
    if state != ABSENT:
        name_checksum(d, h)
    if large:
        return _name_segmentation(frame, d, h, mtu, udp_size)
    if PARTIAL in (state, ip):
        return UNFINISHED
    return NO_CHECKSUM if state == ABSENT else WHOLE


@kernel
def large_kind_fits(frame: i64, d: Layers, h: VnetHeader) -> i64:
    """Whether a header's gso_type is one for the packet that ``d`` describes, and its checksum the one named."""
    base = h.gso_type & ~GSO_BITS
    if h.csum_start != d.transport or h.csum_offset != check_at(d.protocol):
        return 0
    if base == GSO_TCPV4:
        return 1 if d.version == 4 and d.protocol == TCP else 0
    if base == GSO_TCPV6:
        return 1 if d.version == 6 and d.protocol == TCP else 0
    if base in (GSO_UDP, GSO_UDP_L4):
        return 1 if d.protocol == UDP and load16be(frame + d.transport + 4) != 0 else 0
    return 0
