"""Draw a terminal session: `python deploy/draw_session.py < docs/session.txt > docs/session.svg`.

A line that begins with `$ ` is a command. The picture loads nothing from elsewhere.
"""

from __future__ import annotations

import io
import re
import sys

from rich.console import Console
from rich.text import Text

WIDTH = 92


def draw(session: str) -> str:
    """Return the picture of a session."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in session.rstrip("\n").splitlines():
        console.print(Text(line, style="bold green" if line.startswith("$ ") else ""), soft_wrap=True)
    console.print()
    picture = console.export_svg(title="ashore", unique_id="session")
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL).replace("Fira Code", "ui-monospace")


if __name__ == "__main__":
    sys.stdout.write(draw(sys.stdin.read()))
