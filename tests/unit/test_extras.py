"""What a hint says of installing an extra, by where ashore was installed from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ashore.engines import torch_libraries
from ashore.errors import MissingExtra
from ashore.extras import SOURCE, how_to_install


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
