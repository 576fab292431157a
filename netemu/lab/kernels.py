"""What every lab runs, compiled side by side the first time."""

from __future__ import annotations

from netemu import engine
from netemu.driver.refill import virtnet_open
from netemu.engine.turn import transmit_turn
from netemu.jit import load_together
from netemu.lab.guest_node import guest_calls, guest_kick, guest_receive, guest_softirq, guest_xmit
from netemu.net.link_send import link_send
from netemu.net.world import run_world
from netemu.offload.finish import finish
from netemu.stack.arp_process import arp_input
from netemu.stack.deliver import host_deliver
from netemu.stack.icmp_input import icmp_input
from netemu.stack.ip_input import ip_input
from netemu.stack.ip_output import host_send


def load_kernels() -> None:
    """Load what every lab needs; a first time compiles it, which takes a while, on all processors."""
    load_together(
        engine.run,
        transmit_turn,
        host_send,
        ip_input,
        finish,
        host_deliver,
        guest_xmit,
        guest_softirq,
        guest_receive,
        icmp_input,
        arp_input,
        link_send,
        virtnet_open,
        run_world,
        guest_kick,
        guest_calls,
    )
