"""``netemu features``: bits in words, sets and what follows from them, wrong names, pipes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netemu.virtio import features as f
from netemu.virtio.meanings import MEANINGS
from tests.replay_kit import netemu, one_error_line


def told(*arguments: str) -> dict[str, Any]:
    run = netemu("features", *arguments, "--json")
    assert (run.returncode, run.stderr) == (0, b"")
    value = json.loads(run.stdout)
    assert isinstance(value, dict)
    return value


def test_every_bit_with_a_name_has_a_meaning_that_fits_a_line() -> None:
    assert set(MEANINGS) == set(f.NAMES)
    assert max(map(len, MEANINGS.values())) <= 47


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("+MQ,+RSS,+HASH_REPORT",),
        ("--offer", "VERSION_1,GUEST_TSO4,42,RSS", "--accept", "GUEST_ECN,MQ"),
        ("--offer", " ".join(f.NAMES.values())),
    ],
)
def test_the_text_is_no_wider_than_a_terminal_and_has_no_colours(arguments: tuple[str, ...]) -> None:
    run = netemu("features", *arguments)
    assert run.returncode == 0
    lines = run.stdout.decode("ascii").splitlines()
    assert max(map(len, lines)) <= 79
    assert not any("\x1b" in line for line in lines)


def test_without_arguments_all_bits_are_listed() -> None:
    lines = netemu("features").stdout.decode().splitlines()
    for bit, name in f.NAMES.items():
        assert [line for line in lines if line.split()[:2] == [str(bit), name]], name
    assert [one["bit"] for one in told()["features"]] == sorted(f.NAMES)


def test_a_change_is_one_of_what_replay_offers() -> None:
    """Section A of the clause sheet: HASH_REPORT is 57, and makes a header of 20 bytes (section D)."""
    plain, changed = told("--offer", "mergeable"), told("+HASH_REPORT", "-GUEST_UFO")
    bits = {one["bit"] for one in plain["offer"]["features"]}
    assert {one["bit"] for one in changed["offer"]["features"]} == bits - {10} | {57}
    assert (plain["offer"]["header_length"], changed["offer"]["header_length"]) == (12, 20)
    assert changed["offer"]["advice"] == ["HASH_REPORT should come with CTRL_VQ"]


def test_an_added_feature_brings_what_it_requires_and_a_lost_one_takes_along_what_required_it() -> None:
    names = {one["name"] for one in told("--offer", "VERSION_1", "+GUEST_UDP_TUNNEL_GSO_CSUM")["offer"]["features"]}
    tunnel = {"GUEST_UDP_TUNNEL_GSO", "GUEST_UDP_TUNNEL_GSO_CSUM"}
    assert names == {"VERSION_1", "GUEST_CSUM", "GUEST_TSO4", "GUEST_TSO6", "GUEST_USO4", "GUEST_USO6"} | tunnel
    left = {one["name"] for one in told("-GUEST_CSUM")["offer"]["features"]}
    assert left == {"MAC", "MRG_RXBUF", "STATUS", "INDIRECT_DESC", "EVENT_IDX", "VERSION_1"}


@pytest.mark.parametrize(
    ("offer", "modes", "lengths"),
    [
        ("mergeable", ["mergeable"] * 3, [12, 12, 12]),
        ("small", ["small"] * 3, [12, 12, 12]),
        ("big", ["big"] * 3, [12, 12, 12]),
        ("VERSION_1,GUEST_CSUM,GUEST_USO4,GUEST_USO6", ["small", "small", "big"], [12, 12, 12]),
        ("VERSION_1,GUEST_CSUM,GUEST_USO4", ["small"] * 3, [12, 12, 12]),
        ("VERSION_1,CTRL_VQ,HASH_REPORT", ["small"] * 3, [12, 20, 20]),
        ("MAC", ["small"] * 3, [10, 10, 10]),
        ("MAC,MRG_RXBUF", ["mergeable"] * 3, [12, 12, 12]),
    ],
)
def test_each_kernel_has_its_mode_and_header(offer: str, modes: list[str], lengths: list[int]) -> None:
    """Sheet 1.4 and 1.5: USO4 and USO6 together are guest GSO in kernels that know them; legacy headers have 10."""
    drivers = told("--offer", offer)["drivers"]
    assert [driver["driver"] for driver in drivers] == ["linux-4.19", "linux-6.1", "linux-7.0"]
    assert [driver["mode"] for driver in drivers] == modes
    assert [driver["header_length"] for driver in drivers] == lengths


def test_a_kernel_that_refuses_the_device_says_why() -> None:
    run = netemu("features", "--offer", "VERSION_1,NOTF_COAL")
    text = " ".join(run.stdout.decode().split())
    assert "linux-6.1 refuses the device: the device offers NOTF_COAL without CTRL_VQ" in text
    assert "linux-4.19 small buffers" in text


def test_what_a_driver_accepts_is_judged_as_the_device_would() -> None:
    """FEAT-D-03: not offered, and NETF-B-01."""
    judged = told(
        "--offer", "VERSION_1,GUEST_CSUM,MRG_RXBUF", "--accept", "VERSION_1,GUEST_TSO4", "--driver", "linux-7.0"
    )
    assert judged["accept"]["refused"] == ["not offered: GUEST_TSO4", "GUEST_TSO4 requires GUEST_CSUM"]
    assert [driver["driver"] for driver in judged["drivers"]] == ["linux-7.0"]
    assert told("--offer", "small", "--accept", "VERSION_1")["accept"]["refused"] == []


@pytest.mark.parametrize(
    "arguments", [["+MRG_RXBUFF"], ["-mrg_rxbuff"], ["--offer", "MRG_RXBUFF"], ["--accept", "RXBUF"]]
)
def test_a_wrong_name_gets_the_nearest_right_one(arguments: list[str]) -> None:
    run = netemu("features", *arguments)
    assert (run.returncode, run.stdout) == (1, b"")
    assert "did you mean MRG_RXBUF" in one_error_line(run)


def test_what_is_wrong_in_an_offer_is_said() -> None:
    text = netemu("features", "--offer", "GUEST_TSO4,42").stdout.decode()
    assert "wrong        GUEST_TSO4 requires GUEST_CSUM" in text
    assert "wrong        nobody may offer or take 42" in text


def test_a_change_that_contradicts_itself() -> None:
    line = one_error_line(netemu("features", "+GUEST_TSO4,-GUEST_CSUM"))
    assert "GUEST_TSO4 cannot be added while GUEST_CSUM is taken away" in line


def test_options_are_still_options() -> None:
    assert "Usage: netemu features" in netemu("features", "-h").stdout.decode()
    assert "No such option '--frobnicate'" in one_error_line(netemu("features", "--frobnicate"))


def test_the_mask_is_that_of_the_bits() -> None:
    """Bits 15 and 70."""
    assert told("--offer", "MRG_RXBUF,IPSEC")["offer"]["mask"] == "0x400000000000008000"
