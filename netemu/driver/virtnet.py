"""struct virtnet_info and the queues it owns: the driver's state, as numbers that kernels and Python share."""

from __future__ import annotations

from netemu.jit import Struct, i64, pointer, struct
from netemu.skb import SHARED_INFO_SIZE

ETH_HLEN = 14
VLAN_HLEN = 4
GOOD_PACKET_LEN = ETH_HLEN + VLAN_HLEN + 1500
GOOD_COPY_LEN = 128
NAPI_POLL_WEIGHT = 64
VIRTNET_RX_PAD = 64
"""NET_IP_ALIGN (0) and NET_SKB_PAD (64)."""
IP_MAX_MTU = 65535
L1_CACHE_BYTES = 64

MODE_SMALL = 0
MODE_BIG = 1
MODE_MERGEABLE = 2


@struct
class VirtnetInfo(Struct):
    """struct virtnet_info: what the queues of one device have in common."""

    era: i64
    mode: i64
    hdr_len: i64
    any_header_sg: i64
    small_buf_size: i64
    """Bytes a small buffer takes of its block: pad, header, frame, and the shared info behind it."""
    big_packets: i64
    """Guest GSO or a large MTU was negotiated; decides the mode only where mergeable buffers do not."""
    big_packets_num_skbfrags: i64
    """Pages a big buffer has beyond the first."""
    max_mtu: i64
    mtu: i64
    """The interface's MTU as it is set now."""
    tx_features: i64
    """What the stack may hand down (`netemu.driver.netdev`)."""
    guest_hdrlen: i64
    """GUEST_HDRLEN was negotiated: hdr_len of a GSO frame is exact."""
    tx_tnl: i64
    """HOST_UDP_TUNNEL_GSO was negotiated."""
    watchdog_due: i64
    """When the watchdog looks at the send queues next, in ns."""
    rxhash: i64
    """HASH_REPORT was negotiated and NETIF_F_RXHASH is on: hashes go from header to skb."""
    rx_tnl: i64
    """Hook that reads the headers of segmented UDP tunnels; 0 where GUEST_UDP_TUNNEL_GSO was not negotiated."""
    rx_tnl_csum: i64
    """GUEST_UDP_TUNNEL_GSO_CSUM was negotiated."""
    xdp_headroom: i64
    """Bytes that new buffers keep free in front of the header for an XDP program; 0 without one."""
    mac: i64
    """Station address as a 48-bit number, first byte on top."""
    curr_queue_pairs: i64
    max_queue_pairs: i64
    xdp_queue_pairs: i64
    """Of those in use, the pairs whose send queues are for XDP_TX alone: the last ones."""
    rq: i64
    sq: i64
    """Addresses of ``max_queue_pairs`` receive and send queues."""
    carrier: i64
    """netif_carrier_ok: the link is up."""
    refill_enabled: i64
    refill_due: i64
    """When the delayed refill work runs, in ns of the guest's clock; -1 while it is not scheduled."""
    refill_runs: i64
    now: i64
    """The guest's clock, in ns; whoever runs the driver moves it."""

    @property
    def clock(self) -> int:
        """Host address of ``now``."""
        return self.address + int(self.dtype.fields["now"][1])  # type: ignore[index]


@struct
class Napi(Struct):
    """struct napi_struct: one poll function's turn to run."""

    enabled: i64
    scheduled: i64
    missed: i64
    weight: i64
    polls: i64
    """Times the poll function ran."""
    completions: i64
    """Times it gave up its turn."""


