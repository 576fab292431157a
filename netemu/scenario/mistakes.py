"""What is wrong with a scenario: mistakes with file and line, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

from netemu.errors import ConfigError
from netemu.scenario.positions import Path


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake."""

    line: int
    """From 1; 0 for one that is of the whole file."""
    message: str
    """What is wrong, what was expected and, where there is one, the nearest right word."""


class ScenarioError(ConfigError):
    """A scenario that cannot be run; ``mistakes`` are sorted by line."""

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        """The mistakes of the file ``path``, one at least."""
        self.path = path
        self.mistakes = sorted(set(mistakes))
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """A line of text for each mistake, as compilers write them."""
        return [
            f"{self.path}:{one.line}: {one.message}" if one.line else f"{self.path}: {one.message}"
            for one in self.mistakes
        ]


class Mistakes:
    """The mistakes of one file while they are collected."""

    def __init__(self, path: str, lines: dict[Path, int]) -> None:
        """None so far; ``lines`` says where keys stand (`netemu.scenario.positions`)."""
        self.path = path
        self._lines = lines
        self._found: list[Mistake] = []

    def add(self, where: Path, message: str) -> None:
        """A mistake at a key or value, or if it is not in the file, at what it should be in."""
        while where not in self._lines:
            where = where[:-1]
        self._found.append(Mistake(self._lines[where], message))

    def raise_any(self) -> None:
        """Raise `ScenarioError` if there are any."""
        if self._found:
            raise ScenarioError(self.path, self._found)
