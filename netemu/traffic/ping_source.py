"""Echo requests at an interval, from a kernel. What comes back is measured by `netemu.traffic.udp_sink.udp_sink_app`.

A request carries its number and the time as datagrams of a flow do, so the delay that the sink measures is the round
trip.
"""

from __future__ import annotations

from netemu.jit import entry, i64
from netemu.stack.host import SENT, host_at
from netemu.stack.messages.datagram import datagram_socket_at, wake_socket
from netemu.stack.messages.ping import ping_sendmsg
from netemu.timers import call_at, timers_at
from netemu.traffic.draws import draw_at, drawn
from netemu.traffic.udp_source import stamp_payload, step_flow, udp_flow_at


@entry
def ping_tick(address: i64, _unused: i64) -> i64:
    """It is time for the next request of the `netemu.traffic.udp_source.UdpFlow` at an address; always 0."""
    flow = udp_flow_at(address)
    if flow.running == 0:
        return 0
    timers = timers_at(host_at(flow.host).timers)
    if flow.remaining > 0 and timers.now < flow.until:
        stamp_payload(flow, timers.now)
        size = drawn(draw_at(flow.sizes), 0)
        sequence = (flow.number + 1) & 0xFFFF
        result = ping_sendmsg(flow.host, flow.socket, flow.target_hi, flow.target_lo, sequence, flow.payload, size)
        flow.number += 1
        flow.remaining -= 1
        if result == SENT:
            flow.sent += 1
            flow.sent_bytes += size
        else:
            flow.refused += 1
        step_flow(flow, size)
    if flow.remaining > 0 and flow.next_at < flow.until:
        call_at(timers, flow.next_at, flow.hook, address, 0)
    else:
        flow.running = 0
        wake_socket(flow.host, datagram_socket_at(flow.socket))
    return 0
