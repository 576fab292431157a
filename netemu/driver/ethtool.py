"""The driver's counters under the names that ``ethtool -S`` prints, which changed between kernels."""

from __future__ import annotations

from collections.abc import Sequence

from netemu.driver.eras import EthtoolStyle
from netemu.driver.virtnet import ReceiveQueue, SendQueue

_RX_4_19 = ("packets", "bytes", "drops", "xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops", "kicks")
_TX_4_19 = ("packets", "bytes", "xdp_tx", "xdp_tx_drops", "kicks")
_RX_6_10 = ("drops", "xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops", "kicks")
_TX_6_10 = ("xdp_tx", "xdp_tx_drops", "kicks", "tx_timeouts")


def ethtool_statistics(
    style: EthtoolStyle, receive: Sequence[ReceiveQueue], send: Sequence[SendQueue], *, timeouts: bool = False
) -> dict[str, int]:
    """Names and values in the order of the kernel's own list, over the queue pairs in use.

    ``timeouts`` adds the send queues' tx_timeouts, which the older list has since v5.17. From 6.10 on totals come first
    and packets and bytes are no longer among them.
    """
    if style == "4.19":
        tx_names = (*_TX_4_19, "tx_timeouts") if timeouts else _TX_4_19
        per_rx = {f"rx_queue_{n}_{name}": getattr(rq, name) for n, rq in enumerate(receive) for name in _RX_4_19}
        per_tx = {f"tx_queue_{n}_{name}": getattr(sq, name) for n, sq in enumerate(send) for name in tx_names}
        return per_rx | per_tx
    totals = {f"rx_{name}": sum(getattr(rq, name) for rq in receive) for name in _RX_6_10}
    totals |= {f"tx_{name}": sum(getattr(sq, name) for sq in send) for name in _TX_6_10}
    per_rx = {f"rx{n}_{name}": getattr(rq, name) for n, rq in enumerate(receive) for name in _RX_6_10}
    per_tx = {f"tx{n}_{name}": getattr(sq, name) for n, sq in enumerate(send) for name in _TX_6_10}
    return totals | per_rx | per_tx


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
