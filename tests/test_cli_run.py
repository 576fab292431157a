"""``netemu run``: exit status, what is told where, in a pipe and on a terminal, of scenarios and of scripts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from netemu.capture import read_capture
from netemu.cli import main
from tests.replay_kit import environment, netemu
from tests.support import REPO

SCENARIO = """\
[lab]
title = "Pings"
seed = 3

[guest.a]
ip = "10.0.0.1/24"

[guest.b]
ip = "10.0.0.2/24"

[[link]]
name = "wire"
between = ["a", "b"]
netem = "delay 10ms"

[[traffic]]
kind = "ping"
from = "a"
to = "b"
count = 3
interval = "100ms"

[[capture]]
at = "wire"
file = "wire.pcapng"

[[expect]]
that = ["loss == 0", "rtt p50 == 20 ms", "seen 6 times at wire: icmp", "rx_drops == 0"]
"""

SCRIPT = '''\
"""Two guests."""

from netemu.lab import Lab


async def main(lab: Lab) -> None:
    a, b = lab.guest("a", "10.0.0.1/24"), lab.guest("b", "10.0.0.2/24")
    lab.link(a, b, "delay 10ms")
    lab.capture(a, "a.pcapng")
    lab.expect("seen 2 times at a: arp")
    stats = await a.ping(b, count=2, interval="50ms")
    assert lab.expect("rtt max <= 40 ms", of=stats)
'''


@dataclass
class Told:
    """What a command said, and its exit status."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(*arguments: str | Path) -> Told:
    """A process of its own, whose kernels run as plain Python: these runs are small, and none is compiled."""
    done = netemu("run", *arguments, env=environment(NETEMU_JIT="0"))
    return Told(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """What the command says within this process, for what runs no kernels."""

    def call(*arguments: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["netemu", "run", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capfd.readouterr()
        assert isinstance(stop.value.code, int)
        return Told(stop.value.code, said.out.encode(), said.err.encode())

    return call


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPO))


def lines_of(output: bytes) -> list[str]:
    lines = output.decode().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in output.decode()
    return lines


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "pings.toml").write_text(SCENARIO)
    return Path("pings.toml")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "two.py").write_text(SCRIPT)
    return Path("two.py")


