"""Draw a terminal session as an SVG, for the README.

python docs/picture.py 'netemu replay ...' [...] > docs/run.svg
"""

from __future__ import annotations

import html
import subprocess
import sys

_LINE, _CHARACTER, _MARGIN = 17, 7.85, 14
_COLUMNS, _ROWS = 92, 26


def session(commands: list[str]) -> list[str]:
    """The commands with what they print, cut to the picture's size."""
    lines = []
    for command in commands:
        lines.append(f"$ {command}")
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
        lines += done.stdout.rstrip("\n").split("\n")
        lines.append("")
    return [line[:_COLUMNS] for line in lines[: _ROWS * len(commands)]]


def svg(lines: list[str]) -> str:
    """The lines as a picture; commands stand out."""
    width, height = _COLUMNS * _CHARACTER + 2 * _MARGIN, len(lines) * _LINE + 2 * _MARGIN
    rows = [
        f'<text x="{_MARGIN}" y="{_MARGIN + 12 + n * _LINE}" class="{"c" if line.startswith("$ ") else "o"}">'
        f"{html.escape(line).replace(chr(32), chr(160))}</text>"
        for n, line in enumerate(lines)
        if line
    ]
    style = "text{font:13px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    style += ".c{fill:#9ece6a}.o{fill:#c0caf5}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" width="{width:.0f}" height="{height}">',
            f"<style>{style}</style>",
            f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#1a1b26"/>',
            *rows,
            "</svg>",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(svg(session(sys.argv[1:])) + "\n")
