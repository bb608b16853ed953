"""The pages about a first model, typed in: on one GPU, where a stand-in speaks vLLM's HTTP; choosing one; web chats."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from page_run import blocks_of, missing_line, reader_env, run_block
from served import Served, call
from tiny_models import make_tiny_model
from vllm_double import write_program
from waiting import eventually

PAGES = Path(__file__).parents[2] / "docs" / "how-to"


def test_the_page_about_one_gpu(tmp_path: Path, free_port: Callable[[], int]) -> None:
    page = (PAGES / "one-gpu.md").read_text(encoding="utf-8")
    page = page.replace("model pull qwen3-8b", "model pull ./tiny --name qwen3-8b").replace("8080", str(free_port()))
    page = page.replace("context_tokens = 8192", "context_tokens = 512")
    folder, home = tmp_path / "reader", tmp_path / "home"
    make_tiny_model(folder / "tiny", "qwen3")
    program = write_program(folder / "vllm" / "bin" / "vllm")
    env = reader_env(folder, home)
    blocks, _ = blocks_of(page)
    try:
        said = [run_block(block, folder=folder, env=env) for block in blocks]
    finally:
        subprocess.run(["ashore", "stop"], env=env, capture_output=True, check=False)
    assert any(f"{program} serve" in text for text in said), "the dry run shows the command"


def test_the_page_about_choosing_a_model(tmp_path: Path, demo_home: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    subprocess.run(["cp", "-al", str((demo_home / "store").resolve()), str(home / "store")], check=True)
    blocks, _ = blocks_of((PAGES / "choose-a-model.md").read_text(encoding="utf-8"))
    for block in blocks:
        run_block(block, folder=tmp_path, env=reader_env(tmp_path, home))


def test_the_page_about_web_chats(tmp_path: Path, served: Callable[..., Served]) -> None:
    server = served("fake:echo")
    page = (PAGES / "connect-open-webui-dify-n8n.md").read_text(encoding="utf-8")
    page = page.replace("8080/v1/models", f"{server.port}/v1/models").replace('"id":"smollm2"', '"id":"fake:echo"')
    models, log = blocks_of(page.partition("## Open WebUI")[0])[0][0], page.rpartition("```text\n")[2].splitlines()[0]
    run_block(models, folder=tmp_path, env=reader_env(tmp_path, server.home))
    asked = {"model": "fake:echo", "messages": [{"role": "user", "content": "hi"}]}
    call(server, "POST", "/v1/chat/completions", server.key, asked)
    env = reader_env(tmp_path, server.home)

    def logged() -> str:
        return subprocess.run(["ashore", "logs", "api"], env=env, capture_output=True, text=True, check=True).stdout

    eventually(lambda: not missing_line(logged(), [log.replace("smollm2", "fake:echo")]))
