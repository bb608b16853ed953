"""Check the documentation: every relative link leads somewhere, every `ashore` command that a page names exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ashore.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
COMMAND = re.compile(r"`(?:\.venv/bin/)?ashore ([a-z]+)")


def findings(page: Path) -> list[str]:
    """Return what is wrong with one page, a line each."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT)
    dead = [f"{name}: no such file: {target}" for target in LINK.findall(text) if not (page.parent / target).exists()]
    known = {command.name for command in COMMANDS}
    unknown = [f"{name}: no such command: ashore {noun}" for noun in COMMAND.findall(text) if noun not in known]
    return dead + unknown


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    pages = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/reports/*.md")])
    wrong = [line for page in pages for line in findings(page)]
    print("\n".join(wrong) if wrong else f"{len(pages)} pages are sound")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
