"""What each kind of traffic measures, on a wire on which every moment can be worked out: a byte takes a microsecond."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.replay_kit import environment, netemu
from tests.support import PCAPS

US = 1_000
MS = 1_000_000
ETHERNET, IPV4, ICMP, UDP = 14, 20, 8, 8

SCENARIO = f"""\
[lab]
duration = "8s"

[guest.a]
ip = "10.0.0.1/24"

[guest.b]
ip = "10.0.0.2/24"

[[link]]
between = ["a", "b"]
delay = "10ms"
rate = "8mbit"
at = [{{ time = "3045ms", down = true }}, {{ time = "3145ms", up = true }}]

[[traffic]]
name = "first"
kind = "ping"
from = "a"
to = "b"
count = 1

[[traffic]]
kind = "ping"
from = "a"
to = "b"
start = "1s"
count = 3
interval = "100ms"

[[traffic]]
kind = "udp"
from = "a"
to = "b"
start = "2s"
count = 10
pps = 100
size = 100

[[traffic]]
name = "cut"
kind = "udp"
from = "b"
to = "a"
start = "3s"
count = 20
pps = 100
size = 100

[[traffic]]
kind = "tcp"
from = "a"
to = "b"
start = "5s"
bytes = 100_000

[[traffic]]
name = "down"
kind = "tcp"
from = "a"
to = "b"
start = "6s"
bytes = 30_000
direction = "download"
streams = 2

[[traffic]]
name = "crowd"
kind = "tcp"
from = "a"
to = "b"
start = "4s"
bytes = 1000
streams = 40

[[traffic]]
name = "refused"
kind = "ping"
from = "a"
to = "192.0.2.1"

[[traffic]]
kind = "scapy"
from = "a"
packets = "Ether(dst='02:00:00:00:00:77')/Raw(b'x' * 50)"
start = "7s"
count = 3
interval = "10ms"

[[traffic]]
kind = "replay"
from = "b"
file = "{PCAPS / "basics.pcap"}"
start = "7500ms"
pace = "at-once"
limit = 5

[[traffic]]
name = "stopped"
kind = "ping"
from = "a"
to = "b"
start = "7600ms"
stop = "7650ms"
interval = "10ms"
count = 100

[[expect]]
that = [
    "seen 3 times at a: eth.dst == 02:00:00:00:00:77",
    "seen 3 times at b: eth.dst == 02:00:00:00:00:77",
    "link.a-b.backward: dropped_down == 11",
]
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("flows") / "flows.toml"
    path.write_text(SCENARIO)
    run = netemu("run", path, "--json", env=environment(NETEMU_JIT="0"))
    assert run.stderr == b""
    outcome: dict[str, Any] = json.loads(run.stdout)
    return outcome


