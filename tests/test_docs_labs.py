"""The pieces of Python in docs/: they do what the text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from netemu.scenario.script import Script
from tests.support import REPO


def pieces(name: str) -> list[tuple[int, str]]:
    """The pieces of Python in a page, each with the line it stands in."""
    text = (REPO / "docs" / name).read_text()
    return [
        (text.count("\n", 0, found.start(1)), found[1])
        for found in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def test_the_lab_of_the_page_about_labs_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(REPO / "docs" / "labs.md")
    found = pieces("labs.md")
    assert len(found) >= 8
    names: dict[str, object] = {"__name__": "labs"}
    for line, text in found:
        exec(compile("\n" * line + text, path, "exec", dont_inherit=True), names)
    printed = capsys.readouterr().out
    assert (
        "3 requests to 10.0.0.2, 3 answered, 0% loss\nrtt min/avg/max/mdev = 20.157/26.846/40.224/9.460 ms" in printed
    )
    assert "1250 datagrams, 1250 arrived, 0% loss" in printed
    assert "a guest has no option 'mod'; did you mean mode?" in printed
    assert sorted(one.name for one in tmp_path.iterdir()) == ["c.pcapng", "d-ring.pcapng", "lossy.pcapng"]


def test_the_script_of_the_page_about_scenarios_holds(tmp_path: Path) -> None:
    ((_, text),) = pieces("scenarios.md")
    script = tmp_path / "script.py"
    script.write_text(text)
    outcome = Script(str(script), None, None, None).execute()
    assert outcome.error is None
    assert [verdict.held for verdict, _ in outcome.verdicts] == [True, True, True]
