"""Check the documentation: every relative link leads somewhere, every `ashore` command that a page names exists."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ashore.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
WORDS = r"(?:\.venv/bin/)?ashore ([a-z][a-z|-]*(?: [a-z][a-z|-]*)*)"
INLINE = re.compile(rf"`{WORDS}")
LINE = re.compile(rf"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*{WORDS}", re.MULTILINE)
FENCE = re.compile(r"^\s*```[a-z]*\n(.*?)^\s*```", re.MULTILINE | re.DOTALL)


@cache
def command(noun: str) -> Any:
    """Return the application behind `ashore NOUN`, or None."""
    for known in COMMANDS:
        if known.name == noun:
            module, _, name = known.target.partition(":")
            return getattr(import_module(module), name)
    return None


def missing_word(words: list[str]) -> str:
    """Return the first word that no command has, or nothing. `seal|unseal` names two; arguments are not judged."""
    if words[0] in ("help", "version"):  # words of `ashore` itself
        return ""
    app = command(words[0])
    if app is None:
        return words[0]
    for word in words[1:]:
        verbs = [name for name in app if not name.startswith("-")]
        if not verbs:
            return ""
        for verb in word.split("|"):
            if verb not in verbs:
                return "" if app.default_command else verb
        app = app[word.split("|")[0]]
    return ""


def findings(page: Path) -> list[str]:
    """Return what is wrong with one page, a line each."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT)
    dead = [f"{name}: no such file: {target}" for target in LINK.findall(text) if not (page.parent / target).exists()]
    said = sorted({*INLINE.findall(text), *(words for block in FENCE.findall(text) for words in LINE.findall(block))})
    unknown = [
        f"{name}: ashore {words}: no such command: {word}" for words in said if (word := missing_word(words.split()))
    ]
    return dead + unknown


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    pages = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/reports/*.md")])
    wrong = [line for page in pages for line in findings(page)]
    print("\n".join(wrong) if wrong else f"{len(pages)} pages are sound")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
