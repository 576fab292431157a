"""A guest: a virtio-net card in a machine that has a processor, protocols and sockets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from netemu import engine
from netemu.aio.host import AsyncHost
from netemu.aio.names import Names
from netemu.driver.eras import DEFAULT_ERA
from netemu.driver.netdev import NETIF_F_HW_CSUM, NETIF_F_TSO, NETIF_F_TSO6
from netemu.engine.state import WAIT_A_TURN
from netemu.errors import ConfigError
from netemu.jit import hook
from netemu.lab.cpu import Cpu
from netemu.lab.guest_node import (
    PS_PER_NS,
    GuestNode,
    guest_calls,
    guest_kick,
    guest_receive,
    guest_softirq,
    guest_xmit,
)
from netemu.net.adapt import Adapter
from netemu.net.port import Port
from netemu.net.world import World
from netemu.nic import Nic
from netemu.nic.control import Settings
from netemu.offer import Mode, RingKind, RssOptions, mac_address
from netemu.stack.host import OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_TSO6
from netemu.stack.host_stack import HostStack
from netemu.stack.tcp.sockets import TcpSockets
from netemu.stack.tcp.table import TcpSettings
from netemu.timers import Timer
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.xdp import XdpProgram

Offloads = Literal["on", "csum", "off"]
"""What the guest's protocols leave to the device: checksums and segmentation, checksums alone, nothing."""
OFFLOADS: dict[str, FeatureSet] = {
    "on": FeatureSet.of(f.CSUM, f.HOST_TSO4, f.HOST_TSO6, f.HOST_ECN),
    "csum": FeatureSet.of(f.CSUM),
    "off": FeatureSet(),
}
_HANDED_DOWN = {NETIF_F_HW_CSUM: OFFLOAD_CSUM, NETIF_F_TSO: OFFLOAD_TSO4, NETIF_F_TSO6: OFFLOAD_TSO6}
_FOREVER = 1 << 62


class Guest(AsyncHost):
    """One guest of a lab.

    ``nic`` is its card (`netemu.nic.Nic`: rings, driver, ethtool counters), ``stack`` its protocols
    (`netemu.stack.host_stack.HostStack`: addresses, routes, snmp counters).
    """

    def __init__(
        self,
        name: str,
        world: World,
        names: Names,
        *,
        mac: bytes | str,
        seed: int,
        mode: Mode = "mergeable",
        ring: RingKind = "split",
        queue_size: int = 256,
        queues: int = 1,
        driver: str = DEFAULT_ERA,
        features: str = "",
        offloads: Offloads = "on",
        mtu: int = 1500,
        rss: RssOptions | str | None = None,
        settings: Settings = Settings(),  # noqa: B008 - it cannot be changed
        gro: bool = False,
        xdp: XdpProgram | None = None,
        pressure: Iterable[str] = (),
        quirks: Iterable[str] = (),
        cpu: Cpu | None = None,
        congestion: str = "cubic",
        tcp: TcpSettings | None = None,
    ) -> None:
        """Make a guest whose card is up; `netemu.lab.Lab.guest` says what the arguments mean."""
        if offloads not in OFFLOADS:
            raise ConfigError(f"offloads are {', '.join(OFFLOADS)}, not {offloads!r}")
        stack = HostStack(world.timers.struct, world.ready, seed=seed)
        super().__init__(name, stack, names, tcp=TcpSockets(stack, congestion=congestion, settings=tcp))
        station = mac_address(mac)
        offered = OFFLOADS[offloads]
        self.nic = Nic(
            mode,
            queue_size,
            queues,
            driver,
            features=",".join(filter(None, [*(f"+{f.NAMES[bit]}" for bit in offered), features])),
            ring=ring,
            mtu=None if mtu == 1500 else mtu,
            mac=station,
            rss=rss,
            burst=_FOREVER,
            wait=False,
            settings=settings,
            gro=gro,
            xdp=xdp,
            pressure=pressure,
            quirks=quirks,
        )
        self.node = self._make_node(world, cpu or Cpu())
        self.port = Port(node=self.node.address, receive=hook(guest_receive))
        self.node.port = self.port.address
        self.interface = self.stack.add_interface(
            station, hook(guest_xmit), self.node.address, mtu=mtu, offloads=self._offloads()
        )
        self.adapter = Adapter(world.wires, self.port, self.nic.accepts)
        self.nic.engine.deliver, self.nic.engine.stack = self.stack.deliver, self.interface.address

    def _make_node(self, world: World, cpu: Cpu) -> GuestNode:
        self.nic.sending  # noqa: B018 - makes the send side
        node = GuestNode(
            engine=self.nic.engine.address,
            run=hook(engine.run),
            timers=world.timers.struct.address,
            pool=world.wires.pool.address,
            kick=hook(guest_kick),
            up=1,
            interrupt_latency=cpu.interrupt_latency,
            poll_cost=cpu.poll,
            packet_cost=cpu.packet,
            byte_cost=round(cpu.byte * PS_PER_NS),
        )
        self.nic.engine.one_turn = int(bool(cpu.poll or cpu.packet or cpu.byte))
        if cpu == Cpu():
            # Frames of one moment are no more than a ring holds, for a processor that takes no time.
            self.nic.engine.may_wait = WAIT_A_TURN
        self._softirq = Timer.stopped(hook(guest_softirq), node.address)
        self._calls = Timer.stopped(hook(guest_calls), node.address)
        node.softirq, node.calls = self._softirq.address, self._calls.address
        return node

    def _offloads(self) -> int:
        handed_down = self.nic.driver.vi.tx_features
        return sum(offload for flag, offload in _HANDED_DOWN.items() if handed_down & flag)
