"""New sizes for rings while the device runs: virtqueue_resize, virtnet_rx_resize, virtnet_tx_resize (v6.0).

One queue is reset while the others go on (RING_RESET), its buffers are taken back, and the ring is set up anew as
at the first time. The queue's poll is off meanwhile, and its send queue stopped.
"""

from __future__ import annotations

from collections.abc import Callable

from netemu.driver.eras import era_at
from netemu.driver.napi import napi_disable, napi_enable
from netemu.driver.refill import schedule_refill, try_fill_recv, virtnet_napi_tx_enable
from netemu.driver.virtio_ring import virtqueue_at
from netemu.driver.virtnet import RQ_SIZE, SQ_SIZE, napi_at, rq_at, sq_at, vi_at
from netemu.driver.vqs import Vqs
from netemu.errors import ConfigError, NetemuError
from netemu.jit import entry, i64
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.transport import Transport

_LOOKS = 1000
"""Times the device is asked whether a queue's reset is over."""


@entry
def virtnet_rx_pause(vi_address: i64, n: i64) -> None:
    """Stop receive queue ``n``'s poll."""
    napi_disable(napi_at(rq_at(vi_at(vi_address).rq + n * RQ_SIZE).napi))


@entry
def virtnet_rx_resume(vi_address: i64, n: i64) -> None:
    """Fill receive queue ``n`` if it is in use, and let it poll again."""
    vi = vi_at(vi_address)
    rq = rq_at(vi.rq + n * RQ_SIZE)
    if n < vi.curr_queue_pairs and try_fill_recv(vi, rq) == 0 and era_at(vi.era).refill_work != 0:
        schedule_refill(vi, 0)
    napi_enable(napi_at(rq.napi), virtqueue_at(rq.vq))


@entry
def virtnet_tx_pause(vi_address: i64, n: i64) -> None:
    """Stop send queue ``n`` and its poll."""
    sq = sq_at(vi_at(vi_address).sq + n * SQ_SIZE)
    napi_disable(napi_at(sq.napi))
    sq.stopped = 1


@entry
def virtnet_tx_resume(vi_address: i64, n: i64) -> None:
    """Let send queue ``n`` poll and, where there is a carrier, send again."""
    vi = vi_at(vi_address)
    sq = sq_at(vi.sq + n * SQ_SIZE)
    virtnet_napi_tx_enable(sq)
    sq.stopped = 0 if vi.carrier != 0 else 1


def check_resize(transport: Transport, features: FeatureSet, vqs: Vqs, index: int, num: int) -> None:
    """Raise `ConfigError` unless virtqueue ``index`` can be given ``num`` entries."""
    if f.RING_RESET not in features:
        raise ConfigError("rings keep their sizes: the device and the driver did not agree on RING_RESET")
    vqs.vrings[index].check_size(num)
    most = transport.queue_size_max(index)
    if num > most:
        raise ConfigError(f"virtqueue {index} has at most {most} entries, not {num}")


def virtqueue_resize(transport: Transport, vqs: Vqs, index: int, num: int, recycle: Callable[[], object]) -> None:
    """Give a ring ``num`` entries: reset the queue, take back what lies in it with ``recycle``, set it up anew.

    Nothing is taken back before the device says that the queue is reset (QRST-V-01, QRST-V-02, CLEAN-V-02). Raises
    `ConfigError` for a device that never says so, `NetemuError` where memory for the ring is short: it is the old one
    then, and empty.
    """
    transport.reset_queue(index)
    for _ in range(_LOOKS):
        if not transport.queue_in_reset(index) and not transport.queue_enabled(index):
            break
    else:
        raise ConfigError(f"the device does not reset virtqueue {index}")
    try:
        recycle()
        vqs.vrings[index].resize(num)
    except NetemuError:
        vqs.vrings[index].reinit()
        raise
    finally:
        vqs.enable(transport, index)  # QRST-V-03
