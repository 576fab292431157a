"""Between protocol stack and driver: what a network device can do, and what is done about what it cannot.

After Linux's net/core/dev.c and the watchdog of net/sched: the stack hands a driver only what its features cover. So a
driver need not check what it is given, and Linux's does not.
"""

from __future__ import annotations

from netemu.checksum import csum_fold
from netemu.driver.eras import era_at
from netemu.driver.transmit_header import GSO_MODIFIERS, gso_header_length
from netemu.driver.virtnet import ETH_HLEN, SQ_SIZE, VLAN_HLEN, VirtnetInfo, sq_at
from netemu.jit import i64, kernel, load8, store8
from netemu.skb import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    FRAG_SIZE,
    GSO_TUNNEL_CSUM,
    Skb,
    frag_at,
    skb_checksum,
)
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_UDP_TUNNEL

# net_device.features, as far as sending goes; the numbers are netemu's own.
NETIF_F_HW_CSUM = 1
NETIF_F_TSO = 2
NETIF_F_TSO6 = 4
NETIF_F_TSO_ECN = 8
NETIF_F_GSO_UDP_L4 = 16
NETIF_F_GSO_UDP_TUNNEL = 32
NETIF_F_GSO_UDP_TUNNEL_CSUM = 64

# What validate_xmit_skb says.
XMIT_OK = 0
XMIT_SEGMENT = 1
"""It has to be segmented in software first."""
XMIT_LINEARIZE = 2
"""It has a frag list, which no virtio device takes."""
XMIT_TOO_LONG = 3
"""It exceeds the MTU, and nothing says how to segment it (NETC-V-09)."""
XMIT_MALFORMED = 4
"""It is no frame that could be sent: shorter than a header, or its checksum's place lies outside of it."""

ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8
CSUM_MANGLED_0 = 0xFFFF

WATCHDOG_TIMEO = 5_000_000_000
"""ns a queue may be stopped without a frame being sent, before the driver hears of it (dev_watchdog)."""


def netdev_features(features: FeatureSet) -> int:
    """What virtnet_probe adds to the net device's features for sending (sheet 1.3, step 3).

    HOST_UFO adds nothing: Linux negotiates it and does not use it any more.
    """
    if f.CSUM not in features:
        return 0
    found = NETIF_F_HW_CSUM
    if f.GSO in features:
        found |= NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN
    for bit, flag in (
        (f.HOST_TSO4, NETIF_F_TSO),
        (f.HOST_TSO6, NETIF_F_TSO6),
        (f.HOST_ECN, NETIF_F_TSO_ECN),
        (f.HOST_USO, NETIF_F_GSO_UDP_L4),
        (f.HOST_UDP_TUNNEL_GSO, NETIF_F_GSO_UDP_TUNNEL),
        (f.HOST_UDP_TUNNEL_GSO_CSUM, NETIF_F_GSO_UDP_TUNNEL_CSUM),
    ):
        if bit in features:
            found |= flag
    return found


@kernel
def _gso_features(gso_type: i64) -> i64:
    """The features a GSO frame needs of its device; -1 where none would do."""
    kind = gso_type & ~GSO_MODIFIERS
    if kind == GSO_TCPV4:
        needed = NETIF_F_TSO
    elif kind == GSO_TCPV6:
        needed = NETIF_F_TSO6
    elif kind == GSO_UDP_L4:
        needed = NETIF_F_GSO_UDP_L4
    else:
        return -1
    if gso_type & GSO_ECN:
        needed |= NETIF_F_TSO_ECN
    if gso_type & GSO_UDP_TUNNEL:
        needed |= NETIF_F_GSO_UDP_TUNNEL
    if gso_type & GSO_TUNNEL_CSUM:
        needed |= NETIF_F_GSO_UDP_TUNNEL_CSUM
    return needed | NETIF_F_HW_CSUM


@kernel
def _byte_at(skb: Skb, offset: i64) -> i64:
    """Host address of one byte of a frame without a frag list, which is long enough."""
    linear = skb.len - skb.data_len
    if offset < linear:
        return skb.data + offset
    offset -= linear
    at = skb.frags
    while offset >= frag_at(at).size:
        offset -= frag_at(at).size
        at += FRAG_SIZE
    return frag_at(at).address + offset


@kernel
def skb_checksum_help(skb: Skb) -> None:
    """Finish a frame's checksum in software, for a device that does not (TX-V-04)."""
    total = skb_checksum(skb, skb.csum_start, skb.len - skb.csum_start, 0)
    result = csum_fold(total) ^ 0xFFFF
    if result == 0:
        result = CSUM_MANGLED_0
    at = skb.csum_start + skb.csum_offset
    store8(_byte_at(skb, at), result)
    store8(_byte_at(skb, at + 1), result >> 8)
    skb.ip_summed = CHECKSUM_NONE


@kernel
def _most_bytes(vi: VirtnetInfo, skb: Skb) -> i64:
    """How long a frame without GSO may be: the MTU with its header, and a VLAN tag's four bytes more."""
    protocol = (load8(_byte_at(skb, 12)) << 8) | load8(_byte_at(skb, 13))
    tagged = protocol in (ETH_P_8021Q, ETH_P_8021AD)
    return vi.mtu + ETH_HLEN + (VLAN_HLEN if tagged else 0)


@kernel
def validate_xmit_skb(vi: VirtnetInfo, skb: Skb) -> i64:
    """Make a frame one that the device can send: XMIT_OK, or what keeps it from being one.

    Checksums are finished here where the device does not do that; segmenting is left to the caller.
    """
    if skb.frag_list != 0:
        return XMIT_LINEARIZE
    if skb.len < ETH_HLEN:
        return XMIT_MALFORMED
    if skb.ip_summed == CHECKSUM_PARTIAL and skb.csum_start + skb.csum_offset + 2 > skb.len:
        return XMIT_MALFORMED
    if skb.gso_size != 0:
        needed = _gso_features(skb.gso_type)
        if needed < 0 or needed & ~vi.tx_features:
            return XMIT_SEGMENT
        headers = gso_header_length(skb)
        if skb.ip_summed != CHECKSUM_PARTIAL or headers == 0 or headers > skb.len:
            return XMIT_MALFORMED
        return XMIT_OK
    if skb.len > _most_bytes(vi, skb):
        return XMIT_TOO_LONG
    if skb.ip_summed == CHECKSUM_PARTIAL and vi.tx_features & NETIF_F_HW_CSUM == 0:
        skb_checksum_help(skb)
    return XMIT_OK


@kernel
def dev_watchdog(vi: VirtnetInfo) -> None:
    """Tell the driver of queues that have been stopped for too long; runs every WATCHDOG_TIMEO of the guest's time.

    virtnet_tx_timeout counts and mends nothing (v5.17); before, there was no watchdog at all. Queues without a carrier
    are stopped on purpose.
    """
    if vi.now < vi.watchdog_due or era_at(vi.era).tx_timeouts == 0 or vi.carrier == 0:
        return
    vi.watchdog_due = vi.now + WATCHDOG_TIMEO
    for n in range(vi.curr_queue_pairs):
        sq = sq_at(vi.sq + n * SQ_SIZE)
        if sq.stopped != 0 and vi.now - sq.trans_start >= WATCHDOG_TIMEO:
            sq.tx_timeouts += 1
