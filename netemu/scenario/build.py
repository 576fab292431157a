"""A lab from a scenario: everything that is there before the first event happens."""

from __future__ import annotations

from typing import Any

from netemu.lab import Lab
from netemu.lab.cpu import Cpu
from netemu.net.units import format_time
from netemu.nic.control import Settings, parse_coalesce
from netemu.scenario.topology import GuestSection, TcpSection
from netemu.scenario.whole import Scenario
from netemu.stack.tcp.settings import tcp_settings
from netemu.stack.tcp.table import TcpSettings


def build_lab(scenario: Scenario) -> Lab:
    """Make the lab with all nodes and links. Raises `ConfigError` for what only shows when it is made."""
    lab = Lab(seed=scenario.lab.seed)
    try:
        _fill(lab, scenario)
    except BaseException:
        lab.close()
        raise
    return lab


def _fill(lab: Lab, scenario: Scenario) -> None:
    for name in scenario.switches:
        lab.switch(name)
    for name, router in scenario.routers.items():
        made_router = lab.router(name, [[*map(str, port)] for port in router.ip], mtu=router.mtus())
        for network, gateway in router.routes:
            made_router.stack.add_route(network, via=gateway)
    for name, guest in scenario.guests.items():
        made = lab.guest(name, **_guest_arguments(guest))
        if guest.gateway6 is not None:
            made.stack.add_route("::/0", via=str(guest.gateway6))
    for _, section in scenario.links:
        a, b = (lab.nodes[name] for name in section.between)
        link = lab.link(a, b, section.words(), name=section.label)
        link.forward.set(section.forward)
        link.backward.set(section.backward)
        for change in section.at:
            when = format_time(change.time)
            for way, words in ((link, change.set), (link.forward, change.forward), (link.backward, change.backward)):
                if words:
                    lab.at(when, way.set, words)
            if change.up:
                lab.at(when, link.up)
            if change.down:
                lab.at(when, link.down)


def _tcp_settings(section: TcpSection) -> TcpSettings:
    """Linux's settings with those of a guest."""
    settings = tcp_settings()
    for name, value in section:
        setattr(settings, name, int(value))
    return settings


def _guest_arguments(guest: GuestSection) -> dict[str, Any]:
    """What `Lab.guest` is called with."""
    cpu = guest.cpu
    return {
        "ip": [*map(str, guest.ip), *map(str, guest.ipv6)],
        "gateway": None if guest.gateway is None else str(guest.gateway),
        "mac": guest.mac,
        "mode": guest.mode,
        "ring": guest.ring,
        "queue_size": guest.queue_size,
        "queues": guest.queues,
        "driver": guest.driver,
        "features": guest.features,
        "offloads": guest.offloads,
        "mtu": guest.mtu,
        "rss": guest.rss or None,
        "settings": Settings(coalesce=parse_coalesce(guest.coalesce)),
        "gro": guest.gro,
        "pressure": guest.pressure,
        "quirks": guest.quirks,
        "congestion": guest.congestion,
        "tcp": _tcp_settings(guest.tcp),
        "cpu": None if cpu is None else Cpu(cpu.interrupt_latency, cpu.poll, cpu.packet, cpu.byte),
    }
