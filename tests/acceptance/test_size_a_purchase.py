"""The page about sizing a purchase, run as a reader would."""

from __future__ import annotations

from pathlib import Path

from page_run import blocks_of, reader_env, run_block

from ashore.machine.config import read_spec

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "size-a-purchase.md"


def test_the_page_about_sizing(tmp_path: Path) -> None:
    blocks, files = blocks_of(PAGE.read_text(encoding="utf-8"))
    folder = tmp_path / "reader"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    env = reader_env(folder, tmp_path / "home")
    assert len(blocks) >= 5
    for block in blocks:
        run_block(block, folder=folder, env=env)
    (model,) = read_spec(folder / "bought.toml").models
    assert model.engine.kind == "vllm"
