"""RSS and hash reports from capture to capture: queues, hashes in pcapng, and what the command line says."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from netemu import Nic
from netemu.driver.eras import ERAS
from netemu.errors import ConfigError
from netemu.offer import RssOptions, offered_features
from netemu.replay import Replay, ReplayOptions
from tests.hashing import KEY, packed, port_pair, toeplitz_by_bits
from tests.replay_kit import QUEUE, netemu, one_error_line, played, seen_in
from tests.support import PCAPS
from tests.wire import TCP, UDP, ethernet, ipv4

EPB_HASH = 3
FLOWS = PCAPS / "flows.pcapng"
HEX = KEY.hex()
ADDRESSES = packed("66.9.149.187", "161.142.100.80")
PORTS = port_pair(2794, 1766)
PUBLISHED = ipv4(PORTS + bytes(16), TCP, addresses=ADDRESSES)
NOT_IP = ethernet(bytes(46), 0x88B5)


def hash_in_option(value: bytes | None) -> int | None:
    """A Toeplitz hash as the pcapng draft lays epb_hash out: algorithm 5, then the hash."""
    if value is None:
        return None
    algorithm, found = struct.unpack(">BI", value)
    assert algorithm == 5
    return int(found)


@pytest.mark.parametrize("mode", ["mergeable", "small", "big"])
@pytest.mark.parametrize("driver", ["linux-6.1", "linux-7.0"])
def test_hrep_d_01_the_hash_reaches_the_skb(mode: str, driver: str) -> None:
    """HREP-D-01, and the published vector end to end; a frame that is not hashed has none (HREP-D-02)."""
    nic = Nic(mode, queues=2, driver=driver, rss=RssOptions(key=KEY), hash_report=True)  # type: ignore[arg-type]
    hashed, plain = nic.receive([PUBLISHED, NOT_IP])
    assert hashed.skb.hash == 0x51CCC178
    assert hashed.skb.queue == 0x51CCC178 & 127 & 1
    assert plain.skb.hash == 0


def test_with_a_header_of_its_own_the_hash_is_still_the_device_s() -> None:
    """Twice in turn, so that nothing of one frame's header stays for the next."""
    nic = Nic(hash_report=True, rss=RssOptions(key=KEY))
    found = [one.skb.hash for one in nic.receive([PUBLISHED, NOT_IP, PUBLISHED, NOT_IP])]
    assert found == [0x51CCC178, 0, 0x51CCC178, 0]


def test_without_a_report_rss_steers_and_the_skb_has_no_hash() -> None:
    nic = Nic(queues=4, rss=RssOptions(key=KEY, table=(3, 2, 1, 0)))
    [received] = nic.receive([PUBLISHED])
    assert received.skb.hash == 0
    assert received.skb.queue == (3, 2, 1, 0)[0x51CCC178 & 3]


@pytest.mark.parametrize("driver", ["linux-6.1", "linux-7.0"])
@pytest.mark.parametrize("journey", [False, True])
def test_each_frame_s_hash_and_queue_are_in_the_capture(tmp_path: Path, driver: str, journey: bool) -> None:
    """RSS-D-03 over a capture: queue and epb_hash of every frame follow from its own bytes, kernel and Python path."""
    out = tmp_path / "out.pcapng"
    options = ReplayOptions(queues=4, driver=driver, rss=f"key={HEX},table=2,0,1,3", hash_report=True, journey=journey)
    figures = played(FLOWS, options, out)
    frames = seen_in(out)
    assert len(frames) == figures["frames_out"] == 256
    hashed = 0
    for frame in frames:
        found = hash_in_option(frame.options.get(EPB_HASH))
        data = frame.data
        if data[12:14] == b"\x08\0" and data[14] == 0x45 and data[23] in (TCP, UDP):
            wanted = toeplitz_by_bits(KEY, data[26:38])
            assert found == wanted
            assert frame.number(QUEUE) == (2, 0, 1, 3)[wanted & 127 & 3]
            hashed += 1
            if journey:
                assert f"receive hash {wanted:#010x}" in frame.comment
        elif data[12:14] not in (b"\x08\0", b"\x86\xdd"):
            assert found is None
            assert frame.number(QUEUE) == 0
    assert hashed > 100


