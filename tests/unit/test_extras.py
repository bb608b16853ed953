"""What a hint says of installing an extra, by where ashore was installed from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ashore.core.errors import MissingExtra
from ashore.data.engines import torch_libraries
from ashore.kit.extras import BESIDE_ENGINES, SOURCE, how_to_install
from ashore.kit.store.sources.selection import RemoteFile, choose_files


def test_a_checkout_names_its_own_target(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).touch()
    assert how_to_install("train", source=tmp_path) == f"make -C {tmp_path} train"
    assert how_to_install("edge", source=tmp_path) == f"{tmp_path}/.venv/bin/pip install -e '{tmp_path}[edge]'"


def test_elsewhere_no_index_is_promised(tmp_path: Path) -> None:
    assert "from the wheel" in how_to_install("train", source=tmp_path)


def test_the_target_that_the_hint_names_is_there() -> None:
    """The tests run from a checkout."""
    assert "\ntrain: ## " in (SOURCE / "Makefile").read_text(encoding="utf-8")


def test_what_needs_the_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra) as caught:
        torch_libraries()
    assert caught.value.hint == how_to_install("train")


OF_CPU = {*BESIDE_ENGINES, "openvino", "xllamacpp"}
WITHOUT_CPU = f"""
from importlib.machinery import PathFinder
found = PathFinder.find_spec
def find_spec(name, *rest):
    return None if name.partition(".")[0] in {sorted(OF_CPU)!r} else found(name, *rest)
PathFinder.find_spec = find_spec
"""
"""A `sitecustomize` for an installation without the extra `cpu`."""


def without_cpu(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_CPU)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "ASHORE_HOME": str(tmp_path / "home")}
    return subprocess.run([sys.executable, *words], env=environ, capture_output=True, text=True, timeout=120)


def test_a_model_of_this_machine_needs_the_extra_and_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    done = without_cpu(tmp_path, "-m", "ashore.cli.main", "up", "smollm2", "--dry-run")
    assert done.returncode == 4
    assert "smollm2 needs openvino, gguf" in done.stderr
    assert how_to_install("cpu") in " ".join(done.stderr.split())
    assert not (tmp_path / "home" / "models").exists()


def test_the_catalogue_says_what_is_not_installed_and_a_pull_is_refused_before_it_downloads(tmp_path: Path) -> None:
    program = (
        "from ashore.cli.main import main\n"
        "main(['model', 'catalog', '--json'])\n"
        "raise SystemExit(main(['model', 'pull', 'smollm2']))"
    )
    done = without_cpu(tmp_path, "-c", program)
    here = {one["name"]: one["here"] for one in json.loads(done.stdout)["items"]}
    assert here["smollm2"] == "openvino int8, not installed"
    assert done.returncode == 4 and "smollm2 needs gguf, not installed here" in done.stderr


def test_a_repository_of_gguf_files_is_refused_before_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.kit.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="hf:a/b needs gguf"):
        choose_files([RemoteFile(path="a.gguf", num_bytes=1)], "", "hf:a/b")


def test_the_front_of_engines_elsewhere_needs_nothing_of_the_extra(tmp_path: Path) -> None:
    done = without_cpu(tmp_path, "-m", "ashore.cli.main", "up", "fake:echo", "--dry-run", "--port", "0")
    assert done.returncode == 0, done.stderr
    done = without_cpu(
        tmp_path, "-c", "import ashore.data.worker, ashore.data.engines.host.__main__, ashore.data.engines.vllm.engine"
    )
    assert done.returncode == 0, done.stderr
