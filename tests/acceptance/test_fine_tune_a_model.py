"""The page about fine-tuning, run as a reader would, on a tiny model with few examples."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.optimise.task import write_files
from page_run import blocks_of, reader_env, run_block
from served import start_served
from tiny_models import make_tiny_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "fine-tune-a-model.md"
SERVED_AT = "**Serve both.**"


@pytest.mark.train
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says(tmp_path: Path, free_port: Callable[[], int]) -> None:
    folder, home = tmp_path / "work", tmp_path / "home"
    port = free_port()
    page = PAGE.read_text(encoding="utf-8")
    changes = {
        "model pull smollm2": f"model pull {make_tiny_model(tmp_path / 'tiny', 'llama')} --name smollm2",
        "http://127.0.0.1:8080": f"http://127.0.0.1:{port}",
        "--limit 100": "--limit 8",
    }
    for old, new in changes.items():
        assert old in page, f"the page has no {old!r} any more"
        page = page.replace(old, new)
    served_at = page.count("\n", 0, page.index(SERVED_AT)) + 1
    blocks, files = blocks_of(page)
    write_examples(folder)
    home.mkdir()
    (home / "ashore.toml").write_text(files.pop("ashore.toml").replace("~/.ashore", str(home)), encoding="utf-8")
    assert not files
    env = reader_env(folder, home)
    said = "".join(
        run_block(block, folder=folder, env=env, timeout_s=300) for block in blocks if block.line < served_at
    )
    before, after = map(float, re.findall(r"validation loss ([\d.]+) -> ([\d.]+)", said)[0])
    assert after < before
    server = start_served(
        home, (), store=None, port=port, grpc_port=free_port(), options=("--config", str(home / "ashore.toml"))
    )
    try:
        for block in blocks:
            if block.line > served_at:
                run_block(block, folder=folder, env=env, timeout_s=300)
    finally:
        server.stop()


def write_examples(folder: Path) -> None:
    """Write the three files that the page asks for."""
    files = write_files(folder, num_train=80, num_test=12)
    lines = files.train.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "examples.jsonl").write_text("".join(lines[:64]), encoding="utf-8")
    (folder / "held-out.jsonl").write_text("".join(lines[64:]), encoding="utf-8")
    files.kinds.rename(folder / "task.jsonl")
