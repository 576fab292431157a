"""The kernels a driver can follow: one table of the facts in which they differ.

Everything else in this package is the same for all of them. Facts are as read in the sources of Linux v4.19, v6.1 and
v7.0 (the last with the page-fragment receive buffers that v7.1 replaced); where a version number is given, it is the
release in which Linux changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netemu.errors import ConfigError
from netemu.jit import Struct, i64, pointer, struct
from netemu.virtio import features as f

EthtoolStyle = Literal["4.19", "6.10"]

_NEED_CTRL_VQ = (f.CTRL_RX, f.CTRL_VLAN, f.GUEST_ANNOUNCE, f.MQ, f.CTRL_MAC_ADDR)
_NEED_CTRL_VQ_6_1 = (*_NEED_CTRL_VQ, f.RSS, f.HASH_REPORT, f.NOTF_COAL)

_FEATURES = (
    f.CSUM, f.GUEST_CSUM, f.CTRL_GUEST_OFFLOADS, f.MTU, f.MAC,
    f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO, f.HOST_TSO4, f.HOST_TSO6, f.HOST_ECN, f.HOST_UFO,
    f.MRG_RXBUF, f.STATUS, f.CTRL_VQ, f.CTRL_RX, f.CTRL_VLAN, f.GUEST_ANNOUNCE, f.MQ, f.CTRL_MAC_ADDR,
    f.STANDBY, f.SPEED_DUPLEX,
    f.INDIRECT_DESC, f.EVENT_IDX, f.VERSION_1, f.ACCESS_PLATFORM,
)  # fmt: skip
_FEATURES_6_1 = (
    *_FEATURES, f.RSS, f.HASH_REPORT, f.NOTF_COAL, f.RING_PACKED, f.ORDER_PLATFORM, f.RING_RESET,
)  # fmt: skip
_FEATURES_7_0 = (
    *_FEATURES_6_1, f.GUEST_USO4, f.GUEST_USO6, f.HOST_USO, f.GUEST_HDRLEN, f.VQ_NOTF_COAL, f.DEVICE_STATS,
    f.NOTIFICATION_DATA, f.IN_ORDER,
)  # fmt: skip
_TUNNEL = (
    f.GUEST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO_CSUM, f.HOST_UDP_TUNNEL_GSO, f.HOST_UDP_TUNNEL_GSO_CSUM,
)  # fmt: skip
_LEGACY = (f.GSO, f.ANY_LAYOUT)


@struct
class Era(Struct):
    """The facts as kernels see them; 0 is no, 1 is yes unless said otherwise."""

    refill_at_half_ring: i64
    """Refill when more than half the ring is free (until v5.2); else when more than half of min(budget, ring) is."""
    refill_work: i64
    """A delayed work refills after OOM (until v6.18); else the poll reports its whole budget and is called again."""
    refill_enabled_gate: i64
    """The refill work is only scheduled between open and close (v5.19 to v6.18)."""
    small_length_check: i64
    """Small mode refuses frames over GOOD_PACKET_LEN (v5.14)."""
    small_failure_counts: i64
    """A small frame for which there is no skb counts as dropped (after v4.19)."""
    mergeable_check_after_room: i64
    """The ctx of a mergeable buffer carries length plus room, and the limit is what is left without it (v6.3)."""
    big_check_first: i64
    """Big mode compares the used length with the pages posted before anything else (v6.18)."""
    big_pages_by_mtu: i64
    """Big mode without guest GSO posts only as many pages as the MTU needs (v6.1)."""
    padded_vnet_hdr: i64
    """Bytes before the frame in the first page of a big buffer: 16, since hash reports 32."""
    copy_whole_head: i64
    """page_to_skb copies up to 128 bytes of every frame (until v5.11); else short frames whole, of others 14 bytes."""
    build_skb: i64
    """page_to_skb builds around the buffer where the tail room suffices (v5.13)."""
    dma_record: i64
    """Bytes at the start of a page-fragment block that hold its DMA record (v6.6 to v7.0): 16, else 0."""
    mergeable_hdr_len: i64
    """Header length that get_mergeable_buf_len adds, whatever was negotiated: 12; 0 means the negotiated one."""
    num_buffers_u16: i64
    """num_buffers is counted in 16 bits, so that 0 becomes 65535; else in a signed int."""
    strict_gso: i64
    """virtio_net_hdr_to_skb checks header lengths, checksum offset and payload (v5.1 to v6.11)."""
    usogso: i64
    """UDP_L4 is a known gso_type (v6.2, with USO)."""
    tunnel_aware: i64
    """UDP_TUNNEL_CSUM beside DATA_VALID is refused where its feature was not negotiated (v6.17)."""
    record_rx_queue: i64
    """skb_record_rx_queue is called (v4.20)."""
    rxcsum_always: i64
    """NETIF_F_RXCSUM is on even without GUEST_CSUM (v6.10)."""
    desc_extra: i64
    """The ring keeps a private copy of each descriptor's next (v5.14); else it trusts the shared table."""
    disable_cb_writes_event: i64
    """With EVENT_IDX, disabling callbacks moves used_event out of the way (v5.14)."""
    event_triggered_early: i64
    """disable_cb returns before it notes anything once the event fired (v5.14 to v6.3)."""
    packed_full_chain_wraps: i64
    """A chain exactly as long as a packed ring flips the driver's wrap counter, as any that passes its end (v6.6)."""
    poll_sees_broken: i64
    """virtqueue_poll says no more work on a broken ring (v5.9)."""
    tx_cleans_inside_lock: i64
    """cleantx loops with callbacks disabled and wakes the queue under the lock (v5.14)."""
    tx_reclaims_in_xmit: i64
    """start_xmit frees what was sent even with TX NAPI (until v6.12)."""
    count_stop_wake: i64
    """The send queue counts stop and wake (v6.8)."""
    napi_tx: i64
    """TX NAPI is on by default (v5.3)."""
    tx_timeouts: i64
    """A watchdog looks after stopped send queues, and the driver counts their timeouts (v5.17)."""
    xdp_drops_needs_csum: i64
    """Frames with an unfinished checksum are dropped before an XDP program sees them (v6.10)."""
    xdp_restores_flags: i64
    """The flags of the virtio header survive an XDP program, so that DATA_VALID does (v6.10)."""
    xdp_keeps_header: i64
    """The virtio header survives XDP_PASS; a mergeable one is whatever lies in front of a frame that moved (v4.19)."""
    xdp_multi_buffer: i64
    """XDP programs may be given frames of several buffers, and the hole of a block goes to waste (v6.3)."""
    xdp_flush_first: i64
    """Redirected frames are flushed before the poll completes (v6.2)."""
    xdp_stops_queue: i64
    """XDP_TX stops a send queue that it shares with the stack, where it leaves too little room (v6.4)."""
    xdp_may_grow: i64
    """bpf_xdp_adjust_tail may make a frame longer (v5.8)."""
    xdp_meta_max: i64
    """Bytes of XDP metadata: none, 32 at most (v5.8), 252 at most."""


