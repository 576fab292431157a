"""The benchmark: its captures, its arithmetic, its report, and a small run of it with a stand-in for netemu."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench import inputs, report
from bench.errors import AbsentError, BenchError
from bench.inputs import write_pcap
from bench.measure import Spread, in_turn, ratios, run, spread
from bench.results import Limit, Line, Unmeasured
from bench.rows import Row, measure
from bench.session import Session
from tests.support import REPO, needs

STAND_IN = """
import argparse, json, os, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("verb")
parser.add_argument("source")
parser.add_argument("-o")
parser.add_argument("--mode")
parser.add_argument("--queues")
parser.add_argument("--json", action="store_true")
options = parser.parse_args()
data = pathlib.Path(options.source).read_bytes()
frames = (len(data) - 24) // 80
LOSE = 0
pathlib.Path(options.o).write_bytes(data[: len(data) - 80 * LOSE])
print(json.dumps({"frames_in": frames, "frames_out": frames - LOSE, "bytes_out": frames * 64, "seconds": 0.5}))
"""
"""Copies a capture of 64-byte frames, and says that it took half a second."""


TSHARK = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields")


def stand_in(folder: Path, source: str = STAND_IN) -> str:
    """Write a program and return the command that runs it."""
    program = folder / "stand_in.py"
    program.write_text(source)
    return shlex.join([sys.executable, str(program)])


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestInputs:
    @needs("tshark")
    @pytest.mark.parametrize("frame_bytes", [64, 61, 1500])
    def test_tshark_finds_every_frame_right(
        self, frame_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inputs, "BLOCK_BYTES", 128 * (16 + frame_bytes))  # two blocks, and 44 frames of a third
        capture = write_pcap(tmp_path / "in.pcap", 300, frame_bytes)
        columns = ["frame.len", "frame.time_epoch", "ip.checksum.status", "udp.checksum.status", "udp.srcport"]
        columns += ["udp.length", "udp.payload", "_ws.malformed"]
        told = run(
            ["tshark", "-r", str(capture.path), *TSHARK, *(word for column in columns for word in ("-e", column))]
        ).output
        rows = [line.split("\t") for line in told.splitlines()]
        assert len(rows) == 300
        for number, (size, at, ip_good, udp_good, port, udp_bytes, payload, malformed) in enumerate(rows):
            assert (int(size), ip_good, udp_good, malformed) == (frame_bytes, "1", "1", "")
            assert at == f"1700000000.{number:06}000"
            assert int(port) == 1024 + number % 64
            assert int(udp_bytes) == frame_bytes - 34
            assert payload.startswith(f"{number:08x}")

    def test_a_udp_checksum_is_never_zero(self, tmp_path: Path) -> None:
        capture = write_pcap(tmp_path / "in.pcap", 200_000, 64)
        records = np.fromfile(capture.path, np.uint8, offset=24).reshape(200_000, 80)
        checksums = records[:, 56:58].copy().view(">u2").ravel()
        assert 0 not in checksums
        assert 0xFFFF in checksums

    def test_the_file_is_the_same_every_time_and_as_large_as_said(self, tmp_path: Path) -> None:
        first, second = (write_pcap(tmp_path / name, 1000, 64) for name in ("a.pcap", "b.pcap"))
        assert first.file_bytes == first.path.stat().st_size == 24 + 1000 * (16 + 64)
        digests = {hashlib.sha256(capture.path.read_bytes()).digest() for capture in (first, second)}
        assert len(digests) == 1

    def test_time_goes_on_after_a_second(self) -> None:
        records, sums = inputs._block(1, 64)
        inputs._number(records, sums, 2_999_999)
        assert struct.unpack("<II", records[0, :8].tobytes()) == (1_700_000_002, 999_999)
        assert struct.unpack("<II", records[1, :8].tobytes()) == (1_700_000_003, 0)

    @pytest.mark.parametrize("frame_bytes", [59, 65536])
    def test_an_impossible_size_is_refused(self, frame_bytes: int, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="60 to 65535"):
            write_pcap(tmp_path / "in.pcap", 1, frame_bytes)


class TestMeasure:
    def test_spread(self) -> None:
        assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
        assert spread([4.0, 1.0]) == Spread(2.5, 1.0, 4.0)

    def test_ratios_are_of_pairs_not_of_medians(self) -> None:
        assert ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == Spread(2.0, 1.0, 3.0)  # the medians' ratio would be 4/3

    def test_a_pair_of_unequal_series_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            ratios([1.0, 2.0], [1.0])

    def test_contenders_run_in_turn_and_the_first_turn_does_not_count(self) -> None:
        calls: list[str] = []

        def contender(name: str) -> float:
            calls.append(name)
            return float(len(calls))

        figures = in_turn(2, {"a": lambda: contender("a"), "b": lambda: contender("b")})
        assert calls == ["a", "b", "a", "b", "a", "b"]
        assert figures == {"a": [3.0, 5.0], "b": [4.0, 6.0]}

    def test_output_is_returned_or_written_to_a_file(self, tmp_path: Path) -> None:
        assert run(["sh", "-c", "echo $GREETING"], env={"GREETING": "hello"}).output == "hello\n"
        assert not run(["echo", "hello"], stdout=tmp_path / "out").output
        assert (tmp_path / "out").read_text() == "hello\n"

    def test_peak_memory_is_that_of_the_child(self) -> None:
        # Measured from a small process: pytest itself may be larger than the child by now.
        measured = (
            "import sys; from bench.measure import run;"
            "print(run([sys.executable, '-c', 'pass']).peak_bytes,"
            "      run([sys.executable, '-c', 'bytearray(b\"x\") * 200_000_000']).peak_bytes)"
        )
        idle, busy = map(int, run([sys.executable, "-c", measured], cwd=REPO).output.split())
        assert idle < 100_000_000
        assert 200_000_000 <= busy < 300_000_000

    def test_a_failure_is_told_with_the_last_words(self) -> None:
        with pytest.raises(BenchError, match=r"^sh ended with status 3: second$"):
            run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])

    def test_a_program_that_is_not_there(self) -> None:
        with pytest.raises(BenchError, match=r"^no-such-program cannot be started: No such file"):
            run(["no-such-program"])

    def test_a_program_that_takes_too_long_is_killed_with_its_children(self, tmp_path: Path) -> None:
        with pytest.raises(BenchError, match=r"status -9 after the 0.5 s it may take"):
            run(["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"], longest=0.5)
        assert_gone(int((tmp_path / "pid").read_text()))


def assert_gone(pid: int) -> None:
    """See that a process ends (whoever inherits it may still have to reap it)."""
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        try:
            state = status.read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")


FASTER = Line("copy", "10 x 64 bytes", "s", [1.0, 1.0, 3.0], "cp", [2.0, 4.0, 4.0], Limit("at most", 1.5, "x"))
"""Ratios 0.5, 0.25, 0.75."""


class TestReport:
    def test_cells_of_a_comparison(self) -> None:
        assert report.cells(FASTER) == (
            "copy",
            "10 x 64 bytes",
            "1.00 s",
            "cp: 4.00 s",
            "0.500 x (0.250 to 0.750)",
            "at most 1.5 x",
            "yes",
        )

    def test_cells_of_a_figure_alone(self) -> None:
        line = Line("memory", "1 GB", "MB", [351.2, 350.8], limit=Limit("at most", 350, "MB"))
        assert report.cells(line) == ("memory", "1 GB", "351 MB", "", "351 MB (351 to 351)", "at most 350 MB", "NO")

    def test_cells_of_a_row_without_figures(self) -> None:
        skipped = Unmeasured("dpdk", "skipped", "not installed: dpdk-testpmd")
        assert report.cells(skipped) == ("dpdk", "skipped: not installed: dpdk-testpmd", "", "", "", "", "")

    @pytest.mark.parametrize(
        ("kind", "value", "holds"),
        [("at most", 0.5, True), ("at most", 0.49, False), ("at least", 0.5, True), ("at least", 0.51, False)],
    )
    def test_limits(self, kind: str, value: float, holds: bool) -> None:
        limit = Limit("at most" if kind == "at most" else "at least", value, "x")
        assert Line("row", "work", "s", [1.0], "cp", [2.0], limit).holds is holds

    def test_small_work_is_not_judged(self) -> None:
        line = Line("row", "work", "s", [9.0], "cp", [1.0], Limit("at most", 1.5, "x"), judged=False)
        assert line.holds is None
        assert report.verdict(line) == "not judged"

    @pytest.mark.parametrize(
        ("value", "text"), [(0.01234, "0.0123 s"), (1.234, "1.23 s"), (12.34, "12.3 s"), (1234.5, "1234 s"), (0, "0 s")]
    )
    def test_amounts_have_three_digits(self, value: float, text: str) -> None:
        assert report.amount(value, "s") == text

    def test_the_columns_of_the_table_stand_in_line(self) -> None:
        lines = report.table([FASTER, Unmeasured("dpdk", "failed", "a | b")]).splitlines()
        bars = [[at for at, letter in enumerate(line) if letter == "|"] for line in lines]
        assert len(lines) == 4
        assert all(places == bars[0] for places in bars)
        assert len(bars[0]) == 8

    def test_json_holds_the_figures_of_every_turn(self) -> None:
        told = json.loads(report.as_json([FASTER], {"kernel": "Linux"}, {"turns": 3}))
        assert told["machine"] == {"kernel": "Linux"}
        line = told["lines"][0]
        assert (line["ours"], line["theirs"]) == ([1.0, 1.0, 3.0], [2.0, 4.0, 4.0])
        assert line["measured"] == {"median": 0.5, "lowest": 0.25, "highest": 0.75}
        assert line["holds"] is True

    def test_the_table_takes_its_place_on_a_page(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
        report.fill(page, "new")
        report.fill(page, "newer")
        assert page.read_text() == f"before\n{report.BEGIN}\n\nnewer\n\n{report.END}\nafter\n"

    def test_a_page_without_a_place_is_left_alone(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"{report.END} {report.BEGIN}")
        with pytest.raises(BenchError, match="no place for the table"):
            report.fill(page, "new")
        assert page.read_text() == f"{report.END} {report.BEGIN}"

    def test_the_page_of_the_documentation_has_a_place(self, tmp_path: Path) -> None:
        copy = tmp_path / "performance.md"
        copy.write_text((REPO / "docs" / "performance.md").read_text())
        report.fill(copy, "new")
        assert "\nnew\n" in copy.read_text()


class TestRows:
    @pytest.mark.parametrize(("required", "outcome"), [("0", "skipped"), ("1", "failed")])
    def test_an_absent_rival(
        self, required: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NETEMU_REQUIRE_TOOLS", required)
        row = Row("row", lambda _: [FASTER], ("sh", "no-such-program"))
        [line] = measure(row, Session(tmp_path, ["netemu"]))
        assert line == Unmeasured("row", outcome, "not installed: no-such-program")  # type: ignore[arg-type]

    def test_a_rival_that_is_not_possible_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NETEMU_REQUIRE_TOOLS", raising=False)

        def impossible(_: Session) -> list[Line]:
            raise AbsentError("needs 2 processors, may use 1")

        [line] = measure(Row("row", impossible), Session(tmp_path, ["netemu"]))
        assert line == Unmeasured("row", "skipped", "needs 2 processors, may use 1")

    def test_a_full_disk_is_told_before_anything_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(BenchError, match="choose a folder with --dir"):
            Session(tmp_path, ["netemu"]).capture(10**13, 64)
        assert not any(tmp_path.iterdir())


class TestEndToEnd:
    def test_a_small_run(self, tmp_path: Path) -> None:
        names, folder = ("start-warm", "modes"), tmp_path / "folder"
        folder.mkdir()
        done = bench(
            *names, "--frames=1000", "--turns=2", f"--dir={folder}", f"--netemu={stand_in(tmp_path)}", cwd=tmp_path
        )
        assert (done.returncode, done.stderr.count("\n")) == (0, 2), done.stderr
        told = json.loads((tmp_path / "bench.json").read_text())
        assert [line["row"] for line in told["lines"]] == ["start-warm", "modes", "modes", "modes", "modes"]
        assert [len(line["ours"]) for line in told["lines"]] == [2, 2, 2, 2, 2]
        assert "| modes " in done.stdout
        assert "not judged" in done.stdout
        assert not any(folder.iterdir())

    @needs("editcap")
    def test_against_editcap(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"{report.BEGIN}\n{report.END}\n")
        command = stand_in(tmp_path)
        done = bench("editcap-64", "--frames=1000", "--turns=1", f"--netemu={command}", f"--page={page}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "editcap: " in page.read_text()

    def test_a_lost_frame_fails_the_row_but_not_the_others(self, tmp_path: Path) -> None:
        command = stand_in(tmp_path, STAND_IN.replace("LOSE = 0", "LOSE = int(frames > 10)"))
        done = bench("start-warm", "modes", "--frames=1000", "--turns=1", f"--netemu={command}", cwd=tmp_path)
        assert done.returncode == 1
        lines = json.loads((tmp_path / "bench.json").read_text())["lines"]
        assert [line["outcome"] for line in lines] == ["measured", "failed"]
        assert lines[1]["reason"] == "of 1000 frames netemu read 1000 and wrote 999"

    def test_a_first_replay_that_compiles_nothing_is_not_believed(self, tmp_path: Path) -> None:
        done = bench("start-first", "--turns=1", f"--netemu={stand_in(tmp_path)}", cwd=tmp_path)
        assert done.returncode == 1
        assert "this was not a first replay" in done.stdout

    def test_an_unknown_row(self, tmp_path: Path) -> None:
        done = bench("no-such-row", cwd=tmp_path)
        assert done.returncode == 2
        assert "no row is named no-such-row" in done.stderr

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_leaves_nothing_behind(self, number: signal.Signals, tmp_path: Path) -> None:
        folder, pid = tmp_path / "folder", tmp_path / "pid"
        folder.mkdir()
        command = stand_in(
            tmp_path,
            f"import os, pathlib, time\np = pathlib.Path({str(pid)!r})\n"
            "p.with_suffix('.new').write_text(str(os.getpid()))\np.with_suffix('.new').rename(p)\ntime.sleep(60)\n",
        )
        with subprocess.Popen(
            [sys.executable, "-m", "bench", "start-warm", f"--dir={folder}", f"--netemu={command}"],
            cwd=REPO,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as running:
            while not pid.exists():
                assert running.poll() is None
                time.sleep(0.05)
            running.send_signal(number)
            assert running.wait(timeout=120) == 1
        assert_gone(int(pid.read_text()))
        assert not any(folder.iterdir())
