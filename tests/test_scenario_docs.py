"""docs/scenarios.md: it names every key, metric and field there is, and its examples are sound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from netemu.expect import parse_expectation, parse_predicate
from netemu.expect.fields import FIELDS
from netemu.expect.metrics import METRICS, OF_KIND
from netemu.scenario.expect_section import ExpectSection
from netemu.scenario.read import read_scenario
from netemu.scenario.service_words import SERVICES
from netemu.scenario.topology import (
    CaptureSection,
    ChangeSection,
    CpuSection,
    GuestSection,
    LabSection,
    LinkSection,
    RouterSection,
    Section,
    TcpSection,
    keys_of,
)
from netemu.scenario.traffic_kinds import KINDS
from tests.support import REPO

TEXT = (REPO / "docs" / "scenarios.md").read_text()


def chapter(title: str) -> str:
    """The text below a heading, up to the next of its rank."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def words(text: str) -> set[str]:
    return set(re.findall(r"`([A-Za-z_0-9.]+)`", text))


@pytest.mark.parametrize(
    ("title", "section"),
    [
        ("`[lab]`", LabSection),
        ("`[guest.NAME]`", GuestSection),
        ("`[guest.NAME]`", CpuSection),
        ("`[guest.NAME]`", TcpSection),
        ("`[switch.NAME]` and `[router.NAME]`", RouterSection),
        ("`[[link]]`", LinkSection),
        ("`[[link]]`", ChangeSection),
        ("`[[capture]]`", CaptureSection),
        ("`[[expect]]`", ExpectSection),
    ],
)
def test_every_key_is_told(title: str, section: type[Section]) -> None:
    assert set(keys_of(section)) <= words(chapter(title))


def test_every_key_in_a_first_column_exists() -> None:
    rooms: dict[str, type[Section]] = {
        "`[lab]`": LabSection,
        "`[guest.NAME]`": GuestSection,
        "`[[link]]`": LinkSection,
        "`[[expect]]`": ExpectSection,
    }
    for title, section in rooms.items():
        rows = re.findall(r"^\| (`[^|]*) \|", chapter(title), re.MULTILINE)
        told = set().union(*(words(row) for row in rows)) - {"NAME"}
        assert told - set(keys_of(section)) - METRICS.keys() - FIELDS.keys() - SERVICES.keys() == set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_traffic_is_told_with_its_keys(kind: str) -> None:
    text = chapter("`[[traffic]]`")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{kind}` "))
    assert set(keys_of(KINDS[kind])) <= words(text)
    own = set(keys_of(KINDS[kind])) - {"kind", "name", "from", "to", "start", "stop"}
    assert own <= words(row)


def test_every_service_is_told() -> None:
    assert SERVICES.keys() <= {word.partition(":")[0] for word in re.findall(r"`([^`]+)`", chapter("`[guest.NAME]`"))}


def test_every_metric_is_told_with_the_kinds_that_have_it() -> None:
    text = chapter("`[[expect]]`")
    for name, metric in METRICS.items():
        kinds = ", ".join(kind for kind, metrics in OF_KIND.items() if name in metrics)
        assert f"| `{name}` | {kinds} | {metric.words}" in text


def test_every_field_is_told_and_no_other() -> None:
    table = TEXT.partition("| kind of field | fields |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| .* \| (.*) \|$", table, re.MULTILINE)
    told = {word for row in rows for word in words(row)}
    assert told == FIELDS.keys()


def test_the_expectations_in_it_are_understood() -> None:
    examples = re.findall(r"^    ((?:loss|rtt|download|guest|link)\b.*[<>=].*)$", TEXT, re.MULTILINE)
    assert len(examples) >= 5
    for text in examples:
        parse_expectation(text)
    predicates = re.findall(r"^    ((?:tcp|ip|udp)\..*)$", TEXT, re.MULTILINE)
    assert len(predicates) >= 3
    for text in predicates:
        parse_predicate(text)


def test_the_scenario_in_it_is_sound(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    (tmp_path / "example.toml").write_text(found[1])
    assert read_scenario(str(tmp_path / "example.toml")).expected
