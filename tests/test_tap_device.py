"""TAP devices of this machine: made, set up, refused in a line that says what to do, and gone afterwards."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

from netemu.errors import ConfigError, NetemuError
from netemu.peers import tun
from netemu.peers.tun import Tun
from tests.tap_kit import Namespace, linux


@pytest.fixture
def host() -> Iterator[Namespace]:
    with linux() as namespace:
        yield namespace


def test_it_is_there_as_long_as_it_is_open(host: Namespace) -> None:
    with host.inside():
        device = Tun("tap7")
    assert "tap7" in host.run("ip", "-brief", "link")
    device.close()
    device.close()
    assert "tap7" not in host.run("ip", "-brief", "link")


def test_a_persistent_one_stays(host: Namespace) -> None:
    with host.inside():
        Tun("tap7", persistent=True).close()
    assert "tap7" in host.run("ip", "-brief", "link")


def test_it_is_set_up_with_mtu_and_addresses(host: Namespace) -> None:
    with host.inside():
        device = Tun("tap7")
        device.bring_up(1400)
        device.add_address(ip_interface("10.7.0.1/20"))
        device.add_address(ip_interface("2001:db8:7::1/64"))
    link = host.run("ip", "-details", "link", "show", "tap7")
    assert "mtu 1400" in link
    assert ",UP" in link
    assert "tun type tap pi off vnet_hdr off persist off" in link
    addresses = host.run("ip", "address", "show", "tap7")
    assert "inet 10.7.0.1/20" in addresses
    assert "inet6 2001:db8:7::1/64" in addresses
    device.close()


def test_frames_are_read_and_written(host: Namespace) -> None:
    """Linux asks who has 10.7.0.2, and hears from us who has it: its neighbour table shows it."""
    with host.inside():
        device = Tun("tap7")
        device.bring_up(1500)
        device.add_address(ip_interface("10.7.0.1/24"))
    host.run("sh", "-c", "ping -c 1 -W 1 10.7.0.2 || true")
    asked = b""
    while asked[12:14] != b"\x08\x06":
        asked = os.read(device.fileno(), 2000)
    assert asked[38:42] == bytes([10, 7, 0, 2])
    mac = bytes.fromhex("020000000702")
    answer = asked[6:12] + mac + asked[12:20] + b"\0\2" + mac + asked[38:42] + asked[22:32]
    assert os.write(device.fileno(), answer) == 42
    host.run("sh", "-c", "ping -c 1 -W 1 10.7.0.2 || true")
    assert "02:00:00:00:07:02" in host.run("ip", "neighbour", "show", "10.7.0.2")
    device.close()


def test_one_that_is_in_use_is_refused(host: Namespace) -> None:
    with host.inside():
        device = Tun("tap7")
        with pytest.raises(NetemuError, match=r"^tap7 is in use by another program: choose another name"):
            Tun("tap7")
    device.close()


def test_another_kind_of_interface_is_refused(host: Namespace) -> None:
    with host.inside(), pytest.raises(NetemuError, match=r"^lo is there already and is no TAP device"):
        Tun("lo")


@pytest.mark.parametrize("mtu", [67, 65522])
def test_an_impossible_mtu_is_refused(host: Namespace, mtu: int) -> None:
    with host.inside():
        device = Tun("tap7")
        with pytest.raises(ConfigError, match="68 to 65521"):
            device.bring_up(mtu)
        device.bring_up(68 if mtu == 67 else 65521)
    device.close()


@pytest.mark.parametrize("name", ["", "a" * 16, "a b", "a/b", "..", "tap%d", "é" * 8])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for an interface"):
        Tun(name)


# Machines that do not let us: these refusals are Linux's, acted.


def test_a_machine_without_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "CLONE_DEVICE", tmp_path / "tun")
    with pytest.raises(NetemuError, match=r"this machine has no .*/tun: load its driver with 'modprobe tun'"):
        Tun("tap7")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, r"^no right to open /dev/net/tun: run as root"), (errno.ENODEV, "modprobe tun")],
)
def test_a_file_that_cannot_be_opened(number: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NetemuError, match=words):
        Tun("tap7")


def test_a_user_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / "tun").touch()
    monkeypatch.setattr(tun, "CLONE_DEVICE", tmp_path / "tun")
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with pytest.raises(
        NetemuError, match=r"^no right to use tap7: run as root, .*'ip tuntap add dev tap7 mode tap user"
    ):
        Tun("tap7")
