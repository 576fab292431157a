"""What every lab runs, compiled side by side the first time."""

from __future__ import annotations

from netemu import engine
from netemu.driver.refill import virtnet_open
from netemu.engine.turn import transmit_turn
from netemu.jit import load_together
from netemu.lab.guest_node import guest_calls, guest_kick, guest_receive, guest_softirq, guest_xmit
from netemu.net.adapt import adapt_frame
from netemu.net.host_port import host_port_receive, host_port_xmit
from netemu.net.line import line_due, single_due
from netemu.net.link_send import link_send
from netemu.net.transmitter import frame_sent
from netemu.net.world import run_world
from netemu.offload.finish import finish
from netemu.stack.deliver import host_deliver
from netemu.stack.ethernet import deliver
from netemu.stack.icmp.input import icmp_input
from netemu.stack.icmp.output import icmp_send_hook
from netemu.stack.ipv4.arp_process import arp_input
from netemu.stack.ipv4.fragments import ip_defrag
from netemu.stack.ipv4.input import ip_input
from netemu.stack.ipv4.layer import ENTRIES
from netemu.stack.ipv4.output import host_send
from netemu.stack.neighbours import neighbour_ask
from netemu.stack.segment import ip_cut
from netemu.stack.tcp.calls import tcp_connect, tcp_listen, tcp_new
from netemu.stack.tcp.errors import tcp_error
from netemu.stack.tcp.input import tcp_input
from netemu.stack.tcp.sending import output_hook
from netemu.stack.tcp.timeouts import tcp_timer
from netemu.stack.udp.input import udp_error, udp_input


def load_kernels() -> None:
    """Load what every lab needs; a first time compiles it, which takes a while, on all processors.

    What takes longest comes first. What is not named here is compiled when it is first used.
    """
    load_together(
        engine.run,
        tcp_input,
        transmit_turn,
        finish,
        guest_xmit,
        host_deliver,
        output_hook,
        arp_input,
        host_send,
        ip_input,
        tcp_timer,
        ip_defrag,
        ip_cut,
        link_send,
        icmp_input,
        deliver,
        icmp_send_hook,
        neighbour_ask,
        udp_input,
        run_world,
        virtnet_open,
        tcp_error,
        tcp_connect,
        udp_error,
        guest_softirq,
        frame_sent,
        guest_calls,
        adapt_frame,
        line_due,
        host_port_receive,
        host_port_xmit,
        guest_receive,
        guest_kick,
        tcp_listen,
        single_due,
        tcp_new,
        *ENTRIES,
    )
