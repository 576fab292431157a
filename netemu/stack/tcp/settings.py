"""What a host's connections do unless told otherwise: the values of Linux, where it has them."""

from __future__ import annotations

from netemu.stack.tcp.congestion import CUBIC
from netemu.stack.tcp.rtt import RTO_MIN
from netemu.stack.tcp.table import TcpSettings

_MS = 1_000_000
_S = 1_000 * _MS


def tcp_settings() -> TcpSettings:
    """A new struct; its fields can be set."""
    return TcpSettings(
        timestamps=1,
        sack=1,
        window_scaling=1,
        algorithm=CUBIC,
        delayed_ack=40 * _MS,
        quick_acks=16,
        rto_min=RTO_MIN,
        syn_retries=6,
        retries=15,
        time_wait=60 * _S,
        fin_timeout=60 * _S,
        keepalive=0,
        keepalive_interval=75 * _S,
        keepalive_probes=9,
        mtu_probing=0,
        base_mss=1024,
        nodelay=0,
        challenge_acks=1000,
        idle_restart=1,
    )
