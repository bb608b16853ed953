"""The page about shrinking a model, run as a reader would: on a tiny model in CI, on the demo model in full."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.optimise.task import write_files
from page_run import blocks_of, reader_env, run_block
from served import Served, start_served
from tiny_models import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "shrink-a-model.md"
START = "`ashore up --config ashore.toml`"
MADE = ("teacher@fp16", "teacher@int8", "teacher@int4", "teacher-pruned@int8", "student@int8")


def walk(
    folder: Path, home: Path, free_port: Callable[[], int], *, changes: dict[str, str], num_train: int, num_test: int
) -> None:
    """Run the page in `folder` with few examples."""
    page = PAGE.read_text(encoding="utf-8")
    started_at = page.count("\n", 0, page.index(START)) + 1
    port = free_port()
    for old, new in {"http://127.0.0.1:8080": f"http://127.0.0.1:{port}", **changes}.items():
        assert old in page, f"the page has no {old!r} any more"
        page = page.replace(old, new)
    blocks, files = blocks_of(page)
    write_files(folder, num_train=num_train, num_test=num_test)
    prose = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))]
    (folder / "text.txt").write_text("\n\n".join(prose), encoding="utf-8")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    env = reader_env(folder, home)
    server: Served | None = None
    try:
        for block in blocks:
            if server is None and block.line > started_at:
                server = start_served(
                    home, (), store=None, port=port, grpc_port=free_port(),
                    options=("--config", str(folder / "ashore.toml")),
                )  # fmt: skip
            run_block(block, folder=folder, env=env, timeout_s=900)
    finally:
        if server is not None:
            server.stop()
    compared = (folder / "page" / "compare.md").read_text(encoding="utf-8")
    assert all(name in compared for name in MADE)


@pytest.mark.train
@pytest.mark.timeout(600)
def test_the_page_does_what_it_says_on_a_tiny_model(tmp_path: Path, free_port: Callable[[], int]) -> None:
    tiny = make_tiny_model(tmp_path / "tiny", "llama")
    folder = tmp_path / "work"
    walk(
        folder, tmp_path / "home", free_port, num_train=64, num_test=16,
        changes={
            "model pull smollm2": f"model pull {tiny} --name smollm2",
            '"5pp"': '"60pp"',  # What a model with random weights guesses right is chance.
            "240000": "8000",
            "--epochs 4": "--epochs 1",
            "--name student": "--layers 1 --name student",  # It has two, and little beside its vocabulary.
        },
    )  # fmt: skip


@pytest.mark.model
@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_page_does_what_it_says_on_the_demo_model(
    tmp_path: Path, free_port: Callable[[], int], demo_home: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(demo_home / "store", home / "store")
    walk(
        tmp_path / "work", home, free_port, num_train=320, num_test=160,
        changes={
            "ashore model pull smollm2": "ashore model show smollm2",
            '"5pp"': '"40pp"',  # A tenth of the examples heals less than all of them.
            "240000": "12000",
            "--epochs 4": "--epochs 1",
        },
    )  # fmt: skip
