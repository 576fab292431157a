"""What a user sets on a network card while it runs: ethtool, ip and tcpdump in one object.

Theory of operation
-------------------
`NicControl` calls the driver's functions, which send commands through the control queue; the device answers at once, in
the same process. `Settings` are such wishes before there is a card: they say which features have to be offered for
them, and are applied when it is up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from netemu.driver.probe import VirtioNet
from netemu.errors import ConfigError, NetemuError
from netemu.offer import mac_address
from netemu.virtio import features as f
from netemu.virtio.control import OFFLOAD_BITS, VLAN_IDS, Coalesce, offload_features, offload_mask
from netemu.virtio.features import FeatureSet

COALESCE_NAMES = ("rx-usecs", "rx-frames", "tx-usecs", "tx-frames")
_UINT32_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What to set on a card as soon as it is up.

    ``promisc``: receive whatever comes, as a packet capture does. ``vlans``: the VLAN ids to let in, of a device that
    filters by VLAN (None: it does not); a promiscuous one would not. ``coalesce``: values of `COALESCE_NAMES`.
    ``adaptive_rx``: the driver chooses them for receive queues by itself (DIM). ``guest_offloads``: a change of those
    that are on, like "-GUEST_TSO4,+GUEST_ECN".
    """

    promisc: bool = True
    vlans: Sequence[int] | None = None
    coalesce: Mapping[str, int] = field(default_factory=dict)
    adaptive_rx: bool = False
    guest_offloads: str = ""

    def features(self) -> FeatureSet:
        """What a device has to offer for these settings."""
        wanted = FeatureSet()
        if not self.promisc:
            wanted |= FeatureSet.of(f.CTRL_RX)
        if self.vlans is not None:
            wanted |= FeatureSet.of(f.CTRL_VLAN)
        if self.coalesce:
            wanted |= FeatureSet.of(f.NOTF_COAL)
        if self.adaptive_rx:
            wanted |= FeatureSet.of(f.VQ_NOTF_COAL)
        if self.guest_offloads:
            wanted |= FeatureSet.of(f.CTRL_GUEST_OFFLOADS)
        return wanted | FeatureSet.of(f.CTRL_VQ) if wanted else wanted


def parse_coalesce(text: str) -> dict[str, int]:
    """Values from text like "rx-usecs=8,rx-frames=64"; raises `ConfigError` for a name or a number there is not."""
    values = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.strip().partition("=")
        if name not in COALESCE_NAMES or not value.isdecimal() or int(value) > _UINT32_MAX:
            raise ConfigError(f"{part!r} sets nothing: it takes {', '.join(COALESCE_NAMES)}, each = a number")
        values[name] = int(value)
    return values


