"""Links, files and commands that the documentation and the docstrings name exist."""

from __future__ import annotations

import json
import re
import tomllib
from xml.etree import ElementTree

import pytest
from deploy.check_docs import FENCE, LINK, ROOT, behind, findings, findings_in, lost_files, missing_word, modules, pages
from deploy.record_first_minute import PROGRESS, Line, draw
from markdown_it import MarkdownIt

CHINESE = sorted((ROOT / "docs").rglob("*.zh-CN.md"))
"""Beside the English page of each."""


def test_every_link_file_and_command_of_a_page_exists() -> None:
    assert [line for page in pages() for line in findings(page)] == []


def test_every_file_that_a_docstring_or_comment_names_exists() -> None:
    assert [line for module in modules() for line in findings_in(module)] == []


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("`data/engines/cards.py`, data/path/single_flight.py and `docs/adr/0008`", []),
        ("a folder `engines/KIND/` with `ROOM/section.py` and 2026_DATE.md", []),
        ("`engines/no_such.py`", ["engines/no_such.py"]),
        ("tests/unit/test_no_such.py, or docs/nowhere", ["docs/nowhere", "tests/unit/test_no_such.py"]),
        ("see nobody_has_this.py.", ["nobody_has_this.py"]),
    ],
)
def test_a_file_that_is_gone_is_found(text: str, lost: list[str]) -> None:
    assert lost_files(text, ROOT / "docs") == lost


def test_a_command_that_is_gone_is_found() -> None:
    assert missing_word(["model", "teleport"]) == "teleport"
    assert missing_word(["model", "pull"]) == ""


def test_the_map_names_every_room() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = {
        row[1]: set(re.findall(r"`(\w+)`", row[2]))
        for row in re.finditer(r"(?m)^\| \*\*(\w+)\*\* \|[^|]*\|(.*)$", page)
    }
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    assert set(rows) == {name for layer in layers for name in re.findall(r"\w+", layer)}
    for tower, named in rows.items():
        assert named == {one.parent.name for one in (ROOT / "src/ashore" / tower).glob("*/__init__.py")}, tower


def test_the_first_pages_stay_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_bytes()) <= 8000
    for page in ("README.md", "README.zh-CN.md"):
        assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) <= 90, page


def test_the_index_names_every_how_to_page() -> None:
    named = set(LINK.findall((ROOT / "docs/README.md").read_text(encoding="utf-8")))
    assert {f"how-to/{page.name}" for page in (ROOT / "docs/how-to").glob("*.md")} - named == set()


def test_a_page_in_chinese_has_the_same_commands_and_links() -> None:
    """A link may lead to the Chinese page, where there is one."""
    for page in CHINESE:
        english = page.with_name(page.name.replace(".zh-CN", ""))
        texts = [one.read_text(encoding="utf-8") for one in (page, english)]
        blocks, original = (FENCE.findall(text) for text in texts)
        assert blocks == original, page.name
        links, others = ({link.replace(".zh-CN.md", ".md") for link in LINK.findall(text)} for text in texts)
        assert links - {english.name} == others - {english.name}, page.name


def test_a_term_has_one_form_in_chinese() -> None:
    """What the last column of the glossary names is written nowhere."""
    glossary = ROOT / "docs/glossary.zh-CN.md"
    rows = re.findall(r"(?m)^\|[^|]+\|[^|]+\|[^|]*\| ([^| ]+) \|$", glossary.read_text(encoding="utf-8"))
    refused = set(rows) - {"不写作"}
    assert len(refused) > 10
    words = (ROOT / "src/ashore/control/console/words").glob("*zh.toml")
    for page in {*CHINESE, ROOT / "README.zh-CN.md", *words} - {glossary}:
        assert {word for word in refused if word in page.read_text(encoding="utf-8")} == set(), page.name


def test_a_page_in_chinese_follows_the_english_one_of_today() -> None:
    assert len(CHINESE) > 10
    assert [line for page in CHINESE if (line := behind(page))] == []


def test_bold_words_of_a_page_in_chinese_are_shown_bold() -> None:
    """Markdown takes `**` for the end of bold words only behind a letter where a Chinese letter follows."""
    for page in pages():
        if page.name.endswith(".zh-CN.md"):
            assert "**" not in MarkdownIt().render(page.read_text(encoding="utf-8")), page.name


def figures(line: str) -> list[str]:
    """Return the figures of a line of two digits or more, without those of its links."""
    return sorted(re.findall(r"(?<![\w./-])\d[\d,.]*\d(?![\w-])", re.sub(r"\]\([^)]*\)", "]", line)))


def test_both_readmes_show_the_same_figures_and_each_stands_among_the_benchmarks() -> None:
    pages = [(ROOT / name).read_text(encoding="utf-8").splitlines() for name in ("README.md", "README.zh-CN.md")]
    english, chinese = ([figures(line) for line in page if line.startswith("| ")] for page in pages)
    assert english == chinese and len(english) > 8
    measured = {
        one for line in (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8").splitlines() for one in figures(line)
    }
    said = {one for line in english for one in line}
    assert said - measured == {"40"}  # moves: 20 promotions and 20 rollbacks


def test_a_line_of_a_decision_fits_the_width_of_the_code() -> None:
    for page in (ROOT / "docs/adr").glob("*.md"):
        lines = page.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == [], page.name


def test_the_picture_shows_what_was_recorded() -> None:
    seen = [Line(*line) for line in json.loads((ROOT / "docs/first-minute.json").read_text("utf-8"))]
    picture = (ROOT / "docs/first-minute.svg").read_text("utf-8")
    assert draw(seen) == picture, "draw it again: `make record`"
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1:8080", "")
    shown = [
        "".join(text.itertext()) for text in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert shown[0] == "$ ashore up" and "Ctrl-C stops it." in shown and "Card [BANK_CARD_1], please." in shown
    assert len(shown) == sum(not (found := PROGRESS.search(line.text)) or found[1] == found[2] for line in seen)