@struct
class ReceiveQueue(Struct):
    """struct receive_queue."""

    vi: i64
    own: i64
    """Address of this struct, for hooks that are about the queue."""
    index: i64
    vq: i64
    napi: i64
    sq: i64
    """The send queue that shares its interrupt's poll."""
    frag_pool: i64
    """`PagePool` of 32 KiB blocks that small and mergeable buffers are cut from."""
    page_pool: i64
    """`PagePool` of single pages that big buffers are made of."""
    pool_host: i64
    pool_shift: i64
    pool_pages: i64
    """Host address of the first block of ``frag_pool``, log2 of a block's size, and its first `Page`."""
    skb_pool: i64
    alloc_frag: i64
    alloc_frag_offset: i64
    """The block being cut (`Page` address or 0) and how far."""
    pages: i64
    """Private list of pages of big buffers, linked by ``private``."""
    mrg_avg_pkt_len: i64
    min_buf_len: i64
    sg: i64
    """Scratch `Scatter` array."""
    rx_list: i64
    rx_tail: i64
    """Skbs received in this poll, first and last."""
    rx_count: i64
    gro: i64
    """State of GRO (`netemu.gro.Gro`); 0: it is off."""
    gro_receive: i64
    gro_flush: i64
    """Hooks of GRO: an skb to be held, merged or passed, and the end of a poll; both give a list of skbs."""
    tags: i64
    """Address of ``num`` (frame id, timestamp, wire length) that the emulator keeps beside the used ring, or 0."""
    xdp: i64
    """Hook that receives a buffer where an XDP program is attached (`netemu.driver.xdp`); 0: none is."""
    xdp_flush: i64
    """Hook for what such a poll has to finish: redirected frames, and the kick of those sent back."""
    xdp_queue: i64
    """Address of the queue's `netemu.driver.xdp.XdpQueue`."""
    xdp_xmit: i64
    """What there is to finish: XDP_XMIT_TX, XDP_XMIT_REDIRECT."""
    xdp_slot: i64
    """Of a queue with a program, the used-ring slot of the frame at hand."""
    dim_update: i64
    """Hook that samples the queue when its poll completes, of the queue's address (`netemu.driver.dim`); 0: none."""
    dim: i64
    packets_in_napi: i64
    """Address of the queue's `Dim`, and frames since the last sample."""
    # Counters: ethtool -S per queue, then those of the net device that count receive errors.
    packets: i64
    bytes: i64
    drops: i64
    xdp_packets: i64
    xdp_tx: i64
    xdp_redirects: i64
    xdp_drops: i64
    kicks: i64
    rx_length_errors: i64
    rx_frame_errors: i64
    # The emulator's own book of why a frame did not become an skb that was delivered; see `netemu.reasons`.
    lost: i64
    """Frames received that were dropped."""
    fates: i64
    """Address of the queue's `netemu.fates.FateLog`, or 0."""
    last_drop: i64
    drop_book: i64
    """Address of one counter per `netemu.reasons.DropReason`."""
    buffers_used: i64
    interrupts: i64
    refills: i64
    """Times try_fill_recv ran."""
    oom: i64
    """Times it ran out of memory."""


@struct
class SendQueue(Struct):
    """struct send_queue."""

    vi: i64
    index: i64
    vq: i64
    napi: i64
    skb_pool: i64
    sg: i64
    locked: i64
    """The queue's lock is held: cleantx only tries."""
    stopped: i64
    trans_start: i64
    """When a frame was put on the ring last, in ns of the guest's clock."""
    tags: i64
    """Address of ``num`` `Tag` structs for the frames on the ring, used in turn, or 0."""
    sent: i64
    """Frames put on the ring."""
    qdisc: i64
    qdisc_tail: i64
    """Skbs that wait for a stopped queue, first and last."""
    qlen: i64
    tx_queue_len: i64
    """How many may wait (txqueuelen)."""
    qdisc_drops: i64
    """Skbs that found no room to wait."""
    frag_pool: i64
    """`PagePool` of the blocks that frames to be sent lie in."""
    alloc_frag: i64
    alloc_frag_offset: i64
    """The block being cut (`Page` address or 0) and how far."""
    scratch: i64
    """Address of room in which a frame can be put together."""
    sk: i64
    """Address of the `netemu.driver.sock.Sock` that sends on this queue."""
    packets: i64
    bytes: i64
    xdp_tx: i64
    xdp_tx_drops: i64
    kicks: i64
    tx_timeouts: i64
    stop: i64
    wake: i64
    tx_fifo_errors: i64
    tx_dropped: i64


@struct
class Tag(Struct):
    """What the emulator knows of a frame and the ring does not say; the driver only copies it.

    Receiving, the tag of a frame lies at the used-ring slot of its first buffer.
    """

    frame_id: i64
    tstamp: i64
    wire_len: i64
    kick: i64
    """Sending: this frame's kick told the device."""


vi_at = pointer(VirtnetInfo)
napi_at = pointer(Napi)
rq_at = pointer(ReceiveQueue)
sq_at = pointer(SendQueue)
tag_at = pointer(Tag)
RQ_SIZE = ReceiveQueue.dtype.itemsize
SQ_SIZE = SendQueue.dtype.itemsize
TAG_SIZE = Tag.dtype.itemsize


def align_cache(size: int) -> int:
    """SKB_DATA_ALIGN: round up to a cache line."""
    return -(-size // L1_CACHE_BYTES) * L1_CACHE_BYTES


def small_buffer_size(hdr_len: int) -> int:
    """Bytes a small buffer takes of its block: pad, header, frame, and the shared info behind it."""
    return align_cache(VIRTNET_RX_PAD + hdr_len + GOOD_PACKET_LEN) + SHARED_INFO_SIZE


def mergeable_min_buf_len(hdr_len: int, packet_max: int, num: int) -> int:
    """The least buffer length with which a ring of ``num`` buffers holds one packet of ``packet_max`` bytes."""
    share = -(-(hdr_len + ETH_HLEN + VLAN_HLEN + packet_max) // num)
    return max(max(share, hdr_len) - hdr_len, GOOD_PACKET_LEN)
