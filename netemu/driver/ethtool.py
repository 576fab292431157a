"""The driver's counters under the names that ``ethtool -S`` prints, which changed between kernels."""

from __future__ import annotations

from collections.abc import Sequence

from netemu.driver.eras import EthtoolStyle
from netemu.driver.virtnet import ReceiveQueue, SendQueue
from netemu.virtio import stats

RX_COUNTERS = ("packets", "bytes", "drops", "xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops", "kicks")
TX_COUNTERS = ("packets", "bytes", "xdp_tx", "xdp_tx_drops", "kicks", "tx_timeouts", "stop", "wake")
"""What Linux counts in the queues' own structs, and loses with them."""
_RX_4_19 = RX_COUNTERS
_TX_4_19 = ("packets", "bytes", "xdp_tx", "xdp_tx_drops", "kicks")
_RX_6_10 = ("drops", "xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops", "kicks")
_TX_6_10 = ("xdp_tx", "xdp_tx_drops", "kicks", "tx_timeouts")
_HW_RX: dict[int, dict[str, str]] = {
    stats.RX_BASIC: {
        "packets": "rx_packets",
        "bytes": "rx_bytes",
        "notifications": "rx_notifications",
        "interrupts": "rx_interrupts",
    },
    stats.RX_CSUM: {"needs_csum": "rx_needs_csum"},
    stats.RX_SPEED: {"ratelimit_bytes": "rx_bytes_allowance_exceeded"},
}
_HW_TX: dict[int, dict[str, str]] = {
    stats.TX_BASIC: {
        "packets": "tx_packets",
        "bytes": "tx_bytes",
        "notifications": "tx_notifications",
        "interrupts": "tx_interrupts",
    },
    stats.TX_GSO: {"gso_packets_noseg": "tx_gso_packets_noseg", "gso_bytes_noseg": "tx_gso_bytes_noseg"},
    stats.TX_SPEED: {"ratelimit_bytes": "tx_bytes_allowance_exceeded"},
}
_HW_CQ: dict[int, dict[str, str]] = {stats.CVQ: {"command_num": "command_num", "ok_num": "ok_num"}}


def ethtool_statistics(
    style: EthtoolStyle,
    receive: Sequence[ReceiveQueue],
    send: Sequence[SendQueue],
    *,
    timeouts: bool = False,
    device: Sequence[stats.Block] = (),
) -> dict[str, int]:
    """Names and values in the order of the kernel's own list, over the queue pairs in use.

    ``timeouts`` adds the send queues' tx_timeouts, which the older list has since v5.17. From 6.10 on totals come first
    and packets and bytes are no longer among them; what the ``device`` reported of itself is put between (hw).
    """
    if style == "4.19":
        tx_names = (*_TX_4_19, "tx_timeouts") if timeouts else _TX_4_19
        per_rx = {f"rx_queue_{n}_{name}": getattr(rq, name) for n, rq in enumerate(receive) for name in _RX_4_19}
        per_tx = {f"tx_queue_{n}_{name}": getattr(sq, name) for n, sq in enumerate(send) for name in tx_names}
        return per_rx | per_tx
    totals = {f"rx_{name}": sum(getattr(rq, name) for rq in receive) for name in _RX_6_10}
    hw_rx = [_hw_counters(device, 2 * n, _HW_RX) for n in range(len(receive))]
    hw_tx = [_hw_counters(device, 2 * n + 1, _HW_TX) for n in range(len(send))]
    totals |= _hw_totals("rx", hw_rx)
    totals |= {f"tx_{name}": sum(getattr(sq, name) for sq in send) for name in _TX_6_10}
    totals |= _hw_totals("tx", hw_tx)
    for block in device:
        totals |= {f"cq_hw_{name}": value for name, value in _hw_counters([block], block.vq_index, _HW_CQ).items()}
    for n, rq in enumerate(receive):
        totals |= {f"rx{n}_{name}": getattr(rq, name) for name in _RX_6_10}
        totals |= {f"rx{n}_hw_{name}": value for name, value in hw_rx[n].items()}
    for n, sq in enumerate(send):
        totals |= {f"tx{n}_{name}": getattr(sq, name) for name in _TX_6_10}
        totals |= {f"tx{n}_hw_{name}": value for name, value in hw_tx[n].items()}
    return totals


def _hw_counters(blocks: Sequence[stats.Block], vq_index: int, names: dict[int, dict[str, str]]) -> dict[str, int]:
    """The counters of one virtqueue that the kernel shows, by its name for them."""
    return {
        shown: block.counters[name]
        for block in blocks
        if block.vq_index == vq_index
        for shown, name in names.get(block.kind, {}).items()
        if name in block.counters
    }


def _hw_totals(side: str, queues: Sequence[dict[str, int]]) -> dict[str, int]:
    """Sums over the queues of a side."""
    totals: dict[str, int] = {}
    for queue in queues:
        for name, value in queue.items():
            totals[f"{side}_hw_{name}"] = totals.get(f"{side}_hw_{name}", 0) + value
    return totals


def netdev_statistics(receive: Sequence[ReceiveQueue], send: Sequence[SendQueue]) -> dict[str, int]:
    """Struct rtnl_link_stats64, as ``ip -s link`` shows it: sums over all queues, dropped frames included."""
    return {
        "rx_packets": sum(rq.packets for rq in receive),
        "tx_packets": sum(sq.packets for sq in send),
        "rx_bytes": sum(rq.bytes for rq in receive),
        "tx_bytes": sum(sq.bytes for sq in send),
        "rx_dropped": sum(rq.drops for rq in receive),
        "tx_dropped": sum(sq.tx_dropped for sq in send),
        "rx_length_errors": sum(rq.rx_length_errors for rq in receive),
        "rx_frame_errors": sum(rq.rx_frame_errors for rq in receive),
        "tx_errors": sum(sq.tx_timeouts for sq in send),
        "tx_fifo_errors": sum(sq.tx_fifo_errors for sq in send),
    }
