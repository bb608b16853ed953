"""The page about servers that take text only, run as a reader would, with a real llama-server spoken to by text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from demo_files import demo_files
from llama_server import llama_server
from page_run import blocks_of, reader_env, run_block, stop_all_in

from ashore.machine.config import read_spec

pytestmark = pytest.mark.model

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "put-an-engine-behind.md"


def test_the_page_about_text_only_servers(tmp_path: Path, demo_home: Path, free_port: Callable[[], int]) -> None:
    model = demo_files(demo_home)
    page, port = PAGE.read_text(encoding="utf-8"), free_port()
    folder, home = tmp_path / "reader", tmp_path / "home"
    folder.mkdir()
    home.mkdir(mode=0o700)
    with llama_server(Path(model.directory) / model.weights, name="smollm2") as url:
        page = page.replace("http://127.0.0.1:11434", url)
        page = page.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("--port 8080", f"--port {port}")
        blocks, files = blocks_of(page)
        for name, text in files.items():
            (folder / name).write_text(text)
        env = reader_env(folder, home)
        try:
            for block in blocks:
                run_block(block, folder=folder, env=env)
        finally:
            stop_all_in(folder)
    assert read_spec(folder / "hosted.toml").models[0].name == "chat:deepseek-chat"
