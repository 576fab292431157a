"""Replays in which the guest sends: what the capture holds, in which order, and what is said of it."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from pathlib import Path

import pytest

from netemu.errors import ConfigError
from netemu.nic.sending import Role
from netemu.replay import Replay, ReplayOptions
from netemu.replay.sent_capture import Tap
from tests.replay_kit import (
    FLAGS,
    PACKET_ID,
    QUEUE,
    USER0,
    Seen,
    netemu,
    numbered,
    one_error_line,
    played,
    seen_in,
    write_pcap,
)
from tests.support import PCAPS, REPO, needs

INBOUND, OUTBOUND = 1, 2
WEB = PCAPS / "web.pcapng"
TSO = "+CSUM,+HOST_TSO4,+HOST_TSO6,+HOST_ECN"


def swapped(frame: bytes) -> bytes:
    return frame[6:12] + frame[:6] + frame[12:]


def of_options(path: Path, tmp_path: Path, **options: object) -> tuple[list[Seen], dict[str, object]]:
    """Replay a capture; the packets of the output, and the summary."""
    out = tmp_path / "out.pcapng"
    figures = played(path, ReplayOptions(**options), out)  # type: ignore[arg-type]
    return seen_in(out), figures


@pytest.mark.parametrize("driver", ["linux-4.19", "linux-6.1", "linux-7.0"])
def test_a_guest_that_sends_writes_what_left_its_device(driver: str, tmp_path: Path) -> None:
    """Many more bytes than the writer's buffer holds, and the default tap."""
    frames = [numbered(60 + 90 * (n % 16), n) for n in range(5000)]
    path = write_pcap(tmp_path / "in.pcap", frames)
    seen, figures = of_options(path, tmp_path, guest="send", driver=driver)
    assert [one.data for one in seen] == frames
    assert [one.number(PACKET_ID) for one in seen] == list(range(1, 5001))
    assert {(one.number(FLAGS), one.number(QUEUE)) for one in seen} == {(OUTBOUND, 0)}
    sent = figures["sent"]
    assert isinstance(sent, dict)
    assert (sent["frames"], sent["bytes"]) == (5000, sum(map(len, frames)))


def test_what_comes_and_what_goes_stand_in_the_order_in_which_they_did(tmp_path: Path) -> None:
    """A frame is there before it is sent back; with a burst of 4 four come, then four go."""
    frames = [numbered(60 + n, n) for n in range(40)]
    path = write_pcap(tmp_path / "in.pcap", frames)
    seen, _ = of_options(path, tmp_path, guest="reflect", tap="both", burst=4)
    assert [one.number(FLAGS) for one in seen] == ([INBOUND] * 4 + [OUTBOUND] * 4) * 10
    came = [one.data for one in seen if one.number(FLAGS) == INBOUND]
    went = [one.data for one in seen if one.number(FLAGS) == OUTBOUND]
    assert came == frames
    assert went == [swapped(frame) for frame in frames]


@pytest.mark.parametrize(("tap", "flags"), [("rx", INBOUND), ("tx", OUTBOUND)])
def test_a_tap_takes_one_direction(tap: Tap, flags: int, tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "in.pcap", [numbered(60, n) for n in range(9)])
    seen, _ = of_options(path, tmp_path, guest="reflect", tap=tap)
    assert [one.number(FLAGS) for one in seen] == [flags] * 9


@pytest.mark.parametrize("journey", [False, True])
def test_a_ring_capture_of_what_is_sent_has_the_drivers_own_headers(tmp_path: Path, *, journey: bool) -> None:
    """TX-V-31, TX-V-32: the prefix says transmit; behind it 12 bytes of header, then the frame as the guest had it."""
    seen, _ = of_options(WEB, tmp_path, guest="send", features=TSO, encap="virtio", journey=journey)
    assert {one.link_type for one in seen} == {USER0}
    inputs = seen_in(WEB)
    assert [one.data[32 + 12 :] for one in seen] == [one.data for one in inputs]
    large = 0
    for number, one in enumerate(seen, start=1):
        version, length, flags, hdr_len, queue, buffers, frame_id = struct.unpack_from("<BBBBHHQ", one.data)
        assert (version, length, hdr_len, queue, buffers, frame_id) == (1, 32, 12, 0, 1, number)
        assert flags == 1 | 4
        assert one.number(FLAGS) == OUTBOUND
        kind, gso_type, _, gso_size, start, offset = struct.unpack_from("<BBHHHH", one.data, 32)
        if len(one.data) - 44 > 1514:
            assert (kind, gso_type, gso_size, start, offset) == (1, 1, 1448, 34, 16)
            large += 1
    assert large == 10


def test_a_ring_capture_of_both_directions(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "in.pcap", [numbered(60, n) for n in range(12)])
    seen, _ = of_options(path, tmp_path, guest="reflect", tap="both", encap="virtio", burst=3)
    flags = [one.data[2] for one in seen]
    # The ring is looked at when buffers are filled: the first burst is there before any of it is sent.
    assert flags == ([4] * 3 + [5] * 3) * 4


def payload_of(frames: list[bytes]) -> dict[bytes, bytes]:
    """TCP payload by direction, frames of 20-byte IPv4 headers in order."""
    streams: dict[bytes, bytes] = {}
    for data in frames:
        if data[12:14] == b"\x08\0" and data[23] == 6:
            start = 34 + (data[46] >> 4) * 4
            end = 14 + (int.from_bytes(data[16:18], "big") or len(data) - 14)
            streams[data[26:38]] = streams.get(data[26:38], b"") + data[start:end]
    return streams


