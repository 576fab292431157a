"""Every clause id that anything cites can be looked up."""

from __future__ import annotations

import re

from tests.support import REPO

CLAUSE = re.compile(r"\b[A-Z]{2,6}-[DVB]-\d\d\b")
CITING = (".py", ".lua", ".md")


def test_every_clause_id_cited_stands_in_the_list() -> None:
    listed = set(re.findall(r"^\| ([A-Z]+-[DVB]-\d\d) \|", (REPO / "docs" / "clauses.md").read_text(), re.MULTILINE))
    assert len(listed) > 150
    for folder in ("netemu", "tests", "docs", "bench"):
        for path in sorted((REPO / folder).rglob("*")):
            if path.suffix in CITING and path.name != "clauses.md":
                unknown = set(CLAUSE.findall(path.read_text())) - listed
                assert not unknown, f"{path.relative_to(REPO)} cites {sorted(unknown)}: not in docs/clauses.md"
