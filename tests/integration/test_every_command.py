"""Every command in a foreign home, a read-only one, on a full disk, without a network, and with files that are none of
what it wants: an error that says what to do, and never that it is a bug of ashore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ashore.cli.commands import COMMANDS

CONDITIONS = ("foreign", "read-only", "full", "cut off", "wrong file")
SCRIPT = Path(__file__).parents[1] / "support" / "command_matrix.py"


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    # pytest's own folder is closed to the user as whom the commands run
    with tempfile.TemporaryDirectory(prefix="ashore-commands-") as scratch:
        command = [sys.executable, str(SCRIPT), scratch, *CONDITIONS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def said(runs: list[dict[str, Any]], condition: str, *words: str) -> tuple[int, str]:
    [run] = [r for r in runs if r["condition"] == condition and r["words"][: len(words)] == list(words)]
    return run["code"], run["said"]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_no_command_calls_it_a_bug(condition: str, runs: list[dict[str, Any]]) -> None:
    mine = [run for run in runs if run["condition"] == condition]
    assert len(mine) > 50
    for run in mine:
        words = " ".join(run["words"])[:200]
        assert run["code"] in (0, 2, 3, 4, 5), f"{words}: {run['code']}\n{run['said']}"
        assert "Traceback" not in run["said"], f"{words}\n{run['said']}"
        assert "bug in ashore" not in run["said"], f"{words}\n{run['said']}"
        assert run["code"] == 0 or run["said"].strip(), words


def test_every_command_of_the_table_was_run(runs: list[dict[str, Any]]) -> None:
    assert {run["words"][0] for run in runs} == {command.name for command in COMMANDS}
    foreign = [run["words"] for run in runs if run["condition"] == "foreign"]
    assert len({tuple(word for word in words[:3] if word.isalpha()) for words in foreign}) > 100


FROM_HOME = [
    ("model", "list"),
    ("up",),
    ("audit", "status"),
    ("job", "list"),
    ("secret", "list"),
    ("status",),
    ("reload",),
]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a home that belongs to another user")
@pytest.mark.parametrize("words", FROM_HOME)
def test_a_foreign_home_is_named_with_its_owner(words: tuple[str, ...], runs: list[dict[str, Any]]) -> None:
    code, text = said(runs, "foreign", *words)
    assert code == 4
    assert "belongs to root; you are nobody" in text
    assert "sudo -u root ASHORE_HOME=" in text


def test_a_target_that_cannot_be_written_is_named(runs: list[dict[str, Any]]) -> None:
    exports = [run for run in runs if run["words"][:3] == ["model", "export", "tiny"]]
    texts = [run["said"] for run in exports if "/proc/x.tar" in run["words"]]
    assert texts
    assert all("/proc" in text for text in texts)


def test_a_full_disk_is_named(runs: list[dict[str, Any]]) -> None:
    code, text = said(runs, "full", "model", "gc")
    assert code in (3, 4), text
    assert "File too large" in text or "disk" in text


def test_a_file_that_is_not_usable_is_named_before_a_model_is_fetched_or_converted(runs: list[dict[str, Any]]) -> None:
    slow = [
        r
        for r in runs
        if r["condition"] == "wrong file" and r["words"][:2] in (["engine", "serve"], ["engine", "selftest"])
    ]
    given = [r for r in slow if {"--key-file", "--to"} & set(r["words"])]
    assert len(given) > 6
    for run in given:
        assert run["code"] in (2, 4) and "prepare:" not in run["said"] and "PIP_INDEX_URL" not in run["said"], run