era_at = pointer(Era)


@dataclass(frozen=True, slots=True)
class EraFacts:
    """One column of the table; the fields of `Era`, and what only Python needs to know."""

    name: str
    ethtool: EthtoolStyle
    features: tuple[int, ...]
    """The features the kernel knows: virtio_net's own and those of its rings."""
    features_modern: tuple[int, ...]
    """What it takes besides of devices with VERSION_1 (tunnels: v6.17)."""
    features_legacy: tuple[int, ...]
    """What it takes besides of devices without VERSION_1."""
    standby_needs_mac: bool
    """virtnet_validate drops STANDBY where the device has no MAC (v6.3)."""
    control_fresh: bool
    """Each command of the control queue has memory of its own, not one place that all share (v6.10)."""
    rx_mode_work: bool
    """Receive modes are set from a work item (v6.6)."""
    commits_rss_at_probe: bool
    """Probe sends the hash configuration instead of leaving the device without (v6.12)."""
    rss_key_max: int
    """Bytes of hash key that the driver has room for; 0 where it knows none."""
    rss_key_clamped: bool
    """A device that takes longer keys is given a shorter one (v7.0), instead of being refused."""
    tells_random_mac: bool
    """Probe tells the device the address it made up (v6.3)."""
    config_waits_for_open: bool
    """Changes of the configuration are left alone while the interface is down (v6.12)."""
    gro_hop_limit_is_flow: bool
    """GRO takes IPv6 packets with another hop limit for another flow (until v5.16), instead of ending what it holds."""
    gro_compares_cwr: bool
    """GRO wants CWR equal in all segments, as Accurate ECN needs it (v6.15); before, CWR starts a packet."""
    gro_fixed_id_without_df: bool
    """GRO lets the IPv4 identification stay the same even without DF (v6.18)."""
    need_ctrl_vq: tuple[int, ...]
    """Features that virtnet_validate refuses when they are offered without CTRL_VQ."""
    refill_at_half_ring: bool
    refill_work: bool
    refill_enabled_gate: bool
    small_length_check: bool
    small_failure_counts: bool
    mergeable_check_after_room: bool
    big_check_first: bool
    big_pages_by_mtu: bool
    padded_vnet_hdr: int
    copy_whole_head: bool
    build_skb: bool
    dma_record: int
    mergeable_hdr_len: int
    num_buffers_u16: bool
    strict_gso: bool
    usogso: bool
    tunnel_aware: bool
    record_rx_queue: bool
    rxcsum_always: bool
    desc_extra: bool
    disable_cb_writes_event: bool
    event_triggered_early: bool
    packed_full_chain_wraps: bool
    poll_sees_broken: bool
    tx_cleans_inside_lock: bool
    tx_reclaims_in_xmit: bool
    count_stop_wake: bool
    napi_tx: bool
    tx_timeouts: bool
    xdp_drops_needs_csum: bool
    xdp_restores_flags: bool
    xdp_keeps_header: bool
    xdp_multi_buffer: bool
    xdp_flush_first: bool
    xdp_stops_queue: bool
    xdp_may_grow: bool
    xdp_meta_max: int
    xdp_refuses_csum: bool
    """Without CTRL_GUEST_OFFLOADS an XDP program is refused also for GUEST_CSUM and USO (v5.0)."""
    xdp_shares_queues: bool
    """XDP_TX shares the send queues where there are none to spare (v5.13)."""
    tx_ring_checked: bool
    """virtnet_tx_resize refuses a ring in which a frame of all segments leaves no free entry (v6.16)."""
    xdp_mtu_by_room: bool
    """The largest MTU for an XDP program leaves room for headroom and shared info (v6.3); else for the header."""

    def struct(self) -> Era:
        """The facts for kernels."""
        return Era(**{name: int(getattr(self, name)) for name in Era.dtype.names or ()})


