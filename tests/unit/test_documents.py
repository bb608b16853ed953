"""Links, files and commands that the documentation and the docstrings name exist."""

from __future__ import annotations

import pytest

from deploy.check_docs import ROOT, findings, findings_in, lost_files, missing_word, modules, pages


def test_every_link_file_and_command_of_a_page_exists() -> None:
    assert [line for page in pages() for line in findings(page)] == []


def test_every_file_that_a_docstring_or_comment_names_exists() -> None:
    assert [line for module in modules() for line in findings_in(module)] == []


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("`engines/cards.py`, serving/flights.py and `docs/adr/0008`", []),
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
