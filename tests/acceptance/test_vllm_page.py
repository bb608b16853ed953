"""The page about vLLM, run as a reader would: two engines of ours with the demo model stand for the servers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from page_run import blocks_of, reader_env, run_block, stop_all_in

from ashore.machine.config import read_spec

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "serve-with-vllm.md"


def test_the_page_about_vllm(tmp_path: Path, demo_home: Path, free_port: Callable[[], int]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for port in ("8080", "8101", "8102"):
        page = page.replace(f"127.0.0.1:{port}", f"127.0.0.1:{(chosen := free_port())}")
        page = page.replace(f"--port {port}", f"--port {chosen}")
    blocks, files = blocks_of(page)
    folder = tmp_path / "reader"
    folder.mkdir()
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    subprocess.run(["cp", "-al", str((demo_home / "store").resolve()), str(home / "store")], check=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    env = reader_env(folder, home)
    try:
        for block in blocks:
            run_block(block, folder=folder, env=env)
    finally:
        stop_all_in(folder)
    written = read_spec(folder / "vllm.toml").models[0].engine
    assert (written.kind, written.options["tensor_parallel_size"]) == ("vllm", 2)
