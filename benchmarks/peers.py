"""Rivals' OpenAI servers on loopback, for `ashore bench serve` and `serve_table.py` to put the same load on.

    python -m benchmarks.peers build-llama-cpp FOLDER     # llama-cpp-python built for this processor, takes minutes
    python -m benchmarks.peers serve xllamacpp MODEL.gguf [--streams 16]
    python -m benchmarks.peers serve llama-cpp-python MODEL.gguf --venv FOLDER
    python -m benchmarks.peers serve vllm MODEL_FOLDER --venv FOLDER

Each server is a context manager that yields its address and stops it at the end. Their code runs in
processes of its own.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOM_PER_STREAM = 1024
"""Tokens of context for each stream of a peer: twice what any measurement here needs."""
VLLM_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
"""Every core computes, and 2 GiB of KV cache are enough for what is measured here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerServer:
    """A running server."""

    name: str
    version: str
    url: str
    command: str
    model: str = ""
    key: str = ""
    extra_body: dict[str, object] = field(default_factory=dict)
    """Request fields by which this server is told what `ignore_eos` says."""


class PeerDidNotStart(RuntimeError):
    """A peer cannot be measured here; the message says why, for the report."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    command: Sequence[str], url: str, *, ready: str, wait_s: float, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; yield it when `ready` answers 200."""
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", **VLLM_ENVIRONMENT}
    with open(log, "wb") as sink:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, env=environ
        )
    try:
        until = time.monotonic() + wait_s
        while not answers(url + ready):
            if child.poll() is not None or time.monotonic() > until:
                tail = log.read_text(errors="replace").strip().splitlines()[-5:]
                raise PeerDidNotStart(f"{command[0]} ended or was not ready in {wait_s:g} s: {' | '.join(tail)}")
            time.sleep(0.1)
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def version_of(python: str, package: str) -> str:
    """Return the version of an installed package, as that Python sees it."""
    line = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", line], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerDidNotStart(f"{package} is not installed in {python}")
    return done.stdout.strip()


@contextmanager
def xllamacpp(model: Path, *, streams: int, threads: int, logs: Path) -> Iterator[PeerServer]:
    """llama.cpp's own server, from a wheel: continuous batching over `streams` slots."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["--streams", str(streams), "--threads", str(threads), "--port", str(port)]
    command = [sys.executable, str(HERE / "peer_xllamacpp.py"), str(model), *words]
    with process(command, url, ready="/health", wait_s=60, log=logs / f"xllamacpp-{streams}.log"):
        yield PeerServer(
            name=f"xllamacpp, {streams} slots",
            version=version_of(sys.executable, "xllamacpp"),
            url=url,
            command=f"xllamacpp.Server n_parallel={streams} n_threads={threads} {model.name}",
            model="m",
            extra_body={"cache_prompt": True},
        )


@contextmanager
def llama_cpp_python(venv: Path, model: Path, *, threads: int, logs: Path) -> Iterator[PeerServer]:
    """llama-cpp-python's server, built for this processor. It answers one request at a time; others wait."""
    python = str(venv / "bin" / "python")
    if not Path(python).exists():
        raise PeerDidNotStart(f"no virtual environment in {venv}; `python -m benchmarks.peers build-llama-cpp {venv}`")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # Without interrupt_requests=false it would cut a running answer short as soon as another request comes.
    words = ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "4096", "--interrupt_requests", "false"]
    words += ["--n_threads", str(threads), "--n_threads_batch", str(threads), "--model_alias", "m"]
    command = [python, "-m", "llama_cpp.server", "--model", str(model), *words]
    with process(command, url, ready="/v1/models", wait_s=60, log=logs / "llama-cpp-python.log"):
        yield PeerServer(
            name="llama-cpp-python, native build",
            version=version_of(python, "llama_cpp_python"),
            url=url,
            command=" ".join(["python", *command[1:3], *words]),
            model="m",
            extra_body={"logit_bias": {"2": -100}},
        )


@contextmanager
def vllm(venv: Path, folder: Path, *, logs: Path) -> Iterator[PeerServer]:
    """vLLM's CPU build from `venv`, on a folder in Hugging Face form."""
    binary = venv / "bin" / "vllm"
    if not binary.exists():
        raise PeerDidNotStart(f"no vllm in {venv}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16"]
    words += ["--max-model-len", "4096", "--served-model-name", "m", "--gpu-memory-utilization", "0.3"]
    with process([str(binary), *words], url, ready="/health", wait_s=300, log=logs / "vllm.log"):
        python = str(venv / "bin" / "python")
        name = "vllm-cpu"
        yield PeerServer(name="vLLM, CPU", version=version_of(python, name), url=url, command="vllm " + " ".join(words))


def build_llama_cpp(venv: Path) -> None:
    """Build llama-cpp-python from its sdist for exactly this processor, in a virtual environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    flags = "-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
    command = [str(venv / "bin" / "pip"), "install", "llama-cpp-python[server]", "--no-binary", "llama-cpp-python"]
    subprocess.run(command, check=True, env={**os.environ, "CMAKE_ARGS": flags})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build-llama-cpp")
    build.add_argument("venv", type=Path)
    serve = verbs.add_parser("serve")
    serve.add_argument("peer", choices=("xllamacpp", "llama-cpp-python", "vllm"))
    serve.add_argument("model", type=Path)
    serve.add_argument("--venv", type=Path, default=Path("peers/llama-cpp-python"))
    serve.add_argument("--streams", type=int, default=16)
    serve.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    if given.verb == "build-llama-cpp":
        build_llama_cpp(given.venv)
        return
    logs = Path.cwd()
    match given.peer:
        case "xllamacpp":
            peer = xllamacpp(given.model, streams=given.streams, threads=given.threads, logs=logs)
        case "vllm":
            peer = vllm(given.venv, given.model, logs=logs)
        case _:
            peer = llama_cpp_python(given.venv, given.model, threads=given.threads, logs=logs)
    with peer as server:
        print(f"{server.name} {server.version} at {server.url}; Ctrl-C stops it")
        signal.pause()


if __name__ == "__main__":
    main()
