"""The tutorial, run as a reader would, on the demo model; and the page for one person alone, on a model that echoes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from page_run import blocks_of, run_block
from served import start_served

PAGE = Path(__file__).parents[2] / "docs/tutorial.md"


@pytest.mark.model
def test_the_tutorial(demo_home: Path, tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    page = PAGE.read_text(encoding="utf-8")
    assert "http://127.0.0.1:8080" in page
    blocks, files = blocks_of(page.replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    server = start_served(
        tmp_path, (), store=demo_home / "store", port=port, grpc_port=0, config=files["ashore.toml"], wait=False
    )
    try:
        server.wait_ready()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        for block in blocks:
            run_block(block, folder=tmp_path, env={**os.environ, "ASHORE_HOME": str(tmp_path), "PATH": path})
    finally:
        server.stop()


def test_the_first_hour_alone(tmp_path: Path, free_port: Callable[[], int]) -> None:
    blocks, _ = blocks_of((PAGE.parent / "how-to/first-hour-alone.md").read_text(encoding="utf-8"))
    home = tmp_path / ".ashore"
    server = start_served(home, ("fake:echo",), store=None, port=free_port(), grpc_port=0)
    try:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environ = {**os.environ, "HOME": str(tmp_path), "ASHORE_HOME": str(home), "PATH": path}
        for block in blocks:
            run_block(block, folder=tmp_path, env=environ)
    finally:
        server.stop()
