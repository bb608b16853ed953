"""`ashore up` with a vLLM server of its own: planned, shown, started, watched. A stand-in speaks vLLM's HTTP here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from served import Served, call
from tiny_models import make_tiny_model
from vllm_double import VllmDouble, write_program
from waiting import eventually

Start = Callable[..., Served]
Run = Callable[..., subprocess.CompletedProcess[str]]

CONFIG = """
[[model]]
name = "{source}"
alias = "tiny"
[model.engine]
kind = "vllm"
context_tokens = 512
options = {{ executable = "{executable}", tensor_parallel_size = 2 }}
"""


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    return write_program(tmp_path / "bin" / "vllm")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "tiny", "qwen2")


def pid_of(executable: Path) -> int:
    """Return the process that runs this executable, waiting for it a little."""
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        for folder in Path("/proc").iterdir():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
            except OSError:
                continue
            if str(executable).encode() in words:
                return int(folder.name)
        time.sleep(0.05)
    raise AssertionError(f"nothing runs {executable}")


def test_a_vllm_of_this_machine_serves_and_comes_back(served: Start, executable: Path, tiny: Path, ashore: Run) -> None:
    config = CONFIG.format(source=tiny, executable=executable)
    server = served(config=config)

    def ask(text: str) -> str | None:
        with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=30) as api:
            answer = api.chat.completions.create(model="tiny", messages=[{"role": "user", "content": text}])
        return answer.choices[0].message.content

    assert ask("a dog, 90 cm") == "a dog, 90 cm"
    command = Path(f"/proc/{pid_of(executable)}/cmdline").read_text().split("\0")[1:-1]
    assert command[command.index("serve") + 1].startswith(str(server.home / "run" / "models"))

    shown = ashore("up", "--config", str(server.home / "ashore.toml"), "--dry-run", "--json", home=server.home)
    line = json.loads(shown.stdout)["commands"]["tiny"].split(" ")
    port = command[command.index("--port") + 1]
    assert [port if word == "$PORT" else word for word in line[2:]] == command[1:], "what was shown is what runs"

    first = pid_of(executable)
    os.kill(first, signal.SIGKILL)
    end_s = time.monotonic() + 60
    while True:
        try:
            assert ask("a dog, 90 cm") == "a dog, 90 cm"
            break
        except openai.APIError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.2)
    assert pid_of(executable) != first
    assert server.stop() == 0
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(first, 0)


ADDRESS = """
[[model]]
name = "{source}"
alias = "tiny"
[model.engine]
fleet = true
key = "env:FAR_KEY"
"""


def nodes(*urls: str) -> str:
    return "".join(
        f'[[fleet.node]]\nnode = "n{number}"\naddress = "{url}"\nmodel = "tiny"\n' for number, url in enumerate(urls)
    )


def test_nodes_of_the_file_serve_a_model_of_which_only_the_text_is_here(
    served: Start, tiny: Path, ashore: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny / "model.safetensors").unlink()
    monkeypatch.setenv("FAR_KEY", "secret")
    doubles = [VllmDouble("fake:echo?context=512", api_key="secret") for _ in range(2)]
    try:
        server = served(config=ADDRESS.format(source=tiny) + nodes(*(double.url for double in doubles)))
        with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=30) as api:
            for text in ("a dog, 90 cm", "a cat, 30 cm"):
                asked = [{"role": "user", "content": text}]
                answer = api.chat.completions.create(model="tiny", messages=asked)  # type: ignore[arg-type]
                assert answer.choices[0].message.content == text
        assert sum(len(double.bodies) for double in doubles) == 2
        wish = {"id": "sys", "roles": ["system-administrator"], "key": {}}
        key = call(server, "POST", "/admin/v1/users", server.key, wish)["key"]["key"]
        drained = call(server, "POST", "/admin/v1/fleet/nodes/n0/drain", key, {"wait_s": 30})["items"]
        assert [(one["node"], one["state"]) for one in drained] == [("n0", "drained")], "as one that joined"
        call(server, "POST", "/admin/v1/fleet/nodes/n0/undrain", key)
        with pytest.raises(urllib.error.HTTPError, match="409"):
            call(server, "DELETE", "/admin/v1/fleet/nodes/n0", key)
        doubles[1].close()
        end_s = time.monotonic() + 30
        while True:
            shown = json.loads(ashore("status", "--json", home=server.home).stdout)["backends"]
            if [one["state"] for one in shown] == ["ready", "out"]:
                break
            assert time.monotonic() < end_s, shown
        assert [one["url"] for one in shown] == [double.url for double in doubles]
        assert shown[1]["reason"] and shown[1]["times_out"] == 1
        assert shown[1]["reason"] in ashore("status", home=server.home).stdout
        said = ashore("doctor", "--only", "D934", "--for", "0s", "--json", home=server.home)
        assert [one["rule"] for one in json.loads(said.stdout)["items"]] == ["D934"]
        listed = json.loads(ashore("model", "list", "--json", home=server.home).stdout)
        assert [one["reference"] for one in listed["items"]] == ["tiny@text"]
        assert '"secret"' not in (server.home / "run" / "host-1.json").read_text()
        doubles[0].close()
        while not (ready := call(server, "GET", "/readyz", "")).get("why"):
            assert time.monotonic() < end_s + 30, ready
        assert ready["items"] == [{"model": "tiny", "ready": False}] and "no server answers" in ready["why"]
        with pytest.raises(urllib.error.HTTPError, match="503"):
            call(server, "GET", "/health", "")
        wish = {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            call(server, "POST", "/v1/chat/completions", server.key, wish)
        assert refused.value.headers["retry-after"] == "5" and b"no server of this model" in refused.value.read()
        assert server.stop() == 0
    finally:
        for double in doubles:
            double.close()


def test_a_reload_with_other_nodes_lets_answers_end_where_they_began(served: Start, tiny: Path, ashore: Run) -> None:
    slow = VllmDouble("fake:echo?tok_per_s=20&context=512")
    quick = VllmDouble("fake:echo?context=512")
    try:
        config = ADDRESS.format(source=tiny).replace('key = "env:FAR_KEY"', "") + nodes(slow.url)
        server = served(config=config)
        with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=60) as api:
            said = [97 + n % 26 for n in range(60)]
            asked: Any = {"model": "tiny", "prompt": said, "extra_body": {"return_token_ids": True}}
            stream = api.completions.create(**asked, max_tokens=60, stream=True)
            first = next(stream).choices[0]
            (server.home / "ashore.toml").write_text(config.replace(slow.url, quick.url))
            done = ashore("reload", home=server.home)
            assert done.returncode == 0, done.stderr
            # Hosts look at the list ten times a second.
            eventually(lambda: api.completions.create(**asked, max_tokens=5).choices[0].text and quick.bodies)
            choices = [first, *(choice for chunk in stream for choice in chunk.choices)]
        assert [token for choice in choices for token in choice.token_ids] == said, "no answer was cut"
        assert choices[-1].finish_reason in ("stop", "length")
        assert slow.aborted == 0
    finally:
        slow.close()
        quick.close()


def test_the_exact_command_is_part_of_the_plan(
    ashore: Run, tmp_path: Path, executable: Path, free_port: Callable[[], int]
) -> None:
    (tmp_path / "ashore.toml").write_text(CONFIG.format(source="deepseek-r1", executable=executable))
    ports = ("--port", str(free_port()), "--grpc-port", "0")
    shown = ashore("up", "--config", str(tmp_path / "ashore.toml"), *ports, "--dry-run", home=tmp_path / "home")
    assert shown.returncode == 0, shown.stderr
    assert f"command   VLLM_API_KEY=$KEY {executable} serve {tmp_path}/home/run/models/DIGEST" in shown.stdout
    assert "--port $PORT" in shown.stdout and "--tensor-parallel-size 2" in shown.stdout


def test_without_vllm_nothing_is_fetched_and_the_hint_says_how_to_install_it(
    ashore: Run, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    (tmp_path / "ashore.toml").write_text(CONFIG.format(source="deepseek-v3.1", executable="no-such-vllm"))
    ports = ("--port", str(free_port()), "--grpc-port", "0")
    for more in ([], ["--dry-run"]):
        refused = ashore("up", "--config", str(tmp_path / "ashore.toml"), *ports, *more, home=tmp_path / "home")
        assert refused.returncode == 4
        assert "not installed on this machine" in refused.stderr and "pip install vllm" in refused.stderr
