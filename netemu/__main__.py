"""``python -m netemu`` is the command ``netemu``."""

from __future__ import annotations

from netemu.cli import main

main()
