"""`ashore optimize prune` as a user types it, up to where torch would be loaded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import make_tiny_model

from ashore.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prune(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command over a home with a tiny model and a text; give exit code, output and talk."""
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    assert main(("model", "pull", str(make_tiny_model(tmp_path / "tiny", "llama", layers=6)))) == 0
    choice = random.Random(0).choice
    (tmp_path / "text.txt").write_text(" ".join(choice(("the", "model", "runs", "12")) for _ in range(1500)))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(("optimize", "prune", *words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_dry_run_tells_what_would_go_and_what_that_can_give(prune: Run, tmp_path: Path) -> None:
    code, out, _ = prune("tiny", "--remove", "30%", "--heal", "text.txt", "--dry-run")
    assert code == 0
    assert "tiny -> tiny-pruned30, mixed" in out
    assert "layers" in out
    assert "times as fast for one stream" in out
    assert not (tmp_path / "home" / "cache" / "pruning").exists()


def test_a_dry_run_in_json(prune: Run) -> None:
    code, out, _ = prune(
        "tiny", "--remove", "0.3", "--calibration", "text.txt", "--kind", "depth", "--dry-run", "--json"
    )
    told = json.loads(out)
    assert code == 0
    assert told["parts"]["layers"] == {"before": 6, "after": 3}
    assert told["removed"] >= 0.3
    counts = told["parts"]["parameters"]
    assert told["ceiling"] == pytest.approx(counts["before"] / counts["after"])
    assert told["int8_ceiling"] == pytest.approx(2 * told["ceiling"])


def test_zeros_are_told_to_give_nothing(prune: Run) -> None:
    code, out, _ = prune("tiny", "--remove", "30%", "--kind", "unstructured", "--dry-run")
    assert code == 0
    assert "as large and as fast as before" in out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--remove", "lots", "--heal", "text.txt"), "--remove 30%"),
        (("--remove", "90%", "--heal", "text.txt"), "the most is --remove"),
        (("--remove", "30%"), "--heal FILE"),
        (("--remove", "30%", "--heal", "absent.txt"), "check its path"),
    ],
)
def test_what_cannot_be_done_exits_2_and_says_what_to_do(prune: Run, words: tuple[str, ...], hint: str) -> None:
    code, _, err = prune("tiny", *words)
    assert code == 2
    assert hint in err
