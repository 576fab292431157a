"""The life of an interface: virtnet_probe, virtnet_open, virtnet_close, freeze and restore, remove, new ring sizes.

This is the control plane, ordinary Python. It talks to the device through `netemu.virtio.transport.Transport` alone and
leaves behind the structs that the kernels of this package run on. What the device tells of its configuration is work
that waits for `VirtioNet.run_work`, like the work items of the control queue.
"""

from __future__ import annotations

from collections.abc import Iterable

from netemu.driver import refill, ringparam, teardown
from netemu.driver.config import cread, cread_mac
from netemu.driver.control import VirtnetControl
from netemu.driver.cvq import ControlQueue
from netemu.driver.dim import RxDim
from netemu.driver.eras import DEFAULT_ERA, era
from netemu.driver.features import (
    ETH_DATA_LEN,
    MODE_NAMES,
    MTU_MIN,
    SUPPORTED,
    confirm,
    greet,
    negotiate,
    receive_mode,
    receives_gso,
    reset,
)
from netemu.driver.header import virtio_net_hdr_tnl_to_skb
from netemu.driver.link import Link
from netemu.driver.netdev import netdev_features
from netemu.driver.qdisc import qdisc_reset
from netemu.driver.quirks import DriverQuirks
from netemu.driver.rss import BOOT_KEY, VirtnetRss
from netemu.driver.transmit import TX_SPARE
from netemu.driver.virtio_ring import broken_reason
from netemu.driver.virtnet import IP_MAX_MTU, VirtnetInfo, small_buffer_size
from netemu.driver.vqs import Vqs, rxq2vq, txq2vq, vq2rxq, vq2txq
from netemu.errors import ConfigError, NetemuError
from netemu.jit import hook
from netemu.memory import GuestMemory
from netemu.pages import PAGE_SIZE
from netemu.pressure import parse_pressures
from netemu.skb import MAX_SKB_FRAGS
from netemu.virtio import features as f
from netemu.virtio import status
from netemu.virtio.control import Coalesce
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import header_length
from netemu.virtio.transport import Transport

MQ_PAIRS_MAX = 0x8000


LOCAL_MAC = bytes.fromhex("020000000001")
"""The station address where the device gives none: a locally administered one (NETC-V-04)."""