def test_a_scenario_that_holds(scenario: Path, tmp_path: Path) -> None:
    done = run(scenario, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = lines_of(done.stdout)
    assert lines[0] == "Pings"
    assert lines[2] == "ping         ping   a > b          3 of 3, loss 0 %, rtt 20/20/40 ms, in 220 ms"
    assert "ok    rtt p50 == 20 ms                                  20 ms (ping)" in lines
    assert "ok    seen 6 times at wire: icmp                        6 of 8 frames" in lines
    assert lines[-1] == "4 expectations held"
    assert len(list(read_capture(tmp_path / "out" / "wire.pcapng"))) == 8


def test_one_that_does_not_hold_is_told_and_is_status_1(scenario: Path, tmp_path: Path) -> None:
    done = run(scenario, "--out", tmp_path, "--set", "link.wire.netem=delay 11ms", "--set", "lab.seed=9")
    assert done.returncode == 1
    lines = lines_of(done.stdout)
    assert "FAIL  rtt p50 == 20 ms                                  22 ms (ping)" in lines
    assert lines[-1] == "1 of 4 expectations did not hold"
    assert any(line.endswith("seed 9") for line in lines)


def test_mistakes_are_status_2_and_on_standard_error_alone(scenario: Path, told: Callable[..., Told]) -> None:
    scenario.write_text(SCENARIO.replace("seed = 3", "sead = 3").replace("delay 10ms", "dely 10ms"))
    done = told("pings.toml", "--out", "out")
    assert (done.returncode, done.stdout) == (2, b"")
    assert lines_of(done.stderr) == [
        "netemu: pings.toml:3: lab has no key 'sead'; did you mean seed?",
        "netemu: pings.toml:14: link.netem: 'dely' is no word of a link; did you mean",
        "    'delay'?",
    ]
    assert not Path("out").exists()


def test_a_counter_that_does_not_exist_is_a_mistake_in_its_line(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("rx_drops ==", "rx_dropss =="))
    done = run(scenario)
    assert (done.returncode, done.stdout) == (2, b"")
    assert lines_of(done.stderr) == [
        "netemu: pings.toml:28: nothing in this lab has a counter 'rx_dropss'; did you",
        "    mean rx_drops?",
    ]


WRONG = {
    "no file": (["none.toml"], "none.toml: no such file or directory"),
    "no script": (["none.py"], "none.py: no such file"),
    "another ending": (["lab.yaml"], "'lab.yaml' is neither a scenario (.toml) nor a script (.py)"),
    "nothing": ([], "Missing argument 'SCENARIO.toml|SCRIPT.py'"),
    "seed": (["x.toml", "--seed", "-1"], "-1 is not in the range 0<=x<=4294967295"),
    "set of a script": (["x.py", "--set", "a=1"], "--set changes keys of a scenario, and a script has none"),
    "set without value": (["x.toml", "--set", "a"], "--set takes KEY=VALUE, as in guest.a.queue_size=64, not 'a'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_run_is_status_2_and_one_line(case: str, told: Callable[..., Told]) -> None:
    arguments, words = WRONG[case]
    done = told(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in " ".join(line.strip() for line in done.stderr.decode().splitlines())


def test_the_object_for_programs_is_alone_on_standard_output(scenario: Path, tmp_path: Path) -> None:
    done = run(scenario, "--out", tmp_path, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr, told["held"], told["seed"]) == (0, b"", True, 3)
    assert told["traffic"]["ping"]["metrics"]["rtt"]["p50"] == 20_000_000
    assert told["guests"]["b"]["IcmpInEchos"] == 3
    assert told["links"]["wire.forward"]["delivered"] == 4
    assert told["captures"] == [{"file": str(tmp_path / "wire.pcapng"), "at": "link.wire", "frames": 8}]


def test_the_same_seed_gives_the_same_object_and_the_same_capture(scenario: Path, tmp_path: Path) -> None:
    def once(folder: str, seed: str) -> tuple[dict[str, object], bytes]:
        lossy = "link.wire.netem=delay 10ms 5ms loss 20%"
        done = run(scenario, "--out", tmp_path / folder, "--json", "--seed", seed, "--set", lossy)
        told = json.loads(done.stdout)
        del told["real_seconds"], told["captures"]
        return told, (tmp_path / folder / "wire.pcapng").read_bytes()

    first = once("1", "5")
    assert once("2", "5") == first
    assert once("3", "6") != first


def test_no_capture_writes_nothing_and_judges_all_the_same(scenario: Path, tmp_path: Path) -> None:
    done = run(scenario, "--out", tmp_path / "out", "--no-capture")
    assert done.returncode == 0
    assert not (tmp_path / "out").exists()


def test_duration_ends_the_run_where_it_is(scenario: Path, tmp_path: Path) -> None:
    done = run(scenario, "--out", tmp_path, "--json", "--duration", "150ms")
    told = json.loads(done.stdout)
    assert told["emulated_ns"] == 150_000_000
    assert told["traffic"]["ping"]["metrics"]["sent"] == 2


# Scripts.


def test_a_script_that_holds(script: Path, tmp_path: Path) -> None:
    done = run(script, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = lines_of(done.stdout)
    assert lines[0] == "Two guests."
    assert "ok    seen 2 times at a: arp                            2 of 6 frames" in lines
    assert lines[-1] == "2 expectations held"
    assert len(list(read_capture(tmp_path / "out" / "a.pcapng"))) == 6


def test_what_a_script_prints_stays_out_of_what_programs_read(script: Path, tmp_path: Path) -> None:
    script.write_text(SCRIPT + '    print("by the way")\n')
    done = run(script, "--out", tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, b"by the way\n")
    assert json.loads(done.stdout)["held"]


def test_an_assertion_is_told_with_its_line_and_no_traceback(script: Path, tmp_path: Path) -> None:
    script.write_text(SCRIPT + "    assert stats.received == 3\n")
    done = run(script, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (1, b"")
    told = " ".join(line.strip() for line in lines_of(done.stdout))
    assert f"stopped: {script}:13: does not hold: stats.received == 3" in told
    assert "Traceback" in run(script, "--out", tmp_path, "--traceback").stderr.decode()


ERRORS = {
    "    nonsense()\n": "NameError: name 'nonsense' is not defined",
    "    lab.guest('a')\n": "there is a guest 'a' already",
    "    lab.expect('rt < 1')\n": "nothing in the lab has a counter 'rt'",
    "    lab.expect('loss <= 1', of=stats)\n": "loss is a share: 1 needs a unit, one of %",
    "    lab.expect('goodput > 1 Mbit/s', of=stats)\n": "there is no 'goodput' of that",
    "    lab.expect('seen at c: tcp')\n": "no guest and no link is called 'c'",
    "    await a.ping('nobody')\n": "nobody",
}


def test_an_error_is_told_with_the_scripts_own_line(script: Path, tmp_path: Path) -> None:
    """All of them in one script, which is what takes long: each is told, and the last one is not caught."""
    caught = "".join(
        f"    try:\n    {code}    except BaseException as error:\n        print(place(error))\n" for code in ERRORS
    )
    place = "from netemu.scenario.script import place_in\n\ndef place(error):\n    return place_in('two.py', error)\n\n"
    script.write_text(SCRIPT.replace("\n\nasync", f"\n{place}async", 1) + caught + "    nonsense()\n")
    done = run(script, "--out", tmp_path)
    assert done.returncode == 1
    printed = done.stdout.decode().splitlines()
    first = 18
    for number, words in enumerate(ERRORS.values()):
        assert printed[number].startswith(f"({first + 4 * number}, ")
        assert words in printed[number]
    assert "NameError: name 'nonsense' is not defined" in done.stdout.decode()


UNLOADABLE = {
    "async def main(lab)\n": ":1: not Python: ",
    "1 / 0\n": ":1: ZeroDivisionError: division by zero",
    "def main(lab): ...\n": ": main is no coroutine function; expected async def main(lab: Lab) -> None",
    "async def main(): ...\n": ": main takes one argument, the lab; expected async def main(lab: Lab) -> None",
    "x = 1\n": ": has no main; expected async def main(lab: Lab) -> None",
}


@pytest.mark.parametrize("code", UNLOADABLE)
def test_a_script_that_cannot_be_loaded_is_status_2(code: str, script: Path, told: Callable[..., Told]) -> None:
    script.write_text(code)
    done = told("two.py")
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"netemu: two.py{UNLOADABLE[code]}" in " ".join(line.strip() for line in lines_of(done.stderr))


def test_a_script_may_import_what_lies_beside_it(script: Path, tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("LIMIT = '1 ms'\n")
    script.write_text("from beside_it import LIMIT\n" + SCRIPT.replace('"rtt max <= 40 ms"', 'f"rtt max > {LIMIT}"'))
    assert run(script, "--out", tmp_path).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_tells_how_far_it_got(number: signal.Signals, scenario: Path, tmp_path: Path) -> None:
    endless = SCENARIO.replace("count = 3", "count = 1000000").replace('"100ms"', '"1ms"')
    scenario.write_text(endless)
    process = subprocess.Popen(
        [sys.executable, "-m", "netemu", "run", scenario, "--out", tmp_path, "--json"],
        env=environment(NETEMU_JIT="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    capture = tmp_path / "wire.pcapng"
    while not capture.exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    told = json.loads(out)
    assert (process.returncode, err) == (128 + number, b"")
    assert (told["interrupted"], told["held"]) == (True, False)
    assert 0 < told["traffic"]["ping"]["metrics"]["sent"] < 1_000_000
    assert told["captures"][0]["frames"] == len(list(read_capture(capture)))
