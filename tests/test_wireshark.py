"""The Wireshark plug-in, profile and installer: captures built by hand (wireshark_records.py), read by tshark."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from netemu.cli.wireshark import wireshark
from netemu.errors import NetemuError
from netemu.wireshark import install as installer
from tests.support import REPO, REQUIRE_TOOLS, needs
from tests.wireshark_records import (
    CASES,
    DAMAGED,
    FEATURE_NAMES,
    FEATURES_VALID,
    GSO4,
    MODERN,
    NEEDS_CSUM,
    PLAIN,
    RX_GSO,
    SUPER4,
    TCPV4,
    UNFINISHED,
    UNVOUCHED,
    Case,
    header,
    prefix,
)

LUA = REPO / "netemu" / "wireshark" / "virtio_net.lua"
FORMAT_PAGE = REPO / "docs" / "ring-capture-format.md"
ELSEWHERE = ("WIRESHARK_CONFIG_DIR", "XDG_CONFIG_HOME")
"""Variables that send Wireshark to other folders than those under HOME."""


# tshark ---------------------------------------------------------------------------------------------------------------


def capture(path: Path, records: list[bytes], link_type: int = 147) -> Path:
    """A pcap file with the records, a second apart."""
    blocks = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link_type)]
    blocks += [struct.pack("<IIII", second, 0, len(data), len(data)) + data for second, data in enumerate(records)]
    path.write_bytes(b"".join(blocks))
    return path


def tshark(*arguments: str | Path, **environment: Path) -> tuple[str, str]:
    """Standard output, and standard error without what tshark says of root; ``environment`` are further variables."""
    inherited = {key: value for key, value in os.environ.items() if key not in ELSEWHERE}
    added = {key: str(value) for key, value in environment.items()}
    run = subprocess.run(["tshark", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                         env=inherited | added, check=False)  # fmt: skip
    complaints = [line for line in run.stderr.splitlines() if line and not line.startswith("Running as user")]
    return run.stdout, "\n".join(complaints)


def fields_of(file: Path, names: list[str], *options: str) -> tuple[list[dict[str, str]], str]:
    """Each frame's fields, several values of one joined by ``|``; and what tshark complained of."""
    selection = [part for name in names for part in ("-e", name)]
    out, err = tshark(*options, "-r", file, "-T", "fields", "-E", "separator=/t", "-E", "aggregator=|", *selection)
    flags = {"True": "1", "False": "0"}  # as Wireshark 4.2 and later print booleans
    rows = [[flags.get(value, value) for value in line.split("\t")] for line in out.splitlines()]
    return [dict(zip(names, row, strict=True)) for row in rows], err


