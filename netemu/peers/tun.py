"""TAP devices of this machine: made, set up and given up with the calls of Linux's tun driver and its `netdevice(7)`.

A TAP device is a network interface whose other end is a file: what Linux sends out of the interface is read from it, a
frame at a time, and what is written to it comes in. The interface goes when the file is closed, unless it was made
persistent. Frames are plain here (IFF_NO_PI, no virtio-net header): checksums are done, and segments cut.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from netemu.errors import ConfigError, NetemuError

CLONE_DEVICE = Path("/dev/net/tun")
NAME_MAX = 15
"""Bytes of an interface's name."""
MTU_MIN, MTU_MAX = 68, 65521
"""What Linux lets a TAP device have, in bytes: tun's bounds, less the Ethernet header."""

# linux/if_tun.h, linux/sockios.h, linux/if.h
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK = 0x8916, 0x891C
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_IFF_UP = 0x1

_REASONS = {
    errno.EBUSY: "is in use by another program: choose another name, or end that program",
    errno.EINVAL: "is there already and is no TAP device: choose another name",
    errno.EEXIST: "is there already and is no TAP device: choose another name",
}


class Tun:
    """A TAP device that is open: a file that does not block, and the interface that Linux sees."""

    def __init__(self, name: str, *, persistent: bool = False) -> None:
        """Attach to the TAP device ``name``, which is made if it is not there.

        ``persistent`` leaves it there when this end is closed. Raises `ConfigError` for an impossible name, and
        `NetemuError`, with what to do, where the machine does not let us.
        """
        if not 0 < len(os.fsencode(name)) <= NAME_MAX or name in {".", ".."} or set(name) & set("/:%") or " " in name:
            raise ConfigError(f"{name!r} is no name for an interface: 1 to {NAME_MAX} letters and digits, tap0 for one")
        self.name = name
        self._fd = _open()
        try:
            request = struct.pack("16sH22x", os.fsencode(name), _IFF_TAP | _IFF_NO_PI)
            fcntl.ioctl(self._fd, _TUNSETIFF, request)
            if persistent:
                fcntl.ioctl(self._fd, _TUNSETPERSIST, 1)
        except OSError as error:
            self.close()
            if error.errno == errno.EPERM:
                raise NetemuError(
                    f"no right to use {name}: run as root, or let root make it for you with "
                    f"'ip tuntap add dev {name} mode tap user {os.geteuid()}'"
                ) from error
            reason = _REASONS.get(error.errno or 0, f"cannot be made a TAP device: {error.strerror}")
            raise NetemuError(f"{name} {reason}") from error

    def fileno(self) -> int:
        """The file descriptor."""
        return self._fd

    def close(self) -> None:
        """Let go of the device; without effect the second time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def bring_up(self, mtu: int) -> None:
        """Set the interface up with an MTU in bytes; `NetemuError`, with what to do, where that is not allowed."""
        if not MTU_MIN <= mtu <= MTU_MAX:
            raise ConfigError(f"an MTU of {mtu} bytes: a TAP device has {MTU_MIN} to {MTU_MAX}")
        name = os.fsencode(self.name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                (now,) = struct.unpack_from("16xi", fcntl.ioctl(control, _SIOCGIFMTU, struct.pack("16s24x", name)))
                if now != mtu:
                    fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", name, mtu))
                (flags,) = struct.unpack_from("16xH", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16s24x", name)))
                if not flags & _IFF_UP:
                    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _IFF_UP))
            except OSError as error:
                raise NetemuError(
                    f"{self.name} cannot be set up ({error.strerror}): "
                    f"let root say 'ip link set {self.name} mtu {mtu} up'"
                ) from error

    def add_address(self, address: IPv4Interface | IPv6Interface) -> None:
        """Give this machine an address on the interface; `NetemuError`, with what to do, where that is not allowed."""
        try:
            if isinstance(address, IPv4Interface):
                self._add_ipv4(address)
            else:
                self._add_ipv6(address)
        except OSError as error:
            raise NetemuError(
                f"{self.name} cannot have the address {address} ({error.strerror}): "
                f"let root say 'ip address add {address} dev {self.name}'"
            ) from error

    def _add_ipv4(self, address: IPv4Interface) -> None:
        name = os.fsencode(self.name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            for call, value in ((_SIOCSIFADDR, address.ip), (_SIOCSIFNETMASK, address.netmask)):
                fcntl.ioctl(control, call, struct.pack("16sHH4s16x", name, socket.AF_INET, 0, value.packed))

    def _add_ipv6(self, address: IPv6Interface) -> None:
        index = socket.if_nametoindex(self.name)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sIi", address.ip.packed, address.network.prefixlen, index)
            fcntl.ioctl(control, _SIOCSIFADDR, request)


def _open() -> int:
    try:
        return os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NetemuError(f"this machine has no {CLONE_DEVICE}: load its driver with 'modprobe tun'") from error
    except PermissionError as error:
        raise NetemuError(f"no right to open {CLONE_DEVICE}: run as root") from error
    except OSError as error:
        raise NetemuError(f"{CLONE_DEVICE} cannot be opened ({error.strerror}): try 'modprobe tun'") from error