def test_without_a_report_no_frame_has_a_hash_in_the_capture(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    played(FLOWS, ReplayOptions(queues=4, rss="on"), out)
    assert all(EPB_HASH not in frame.options for frame in seen_in(out))


@pytest.mark.parametrize("options", ["on", "table=0", "types=0", f"key={HEX},types=ipv4+ipv6"])
@pytest.mark.parametrize("driver", [name for name in ERAS if name != "linux-4.19"])
def test_rss_loses_nothing_and_changes_no_frame(tmp_path: Path, driver: str, options: str) -> None:
    out = tmp_path / "out.pcapng"
    figures = played(FLOWS, ReplayOptions(queues=4, driver=driver, rss=options), out)
    assert figures["dropped"] == {}
    assert [frame.data for frame in seen_in(out)] == [frame.data for frame in seen_in(FLOWS)]
    used = [queue["packets"] for queue in figures["queues"]]
    assert (used[1:] == [0, 0, 0]) == (options in ("table=0", "types=0"))


def test_rss_d_02_types_of_none_send_everything_to_the_first_queue() -> None:
    """RSS-D-02, through the whole path."""
    figures = played(FLOWS, ReplayOptions(queues=4, rss="types=0"))
    assert [queue["packets"] for queue in figures["queues"]] == [256, 0, 0, 0]


@pytest.mark.parametrize("features", ["", "-RSS", "-MQ"])
def test_mq_d_01_automatic_steering_rss_or_both(features: str) -> None:
    """MQ-D-01, MQ-V-01: a device may offer either, and a driver take what there is; all four queues are used."""
    nic = Nic(queues=4, offer=offered_features("mergeable", 4, rss=True).changed(features))
    frames = [frame.data for frame in seen_in(FLOWS)]
    received = nic.receive(frames)
    assert [one.data for one in received] == frames
    assert {one.skb.queue for one in received} == {0, 1, 2, 3}
    assert nic.device.steering.rss.state.rss == (features != "-RSS")


# What a user may say ------------------------------------------------------------------------------------------------


def test_options_from_text() -> None:
    assert RssOptions.parse("on") == RssOptions()
    assert RssOptions.parse("key=00ff,table=0,1,2,types=ipv4+tcpv4") == RssOptions(b"\0\xff", (0, 1, 2), 3)
    assert RssOptions.parse("types=0x3f") == RssOptions(types=0x3F)


@pytest.mark.parametrize("text", ["", "off", "table", "table=", "table=0,x", "key=0g", "types=sctp", "size=3", "0,1"])
def test_options_that_mean_nothing_are_an_error(text: str) -> None:
    with pytest.raises(ConfigError):
        RssOptions.parse(text)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (ReplayOptions(rss="on", driver="linux-4.19"), "linux-4.19 does not know"),
        (ReplayOptions(hash_report=True, driver="linux-4.19"), "linux-4.19 does not know"),
        (ReplayOptions(rss="table=1"), "queues from 0 to 0"),
        (ReplayOptions(rss="key=00"), "40 bytes"),
        (ReplayOptions(rss="types=0x1000"), "cannot be set up"),
        (ReplayOptions(rss="on", features="-RSS"), "RSS was not negotiated"),
    ],
)
def test_what_cannot_be_set_up_is_an_error(options: ReplayOptions, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Replay(options)


def test_the_command_line_says_what_is_wrong_in_one_line() -> None:
    assert "hash type" in one_error_line(netemu("replay", FLOWS, "--rss", "types=ipv5"))


def test_the_command_line_steers_and_reports(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    run = netemu("replay", FLOWS, "-o", out, "--queues", "4", "--rss", "table=1,3", "--hash-report", "--json")
    figures = json.loads(run.stdout)
    assert {"RSS", "HASH_REPORT", "MQ", "CTRL_VQ"} <= set(figures["features"])
    assert figures["queues"][2]["packets"] == 0
    assert sum(EPB_HASH in frame.options for frame in seen_in(out)) > 100
