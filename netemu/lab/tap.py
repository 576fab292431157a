"""A TAP device of this machine as a node of a lab."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface

from netemu.aio.loop import EmulatedLoop
from netemu.errors import ConfigError
from netemu.net.port import Port
from netemu.net.world import World
from netemu.peers.tap import TapPort
from netemu.peers.tun import Tun
from netemu.stack.addresses import parse_interface


class LabTap:
    """The device, which Linux sees as a network interface, with the port that a link is plugged into."""

    def __init__(self, name: str, world: World, loop: EmulatedLoop, addresses: Iterable[str], *, mtu: int) -> None:
        """Make the device, give Linux ``addresses`` on it, and carry frames from now on.

        Raises `ConfigError` where this machine does not allow it, or ``loop`` runs in emulated time.
        """
        if not loop.realtime:
            raise ConfigError("a TAP device is of the real world: it needs a lab in real time, Lab(realtime=True)")
        self.name = name
        own: list[IPv4Interface | IPv6Interface] = [parse_interface(address) for address in addresses]
        tun = Tun(name)
        try:
            tun.bring_up(mtu)
            for address in own:
                tun.add_address(address)
            self._tap = TapPort(world, tun, mtu=mtu)
        except BaseException:
            tun.close()
            raise
        self.ended = self._tap.serve(loop)
        """Done when no frames are carried any more; a `NetemuError` where the device was taken away."""

    @property
    def ports(self) -> list[Port]:
        """Its one port."""
        return [self._tap.port]

    @property
    def dropped(self) -> int:
        """Frames for Linux that were lost."""
        return self._tap.dropped

    def close(self) -> None:
        """Let the device go."""
        self._tap.close()
