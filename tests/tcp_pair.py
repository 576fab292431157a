"""Two hosts that talk TCP over a channel that loses, repeats, delays and reorders frames as a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from netemu.jit import call2, hook
from netemu.skb import CHECKSUM_UNNECESSARY
from netemu.stack.host_stack import HostStack, ReadyList
from netemu.stack.tcp.ranges import ranges_at
from netemu.stack.tcp.receive_buffer import receive_buffer_at
from netemu.stack.tcp.send_buffer import send_buffer_at
from netemu.stack.tcp.settings import tcp_settings
from netemu.stack.tcp.sockets import TcpSocket, TcpSockets
from netemu.stack.tcp.tcb import ESTABLISHED, TIME_WAIT, Tcb
from netemu.timers import TimerQueue, call_at
from tests.host_kit import SECOND, Sent, packet_of
from tests.skb_kit import SkbKit
from tests.tcp_kit import pair

MS = SECOND // 1000
MACS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
ADDRESSES = "10.9.0.1", "10.9.0.2"


@dataclass(frozen=True)
class Fate:
    """What becomes of one frame: copies that arrive, and how late."""

    copies: int = 1
    delay: int = 5 * MS


FINE = Fate()
LOST = Fate(0)


class TcpPair:
    """Hosts 0 and 1; ``fates`` are those of the frames in the order in which they are sent, then all is fine."""

    def __init__(
        self,
        fates: Sequence[Fate] = (),
        *,
        offloads: int = 1,
        send_buffer: int = 1 << 15,
        receive_buffer: int = 1 << 15,
        congestion: str = "reno",
        **settings: int,
    ) -> None:
        self.queue = TimerQueue(4096)
        self.fates = list(fates)
        self.frames: list[Sent] = []
        self._arrives = hook(self._arrive)
        self._ready = ReadyList(64)
        self._kits = SkbKit(), SkbKit()
        self.stacks: list[HostStack] = []
        self.sockets: list[TcpSockets] = []
        for number in (0, 1):
            stack = HostStack(self.queue.struct, self._ready, seed=number + 1, plain=True)
            interface = stack.add_interface(MACS[number], hook(self._sender(number)), 0, offloads=offloads)
            stack.add_address(interface, f"{ADDRESSES[number]}/24")
            stack.ip.add_neighbour(interface, ADDRESSES[1 - number], MACS[1 - number])
            wanted = tcp_settings()
            for name, value in settings.items():
                setattr(wanted, name, value)
            self.stacks.append(stack)
            self.sockets.append(
                TcpSockets(
                    stack,
                    congestion=congestion,
                    send_buffer=send_buffer,
                    receive_buffer=receive_buffer,
                    connections=4,
                    settings=wanted,
                )
            )

    def _sender(self, number: int) -> Callable[[int, int], int]:
        """The ``xmit`` of a host."""

        def xmit(_device: int, packet: int) -> int:
            sent = packet_of(packet, number)
            self.frames.append(sent)
            fate = self.fates.pop(0) if self.fates else FINE
            for copy in range(fate.copies):
                when = self.queue.struct.now + fate.delay + copy
                call_at(self.queue.struct, when, self._arrives, 1 - number, len(self.frames) - 1)
            return 1

        return xmit

    def _arrive(self, number: int, frame: int) -> int:
        """A frame that was sent comes out at a host."""
        sent = self.frames[frame]
        skb = self._kits[number].build(sent.data)
        skb.ip_summed = CHECKSUM_UNNECESSARY
        skb.gso_size, skb.gso_type = sent.gso_size, sent.gso_type
        return call2(self.stacks[number].deliver, self.stacks[number].interfaces[0].address, skb.address)

    def opened(self) -> tuple[TcpSocket, TcpSocket]:
        """A connection from host 0 to host 1, and its other end."""
        listener = self.sockets[1].listen(80)
        client = self.sockets[0].connect(pair(ADDRESSES[1]), 80)
        for _ in range(400):
            server = listener.accept()
            if server is not None:
                return client, server
            self.after(500)
        raise AssertionError("no connection came about")

    def after(self, ms: float) -> None:
        """Let so many milliseconds pass."""
        self.queue.run_until(self.queue.struct.now + round(ms * MS))
        self.queue.check()

    def check(self) -> None:
        """What must hold of every connection at all times."""
        for sockets in self.sockets:
            for view in sockets.tcbs():
                consistent(view)


def consistent(tcb: Tcb) -> None:
    """The sequence spaces and buffers of a connection agree with each other."""
    if not ESTABLISHED <= tcb.state <= TIME_WAIT:
        return
    sent, got = send_buffer_at(tcb.send_buffer), receive_buffer_at(tcb.receive_buffer)
    assert tcb.iss < tcb.snd_una <= tcb.snd_nxt
    assert tcb.snd_nxt <= sent.end + 1
    assert 0 <= sent.end - sent.una <= sent.capacity
    assert sent.una in (tcb.snd_una, tcb.snd_una - 1)
    assert tcb.irs < tcb.rcv_nxt
    assert tcb.rcv_nxt - got.rcv_nxt in (0, 1)
    assert 0 <= got.rcv_nxt - got.read <= got.capacity
    assert ranges_at(got.ranges).total <= got.capacity
    assert tcb.snd_wnd >= 0
    assert tcb.rcv_acked <= tcb.rcv_nxt
    if tcb.snd_nxt > tcb.snd_una:
        assert tcb.snd_una <= sent.end