@pytest.fixture(scope="module")
def lua(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The options that load the plug-in, once it is sure that this tshark runs Lua at all."""
    folder = tmp_path_factory.mktemp("lua")
    probe = folder / "probe.lua"
    probe.write_text('print("Lua runs")\n')
    if "Lua runs" not in tshark("-X", f"lua_script:{probe}", "-r", capture(folder / "empty.pcap", []))[0]:
        reason = "this tshark runs no Lua scripts (Wireshark 4.4 and later run none for root)"
        (pytest.fail if REQUIRE_TOOLS else pytest.skip)(reason)
    return "-X", f"lua_script:{LUA}"


@pytest.fixture(scope="module")
def shown(lua: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What tshark shows of each case, by name."""
    names = sorted({name for case in CASES for name in case.shows} | {
        "virtio_net.violation", "_ws.expert.message", "frame.protocols", "_ws.col.Info", "eth.src"})  # fmt: skip
    file = capture(tmp_path_factory.mktemp("cases") / "cases.pcap", [case.record for case in CASES])
    rows, err = fields_of(file, names, *lua)
    assert err == ""
    return dict(zip([case.name for case in CASES], rows, strict=True))


@needs("tshark")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fields_and_broken_clauses(case: Case, shown: dict[str, dict[str, str]]) -> None:
    seen = shown[case.name]
    assert seen["virtio_net.violation"].split("|") == (case.breaks or [""])
    warned = re.findall(r"(?:^|\|)((?:[A-Z]+-[DVB]-\d\d(?:, )?)+): ", seen["_ws.expert.message"])
    assert sorted(clause for text in warned for clause in text.split(", ")) == sorted(case.breaks)
    assert case.note in seen["_ws.expert.message"]
    assert {name: seen[name] for name in case.shows} == case.shows
    assert seen["frame.protocols"].startswith("netemu:eth:ethertype:")
    assert seen["eth.src"].startswith("02:00:00:00:00:02")


def test_every_clause_of_the_plugin_has_a_case() -> None:
    cited = re.findall(r'"((?:[A-Z]+-[DVB]-\d\d)(?:, [A-Z]+-[DVB]-\d\d)*)"', LUA.read_text())
    clauses = {clause for text in cited for clause in text.split(", ")}
    assert len(clauses) > 60
    assert clauses == {clause for case in CASES for clause in case.breaks}


@needs("tshark")
def test_no_remark_on_a_sound_header(shown: dict[str, dict[str, str]]) -> None:
    sound = shown["modern 12"]
    assert "netemu" not in sound["_ws.expert.message"]
    assert not re.search(r"not known|reserved|snapshot", sound["_ws.expert.message"])


@needs("tshark")
def test_info_keeps_the_upper_layers_words_and_adds_a_mark(shown: dict[str, dict[str, str]]) -> None:
    super_frame = shown["TSO4"]["_ws.col.Info"]
    assert re.search(r"1000 → 81 \[ACK\].* Len=4000 \[TCPV4 3x1448, checksum unfinished\]$", super_frame)
    assert shown["checked by the device"]["_ws.col.Info"].endswith("Len=10")
    assert shown["num_buffers 2 of 3"]["_ws.col.Info"].endswith("Len=10 [breaks RX-D-02]")


@needs("tshark")
def test_damaged_records_are_warned_of(lua: tuple[str, str], tmp_path: Path) -> None:
    file = capture(tmp_path / "damaged.pcap", [record for _, record, _ in DAMAGED])
    rows, err = fields_of(file, ["netemu.not_understood", "_ws.expert.message", "_ws.expert.severity"], *lua)
    assert err == ""
    for (name, _, message), row in zip(DAMAGED, rows, strict=True):
        assert message in row["_ws.expert.message"], name
        assert row["_ws.expert.severity"] == "6291456", name  # PI_WARN, 0x600000


@needs("tshark")
def test_snapped_frames_say_so(lua: tuple[str, str], tmp_path: Path) -> None:
    record = prefix(12, RX_GSO) + GSO4 + SUPER4
    file = tmp_path / "snapped.pcap"
    block = struct.pack("<IIII", 0, 0, 120, len(record)) + record[:120]
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 120, 147) + block)
    names = ["netemu.frame_len", "virtio_net.segments", "virtio_net.violation", "_ws.expert.message"]
    rows, _ = fields_of(file, names, *lua)
    assert rows[0]["netemu.frame_len"] == "4054"
    assert rows[0]["virtio_net.segments"] == "3"
    assert rows[0]["virtio_net.violation"] == ""
    assert "cut by the snapshot length" in rows[0]["_ws.expert.message"]


@needs("tshark")
def test_feature_names_agree_with_the_specification(lua: tuple[str, str], tmp_path: Path) -> None:
    everything = struct.pack("<BBBBHHQQQ", 1, 32, FEATURES_VALID, 32, 0, 1, 1, (1 << 64) - 1, (1 << 64) - 1)
    file = capture(tmp_path / "features.pcap", [everything + bytes(32) + PLAIN])
    rows, _ = fields_of(file, ["netemu.feature"], *lua)
    assert rows[0]["netemu.feature"].split("|") == [FEATURE_NAMES.get(bit, f"bit {bit}") for bit in range(128)]


