"""The walk-through of an inspection: every command of the page, in its order, with what it must print."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from page_run import Block, blocks_of, run_block
from served import Served
from tiny_models import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "pass-an-inspection.md"
START = "`ashore up --config ashore.toml`"

Start = Callable[..., Served]


def walk(tmp_path: Path, free_port: Callable[[], int], *, changes: dict[str, str], home: Path) -> list[str]:
    """Run the page in a folder of its own and return what its blocks printed."""
    from served import start_served

    page = PAGE.read_text(encoding="utf-8")
    started_at = page.count("\n", 0, page.index(START)) + 1
    port = free_port()
    changes = {"ANCHOR": str(tmp_path / "anchor"), "http://127.0.0.1:8080": f"http://127.0.0.1:{port}", **changes}
    blocks, files = blocks_of(_changed(page, changes))
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "anchor").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "ASHORE_HOME": str(home),
    }
    said: list[str] = []
    server: Served | None = None
    try:
        for block in blocks:
            if server is None and block.line > started_at:
                server = start_served(
                    home, (), store=None, port=port, grpc_port=free_port(),
                    options=("--config", str(folder / "ashore.toml")),
                )  # fmt: skip
            said.append(run_block(block, folder=folder, env=env))
    finally:
        if server is not None:
            server.stop()
    return said


def _changed(page: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in page, f"the page has no {old!r} any more"
        page = page.replace(old, new)
    return page


def test_the_page_does_what_it_says_on_the_fake_engine(tmp_path: Path, free_port: Callable[[], int]) -> None:
    tiny = make_tiny_model(tmp_path / "tiny", "llama")
    said = walk(
        tmp_path, free_port, home=tmp_path / "home",
        changes={'name = "smollm2"': 'name = "fake:echo"', "model pull smollm2": f"model pull {tiny} --name smollm2"},
    )  # fmt: skip
    assert "11010519491231002X" in said[-4]


@pytest.mark.model
@pytest.mark.full
def test_the_page_does_what_it_says_with_the_real_model(
    tmp_path: Path, free_port: Callable[[], int], demo_home: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(demo_home / "store", home / "store")
    walk(
        tmp_path, free_port, home=home,
        changes={"ashore model pull smollm2": "ashore model show smollm2"},
    )  # fmt: skip


def test_a_page_that_shows_what_nothing_prints_fails(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"]}
    assert run_block(Block(line=1, commands="echo one; echo two", shown=("one", "t…o")), folder=tmp_path, env=env)
    for commands, shown in (("echo one", ("two",)), ("echo two; echo one", ("one", "two")), ("false", ())):
        with pytest.raises(AssertionError):
            run_block(Block(line=1, commands=commands, shown=shown), folder=tmp_path, env=env)
