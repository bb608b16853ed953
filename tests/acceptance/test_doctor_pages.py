"""The pages about the doctor and about drills, run as a reader would, on one server with a made-up model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from page_run import blocks_of, run_block
from served import Served, start_served

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
CONFIG = """
[[model]]
name = "fake:random?tok_per_s=200&tokens=40"
alias = "m"
replicas = 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("pages") / "home"
    home.mkdir(mode=0o700)
    running = start_served(home, (), store=None, port=free_port(), grpc_port=free_port(), config=CONFIG)
    yield running
    running.stop()


@pytest.mark.full
@pytest.mark.parametrize("name", ["find-what-is-wrong.md", "rehearse-a-failure.md"])
def test_the_page(name: str, server: Served, tmp_path: Path) -> None:
    page = (PAGES / name).read_text(encoding="utf-8").replace("http://127.0.0.1:8080", server.root_url)
    blocks, _ = blocks_of(page)
    env = {
        "ASHORE_HOME": str(server.home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
    }
    assert blocks
    for block in blocks:
        run_block(block, folder=tmp_path, env=env)
