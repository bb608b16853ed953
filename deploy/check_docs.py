"""Check the documentation: every relative link leads somewhere, every file and every `ashore` command that a page names
exists. Docstrings and comments are read for files, too."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ashore.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "tests", "benchmarks", "deploy", "docs")
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
WORDS = r"(?:\.venv/bin/)?ashore ([a-z][a-z0-9|-]*(?: [a-z][a-z0-9|-]*)*)"
INLINE = re.compile(rf"`{WORDS}")
LINE = re.compile(rf"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*{WORDS}", re.MULTILINE)
FENCE = re.compile(r"^\s*```[a-z]*\n(.*?)^\s*```", re.MULTILINE | re.DOTALL)
PATH = re.compile(
    r"(?<![\w./:~$}*-])"
    rf"((?:[\w-]+/)*\w[\w-]*(?:\.[\w-]+)*\.(?:py|md|proto|sh)|(?:{'|'.join(FOLDERS)})/[\w./-]*\w)"
    r"(?![\w/*({])"
)
STAND_IN = re.compile(r"(?:^|[/_])[A-Z]+(?=[/._]|$)")
"""`ROOM/calls.py`: a word in capitals stands for a name."""
SAID = re.compile(r'"""(.*?)"""|#([^\n]*)', re.DOTALL)
ELSEWHERE = frozenset(
    {
        "report.md",
        "compare.md",
        "manifest.md",
        "image-layout.md",
        "docs/config.md",
        "docs/spec.md",
        "src/llama-quant.cpp",
    }
)
"""What commands write, and files of other projects."""


FOLLOWS = re.compile(r"<!-- follows ([0-9a-f]{12}) -->\n\Z")
"""Last line of a page in Chinese: git's name of the English text that it says the same as."""


def blob(page: Path) -> str:
    """Return git's name of a page's text. It needs no history, and stays when a commit is rebased."""
    data = page.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()[:12]


def behind(page: Path) -> str:
    """Return what a page in Chinese must catch up with; empty: it says what the English one says."""
    english = page.with_name(page.name.replace(".zh-CN", ""))
    found = FOLLOWS.search(page.read_text(encoding="utf-8"))
    if found is not None and found[1] == blob(english):
        return ""
    what = f"see `git diff {found[1]} HEAD:{english.relative_to(ROOT)}`, " if found else ""
    return f"{page.name}: {what}say it in Chinese, then write `<!-- follows {blob(english)} -->` as its last line"


@cache
def names() -> frozenset[str]:
    """Return the name of every file that git has or would take."""
    listed = ("git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard")
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    return frozenset(Path(line).name for line in found)


def lost_files(text: str, folder: Path) -> list[str]:
    """Return the files that a text names and that are nowhere.

    A path begins at the checkout, the source, the tests, or a folder above the text, and may leave out how its name
    ends. A bare name may be that of any file.
    """
    above = [one for one in (folder, *folder.parents) if ROOT in one.parents]
    begins = [ROOT, ROOT / "src/ashore", ROOT / "tests", *above]
    lost = []
    for path in sorted(set(PATH.findall(text)) - ELSEWHERE):
        known = path in names() if "/" not in path else any(any(begin.glob(f"{path}*")) for begin in begins)
        if not known and not STAND_IN.search(path):
            lost.append(path)
    return lost


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
    """Return what is wrong with one page, a line each. Reports and decisions tell of their day: their files may be
    gone."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT)
    wrong = [f"{name}: no such file: {target}" for target in LINK.findall(text) if not (page.parent / target).exists()]
    if page.parent.name not in ("reports", "adr"):
        wrong += [f"{name}: no such file: {path}" for path in lost_files(text, page.parent)]
    said = sorted({*INLINE.findall(text), *(words for block in FENCE.findall(text) for words in LINE.findall(block))})
    for words in said:
        if word := missing_word(words.split()):
            wrong.append(f"{name}: ashore {words}: no such command: {word}")
    return wrong


def findings_in(module: Path) -> list[str]:
    """Return the files that the docstrings and comments of a module name and that are nowhere, a line each."""
    said = "\n".join(doc or comment for doc, comment in SAID.findall(module.read_text(encoding="utf-8")))
    return [f"{module.relative_to(ROOT)}: no such file: {path}" for path in lost_files(said, module.parent)]


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/reports/*.md")])


def modules() -> list[Path]:
    """Return every module that people write."""
    return sorted(one for name in FOLDERS for one in (ROOT / name).rglob("*.py") if one.parent.name != "gen")


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    wrong = [line for page in pages() for line in findings(page)]
    wrong += [line for module in modules() for line in findings_in(module)]
    print("\n".join(wrong) if wrong else f"{len(pages())} pages and {len(modules())} modules are sound")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