ERAS: dict[str, EraFacts] = {
    facts.name: facts
    for facts in (
        EraFacts(
            name="linux-4.19",
            ethtool="4.19",
            features=_FEATURES,
            features_modern=(),
            features_legacy=_LEGACY,
            standby_needs_mac=False,
            config_waits_for_open=False,
            control_fresh=False,
            rx_mode_work=False,
            commits_rss_at_probe=False,
            rss_key_max=0,
            rss_key_clamped=False,
            tells_random_mac=False,
            gro_hop_limit_is_flow=True,
            gro_compares_cwr=False,
            gro_fixed_id_without_df=False,
            need_ctrl_vq=_NEED_CTRL_VQ,
            refill_at_half_ring=True,
            refill_work=True,
            refill_enabled_gate=False,
            small_length_check=False,
            small_failure_counts=False,
            mergeable_check_after_room=False,
            big_check_first=False,
            big_pages_by_mtu=False,
            padded_vnet_hdr=16,
            copy_whole_head=True,
            build_skb=False,
            dma_record=0,
            mergeable_hdr_len=12,
            num_buffers_u16=True,
            strict_gso=False,
            usogso=False,
            tunnel_aware=False,
            record_rx_queue=False,
            rxcsum_always=False,
            desc_extra=False,
            disable_cb_writes_event=False,
            event_triggered_early=False,
            packed_full_chain_wraps=False,
            poll_sees_broken=False,
            tx_cleans_inside_lock=False,
            tx_reclaims_in_xmit=True,
            count_stop_wake=False,
            napi_tx=False,
            tx_timeouts=False,
            xdp_drops_needs_csum=False,
            xdp_restores_flags=False,
            xdp_keeps_header=True,
            xdp_multi_buffer=False,
            xdp_flush_first=False,
            xdp_stops_queue=False,
            xdp_may_grow=False,
            xdp_meta_max=0,
            xdp_refuses_csum=False,
            xdp_shares_queues=False,
            tx_ring_checked=False,
            xdp_mtu_by_room=False,
        ),
        EraFacts(
            name="linux-6.1",
            ethtool="4.19",
            features=_FEATURES_6_1,
            features_modern=(),
            features_legacy=_LEGACY,
            standby_needs_mac=False,
            config_waits_for_open=False,
            control_fresh=False,
            rx_mode_work=False,
            commits_rss_at_probe=False,
            rss_key_max=40,
            rss_key_clamped=False,
            tells_random_mac=False,
            gro_hop_limit_is_flow=False,
            gro_compares_cwr=False,
            gro_fixed_id_without_df=False,
            need_ctrl_vq=_NEED_CTRL_VQ_6_1,
            refill_at_half_ring=False,
            refill_work=True,
            refill_enabled_gate=True,
            small_length_check=True,
            small_failure_counts=True,
            mergeable_check_after_room=False,
            big_check_first=False,
            big_pages_by_mtu=True,
            padded_vnet_hdr=32,
            copy_whole_head=False,
            build_skb=True,
            dma_record=0,
            mergeable_hdr_len=0,
            num_buffers_u16=True,
            strict_gso=True,
            usogso=False,
            tunnel_aware=False,
            record_rx_queue=True,
            rxcsum_always=False,
            desc_extra=True,
            disable_cb_writes_event=True,
            event_triggered_early=True,
            packed_full_chain_wraps=False,
            poll_sees_broken=True,
            tx_cleans_inside_lock=True,
            tx_reclaims_in_xmit=True,
            count_stop_wake=False,
            napi_tx=True,
            tx_timeouts=True,
            xdp_drops_needs_csum=False,
            xdp_restores_flags=False,
            xdp_keeps_header=False,
            xdp_multi_buffer=False,
            xdp_flush_first=False,
            xdp_stops_queue=False,
            xdp_may_grow=True,
            xdp_meta_max=32,
            xdp_refuses_csum=True,
            xdp_shares_queues=True,
            tx_ring_checked=False,
            xdp_mtu_by_room=False,
        ),
        EraFacts(
            name="linux-7.0",
            ethtool="6.10",
            features=_FEATURES_7_0,
            features_modern=_TUNNEL,
            features_legacy=_LEGACY,
            standby_needs_mac=True,
            config_waits_for_open=True,
            control_fresh=True,
            rx_mode_work=True,
            commits_rss_at_probe=True,
            rss_key_max=256,
            rss_key_clamped=True,
            tells_random_mac=True,
            gro_hop_limit_is_flow=False,
            gro_compares_cwr=True,
            gro_fixed_id_without_df=True,
            need_ctrl_vq=(*_NEED_CTRL_VQ_6_1, f.VQ_NOTF_COAL),
            refill_at_half_ring=False,
            refill_work=False,
            refill_enabled_gate=False,
            small_length_check=True,
            small_failure_counts=True,
            mergeable_check_after_room=True,
            big_check_first=True,
            big_pages_by_mtu=True,
            padded_vnet_hdr=32,
            copy_whole_head=False,
            build_skb=True,
            dma_record=16,
            mergeable_hdr_len=0,
            num_buffers_u16=False,
            strict_gso=True,
            usogso=True,
            tunnel_aware=True,
            record_rx_queue=True,
            rxcsum_always=True,
            desc_extra=True,
            disable_cb_writes_event=True,
            event_triggered_early=False,
            packed_full_chain_wraps=True,
            poll_sees_broken=True,
            tx_cleans_inside_lock=True,
            tx_reclaims_in_xmit=False,
            count_stop_wake=True,
            napi_tx=True,
            tx_timeouts=True,
            xdp_drops_needs_csum=True,
            xdp_restores_flags=True,
            xdp_keeps_header=False,
            xdp_multi_buffer=True,
            xdp_flush_first=True,
            xdp_stops_queue=True,
            xdp_may_grow=True,
            xdp_meta_max=252,
            xdp_refuses_csum=True,
            xdp_shares_queues=True,
            tx_ring_checked=True,
            xdp_mtu_by_room=True,
        ),
    )
}
DEFAULT_ERA = "linux-7.0"


def era(name: str) -> EraFacts:
    """The row of a kernel; raises `ConfigError` for a name the table does not have."""
    try:
        return ERAS[name]
    except KeyError:
        raise ConfigError(f"no driver follows {name!r}; there are {', '.join(ERAS)}") from None
