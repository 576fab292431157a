"""What is told of a run: the report for people, the object for programs."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import click

from netemu.cli.run_report import report
from netemu.expect import Measured, Verdict, judge, parse_expectation
from netemu.expect.measured import Value
from netemu.expect.metrics import METRICS, OF_KIND
from netemu.samples import Samples
from netemu.scenario.outcome import CaptureOutcome, Outcome, TrafficOutcome
from netemu.scenario.script import told_by

MS = 1_000_000


def outcome() -> Outcome:
    ping: dict[str, Value] = {
        "sent": 4,
        "received": 3,
        "lost": 1,
        "loss": Fraction(1, 4),
        "duplicates": 0,
        "rtt": Samples([20 * MS, 22 * MS, 21 * MS]),
        "duration": 3_021 * MS,
    }
    download: dict[str, Value] = {
        "bytes": 1_000_000,
        "goodput": Fraction(8_000_000_000, 975),
        "retransmits": 12,
        "duration": 975 * MS,
        "connect": Samples([20 * MS]),
        "errors": 0,
    }
    traffic = {
        "ping": TrafficOutcome("ping", "a", "b", dict(ping)),
        "a-rather-long-name": TrafficOutcome("http", "alice", "bob-the-server", dict(download)),
        "broken": TrafficOutcome("tcp", "a", "b", {"bytes": 0}, "Connection refused: a: TCP to 10.0.0.2 port 80"),
    }
    measured = Measured(
        {"traffic.ping": dict(ping), "guest.a": {"rx_drops": 0, "rx_packets": 7}, "link.a-b.forward": {"dropped": 2}},
        {"link.a-b": [bytes(60)] * 3},
    )
    texts = [
        "loss <= 25 %",
        "ping: rtt p99 < 21 ms",
        "never seen at a-b: tcp.flags.reset == 1 and ip.addr == 10.0.0.0/24 and not tcp.port in {80, 443}",
    ]
    verdicts = [(judge(parse_expectation(text), measured), "the link is slow") for text in texts]
    captures = [CaptureOutcome("out/wan.pcapng", "link.a-b", 1234)]
    return Outcome(
        "lossy.toml",
        title="Four pings over a lossy link",
        seed=3,
        emulated_ns=3_021 * MS,
        real_seconds=0.4567,
        verdicts=verdicts,
        traffic=traffic,
        measured=measured,
        captures=captures,
    )


REPORT = """\
Four pings over a lossy link

ping         ping   a > b          3 of 4, loss 25 %, rtt 20/21/22 ms,
                                   in 3.021 s
a-rather-lo~ http   alice > bob-t~ 1 MB, 8.205 Mbit/s, connect 20 ms,
                                   12 retransmits, in 975 ms
broken       tcp    a > b          Connection refused: a: TCP to 10.0.0.2 port
                                   80; 0 B

      expected                                          measured
ok    loss <= 25 %                                      25 % (ping)
FAIL  ping: rtt p99 < 21 ms                             22 ms
      the link is slow
ok    never seen at a-b: tcp.flags.reset == 1 and ip.addr == 10.0.0.0/24 and not
      tcp.port in {80, 443}
                                                        0 of 3 frames

out/wan.pcapng: 1,234 frames at link.a-b
3.021 s of emulated time in 0.46 s, seed 3
1 of 3 expectations did not hold"""


def test_the_report_tells_what_was_measured_and_why_in_80_columns() -> None:
    text = click.unstyle(report(outcome()))
    assert text == REPORT
    assert max(map(len, text.splitlines())) <= 80


def test_colour_says_no_more_than_the_words() -> None:
    coloured = report(outcome())
    assert "\x1b[31" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == REPORT


def test_what_a_file_says_cannot_steer_the_terminal() -> None:
    told = outcome()
    told.title, told.error = "\x1b[2J\x07 title", "a\x1b]0;x\x07b"
    assert "\x1b[2J" not in report(told)
    assert "\x07" not in report(told)


def test_the_object_has_everything_by_its_name() -> None:
    told = json.loads(json.dumps(outcome().to_dict()))
    assert told == {
        "version": 1,
        "file": "lossy.toml",
        "title": "Four pings over a lossy link",
        "seed": 3,
        "held": False,
        "interrupted": False,
        "error": None,
        "emulated_ns": 3_021_000_000,
        "real_seconds": 0.457,
        "expectations": [
            {
                "text": "loss <= 25 %",
                "held": True,
                "measured": "25 %",
                "value": 0.25,
                "scope": "traffic.ping",
                "why": "the link is slow",
            },
            {
                "text": "ping: rtt p99 < 21 ms",
                "held": False,
                "measured": "22 ms",
                "value": 22_000_000,
                "scope": "traffic.ping",
                "why": "the link is slow",
            },
            told["expectations"][2],
        ],
        "traffic": {
            "ping": {
                "kind": "ping",
                "from": "a",
                "to": "b",
                "error": None,
                "metrics": {
                    "sent": 4,
                    "received": 3,
                    "lost": 1,
                    "loss": 0.25,
                    "duplicates": 0,
                    "rtt": {
                        "count": 3,
                        "min": 20 * MS,
                        "avg": 21 * MS,
                        "max": 22 * MS,
                        "mdev": 816_497,
                        "p50": 21 * MS,
                        "p90": 22 * MS,
                        "p99": 22 * MS,
                    },
                    "duration": 3_021_000_000,
                },
            },
            "a-rather-long-name": told["traffic"]["a-rather-long-name"],
            "broken": {
                "kind": "tcp",
                "from": "a",
                "to": "b",
                "error": "Connection refused: a: TCP to 10.0.0.2 port 80",
                "metrics": {"bytes": 0},
            },
        },
        "guests": {"a": {"rx_packets": 7}},
        "routers": {},
        "switches": {},
        "links": {"a-b.forward": {"dropped": 2}},
        "captures": [{"file": "out/wan.pcapng", "at": "link.a-b", "frames": 1234}],
    }


def test_it_held_if_nothing_failed_stopped_or_was_interrupted() -> None:
    good = Verdict(parse_expectation("seen at a: tcp"), held=True, measured="", scope=None, value=1)
    assert Outcome("x", verdicts=[(good, "")]).held
    assert not Outcome("x", verdicts=[(good, "")], interrupted=True).held
    assert not Outcome("x", verdicts=[(good, "")], error="?").held
    assert not Outcome("x", traffic={"t": TrafficOutcome("tcp", "a", "b", {}, "refused")}).held


def test_every_kind_of_traffic_has_metrics_that_exist() -> None:
    for metrics in OF_KIND.values():
        assert set(metrics) <= METRICS.keys()
        assert len(set(metrics)) == len(metrics)


def test_a_script_s_docstring_is_its_title_and_story() -> None:
    docstring = """One line.

        netemu run it.py

    What to look at
    here.

        netemu show it.pcapng

    And there.
    """
    assert told_by(docstring) == ("One line.", "What to look at\nhere.\n\nAnd there.")
    assert told_by("") == ("", "")
