"""The table of clauses and tests: what counts as a citation, and that no clause is left open."""

from __future__ import annotations

from tests.conformance import APART, CLAUSES, REPO, Clause, apart, citations, clauses, defenders, faults, table

MODULE = '''
CASES = [("RX-D-01", 1)]
OTHER = ["RX-D-02"]
# RX-D-03 stands outside of all tests

@pytest.mark.parametrize("case", CASES)
def test_one(case):
    """Defends TX-D-01."""
    # and TX-D-02
    assert case  # TX-D-03

def helper():
    """TX-D-04 is not defended by a helper."""

class Ring(RuleBasedStateMachine):
    """PACK-D-01"""

class Record:
    """PACK-D-02"""
'''

SMALL = [Clause("RX-D-01", "MUST", "one"), Clause("RX-D-02", "MAY", "two"), Clause("TX-V-01", "MUST", "three")]


def test_a_test_cites_by_decorator_table_docstring_comment_and_code() -> None:
    assert citations(MODULE) == {
        "test_one": {"RX-D-01", "TX-D-01", "TX-D-02", "TX-D-03"},
        "Ring": {"PACK-D-01"},
    }


def test_a_row_of_the_catalogue_is_read_whole() -> None:
    text = "| id | level | clause | section |\n|---|---|---|---|\n"
    text += "| RX-D-05 | MUST | Without GUEST_CSUM: flags = 0. | P |\n"
    assert clauses(text) == [Clause("RX-D-05", "MUST", "Without GUEST_CSUM: flags = 0.")]
    assert clauses(text)[0].area == "RX"


def test_one_reason_may_hold_for_several_clauses() -> None:
    assert apart("| id | reason |\n|---|---|\n| PCI-D-01, PCI-D-02 | no PCI here |\n") == {
        "PCI-D-01": "no PCI here",
        "PCI-D-02": "no PCI here",
    }


def test_a_clause_that_is_neither_tested_nor_apart_is_a_fault_and_so_is_one_that_is_both() -> None:
    found = list(faults(SMALL, {"RX-D-01": ["t"], "RX-D-02": ["t"]}, {"RX-D-02": "why", "ZZ-D-" + "01": "why"}))
    assert [line.split(":")[0] for line in found] == ["RX-D-02", "TX-V-01", "ZZ-D-" + "01"]


def test_the_table_adds_up() -> None:
    lines = table(SMALL, {"RX-D-01": ["t"]}, {"RX-D-02": "why"}).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["RX", "2", "1", "1", "0"],
        ["TX", "1", "0", "0", "1"],
        ["all", "3", "1", "1", "1"],
    ]


def test_no_clause_is_left_open() -> None:
    """What `make conformance` judges: each clause has a test or a reason why it does not apply, and not both."""
    tests, reasons = defenders(REPO / "tests"), apart(APART.read_text())
    assert list(faults(clauses(CLAUSES.read_text()), tests, reasons)) == []