class NicControl:
    """The controls of one card. What the device refuses, or has no feature for, raises `NetemuError`."""

    def __init__(self, driver: VirtioNet, take_interrupts: Callable[[], None]) -> None:
        """Control what ``driver`` runs; ``take_interrupts`` lets it hear the calls that a command brought about."""
        self._driver = driver
        self._commands = driver.control
        self._take_interrupts = take_interrupts

    def apply(self, settings: Settings) -> None:
        """Set everything in ``settings`` that differs from how a card comes up."""
        if f.CTRL_RX in self._driver.features:
            self.set_promiscuous(on=settings.promisc and settings.vlans is None)
        for vid in settings.vlans or ():
            self.add_vlan(vid)
        if settings.coalesce:
            self.set_coalesce(**{name.replace("-", "_"): value for name, value in settings.coalesce.items()})
        if settings.adaptive_rx:
            self.set_adaptive_rx(on=True)
        if settings.guest_offloads:
            now = offload_features(self._commands.guest_offloads)
            self.set_guest_offloads(now.changed(settings.guest_offloads))

    def _done(self, done: object, what: str) -> None:
        """Let work items and interrupts that a command brought have their turn; complain if it did not succeed."""
        self._driver.run_work()
        self._take_interrupts()
        if not done:
            raise NetemuError(f"{what}: the device refuses, or the driver may not ask ({self._driver.features})")

    def _needs(self, *bits: int) -> None:
        for bit in bits:
            if bit not in self._driver.features:
                raise ConfigError(f"the driver did not negotiate {f.NAMES[bit]}, which this needs")

    def set_promiscuous(self, *, on: bool) -> None:
        """Receive frames for anybody, as tcpdump asks for, or only those for this station."""
        self._needs(f.CTRL_RX)
        before = len(self._commands.warnings)
        self._commands.set_promiscuous(on=on)
        self._driver.run_work()
        self._done(len(self._commands.warnings) == before, "set_promiscuous")

    def set_allmulti(self, *, on: bool) -> None:
        """Receive all multicast frames."""
        self._needs(f.CTRL_RX)
        before = len(self._commands.warnings)
        self._commands.set_allmulti(on=on)
        self._driver.run_work()
        self._done(len(self._commands.warnings) == before, "set_allmulti")

    def set_addresses(self, addresses: Sequence[bytes]) -> None:
        """Receive frames for these addresses besides the station's own; groups are among them."""
        self._needs(f.CTRL_RX)
        before = len(self._commands.warnings)
        self._commands.set_addresses(addresses)
        self._driver.run_work()
        self._done(len(self._commands.warnings) == before, "set_addresses")

    def set_mac(self, mac: bytes | str) -> None:
        """Give the station another address."""
        self._done(self._commands.virtnet_set_mac_address(mac_address(mac)), "set_mac")

    def add_vlan(self, vid: int) -> None:
        """Let a VLAN in."""
        self._done(self._commands.virtnet_vlan_rx_add_vid(_vlan_id(vid)), "add_vlan")

    def remove_vlan(self, vid: int) -> None:
        """Let a VLAN in no longer."""
        self._done(self._commands.virtnet_vlan_rx_kill_vid(_vlan_id(vid)), "remove_vlan")

    def set_queues(self, pairs: int) -> None:
        """Use so many queue pairs (``ethtool -L``); raises `ConfigError` while an XDP program is attached, as Linux."""
        if self._driver.receive_queues[0].xdp:
            raise ConfigError("the number of queue pairs stays as it is while an XDP program is attached")
        self._done(self._commands.virtnet_set_queues(pairs), "set_queues")

    def set_guest_offloads(self, offloads: FeatureSet) -> None:
        """Have exactly these receive offloads on, of those that were negotiated."""
        self._needs(f.CTRL_VQ, f.CTRL_GUEST_OFFLOADS)
        if unknown := offloads - FeatureSet.of(*OFFLOAD_BITS):
            raise ConfigError(f"no guest offloads: {unknown}")
        self._done(self._commands.virtnet_set_guest_offloads(offload_mask(offloads)), "set_guest_offloads")

    def set_coalesce(
        self,
        *,
        rx_usecs: int | None = None,
        rx_frames: int | None = None,
        tx_usecs: int | None = None,
        tx_frames: int | None = None,
        queue: int | None = None,
    ) -> None:
        """Hold notifications back for so many microseconds, or frames (``ethtool -C``); None leaves a value alone.

        With ``queue`` it is about one queue pair (``ethtool --per-queue``).
        """
        self._needs(f.NOTF_COAL if queue is None else f.VQ_NOTF_COAL)
        control = self._commands
        tx = _changed(control.coalesce_of(None if queue is None else 2 * queue + 1, transmit=True), tx_frames, tx_usecs)
        rx = _changed(control.coalesce_of(None if queue is None else 2 * queue, transmit=False), rx_frames, rx_usecs)
        if queue is None:
            done = control.virtnet_send_tx_notf_coal_cmds(tx) and control.virtnet_send_rx_notf_coal_cmds(rx)
        else:
            done = control.virtnet_send_ctrl_coal_vq_cmd(2 * queue, rx)
            done = done and control.virtnet_send_ctrl_coal_vq_cmd(2 * queue + 1, tx)
        self._done(done, "set_coalesce")

    def coalescing(self) -> list[dict[str, int]]:
        """For each receive queue how long interrupts are held back, as the driver last set it; 0: not at all."""
        queues = range(self._driver.vi.max_queue_pairs)
        parameters = [self._commands.coalesce_of(2 * n, transmit=False) for n in queues]
        return [{"rx_frames": each.max_packets, "rx_usecs": each.max_usecs} for each in parameters]

    def set_adaptive_rx(self, *, on: bool) -> None:
        """Let the driver choose how receive queues coalesce, by their traffic (``ethtool -C adaptive-rx``)."""
        self._needs(f.VQ_NOTF_COAL)
        self._driver.dim.enable(on=on)

    def device_stats(self) -> dict[str, dict[str, int]]:
        """What the device has counted, by queue ("rx0", "tx0", "cq"); empty without DEVICE_STATS."""
        pairs = self._driver.vi.max_queue_pairs
        names = {2 * n + side: f"{'tx' if side else 'rx'}{n}" for n in range(pairs) for side in (0, 1)}
        counters: dict[str, dict[str, int]] = {}
        for block in self._commands.virtnet_get_hw_stats():
            counters.setdefault(names.get(block.vq_index, "cq"), {}).update(block.counters)
        return counters


def _changed(old: Coalesce, frames: int | None, usecs: int | None) -> Coalesce:
    """The parameters with what is not None replaced; raises `ConfigError` for what has no place in 32 bits."""
    new = Coalesce(old.max_packets if frames is None else frames, old.max_usecs if usecs is None else usecs)
    if not (0 <= new.max_packets <= _UINT32_MAX and 0 <= new.max_usecs <= _UINT32_MAX):
        raise ConfigError(f"frames and microseconds are from 0 to {_UINT32_MAX}")
    return new


def _vlan_id(vid: int) -> int:
    if not 0 <= vid < VLAN_IDS:
        raise ConfigError(f"a VLAN id is from 0 to {VLAN_IDS - 1}, not {vid}")
    return vid
