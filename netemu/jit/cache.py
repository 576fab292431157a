"""Where compiled kernels are kept between runs.

A compiled entry point depends on the compiler, which is `netemu.jit`, and on every kernel it calls, wherever that
stands. So the folder's name carries a hash of the former's source, a file's name one of the latter
(`netemu.jit.fingerprint`). Of both, what was not used for longest is forgotten.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

_COMPILER = Path(__file__).resolve().parent
_KEEP = 6
_KEEP_FILES = 1000
"""Some eight times as many as there are entry points."""


def _root() -> Path:
    """The folder of all caches: ``NETEMU_CACHE_DIR``, else netemu's place under ``XDG_CACHE_HOME``."""
    own = os.environ.get("NETEMU_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netemu"


def _source_hash() -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(_COMPILER.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def folder() -> Path | None:
    """This compiler's cache folder, made if need be; None where none can be written."""
    try:
        root = _root()
        mine = root / f"kernels-{_source_hash()}"
        mine.mkdir(parents=True, exist_ok=True)
        if not os.access(mine, os.W_OK):
            return None
        os.utime(mine)
        for old in _oldest(root.glob("kernels-*"), _KEEP):
            shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError):
        return None
    return mine


def forget_files(mine: Path) -> None:
    """Remove all but the files of a cache folder that were used last."""
    for path in _oldest(mine.glob("*.o"), _KEEP_FILES):
        path.unlink(missing_ok=True)


def _oldest(paths: Iterable[Path], keep: int) -> list[Path]:
    """All but the newest ``keep``."""
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]
