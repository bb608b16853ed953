"""`ashore up SOURCE --dry-run` says what is wrong with a source as a start would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ashore.cli.main import main


def test_a_source_that_cannot_be_planned_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.safetensors").write_bytes(b"")
    for source, told in (
        ("./nope", "nope does not exist"),
        ("./empty", "empty has no weights"),
        ("./full", "pull it first: `ashore model pull ./full`"),
        ("hf:a/b", "hf:a/b is not in the store yet"),
        ("smolm2", "did you mean 'smollm2'"),
        ("qwen3:8b", "did you mean qwen3-8b (hf:Qwen/Qwen3-8B)?"),
        ("hf:acme/acme-14b", "by its name it has 14 billion parameters: about 26.1 GiB on disk"),
        ("glm-4.5-air", "serves glm-4.5-air, which is glm4_moe in safetensors files: OpenVINO"),
    ):
        assert main(["up", source, "--dry-run"]) == 2
        assert told in capsys.readouterr().err


def test_a_model_that_this_machine_cannot_hold_is_refused_before_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    assert main(["up", "deepseek-v3", "--dry-run"]) == 3
    assert "the weights take 664 GiB; " in capsys.readouterr().err


def test_a_source_of_the_catalogue_is_planned_before_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    assert main(["up", "hf:Qwen/Qwen3-0.6B", "--dry-run", "--grpc-port", "0"]) == 0
    shown = capsys.readouterr().out
    assert "qwen3-0.6b  (not in the store; `ashore up` pulls it; weights and KV cache take" in shown
    assert "openvino int8" in shown


def test_what_an_offline_start_refuses_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free_port: Callable[[], int],
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    ports = ("--port", str(free_port()), "--grpc-port", "0")
    assert main(["up", "smollm2", "--dry-run", *ports]) == 0
    code = main(["up", "smollm2", "--dry-run", *ports, "--offline"])
    assert code != 0 and "not in the store, and ashore is offline: smollm2" in capsys.readouterr().err
    assert main(["up", "fake:echo", "--dry-run", *ports, "--offline"]) == 0


@pytest.mark.parametrize(
    "name, told", [("fake:eco", "is not a fake model"), ("fake:echo?tok_per_sec=20", "unknown option 'tok_per_sec'")]
)
def test_a_fake_model_that_cannot_be_loaded_is_refused(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    assert main(["up", name, "--dry-run"]) == 2
    assert told in capsys.readouterr().err
