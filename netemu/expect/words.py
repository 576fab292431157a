"""The nearest right word for one that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, right: Iterable[str]) -> str | None:
    """The one of the ``right`` words that ``word`` resembles most, if any is close."""
    folded = {one.casefold(): one for one in right}
    found = difflib.get_close_matches(word.casefold(), folded, n=1)
    return folded[found[0]] if found else None


def did_you_mean(word: str, right: Iterable[str]) -> str:
    """The end of a message about ``word``: the nearest right word, or all of them if they are few, or nothing."""
    known = list(right)
    near = nearest(word, known)
    if near is not None:
        return f"; did you mean {near}?"
    return f"; there is {listed(known)}" if 0 < len(known) <= 8 else ""


def listed(words: Iterable[str], joint: str = "and") -> str:
    """The words as an enumeration: a, b and c."""
    known = list(words)
    return f"{', '.join(known[:-1])} {joint} {known[-1]}" if len(known) > 1 else "".join(known)
