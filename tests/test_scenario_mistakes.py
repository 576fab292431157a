"""Mistakes in a scenario: each is told with its line, what was expected, and the nearest right word; all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.scenario.mistakes import ScenarioError
from netemu.scenario.read import read_scenario
from tests.scenario_cases import CASES, SOUND, WITH_CONSEQUENCES


def mistakes(folder: Path, text: str) -> list[str]:
    """What is told of a file, without its name."""
    (folder / "www").mkdir(exist_ok=True)
    path = folder / "scenario.toml"
    path.write_text(text)
    try:
        read_scenario(str(path))
    except ScenarioError as error:
        return [line.removeprefix(f"{path}:") for line in str(error).splitlines()]
    return []


def test_a_sound_scenario_is_read(tmp_path: Path) -> None:
    assert mistakes(tmp_path, SOUND) == []
    scenario = read_scenario(str(tmp_path / "scenario.toml"))
    assert (scenario.lab.seed, scenario.lab.duration) == (3, 20_000_000_000)
    assert [link.label for _, link in scenario.links] == ["a-r", "wan"]
    assert scenario.links[1][1].words() == "delay 10ms rate 10mbit"
    assert [(name, one.kind) for _, name, one in scenario.traffic] == [("download", "http"), ("ping", "ping")]
    texts = [str(one.expectation) for one in scenario.expected]
    assert texts == ["download: goodput > 1 Mbit/s", "never seen at wan: tcp.flags.reset == 1"]


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_with_its_line(case: str, tmp_path: Path) -> None:
    old, new, told = CASES[case]
    assert old in SOUND
    assert told in "\n".join(mistakes(tmp_path, SOUND.replace(old, new, 1)))


@pytest.mark.parametrize("case", [case for case in CASES if case not in WITH_CONSEQUENCES])
def test_a_mistake_is_told_alone(case: str, tmp_path: Path) -> None:
    """What it leads to elsewhere is not told as well."""
    old, new, told = CASES[case]
    found = mistakes(tmp_path, SOUND.replace(old, new, 1))
    assert len(found) == 1
    assert found[0].startswith(told)


def test_all_mistakes_are_told_at_once_and_in_order(tmp_path: Path) -> None:
    text = (
        SOUND.replace("seed = 3", "sead = 3").replace('"delay 10ms"', '"dely 10ms"').replace('at = "wan"', 'at = "w"')
    )
    text = text.replace("goodput > 1 Mbit/s", "goodput > 1")
    assert [line.partition(":")[0] for line in mistakes(tmp_path, text)] == ["2", "24", "41", "47"]


BROKEN = {
    "[lab\n": "1: not TOML: expected ']' at the end of a table declaration (column 5)",
    "[lab]\nseed = 1\nseed = 2\n": "3: not TOML: cannot overwrite a value (column 9)",
    'x = "\n': "1: not TOML: illegal character '\\n' (column 6)",
}


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_not_toml_is_told_with_its_line(text: str, tmp_path: Path) -> None:
    assert mistakes(tmp_path, text) == [BROKEN[text]]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file or directory$"):
        read_scenario(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"[lab]\ntitle = '\xe4'\n")
    with pytest.raises(ScenarioError, match=r"latin\.toml:2: this is no text in UTF-8, as TOML has to be$"):
        read_scenario(str(tmp_path / "latin.toml"))


def test_lines_are_right_with_carriage_returns(tmp_path: Path) -> None:
    path = tmp_path / "dos.toml"
    path.write_bytes(b"[lab]\r\nseed = 1\r\nsead = 2\r\n")
    with pytest.raises(ScenarioError, match=r"dos\.toml:3: lab has no key 'sead'; did you mean seed\?$"):
        read_scenario(str(path))


def test_set_takes_the_place_of_what_the_file_says(tmp_path: Path) -> None:
    assert mistakes(tmp_path, SOUND) == []
    changes = {"lab.seed": 9, "guest.a.queue_size": 64, "link.wan.rate": "1mbit", "link.1.delay": "3ms"}
    scenario = read_scenario(str(tmp_path / "scenario.toml"), changes)
    assert scenario.lab.seed == 9
    assert scenario.guests["a"].queue_size == 64
    assert [link.words() for _, link in scenario.links] == ["delay 3ms", "delay 10ms rate 1mbit"]


def test_set_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert mistakes(tmp_path, SOUND) == []
    path = str(tmp_path / "scenario.toml")
    with pytest.raises(ConfigError, match="no entry has the name or number 'wann'; did you mean wan"):
        read_scenario(path, {"link.wann.rate": "1mbit"})
    with pytest.raises(ConfigError, match=r"--set lab\.seed\.x: lab\.seed is no table"):
        read_scenario(path, {"lab.seed.x": 1})
    with pytest.raises(ScenarioError, match="lab has no key 'sed'; did you mean seed"):
        read_scenario(path, {"lab.sed": 1})


VALUES = st.recursive(
    st.sampled_from(["1", "-1", "0.5", "true", '"x"', '""', '"10ms"', '"10.0.0.1/24"', "nan", "1979-05-27", '"a"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        inner.map(lambda one: f"{{ time = {one} }}"),
    ),
    max_leaves=4,
)
LINES = [line for line in SOUND.splitlines() if " = " in line and not line.endswith("[")]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LINES), VALUES)
def test_any_value_anywhere_is_taken_or_told(tmp_path_factory: pytest.TempPathFactory, line: str, value: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    found = mistakes(folder, SOUND.replace(line, f"{line.partition(' = ')[0]} = {value}", 1))
    assert all(one.partition(":")[0].isdecimal() for one in found)


def test_an_empty_file_is_no_scenario(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "")[0].startswith("1: there is no guest: a scenario has a table [guest.NAME] for each")
    assert mistakes(tmp_path, "[lab]\nseed = 1\n")[0].startswith("1: there is no guest")


def test_a_table_that_is_there_twice_is_named(tmp_path: Path) -> None:
    text = "[guest.a]\nip = '10.0.0.1/24'\n[guest.a]\n"
    assert mistakes(tmp_path, text) == ["3: not TOML: [guest.a] is there already"]


@pytest.mark.parametrize(("word", "value"), [("delay", "10"), ("rate", "10"), ("slot", "0.5")])
def test_a_bare_number_is_no_time_and_no_rate(word: str, value: str, tmp_path: Path) -> None:
    """What tc takes it for, microseconds and bits a second, is hardly ever meant."""
    text = SOUND.replace('rate = "10mbit"\n', "").replace('netem = "delay 10ms"', f"{word} = {value}")
    unit = "mbit" if word == "rate" else "ms"
    told = f'24: link.{word}: expected a text with a unit, as in "{value}{unit}", not {value}'
    assert mistakes(tmp_path, text) == [told]


def test_set_finds_links_and_traffic_by_the_names_they_go_by(tmp_path: Path) -> None:
    assert mistakes(tmp_path, SOUND) == []
    path = str(tmp_path / "scenario.toml")
    scenario = read_scenario(path, {"link.a-r.loss": "5%", "traffic.ping.count": 9})
    assert scenario.links[0][1].loss == "5%"
    assert [getattr(one, "count", None) for _, name, one in scenario.traffic if name == "ping"] == [9]


def test_set_makes_no_guest_and_its_mistakes_stand_in_no_line(tmp_path: Path) -> None:
    assert mistakes(tmp_path, SOUND) == []
    path = str(tmp_path / "scenario.toml")
    with pytest.raises(ConfigError, match=r"--set guest\.z: no guest is called 'z'; there is a and b"):
        read_scenario(path, {"guest.z.queue_size": 64})
    with pytest.raises(ScenarioError, match=r"scenario\.toml: lab\.duration: '5' needs a unit of time"):
        read_scenario(path, {"lab.duration": "5"})


def test_a_misspelt_metric_with_a_unit_is_no_counter(tmp_path: Path) -> None:
    text = SOUND.replace("goodput > 1 Mbit/s", "godput > 1 Mbit/s")
    assert mistakes(tmp_path, text) == ["47: nothing is called 'godput'; did you mean goodput?"]
