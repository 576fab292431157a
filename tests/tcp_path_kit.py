"""Two hosts with plain cards and a link between them, compiled: TCP transfers at speed, without rings.

A transfer's ends are apps in kernels: bytes are not looked at, Python is not entered.
"""

from __future__ import annotations

from typing import Any

from netemu.jit import entry, hook, i64, load_together
from netemu.net.host_port import HostPort, host_port_receive, host_port_xmit
from netemu.net.link import Link
from netemu.net.options import LinkOptions
from netemu.net.port import Port
from netemu.net.world import World
from netemu.skb import Skb
from netemu.stack.addresses import halves, parse_address
from netemu.stack.host import OFFLOAD_CSUM, OFFLOAD_TSO4
from netemu.stack.host_stack import HostStack
from netemu.stack.tcp.calls import at_end, can_write, discard, shut_down
from netemu.stack.tcp.congestion import Congestion, congestion_at
from netemu.stack.tcp.events import take_events
from netemu.stack.tcp.send_buffer import send_buffer_at, send_buffer_commit, send_buffer_free
from netemu.stack.tcp.settings import tcp_settings
from netemu.stack.tcp.sockets import TcpSocket, TcpSockets
from netemu.stack.tcp.tcb import tcb_at

SECOND = 1_000_000_000
MS = 1_000_000
ENDLESS = 1 << 50


@entry
def send_app(_host: i64, address: i64) -> i64:
    """Writes ``app_count`` bytes, whatever lies in the ring, and closes."""
    tcb = tcb_at(address)
    take_events(tcb)
    if can_write(tcb) != 0:
        buffer = send_buffer_at(tcb.send_buffer)
        some = min(send_buffer_free(buffer), tcb.app_count)
        send_buffer_commit(buffer, some)
        tcb.app_count -= some
        if tcb.app_count > 0:
            tcb.want_write = 1
        else:
            shut_down(address)
    return 0


@entry
def sink_app(_host: i64, address: i64) -> i64:
    """Reads all there is, and closes when the peer has."""
    tcb = tcb_at(address)
    take_events(tcb)
    discard(tcb, ENDLESS)
    if at_end(tcb) != 0:
        shut_down(address)
    return 0


class PathHost:
    """One end of a path."""

    def __init__(self, world: World, number: int, mtu: int, tso: bool, settings: dict[str, Any]) -> None:
        self.stack = HostStack(world.timers.struct, world.ready, seed=number)
        self._skb = Skb()
        self.card = HostPort(
            deliver=self.stack.deliver,
            skb=self._skb.address,
            timers=world.timers.struct.address,
            pool=world.wires.pool.address,
        )
        self.port = Port(node=self.card.address, receive=hook(host_port_receive))
        self.card.port = self.port.address
        self.interface = self.stack.add_interface(
            bytes([2, 0, 0, 0, 0, number]),
            hook(host_port_xmit),
            self.card.address,
            mtu=mtu,
            offloads=OFFLOAD_CSUM | (OFFLOAD_TSO4 if tso else 0),
        )
        self.card.interface = self.interface.address
        self.address = f"10.0.0.{number}"
        self.stack.add_address(self.interface, f"{self.address}/24")
        made = tcp_settings()
        buffers = {
            name: settings.pop(name) for name in ("send_buffer", "receive_buffer", "congestion") if name in settings
        }
        for name, value in settings.items():
            setattr(made, name, value)
        self.tcp = TcpSockets(self.stack, connections=16, settings=made, **buffers)


class Path:
    """Host ``a`` sends to host ``b``; ``words`` and ``options`` are those of the link's forward direction.

    The way back has the same delay and nothing else. ``settings`` are fields of `TcpSettings`, for both.
    """

    def __init__(
        self,
        words: str = "",
        *,
        delay: int,
        seed: int = 1,
        mtu: int = 1500,
        tso: bool = False,
        settings: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        load_together(host_port_receive, host_port_xmit, send_app, sink_app)
        self.world = World()
        self.a, self.b = (PathHost(self.world, n, mtu, tso, dict(settings or {})) for n in (1, 2))
        self.link = Link(
            self.world.timers,
            self.world.wires,
            self.a.port,
            self.b.port,
            forward=LinkOptions.of(words, delay=delay, **options),
            backward=LinkOptions(delay=delay),
            seed=seed,
        )
        self.b.tcp.listen(80, app=hook(sink_app))
        self.sock: TcpSocket | None = None

    def start(self, size: int = ENDLESS) -> TcpSocket:
        """Begin a transfer of ``size`` bytes."""
        self.sock = self.a.tcp.connect(halves(parse_address(self.b.address)), 80, app=hook(send_app))
        self.sock.tcb.app_count = size
        return self.sock

    def run(self, seconds: float) -> None:
        """Let time go by."""
        self.world.run_until(self.world.now + round(seconds * SECOND))

    @property
    def acked(self) -> int:
        """Bytes that the receiver has."""
        assert self.sock is not None
        return self.sock.tcb.bytes_acked

    @property
    def congestion(self) -> Congestion:
        """The sender's congestion window."""
        assert self.sock is not None
        return congestion_at(self.sock.tcb.congestion)

    def goodput(self, seconds: float, *, warm_up: float = 0) -> float:
        """Bytes a second that are acknowledged in so many seconds, behind the first ``warm_up`` ones."""
        self.run(warm_up)
        before = self.acked
        self.run(seconds)
        return (self.acked - before) / seconds