def metrics(told: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = told["traffic"][name]["metrics"]
    return found


def test_an_echo_takes_twice_the_delay_and_the_time_of_its_bytes(told: dict[str, Any]) -> None:
    ping = metrics(told, "ping")
    rtt = 2 * (10 * MS + (ETHERNET + IPV4 + ICMP + 56) * US)
    assert (ping["rtt"]["min"], ping["rtt"]["max"], ping["rtt"]["count"]) == (rtt, rtt, 3)
    assert (ping["sent"], ping["received"], ping["lost"], ping["loss"]) == (3, 3, 0, 0)
    assert ping["duration"] == 200 * MS + rtt


def test_a_flow_of_datagrams_on_a_quiet_wire(told: dict[str, Any]) -> None:
    udp = metrics(told, "udp")
    delay = 10 * MS + (ETHERNET + IPV4 + UDP + 100) * US
    assert (udp["delay"]["min"], udp["delay"]["max"], udp["jitter"]) == (delay, delay, 0)
    assert (udp["sent"], udp["received"], udp["bytes"], udp["reordered"]) == (10, 10, 1000, 0)
    assert udp["goodput"] == 100 * 8 * 100  # a hundred of 100 bytes a second
    assert udp["duration"] == 90 * MS


def test_a_wire_that_goes_down_loses_what_is_on_it_and_what_is_sent_meanwhile(told: dict[str, Any]) -> None:
    """Sent each 10 ms from 3000 on; down from 3045 to 3145: those of 3040 (still under way) to 3140 are lost."""
    cut = metrics(told, "cut")
    assert (cut["sent"], cut["received"], cut["lost"]) == (20, 9, 11)
    assert cut["loss"] == 0.55


def test_a_transfer_arrives_whole_at_less_than_the_rate(told: dict[str, Any]) -> None:
    tcp = metrics(told, "tcp")
    assert (tcp["bytes"], tcp["completed"], tcp["errors"], tcp["retransmits"]) == (100_000, 1, 0, 0)
    # SYN and SYN-ACK have 20 bytes of options: MSS, SACK permitted, timestamps, window scale.
    assert tcp["connect"]["max"] == 2 * (10 * MS + (ETHERNET + IPV4 + 40) * US)
    assert 4_000_000 < tcp["goodput"] < 8_000_000


def test_a_download_of_two_streams(told: dict[str, Any]) -> None:
    down = metrics(told, "down")
    assert (down["completed"], down["errors"], down["connect"]["count"]) == (2, 0, 2)
    assert down["bytes"] == 2 * 30_000


def test_forty_connections_may_begin_at_one_moment(told: dict[str, Any]) -> None:
    crowd = metrics(told, "crowd")
    assert (crowd["completed"], crowd["bytes"], crowd["retransmits"]) == (40, 40_000, 0)
    assert crowd["connect"]["max"] < 50 * MS  # no SYN had to be sent again


def test_what_cannot_even_begin_is_told_and_fails_the_run(told: dict[str, Any]) -> None:
    assert "unreachable" in told["traffic"]["refused"]["error"].lower()
    assert metrics(told, "refused")["sent"] == 0
    assert told["held"] is False


def test_frames_are_sent_as_they_are(told: dict[str, Any]) -> None:
    assert metrics(told, "scapy") == {"sent": 3, "duration": 20 * MS}
    assert metrics(told, "replay") == {"sent": 5, "duration": 0}
    assert [one["held"] for one in told["expectations"]] == [True, True, True]


def test_a_stop_cuts_a_flow_off(told: dict[str, Any]) -> None:
    assert metrics(told, "stopped")["sent"] == 5


def test_the_run_ends_at_its_duration(told: dict[str, Any]) -> None:
    assert told["emulated_ns"] == 8_000 * MS


def test_two_runs_are_the_same_but_for_the_clock_on_the_wall(told: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "flows.toml"
    path.write_text(SCENARIO)
    again = json.loads(netemu("run", path, "--json", env=environment(NETEMU_JIT="0")).stdout)
    assert again.pop("real_seconds") > 0
    assert again | {"file": told["file"]} == {key: value for key, value in told.items() if key != "real_seconds"}


REQUESTS = f"""\
[switch.sw]

[guest.a]
dhcp = true
dns = "10.0.0.1"

[guest.b]
ip = "10.0.0.1/24"
services = ["dhcp:10.0.0.100-10.0.0.110", "dns:www.example=192.0.2.80", "http:{PCAPS}", "echo", "chargen"]

[[link]]
between = ["a", "sw"]
delay = "10ms"

[[link]]
between = ["b", "sw"]

[[traffic]]
kind = "dns"
from = "a"
to = "b"
query = "www.example"
start = "1s"
count = 2
interval = "100ms"

[[traffic]]
name = "nobody"
kind = "dns"
from = "a"
to = "b"
query = "nobody.example"
start = "1s"

[[traffic]]
name = "unheard"
kind = "dns"
from = "b"
to = "c"
query = "www.example"
timeout = "1s"

[guest.c]
ip = "10.0.0.3/24"
services = "dns"
[[link]]
between = ["c", "sw"]
loss = "100%"

[[traffic]]
name = "put"
kind = "http"
method = "put"
from = "a"
to = "b"
size = 2000
count = 3

[[traffic]]
name = "file"
kind = "http"
from = "a"
to = "b"
path = "/basics.pcap"

[[traffic]]
name = "made-up"
kind = "http"
from = "a"
to = "b"
size = "10kb"

[[traffic]]
name = "missing"
kind = "http"
from = "a"
to = "b"
path = "/nothing"

[[expect]]
that = [
    "seen at a: ip.src == 10.0.0.100 and tcp.dstport == 80",
    "seen 2 times at a: udp.dstport == 67",
    "nobody: errors == 1",
]
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("requests") / "requests.toml"
    path.write_text(REQUESTS)
    run = netemu("run", path, "--json", env=environment(NETEMU_JIT="0"))
    assert run.stderr == b""
    outcome: dict[str, Any] = json.loads(run.stdout)
    return outcome


def test_a_guest_gets_its_address_before_its_traffic_starts(asked: dict[str, Any]) -> None:
    assert [one["held"] for one in asked["expectations"]] == [True, True, True]
    assert asked["held"] is True


def test_questions_are_answered_in_a_round_trip_or_not_at_all(asked: dict[str, Any]) -> None:
    dns, nobody, unheard = (metrics(asked, name) for name in ("dns", "nobody", "unheard"))
    assert (dns["sent"], dns["received"], dns["errors"]) == (2, 2, 0)
    assert (dns["rtt"]["min"], dns["rtt"]["max"]) == (20 * MS, 20 * MS)
    assert (nobody["received"], nobody["errors"], nobody["loss"]) == (1, 1, 0)
    assert (unheard["sent"], unheard["received"], unheard["loss"], unheard["rtt"]["count"]) == (1, 0, 1, 0)


def test_requests_carry_bodies_there_and_back(asked: dict[str, Any]) -> None:
    put, file, made_up, missing = (metrics(asked, name) for name in ("put", "file", "made-up", "missing"))
    assert (put["sent"], put["completed"], put["bytes"], put["rtt"]["count"]) == (3, 3, 6000, 3)
    assert (file["completed"], file["bytes"]) == (1, (PCAPS / "basics.pcap").stat().st_size)
    assert (made_up["completed"], made_up["bytes"]) == (1, 10 * 1024)
    assert (missing["received"], missing["completed"], missing["errors"], missing["bytes"]) == (1, 0, 1, 0)
    assert put["rtt"]["min"] >= 20 * MS
    assert file["rtt"]["min"] >= 40 * MS  # the connection is made first
