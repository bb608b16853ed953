"""Commands that destroy or close something: they ask, they can be tried, and a typo is no success."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ashore.cli.main import main
from ashore.cli.sure import go_ahead, print_json
from ashore.core.counted import counted
from ashore.core.errors import InvalidRequest

Run = Callable[..., tuple[int, str, str]]


class Terminal(io.StringIO):
    """Somebody who types one line."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def ashore(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command line in this process, on a home of its own, with nobody there to be asked."""
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def run(*words: str, typed: str | None = None) -> tuple[int, str, str]:
        if typed is not None:
            monkeypatch.setattr("sys.stdin", Terminal(typed))
        capsys.readouterr()
        code = main(words)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.mark.parametrize(
    ("typed", "sure"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_terminal_is_asked(typed: str, sure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    if sure:
        assert go_ahead("burn it")
    else:
        with pytest.raises(InvalidRequest, match="nothing was changed"):
            go_ahead("burn it")


def test_a_dry_run_wins_over_yes(capsys: pytest.CaptureFixture[str]) -> None:
    assert not go_ahead("burn it", yes=True, dry_run=True)
    assert not go_ahead("burn it", yes=True, dry_run=True, as_json=True)
    plain, document = capsys.readouterr().out.splitlines()
    assert plain == "dry run: would burn it"
    assert json.loads(document) == {"dry_run": True, "would": "burn it"}


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (("cache", "purge", "--all"), "purged: everything"),
        (("cache", "purge", "--all", "--curated"), "0 curated pairs removed"),
        (("model", "gc"), "deleted 0 models, 0 blobs"),
        (("backup", "rekey"), "keep it elsewhere"),
        (("audit", "erase", "os:somebody"), "destroyed 1 key of os:somebody"),
    ],
)
def test_without_a_terminal_they_want_yes(ashore: Run, tmp_path: Path, words: tuple[str, ...], done: str) -> None:
    prepare(ashore, tmp_path, words[0])
    code, _, told = ashore(*words)
    assert code == 2 and "error: this would" in told and "--yes" in told
    code, told, _ = ashore(*words, "--dry-run")
    assert code == 0 and told.startswith("dry run: would")
    code, told, _ = ashore(*words, "--yes")
    assert code == 0 and done in told


def prepare(ashore: Run, tmp_path: Path, noun: str) -> None:
    """Bring a home to where a command of this noun has something to do."""
    if noun == "backup":
        nodes = [tmp_path / f"node{number}" for number in range(3)]
        for node in nodes:
            node.mkdir()
        assert ashore("backup", "init", "--nodes", ",".join(map(str, nodes)), "--code", "2+1")[0] == 0
    if noun == "audit":
        from ashore.cli.bootstrap import open_state
        from ashore.data.audit import SqlSubjectKeys
        from ashore.kit.settings import read_settings

        assert ashore("cache", "purge", "--tenant", "default")[0] == 0  # begins the record
        state = open_state(read_settings())
        SqlSubjectKeys(state).current("os:somebody")
        state.close()


def test_nobody_is_erased_by_a_typo(ashore: Run, tmp_path: Path) -> None:
    prepare(ashore, tmp_path, "audit")
    for more in ((), ("--yes",), ("--dry-run",)):
        code, _, told = ashore("audit", "erase", "os:sombody", *more)
        assert code == 2 and "the audit log has no records of 'os:sombody'" in told
        assert "did you mean 'os:somebody'" in told
    assert (
        ashore("audit", "erase", "os:somebody", "--dry-run")[1]
        == "dry run: would permanently destroy 1 key of os:somebody\n"
    )
    assert ashore("audit", "erase", "os:somebody", typed="y\n")[1] == "destroyed 1 key of os:somebody\n"
    assert "destroyed 0 keys" in ashore("audit", "erase", "os:somebody", "--yes")[1], "it may be called twice"


def test_who_is_in_the_record_without_keys_is_no_typo(ashore: Run, tmp_path: Path) -> None:
    prepare(ashore, tmp_path, "audit")
    records = json.loads(ashore("audit", "search", "--action", "cache:purge", "--json")[1])["items"]
    assert ashore("audit", "erase", records[0]["actor"], "--yes")[1].startswith("destroyed 0 keys of os:")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--outcome", "bad"), "use one of answered, failed, cancelled, begun, allowed, denied, done"),
        (("--kind", "acts"), "use one of request, act, chain"),
        (("--error", "budget_exeeded"), "did you mean 'budget_exceeded'"),
        (("--chain", "clii"), "did you mean 'cli'"),
    ],
)
def test_a_value_that_no_record_has_is_an_error(ashore: Run, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    prepare(ashore, tmp_path, "audit")
    code, _, told = ashore("audit", "search", *words)
    assert code == 2 and says in told


def test_a_dry_run_is_no_act_and_archives_nothing(ashore: Run, tmp_path: Path) -> None:
    prepare(ashore, tmp_path, "audit")
    assert ashore("cache", "purge", "--all", "--dry-run")[0] == 0
    shelf = tmp_path / "shelf"
    code, told, _ = ashore("audit", "archive", "--place", str(shelf), "--after-days", "1", "--dry-run")
    assert code == 0 and "and remove 0 of them, older than 1 day, from" in told and not shelf.exists()
    told = ashore("audit", "search", "--kind", "act", "--json")[1]
    assert [one["action"] for one in json.loads(told)["items"]] == ["audit:search", "cache:purge"]


@pytest.mark.parametrize(("count", "told"), [(0, "0 entries"), (1, "1 entry"), (2000, "2,000 entries")])
def test_counts_have_their_plural(count: int, told: str) -> None:
    assert counted(count, "entry", "entries") == told
    assert counted(1, "record") == "1 record" and counted(2, "record") == "2 records"


def test_json_has_numbers_of_numpy_as_numbers_and_paths_as_texts(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"own": np.float64(1.5), "written": Path("/a"), "items": [("x", 1)]})
    assert json.loads(capsys.readouterr().out) == {"own": 1.5, "written": "/a", "items": [["x", 1]]}
