"""Device and driver joined: the engine's state for a card, and what the device does on demand beside the loop."""

from __future__ import annotations

from netemu import engine
from netemu.device.coalesce import signal_hook
from netemu.device.filter import filter_frame
from netemu.device.net import NetDevice
from netemu.device.stats import count_frame
from netemu.driver.probe import VirtioNet
from netemu.driver.refill import virtnet_open
from netemu.engine import Engine
from netemu.jit import hook, load_together
from netemu.stack import ProtocolStack
from netemu.stack.ethernet import deliver
from netemu.virtio import features as f


def joined(device: NetDevice, driver: VirtioNet, stack: ProtocolStack) -> Engine:
    """The loop in which ``device`` and ``driver`` meet; who uses it sets burst, taps and counters."""
    load_together(engine.run, deliver, virtnet_open)
    mask = driver.features.mask
    return Engine(
        queues=driver.vi.max_queue_pairs,
        vi=driver.vi.address,
        side=device.side.address,
        steering=device.steering.state.address,
        device_queues=device.queues.address,
        stack=stack.address,
        deliver=hook(deliver),
        features_low=mask & (1 << 64) - 1,
        features_high=mask >> 64,
    )


def add_extras(e: Engine, device: NetDevice, driver: VirtioNet) -> bool:
    """Join to the loop what the device does only because of features that were negotiated; False: nothing."""
    chosen = driver.features
    if chosen.has_any(f.CTRL_RX, f.CTRL_RX_EXTRA, f.CTRL_VLAN):
        e.admit, e.filter = hook(filter_frame), device.filter.struct.address
    if chosen.has_any(f.NOTF_COAL, f.VQ_NOTF_COAL):
        e.signal, e.moderations = hook(signal_hook), device.coalescing.queues.address
    if f.DEVICE_STATS in chosen:
        e.count_frame, e.stats = hook(count_frame), device.stats.counts.address
    if f.MTU in chosen:
        e.mtu = device.config.mtu
    return bool(e.admit or e.signal or e.count_frame or e.mtu)
