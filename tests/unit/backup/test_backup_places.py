"""Places of a backup as they are typed: relative ones are kept as what they mean now."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.cli.main import main


def test_relative_places_are_kept_as_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["backup", "init", "--nodes", "a, ./b,~/c", "--code", "2+1"]) == 0
    monkeypatch.chdir("/")
    assert main(["backup", "status", "--json"]) in (0, 4)
    said = capsys.readouterr().out
    assert all(str(tmp_path / name) in said for name in "abc")


def test_a_place_that_is_neither_a_folder_nor_a_bucket_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    assert main(["backup", "init", "--nodes", "ftp://x/a,/b,/c", "--code", "2+1"]) == 2
    assert "neither an absolute path nor a bucket" in capsys.readouterr().err