class VirtioNet:
    """A probed device: the driver's structs, and the memory behind them.

    Attributes a user may read: ``features`` (negotiated), ``mode`` (small, big or mergeable), ``vi``,
    ``receive_queues`` and ``send_queues`` with their counters, ``drops`` per queue and reason, ``control`` for what the
    device can be asked for while it runs, ``link`` for carrier and speed, ``running`` between `open` and `close`.
    """

    def __init__(
        self,
        transport: Transport,
        memory: GuestMemory,
        kernel: str = DEFAULT_ERA,
        queue_size: int = 256,
        wanted: FeatureSet = SUPPORTED,
        boot_key: bytes = BOOT_KEY,
        *,
        forwards: bool = False,
    ) -> None:
        """Probe the device (virtnet_probe), following ``kernel``; nothing is posted before `open`.

        ``queue_size`` is the most entries a ring gets, less where the device cannot have as many; ``boot_key`` the
        bytes that hash keys start with; ``forwards`` gives the queues memory for frames that are sent on. Raises
        `ConfigError` for a device that the driver would refuse.
        """
        self.facts = era(kernel)
        self.era = self.facts.struct()
        self.transport = transport
        self.memory = memory
        self.vi = VirtnetInfo(era=self.era.address, refill_due=-1)
        self.running = False
        self._config_changed = False
        self._resume_running = False
        try:
            self.features = negotiate(transport, self.facts, wanted)
            self._virtnet_probe()
            self.vqs = Vqs(self.vi, self.facts, memory, queue_size, forwards=forwards)
            self.receive_queues = self.vqs.receive_queues
            self.send_queues = self.vqs.send_queues
            self.napis = self.vqs.napis
            self.drops = self.vqs.drops
            self.rings = self.vqs.rings
            self.doorbells = self.vqs.doorbells
            self.vqs.init_vqs(transport, self.features)
            has_cvq = f.CTRL_VQ in self.features
            fresh = self.facts.control_fresh
            self.cvq = ControlQueue(self.rings[-1], transport, memory, fresh=fresh) if has_cvq else None
            self.control = VirtnetControl(self.cvq, self.vi, self.features, self.facts)
            if f.VERSION_1 not in self.features and f.MAC in self.features:
                self.control.write_config = transport.write_config
            self.link = Link(transport, self.vi, self.features, self.send_queues, self.control)
            self.rss = VirtnetRss(self.control, transport, self.vi, self.features, self.facts, boot_key)
            self.dim = RxDim(self.receive_queues, self.control)
            transport.set_status(transport.get_status() | status.DRIVER_OK)
            self._configure()
        except NetemuError:
            transport.set_status(transport.get_status() | status.FAILED)  # INIT-V-12
            raise

    def put_under_pressure(self, texts: Iterable[str]) -> None:
        """Have the guest's allocations fail by rules from now on (`netemu.pressure.parse_pressures`), and by no others.

        Raises `ConfigError` for a text that is no rule.
        """
        self.vqs.put_under_pressure(parse_pressures(texts))

    def misbehave(self, texts: Iterable[str]) -> None:
        """Switch quirks on for receive and send queues, those of these rules alone (`netemu.driver.quirks.QUIRKS`).

        Raises `ConfigError` for a text that is no rule.
        """
        self.quirks = DriverQuirks(texts, self.memory, self.rings[: 2 * self.vi.max_queue_pairs], self.vi.clock)

    @property
    def refused(self) -> dict[str, int]:
        """Allocations that the rules in force have refused, by kind."""
        return self.vqs.refused

    def _virtnet_probe(self) -> None:
        """The device's shape from features and configuration, in the order of Linux's probe."""
        features = self.features
        vi = self.vi
        pairs = cread(self.transport, "max_virtqueue_pairs") if features.has_any(f.MQ, f.RSS) else 1
        if not 1 <= pairs <= MQ_PAIRS_MAX or f.CTRL_VQ not in features:
            pairs = 1
        vi.max_queue_pairs = pairs
        vi.curr_queue_pairs = 1  # MQ-V-04: more once the device has agreed
        mac = cread_mac(self.transport) if f.MAC in features else LOCAL_MAC
        vi.mac = int.from_bytes(mac, "big")
        vi.hdr_len = header_length(features)
        vi.rxhash = int(f.HASH_REPORT in features)
        if f.GUEST_UDP_TUNNEL_GSO in features:
            vi.rx_tnl = hook(virtio_net_hdr_tnl_to_skb)
            vi.rx_tnl_csum = int(f.GUEST_UDP_TUNNEL_GSO_CSUM in features)
        vi.small_buf_size = small_buffer_size(vi.hdr_len)
        vi.any_header_sg = int(features.has_any(f.ANY_LAYOUT, f.VERSION_1))
        mtu = cread(self.transport, "mtu") if f.MTU in features else ETH_DATA_LEN
        if mtu < MTU_MIN:
            raise ConfigError(f"the device's MTU became {mtu} while it was probed; the least is {MTU_MIN}")
        vi.max_mtu = mtu if f.MTU in features else IP_MAX_MTU
        vi.mtu = mtu
        vi.tx_features = netdev_features(features)
        vi.guest_hdrlen = int(f.GUEST_HDRLEN in features)
        vi.tx_tnl = int(f.HOST_UDP_TUNNEL_GSO in features)
        guest_gso = receives_gso(features, self.facts)
        vi.big_packets = int(guest_gso or mtu > ETH_DATA_LEN)
        limited = self.facts.big_pages_by_mtu and not guest_gso
        vi.big_packets_num_skbfrags = -(-mtu // PAGE_SIZE) if limited else MAX_SKB_FRAGS
        vi.mode = receive_mode(features, self.facts, mtu)

    def _configure(self) -> None:
        """What probe asks for through the control queue, after DRIVER_OK: all pairs there are, and so on."""
        if self.facts.commits_rss_at_probe:
            self.rss.commit_at_probe()
        self.control.virtnet_set_queues(self.vi.max_queue_pairs)
        if self.facts.tells_random_mac and f.MAC not in self.features and f.CTRL_MAC_ADDR in self.features:
            self.control.virtnet_set_mac_address(LOCAL_MAC)  # MAC-V-02
        self.control.virtnet_get_stats_cap()
        if f.STATUS in self.features:
            self._config_changed = True
            self.run_work()
        else:
            self.link.assume_up()

    def run_work(self) -> None:
        """Run the work items that are due: the device's news of its configuration, and those of the control queue."""
        if self.transport.config_bell.take():
            self._config_changed = True
        if self._config_changed and (self.running or not self.facts.config_waits_for_open):
            self._config_changed = False
            self.link.virtnet_config_changed_work()
        self.control.run_work()
        self.dim.run_work()

    def open(self) -> None:
        """Fill the rings and start polling (virtnet_open)."""
        refill.virtnet_open(self.vi.address)
        self.running = True
        self.link.open()
        self.run_work()

    def close(self) -> None:
        """Stop polling (virtnet_close); posted buffers stay in the rings for the next `open`.

        What waits in front of the send queues is dropped (dev_deactivate).
        """
        self._virtnet_close()
        for sq in self.send_queues:
            qdisc_reset(sq)

    def _virtnet_close(self) -> None:
        teardown.virtnet_close(self.vi.address)
        self.running = False
        if self.facts.config_waits_for_open:
            self.link.close()

    def freeze(self) -> int:
        """Before the guest sleeps: close, reset the device, take everything back (virtnet_freeze); buffers taken back.

        `restore` brings the interface up again, open if it was.
        """
        was_running = self.running
        self._virtnet_close()
        count = self._remove_vq_common()
        self._resume_running = was_running
        return count

    def restore(self) -> None:
        """After the guest slept: the same features, the rings anew (virtio_device_restore, virtnet_restore).

        What the device was told besides it has forgotten, and Linux does not tell it again, but for the number of
        queues: receive modes, VLANs, coalescing, an indirection table of the user's are for whoever wakes the guest.
        Adaptive coalescing is off again.
        Raises `ConfigError` for a device that does not agree to the features any more.
        """
        transport = self.transport
        try:
            greet(transport)
            confirm(transport, self.features)
            self.vqs.init_vqs(transport, self.features)
            self.dim.enable(on=False)
            self.dim = RxDim(self.receive_queues, self.control)
            if self.cvq is not None:
                self.cvq.start()
            transport.set_status(transport.get_status() | status.DRIVER_OK)
            if self._resume_running:
                self.open()
                for sq in self.send_queues:
                    sq.stopped = 0  # netif_device_attach
            self.control.virtnet_set_queues(self.vi.curr_queue_pairs)
        except NetemuError:
            transport.set_status(transport.get_status() | status.FAILED)  # INIT-V-12
            raise

    def remove(self) -> int:
        """Let go of the device (virtnet_remove); how many buffers were still in its rings."""
        self.close()
        return self._remove_vq_common()

    def _remove_vq_common(self) -> int:
        """Reset the device, and only then take buffers back (CLEAN-V-01, CLEAN-V-02)."""
        reset(self.transport)
        return teardown.free_unused_bufs(self.vi.address)

    def set_ringparam(self, rx_pending: int | None = None, tx_pending: int | None = None) -> None:
        """Give all receive or send rings another size (virtnet_set_ringparam, as ``ethtool -G``).

        Frames that wait in a ring are lost with it. Raises `ConfigError` without RING_RESET, and for a size that the
        device or the kind of ring does not have; since v6.16 also for a send ring in which a frame of all segments
        would not leave a free entry, since such a queue stops for good (before, it may be had). Raises `NetemuError`
        where the guest has no memory for it: the ring in question keeps its size then.
        """
        least = TX_SPARE + 1 if self.facts.tx_ring_checked else 0
        sizes = {}
        for n in range(self.vi.max_queue_pairs):
            for index, num in ((txq2vq(n), tx_pending), (rxq2vq(n), rx_pending)):
                if num is not None and num != self.rings[index].num:
                    ringparam.check_resize(self.transport, self.features, self.vqs, index, num)
                    if index % 2 and num < least:
                        raise ConfigError(f"a send ring of {num} would stop for good: it needs {least} entries")
                    sizes[index] = num
        for index, num in sizes.items():
            if index % 2:
                self._virtnet_tx_resize(vq2txq(index), num)
            else:
                self._virtnet_rx_resize(vq2rxq(index), num)

    def _virtnet_rx_resize(self, n: int, num: int) -> None:
        vi = self.vi.address

        def recycle() -> None:
            teardown.free_rq_bufs(vi, n)
            self.vqs.give_memory(n, num)

        ringparam.virtnet_rx_pause(vi, n)
        try:
            ringparam.virtqueue_resize(self.transport, self.vqs, rxq2vq(n), num, recycle)
        finally:
            if self.running:
                ringparam.virtnet_rx_resume(vi, n)
        self._coalesce_again(rxq2vq(n), self.control.coalesce_rx)

    def _virtnet_tx_resize(self, n: int, num: int) -> None:
        vi = self.vi.address
        ringparam.virtnet_tx_pause(vi, n)
        try:
            ringparam.virtqueue_resize(self.transport, self.vqs, txq2vq(n), num, lambda: teardown.free_sq_bufs(vi, n))
        finally:
            if self.running:
                ringparam.virtnet_tx_resume(vi, n)
        self._coalesce_again(txq2vq(n), self.control.coalesce_tx)

    def _coalesce_again(self, index: int, parameters: Coalesce) -> None:
        """A queue that was disabled has lost its own parameters (COAL-D-05), and gets those of its direction."""
        if f.VQ_NOTF_COAL in self.features:
            self.control.virtnet_send_ctrl_coal_vq_cmd(index, parameters)

    @property
    def mode(self) -> str:
        """Which receive buffers the driver posts: small, big or mergeable."""
        return MODE_NAMES[self.vi.mode]

    @property
    def broken(self) -> list[str]:
        """Why rings are broken, a sentence each."""
        return [reason for reason in map(broken_reason, self.rings) if reason is not None]