@needs("tshark")
@pytest.mark.parametrize("features", ["", "+CSUM", TSO])
def test_what_leaves_is_right_whoever_segmented(features: str, tmp_path: Path) -> None:
    """Judged by tshark: no bad checksum, no frame over the MTU; and the same TCP payload."""
    out = tmp_path / "out.pcapng"
    played(WEB, ReplayOptions(guest="send", features=features), out)
    command = ["tshark", "-r", str(out), "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    command += ["-Y", "tcp.checksum.status == 0 || ip.checksum.status == 0 || frame.len > 1514"]
    bad = subprocess.run(command, capture_output=True, text=True, check=True)
    assert bad.stdout == ""
    assert payload_of([one.data for one in seen_in(out)]) == payload_of([one.data for one in seen_in(WEB)])


@needs("tshark")
def test_the_dissector_finds_no_fault_with_the_headers_that_the_driver_writes(tmp_path: Path) -> None:
    out = tmp_path / "ring.pcapng"
    played(WEB, ReplayOptions(guest="send", features=TSO, encap="virtio"), out)
    script = f"lua_script:{REPO / 'netemu' / 'wireshark' / 'virtio_net.lua'}"
    done = subprocess.run(["tshark", "-X", script, "-r", str(out), "-V"], capture_output=True, text=True, check=True)
    assert "transmit (driver to device)" in done.stdout
    assert "TX-V-" not in done.stdout


def test_the_way_of_a_sent_frame_is_told(tmp_path: Path) -> None:
    seen, _ = of_options(WEB, tmp_path, guest="send", features=TSO, encap="virtio", journey=True)
    large = next(one for one in seen if len(one.data) > 2000)
    assert large.comment.startswith("netemu: sent on queue 0: #")
    assert "header NEEDS_CSUM, checksum from 34 at +16; GSO TCPV4, segments of 1448 B, headers 66 B" in large.comment
    kicks = [one.comment.endswith("with a kick") for one in seen]
    assert any(kicks)
    assert not all(kicks)
    segments, _ = of_options(WEB, tmp_path, guest="send", features=TSO, journey=True)
    assert len(segments) > len(seen)
    assert all(one.comment.startswith("netemu: sent on queue 0: #") for one in segments)


def test_xmit_more_saves_kicks(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "in.pcap", [numbered(60, n) for n in range(640)])
    kicks = []
    for more in (1, 8):
        options = ReplayOptions(guest="send", features="-EVENT_IDX", xmit_more=more)
        kicks.append(played(path, options)["sent"]["queues"][0]["kicks"])
    assert kicks == [640, 80]


def test_the_limit_counts_frames_of_the_input(tmp_path: Path) -> None:
    """Ten of them, however many segments the guest's stack makes of the tenth."""
    seen, _ = of_options(WEB, tmp_path, guest="send", limit=10)
    assert seen[-1].number(PACKET_ID) == 10
    assert len(seen) > 10


@pytest.mark.parametrize(
    ("guest", "tap", "name", "complaint"),
    [
        ("sink", "tx", "out.pcapng", "sends nothing"),
        ("sink", "both", "out.pcapng", "sends nothing"),
        ("reflect", "both", "out.pcap", "cannot say which way"),
        ("reflect", "all", "out.pcapng", "no tap is called 'all'"),
    ],
)
def test_taps_that_cannot_be(guest: Role, tap: Tap, name: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Replay(ReplayOptions(guest=guest, tap=tap), str(tmp_path / name))
    assert not (tmp_path / name).exists()


def test_a_guest_that_sends_has_no_host_before_it() -> None:
    with pytest.raises(ConfigError, match="nothing arrives at a guest that sends"):
        Replay(ReplayOptions(guest="send", offloads="host"))


def test_the_command_tells_what_was_sent(tmp_path: Path) -> None:
    arguments = ["replay", str(WEB), "--guest", "send", "--features", TSO, "--xmit-more", "4"]
    run = netemu(*arguments)
    words = run.stdout.decode()
    assert run.returncode == 0, run.stderr
    assert "\nsent                    38             272,752 bytes\n" in words
    assert "large packets were segmented" in words
    assert max(map(len, words.splitlines())) <= 80
    figures = json.loads(netemu(*arguments, "--json").stdout)
    assert figures["sent"]["wire"]["segmented"] == 10
    refused = netemu("replay", str(WEB), "--tap", "tx", "-o", str(tmp_path / "out.pcap"))
    assert "sends nothing" in one_error_line(refused)


def test_what_a_guest_cannot_send_back_did_arrive(tmp_path: Path) -> None:
    """Bug: frames that did not leave were told among those that did not arrive, in the report and in the capture."""
    path = write_pcap(tmp_path / "in.pcap", [numbered(9000, n) for n in range(3)] + [numbered(60, 3)])
    seen, figures = of_options(path, tmp_path, guest="reflect", tap="both")
    assert figures["dropped"] == {"tx_too_long": 3}
    assert [one.number(FLAGS) for one in seen] == [INBOUND] * 4 + [OUTBOUND]
    text = netemu("replay", str(path), "--guest", "reflect").stdout.decode()
    assert re.search(r"^dropped +0$", text, re.MULTILINE)
    assert re.search(r"^not sent +3\n +3  tx_too_long: longer", text, re.MULTILINE)
    # ifdrop and osdrop of the interface statistics block
    statistics = (out := (tmp_path / "out.pcapng").read_bytes())[out.rindex(b"\x05\0\0\0") :]
    for code in (5, 7):
        assert statistics.count(struct.pack("<HHQ", code, 8, 0)) == 1
