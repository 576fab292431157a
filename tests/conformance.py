"""Which test defends which clause: ``python -m tests.conformance`` prints the table that ``make conformance`` judges.

A test defends a clause when its function cites the id (`docs/clauses.md`), in its decorators, docstring, comments or
code, or in a table of its module that it names. Clauses that this program cannot break stand, with the reason, in
`docs/clauses-apart.md`. A clause that is neither, or both, is a fault.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
CLAUSES = REPO / "docs" / "clauses.md"
APART = REPO / "docs" / "clauses-apart.md"

ID = re.compile(r"\b[A-Z]{2,6}-[DVB]-\d\d\b")
_ROW = re.compile(r"^\| ([A-Z]+-[DVB]-\d\d) \| ([^|]+?) \| (.+?) \| [^|]+ \|$", re.MULTILINE)
_APART_ROW = re.compile(r"^\| ([A-Z, DVB0-9-]+?) \| (.+?) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Clause:
    """One row of the catalogue."""

    id: str
    level: str
    text: str

    @property
    def area(self) -> str:
        """The part of the specification it belongs to: the first letters of its id."""
        return self.id.split("-")[0]


def clauses(text: str) -> list[Clause]:
    """The catalogue, in its order."""
    return [Clause(*row) for row in _ROW.findall(text)]


def apart(text: str) -> dict[str, str]:
    """Id to reason, for the clauses that do not apply; a row may name several ids, separated by commas."""
    return {one: reason for ids, reason in _APART_ROW.findall(text) for one in ID.findall(ids)}


def citations(source: str) -> dict[str, set[str]]:
    """Test function (or class of stateful rules) to the clauses it cites, in the text of one test module."""
    lines = source.splitlines()

    def ids_of(node: ast.stmt, first: int) -> set[str]:
        return set(ID.findall("\n".join(lines[first - 1 : node.end_lineno])))

    tables: dict[str, set[str]] = {}
    tests: dict[str, set[str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    tables[target.id] = ids_of(node, node.lineno)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and _is_test(node):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            named = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
            through_tables = set[str]().union(*(ids for name, ids in tables.items() if name in named))
            tests[node.name] = ids_of(node, first) | through_tables
    return tests


def _is_test(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Functions that pytest collects, and classes: a state machine's rules are its test."""
    if isinstance(node, ast.ClassDef):
        return any("StateMachine" in ast.unparse(base) for base in node.bases)
    return node.name.startswith("test_")


def defenders(folder: Path) -> dict[str, list[str]]:
    """Clause id to the tests that cite it, as pytest names them."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.glob("test_*.py")):
        if path.stem in {"test_clauses", "test_conformance"}:
            continue
        for test, cited in citations(path.read_text()).items():
            for clause in sorted(cited):
                found[clause].append(f"tests/{path.name}::{test}")
    return found


def faults(all_clauses: list[Clause], tests: Mapping[str, list[str]], reasons: Mapping[str, str]) -> Iterator[str]:
    """What is wrong, a line each."""
    known = {clause.id for clause in all_clauses}
    for clause in all_clauses:
        if clause.id in tests and clause.id in reasons:
            yield f"{clause.id}: a test defends it, and docs/clauses-apart.md says that it does not apply"
        elif clause.id not in tests and clause.id not in reasons:
            yield f"{clause.id}: no test, no reason. {clause.level}: {clause.text}"
    for unknown in sorted(reasons.keys() - known):
        yield f"{unknown}: docs/clauses-apart.md names it, docs/clauses.md does not"


def table(all_clauses: list[Clause], tests: Mapping[str, list[str]], reasons: Mapping[str, str]) -> str:
    """A line for each area: how many clauses there are, how many have a test, how many do not apply."""
    areas: dict[str, list[Clause]] = defaultdict(list)
    for clause in all_clauses:
        areas[clause.area].append(clause)
    rows: list[tuple[str, ...]] = [("area", "clauses", "tested", "apart", "open")]
    for area, members in [*areas.items(), ("all", all_clauses)]:
        tested = sum(clause.id in tests for clause in members)
        elsewhere = sum(clause.id in reasons and clause.id not in tests for clause in members)
        rows.append((area, *(str(n) for n in (len(members), tested, elsewhere, len(members) - tested - elsewhere))))
    return "\n".join("".join([row[0].ljust(8), *(cell.rjust(9) for cell in row[1:])]) for row in rows)


def main() -> int:
    """Print the table, or what is known of single clauses; the exit status is 1 where a clause is open."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="clauses, or areas, to show with the tests that defend them"
    )
    wanted = parser.parse_args().ids
    all_clauses = clauses(CLAUSES.read_text())
    tests, reasons = defenders(REPO / "tests"), apart(APART.read_text())
    if wanted:
        for clause in all_clauses:
            if clause.id in wanted or clause.area in wanted:
                print(f"{clause.id} {clause.level}: {clause.text}")
                print(*(f"    {test}" for test in tests.get(clause.id, [])), sep="\n")
                if clause.id in reasons:
                    print(f"    does not apply: {reasons[clause.id]}")
        return 0
    print(table(all_clauses, tests, reasons))
    wrong = list(faults(all_clauses, tests, reasons))
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
