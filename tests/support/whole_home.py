"""A whole home with two real models, backed up; restored onto an empty one by one command, and asked; timed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from commands import run_command
from served import Served, start_served

MODELS = ("smollm2", "minilm")
QUESTION = "What is the capital of France?"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeHome:
    """A home that served, its nodes, its recovery key elsewhere, and what it answered."""

    home: Path
    places: str
    key: Path
    answer: tuple[str, list[float]]
    num_bytes: int
    """In the clear, of what a restore brings back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A restore onto an empty home, and the server after it."""

    restore_s: float
    serve_s: float
    """From `ashore up` to the end of the first answer."""
    answer: tuple[str, list[float]]


def make_whole_home(folder: Path, demo: Path, free_port: Callable[[], int]) -> WholeHome:
    """Serve from a copy of the demo home, ask it, and back it up to three folders."""
    home, keep = folder / "home", folder / "keep"
    home.mkdir(parents=True)
    keep.mkdir()
    shutil.copytree(demo / "store", home / "store")
    server = start_served(home, MODELS, store=None, port=free_port(), grpc_port=free_port())
    try:
        answer = ask(server)
    finally:
        server.stop()
    places = ",".join(str(folder / f"node-{index}") for index in range(3))
    ashore(home, "backup", "init", "--nodes", places)
    shutil.move(home / "backup-recovery-key", keep / "recovery-key")
    ashore(home, "backup", "confirm", str(keep / "recovery-key"))
    ashore(home, "backup", "run")
    store = (path for path in (home / "store").rglob("*") if path.is_file())
    return WholeHome(
        home=home,
        places=places,
        key=keep / "recovery-key",
        answer=answer,
        num_bytes=sum(path.stat().st_size for path in store),
    )


def restore_and_ask(whole: WholeHome, new: Path, free_port: Callable[[], int]) -> Restored:
    """Restore onto an empty home with one command, serve, and ask for the first time."""
    os.sync()
    began_s = time.monotonic()
    ashore(new, "backup", "restore", "--nodes", whole.places, "--key", str(whole.key))
    restored_s = time.monotonic()
    server = start_served(new, MODELS, store=None, port=free_port(), grpc_port=free_port())
    try:
        answer = ask(server)
        answered_s = time.monotonic()
    finally:
        server.stop()
    return Restored(restore_s=restored_s - began_s, serve_s=answered_s - restored_s, answer=answer)


def ask(server: Served) -> tuple[str, list[float]]:
    """Return what the two models say, under the key of the home."""
    with httpx.Client(
        base_url=server.base_url, headers={"authorization": f"Bearer {server.key}"}, timeout=120
    ) as client:
        words = {"model": "smollm2", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12}
        said = client.post("/chat/completions", json={**words, "temperature": 0}).raise_for_status().json()
        meant = client.post("/embeddings", json={"model": "minilm", "input": QUESTION}).raise_for_status().json()
    return str(said["choices"][0]["message"]["content"]), [float(one) for one in meant["data"][0]["embedding"]]


def ashore(home: Path, *words: str) -> str:
    """Run the command line, which must succeed; return what it printed."""
    done = run_command(*words, home=home, timeout_s=900)
    if done.returncode:
        raise RuntimeError(f"ashore {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