@needs("tshark")
def test_any_bytes_give_no_lua_error(lua: tuple[str, str], tmp_path: Path) -> None:
    """Mutated, cut and random records: the plug-in never fails, and never loses a record."""
    dice = random.Random(20260408)
    records = []
    for number in range(4000):
        record = bytearray(dice.choice(CASES).record)
        for _ in range(dice.randrange(6)):
            record[dice.randrange(min(len(record), 100))] = dice.randrange(256)
        if number % 3 == 0:
            del record[dice.randrange(len(record) + 1) :]
        elif number % 3 == 1:
            record = record[:32] + bytearray(dice.randbytes(dice.randrange(120)))
        if number % 10 == 0:
            record = bytearray(dice.randbytes(dice.randrange(200)))
        records.append(bytes(record[:400]))
    out, err = tshark(*lua, "-r", capture(tmp_path / "fuzz.pcap", records), "-V")
    assert err == ""
    assert len(re.findall(r"^Frame \d+: ", out, re.MULTILINE)) == 4000
    assert out.count("\nnetemu ring capture") == 4000
    assert "lua error" not in out.lower()
    assert "dissector bug" not in out.lower()


@needs("tshark")
def test_another_user_link_type(lua: tuple[str, str], tmp_path: Path) -> None:
    record = prefix(12, MODERN) + header() + PLAIN
    user3 = capture(tmp_path / "user3.pcap", [record], link_type=150)
    user0 = capture(tmp_path / "user0.pcap", [record])
    moved = (*lua, "-o", "netemu.user:3")
    assert fields_of(user3, ["frame.protocols"], *moved)[0][0]["frame.protocols"].startswith("netemu:eth")
    assert fields_of(user0, ["frame.protocols"], *moved)[0][0]["frame.protocols"] == "user_dlt:data"


# The page -------------------------------------------------------------------------------------------------------------


def worked_example() -> bytes:
    found = re.search(r"```hex\n(.*?)```", FORMAT_PAGE.read_text(), re.DOTALL)
    assert found
    return bytes.fromhex(found[1])


@needs("tshark")
def test_worked_example_of_the_page(lua: tuple[str, str], tmp_path: Path) -> None:
    expected = {
        "netemu.version": "1",
        "netemu.direction": "0",
        "netemu.hdr_len": "12",
        "netemu.queue": "1",
        "netemu.buffers": "1",
        "netemu.frame_id": "7",
        "netemu.feature": "GUEST_CSUM|MAC|MRG_RXBUF|STATUS|CTRL_VQ|MQ|VERSION_1",
        "netemu.frame_len": "56",
        "virtio_net.flags": "0x01",
        "virtio_net.csum_start": "34",
        "virtio_net.csum_offset": "16",
        "virtio_net.num_buffers": "1",
        "virtio_net.violation": "",
        "ip.src": "10.0.0.1",
        "ip.checksum.status": "1",
        "tcp.dstport": "80",
        "tcp.checksum": "0x141f",
        "tcp.payload": "6869",
    }
    example = worked_example()
    assert len(example) == 100
    file = capture(tmp_path / "example.pcap", [example])
    rows, _ = fields_of(file, list(expected), *lua, "-o", "ip.check_checksum:TRUE")
    assert rows == [expected]


@needs("tshark")
def test_without_the_plugin_a_fixed_length_is_skipped(tmp_path: Path) -> None:
    found = re.search(r"uat:user_dlts:[^']*", FORMAT_PAGE.read_text())
    assert found
    file = capture(tmp_path / "example.pcap", [worked_example()])
    rows, _ = fields_of(file, ["frame.protocols", "tcp.payload"], "-o", found[0])
    assert rows[0]["frame.protocols"].endswith(":eth:ethertype:ip:tcp")
    assert rows[0]["tcp.payload"] == "6869"


# Installing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder that netemu and tshark both take for the user's."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def no_tshark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A PATH without programs."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


