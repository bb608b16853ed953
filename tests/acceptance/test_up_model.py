"""`ashore up` with the real demo model, through the official client."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from served import Served, start_served

PROJECT = Path(__file__).parents[2]
QUESTION = "What is the capital of France?"

Start = Callable[..., Served]


def said_by_the_blocks_of(page: Path, server: Served) -> str:
    """Run the Python blocks of a page against a server, and return what they print; what the page installs is there."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for module in re.findall(r"^(?:from|import) (\w+)", "\n".join(blocks), re.MULTILINE):
        assert module in sys.stdlib_module_names or f"pip install {module}" in text, f"{page.name} installs no {module}"
    user = server.home.parent / "user"
    user.mkdir(exist_ok=True)
    if not (user / ".ashore").exists():
        (user / ".ashore").symlink_to(server.home)
    said = ""
    for block in blocks:
        program = block.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "HOME": str(user)}, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said += done.stdout
    return said


@pytest.mark.model
def test_the_demo_model_names_the_capital_of_france_streamed(served: Start) -> None:
    server = served(forked=False)
    with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as api:
        names = sorted(model.id for model in api.models.list())
        pieces = [
            chunk.choices[0].delta.content or ""
            for chunk in api.chat.completions.create(
                model="smollm2", messages=[{"role": "user", "content": QUESTION}], stream=True, temperature=0
            )
            if chunk.choices
        ]
        near, far, other = (
            item.embedding
            for item in api.embeddings.create(
                model="minilm", input=["a cat sat on the mat", "a kitten rests on a rug", "interest rates rose"]
            ).data
        )
    for name in ("README.md", "README.zh-CN.md"):
        assert "Paris" in said_by_the_blocks_of(PROJECT / name, server), name
    printed = re.search(r"  (curl -N .*?}')\n", server.said(), re.DOTALL)
    assert printed, server.said()
    tried = subprocess.run(["sh", "-c", printed[1]], capture_output=True, text=True, timeout=60, check=True)
    assert "Paris" in tried.stdout, "what a newcomer tries first"
    assert names == ["minilm", "smollm2"]
    assert "Paris" in "".join(pieces)
    assert len([piece for piece in pieces if piece]) > 3, "the answer did not come in pieces"
    assert (
        sum(a * b for a, b in zip(near, far, strict=True)) > sum(a * b for a, b in zip(near, other, strict=True)) + 0.2
    )
    assert server.stop() == 0


@pytest.mark.model
def test_with_every_route_cut_the_demo_model_answers(demo_home: Path, tmp_path: Path) -> None:
    namespace = ["unshare", "--map-root-user", "--net", "--"]
    probe = subprocess.run([*namespace, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"network namespaces are not permitted here: {probe.stderr.strip()}")
    script = Path(__file__).parents[1] / "support" / "ask_cut_off.py"
    words = [str(tmp_path / "home"), "smollm2", QUESTION, str(demo_home / "store")]
    result = subprocess.run(
        [*namespace, sys.executable, str(script), *words], capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Paris" in result.stdout


@pytest.mark.model
def test_no_packet_leaves_and_nothing_is_written_outside_the_home(demo_home: Path, tmp_path: Path) -> None:
    """From a weights file to an answer, with a way out open, in an environment that says nothing of tests or CI."""
    namespace = ["unshare", "--net", "--"]
    if subprocess.run([*namespace, "ip", "link"], capture_output=True).returncode:
        pytest.skip("network namespaces with ip(8) are not to be had here")
    weights = tmp_path / "mine.gguf"
    weights.hardlink_to(max((demo_home / "store/blobs/sha256").iterdir(), key=_is_gguf_and_bytes))
    user = tmp_path / "user"
    user.mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(user), "TMPDIR": str(tmp_path)}
    script = Path(__file__).parents[1] / "support" / "capture_all.py"
    result = subprocess.run(
        [*namespace, sys.executable, str(script), str(tmp_path / "home"), str(weights), QUESTION],
        capture_output=True, text=True, timeout=280, env=environ, cwd=user,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Paris" in result.stdout
    assert [path.name for path in user.rglob("*")] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "mine.gguf", "user"]


def _is_gguf_and_bytes(path: Path) -> tuple[bool, int]:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF", path.stat().st_size


@pytest.mark.model
def test_an_altered_blob_is_not_loaded_and_is_named(
    demo_home: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(demo_home / "store", home / "store", copy_function=_link_or_copy)
    blobs = sorted((home / "store/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    for blob in blobs[-4:]:  # whichever of the large ones the engine reads
        data = blob.read_bytes()
        blob.unlink()
        blob.write_bytes(data[: len(data) // 2])
    server = start_served(home, ["smollm2"], store=None, port=free_port(), grpc_port=free_port(), wait=False)
    started_s = time.monotonic()
    assert server.process.wait(60) == 4
    assert time.monotonic() - started_s < 60
    assert "error:" in server.said() and "smollm2" in server.said() and "hint:" in server.said()


def _link_or_copy(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