PLUGIN_AT = ".local/lib/wireshark/plugins/virtio_net.lua"
PROFILE_AT = ".config/wireshark/profiles/netemu"


def call(*arguments: str) -> str:
    result = CliRunner().invoke(wireshark, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_tshark")
def test_install_again_and_uninstall(home: Path) -> None:
    foreign = home / ".local/lib/wireshark/plugins/other.lua"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("-- not ours\n")
    said = call("install")
    installed = {PLUGIN_AT} | {f"{PROFILE_AT}/{name}" for name in ("preferences", "colorfilters", "dfilter_buttons")}
    assert installed <= files_under(home)
    assert all(f"written        {home / name}" in said or f"written  {home / name}" in said for name in installed)
    assert "wireshark -C netemu" in said
    assert (home / PLUGIN_AT).read_bytes() == LUA.read_bytes()

    before = {path: (home / path).stat().st_mtime_ns for path in installed}
    said = call("install")
    assert all(f"already there  {home / name}" in said for name in installed)
    assert {path: (home / path).stat().st_mtime_ns for path in installed} == before

    said = call("uninstall")
    assert all(f"removed  {home / name}" in said for name in installed)
    assert files_under(home) == {".local/lib/wireshark/plugins/other.lua"}
    assert not (home / PROFILE_AT).exists()
    assert "not there" in call("uninstall")


@pytest.mark.usefixtures("no_tshark")
def test_foreign_files_are_not_overwritten(home: Path) -> None:
    plugin = home / PLUGIN_AT
    plugin.parent.mkdir(parents=True)
    plugin.write_text("-- somebody else's\n")
    with pytest.raises(NetemuError, match=re.escape(str(plugin)) + r".*--force"):
        installer.install(installer.personal_folders())
    assert files_under(home) == {PLUGIN_AT}, "an installation with a conflict writes nothing"
    assert plugin.read_text() == "-- somebody else's\n"

    said = call("uninstall")
    assert f"kept: not written by netemu, or changed since  {plugin}" in said
    assert plugin.exists()

    assert f"replaced  {plugin}" in call("install", "--force")
    assert plugin.read_bytes() == LUA.read_bytes()


@pytest.mark.usefixtures("no_tshark")
def test_changed_files_are_kept_and_old_ones_brought_up_to_date(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = installer.personal_folders()
    older = {"virtio_net.lua": b"-- last year's\n", "preferences": b"# last year's\n", "gone": b"no longer shipped\n"}
    with monkeypatch.context() as patch:
        patch.setattr(installer, "contents", lambda _version: older)
        installer.install(folders)
    outcomes = dict(installer.install(folders))
    assert outcomes[home / PLUGIN_AT] is installer.Outcome.REPLACED
    assert (home / PLUGIN_AT).read_bytes() == LUA.read_bytes()

    preferences = home / PROFILE_AT / "preferences"
    preferences.write_text("# saved by Wireshark\n")
    assert f"since  {preferences}" in call("uninstall")
    assert preferences.read_text() == "# saved by Wireshark\n"
    assert not (home / PLUGIN_AT).exists()


@pytest.mark.usefixtures("no_tshark")
def test_links_are_never_written_through_nor_removed(home: Path) -> None:
    target = home / "precious.lua"
    target.write_text("-- precious\n")
    plugin = home / PLUGIN_AT
    plugin.parent.mkdir(parents=True)
    plugin.symlink_to(target)
    with pytest.raises(NetemuError, match="--force"):
        installer.install(installer.personal_folders())
    call("install", "--force")
    assert not plugin.is_symlink()
    assert target.read_text() == "-- precious\n"

    plugin.unlink()
    plugin.symlink_to(LUA)
    call("uninstall")
    assert plugin.is_symlink()


@pytest.mark.usefixtures("no_tshark", "home")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(NetemuError, match=re.escape(str(blocked))):
        installer.install(installer.folders_under(blocked))


def test_preferences_of_a_later_wireshark_are_left_out_for_an_earlier_one() -> None:
    key = b"\nprotocols.conversation_deinterlacing_key: .MI\n"
    assert key in installer.contents((4, 2))["preferences"]
    assert key in installer.contents(None)["preferences"]
    assert key not in installer.contents((4, 0))["preferences"]
    assert b"tcp.check_checksum: FALSE" in installer.contents((4, 0))["preferences"]


def test_path() -> None:
    assert Path(call("path").strip()) == LUA
    assert Path(call("path", "--profile").strip()) == LUA.parent / "profile"


@pytest.mark.parametrize("command", [[], ["install"], ["uninstall"], ["path"]])
def test_help_has_an_example(command: list[str]) -> None:
    assert re.search(r"Example:\n +(netemu wireshark|tshark)", call(*command, "--help"))


@needs("tshark")
@pytest.mark.usefixtures("lua", "home")  # lua: skips where no plug-in would be loaded
def test_installed_profile_works_without_warnings(tmp_path: Path) -> None:
    call("install")
    plain, gso, wrong = (
        prefix(12, MODERN, queue=2) + header(NEEDS_CSUM, 0, 0, 0, 34, 16) + PLAIN,
        prefix(12, RX_GSO, buffers=3, queue=2) + header(NEEDS_CSUM, TCPV4, 54, 1448, 34, 16, 3) + SUPER4,
        prefix(12, MODERN, queue=2) + header(num_buffers=9) + PLAIN,
    )
    file = capture(tmp_path / "ring.pcap", [plain, gso, wrong])
    out, err = tshark("-C", "netemu", "-r", file)
    assert err == ""
    lines = out.splitlines()
    assert re.search(rf"TCP 64 2 1 +{UNFINISHED} .*1000 → 81", lines[0])
    assert re.search(r"TCP 4054 2 3 TCPv4 super-frame: would be 3 segments of up to 1448 bytes not finished", lines[1])

    rows, err = fields_of(file, ["frame.coloring_rule.name"], "-C", "netemu", "--color")
    assert err == ""
    assert [row["frame.coloring_rule.name"] for row in rows] == [
        "netemu: unfinished checksum",
        "netemu: segmentation offload",
        "netemu: header breaks the specification",
    ]


@needs("tshark")
@pytest.mark.usefixtures("lua")
def test_installed_under_a_folder_of_its_own(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "configuration"
    said = call("install", "--dir", str(folder))
    assert f"WIRESHARK_CONFIG_DIR={folder} wireshark -C netemu" in said
    assert files_under(home) == set()
    file = capture(tmp_path / "ring.pcap", [prefix(12, MODERN) + header() + PLAIN])
    out, err = tshark("-C", "netemu", "-r", file, WIRESHARK_CONFIG_DIR=folder)
    assert err == ""
    assert UNVOUCHED in out
    call("uninstall", "--dir", str(folder))
    assert files_under(folder) == set()


@needs("tshark")
def test_filters_of_the_profile_are_valid(lua: tuple[str, str], tmp_path: Path) -> None:
    """Colour rules and filter buttons compile with the plug-in's fields."""
    folder = LUA.parent / "profile"
    rules = re.findall(r"^@[^@]*@([^@]*)@", (folder / "colorfilters").read_text(), re.MULTILINE)
    buttons = re.findall(r'^"TRUE","[^"]*","([^"]*)"', (folder / "dfilter_buttons").read_text(), re.MULTILINE)
    assert len(rules) == 6
    assert len(buttons) == 5
    anything = " || ".join(f"({text})" for text in [*rules, *(button.replace(r"\x22", '"') for button in buttons)])
    file = capture(tmp_path / "one.pcap", [prefix(12, MODERN) + header(NEEDS_CSUM, 0, 0, 0, 34, 16) + PLAIN])
    out, err = tshark(*lua, "-r", file, "-Y", anything, "-T", "fields", "-e", "frame.number")
    assert err == ""
    assert out.split() == ["1"]
