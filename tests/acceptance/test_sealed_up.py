"""`ashore up` from a sealed home: it answers, no clear byte lies on a disk, and without the key it says so."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import pytest
from commands import run_command
from served import Served, start_served

pytestmark = pytest.mark.model
QUESTION = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 8,
    "temperature": 0,
}
PIECE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedHome:
    home: Path
    ring: Path
    pieces: dict[str, bytes]
    """Pieces of the clear files, by where they are from."""

    @property
    def env(self) -> dict[str, str]:
        return {"ASHORE_HOME": str(self.home), "ASHORE_SEALING_KEY": f"keyring:{self.ring}"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = run_command(*words, env=self.env, timeout_s=300)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def sealed(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> SealedHome:
    """A home whose models are sealed and whose smollm2 has no variant yet."""
    folder = tmp_path_factory.mktemp("sealed")
    home = folder / "home"
    shutil.copytree(demo_home / "store", home / "store", copy_function=os.link)
    pieces = {}
    for blob in sorted((home / "store/blobs/sha256").iterdir()):
        size = blob.stat().st_size
        for at in {size // 3, size // 2} if size > 100_000 else ():
            with blob.open("rb") as file:
                file.seek(at)
                pieces[f"{blob.name}@{at}"] = file.read(PIECE_BYTES)
    one = SealedHome(home=home, ring=folder / "keys" / "ring", pieces=pieces)
    one.run("model", "remove", "smollm2@int8", "--yes")
    one.run("model", "gc", "--yes")
    for name in ("smollm2", "minilm"):
        one.run("model", "seal", name)
    return one


@pytest.fixture
def up(sealed: SealedHome, free_port: Callable[[], int]) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def start(*models: str, **options: object) -> Served:
        one = start_served(
            sealed.home,
            models,
            store=None,
            port=free_port(),
            grpc_port=0,
            forked=False,  # what `/proc` shows of its processes is looked through
            **options,  # type: ignore[arg-type]
        )
        running.append(one)
        return one

    yield start
    for one in running:
        one.stop()


def _ask(one: Served) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=60)
    headers = {"authorization": f"Bearer {one.key}", "content-type": "application/json", "cache-control": "no-store"}
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": "smollm2", **QUESTION}), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer["choices"][0]["message"]["content"])


class Scan:
    """Looks for pieces of clear files in every file of a home, links not followed; an unchanged file is read once."""

    def __init__(self, sealed: SealedHome) -> None:
        self._sealed = sealed
        self._seen: set[tuple[int, int, int]] = set()

    def __call__(self) -> list[str]:
        found = []
        # `rglob` of Python 3.11 fails where a folder goes away meanwhile; `walk` leaves it out.
        paths = [Path(folder, name) for folder, _, names in os.walk(self._sealed.home) for name in names]
        for path in paths:
            try:
                stat = path.lstat()
                mark = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
                if not S_ISREG(stat.st_mode) or mark in self._seen:
                    continue
                data = path.read_bytes()
            except FileNotFoundError:  # a file of a moment ago
                continue
            self._seen.add(mark)
            found += [f"{where} in {path}" for where, piece in self._sealed.pieces.items() if piece in data]
        return found


def test_the_scan_finds_what_it_looks_for(sealed: SealedHome) -> None:
    (sealed.home / "leak").write_bytes(b"x" * 1000 + next(iter(sealed.pieces.values())))
    assert len(Scan(sealed)()) == 1
    (sealed.home / "leak").unlink()


def _hosts(one: Served) -> list[int]:
    told = subprocess.run(
        ["pgrep", "-f", f"ashore.data.engines.host --socket {one.home}/"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in told.stdout.split()]


def test_a_sealed_home_answers_and_its_variant_is_made_and_loaded_without_a_clear_byte_on_disk(
    sealed: SealedHome, up: Callable[..., Served], tmp_path: Path
) -> None:
    scratch = sealed.home / "tmp"
    scratch.mkdir()
    environ = {**sealed.env, "TMPDIR": str(scratch)}
    one = up("smollm2", "minilm", env=environ, wait=False)
    scan, seen = Scan(sealed), list[str]()
    while not one.ready():  # while the variant is made and loaded
        assert one.process.poll() is None, one.everything_said()
        seen += scan()
        time.sleep(0.1)
    assert "Paris" in _ask(one)
    assert seen + scan() == []
    models = json.loads(sealed.run("model", "list", "--json").stdout)["items"]
    assert {m["reference"]: bool(m["sealed"]) for m in models} == {
        "smollm2": True, "smollm2@int8": True, "minilm": True,
    }  # fmt: skip

    [victim, *_] = _hosts(one)
    os.kill(victim, signal.SIGKILL)  # a host that died opens the model again by itself
    deadline_s = time.monotonic() + 60
    while victim in _hosts(one) or len(_hosts(one)) < 2 or not one.ready():
        assert time.monotonic() < deadline_s, one.everything_said()
        time.sleep(0.1)
    assert "Paris" in _ask(one)

    secrets = [key["key"].encode() for key in json.loads(sealed.ring.read_text())["keys"]]
    kept = [p for p in sealed.home.rglob("*") if p.is_file() and not p.is_symlink()]
    assert not any(secret in p.read_bytes() for secret in secrets for p in kept)
    for pid in (one.process.pid, *_hosts(one)):
        told = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not any(secret in told for secret in secrets)
    assert b"ASHORE_SEALING_KEY" not in Path(f"/proc/{_hosts(one)[0]}/environ").read_bytes()
    assert {Path(f"/proc/{pid}/coredump_filter").read_text().strip() for pid in _hosts(one)} == {"00000000"}
    assert one.stop() == 0
    assert [p for p in (sealed.home / "run/models").glob(".clear-*/*") if p.exists()] == []


def test_after_a_kill_nothing_clear_is_left_and_it_starts_again(sealed: SealedHome, up: Callable[..., Served]) -> None:
    one = up("minilm", env=sealed.env)
    one.process.kill()
    one.process.wait()
    deadline_s = time.monotonic() + 20
    links = [p for p in (sealed.home / "run/models").glob(".clear-*/*") if p.is_symlink()]
    assert links, "the folder of links outlives a kill"
    while _hosts(one) or any(p.exists() for p in links):  # a dying process loses its command line before its files
        assert time.monotonic() < deadline_s, "what the links led to does not outlive it"
        time.sleep(0.05)
    up("minilm", env=sealed.env)


def test_without_the_key_it_says_which_is_missing_and_where_it_was_looked_for(
    sealed: SealedHome, free_port: Callable[[], int]
) -> None:
    command = ["up", "minilm", "--port", str(free_port()), "--grpc-port", "0"]
    other = sealed.home.parent / "other-ring"
    subprocess.run(["cp", "-p", str(sealed.ring), str(other)], check=True)
    document = json.loads(other.read_text())
    key_id = document["keys"][0]["id"]
    document["keys"][0]["id"] = document["active"] = "kk-0000000000000000"
    other.write_text(json.dumps(document))
    for source, words in (
        ("", "no key source is configured"),
        (f"keyring:{other}", f"the key {key_id}"),
        (f"keyring:{other}", f"is not in the keyring {other}"),
        (f"keyring:{other}-gone", "No such file"),
    ):
        done = run_command(*command, env={**sealed.env, "ASHORE_SEALING_KEY": source})
        assert done.returncode == 4, done.stderr
        assert words in done.stderr


def test_it_cannot_be_unsealed_under_a_running_server(sealed: SealedHome, up: Callable[..., Served]) -> None:
    up("minilm", env=sealed.env)
    for verb in (("seal",), ("unseal", "--yes")):
        done = run_command("model", *verb, "minilm", env=sealed.env)
        assert done.returncode == 4
        assert "is in use by process" in done.stderr
    assert "4 data keys re-encrypted" in sealed.run("model", "rekey", "--new-key").stdout


def test_unsealing_gives_back_the_digests_of_the_clear_home(sealed: SealedHome, demo_home: Path) -> None:
    """The variant was made of a sealed model, in memory: it is the same to the byte as one made on a disk."""
    sealed.run("model", "unseal", "smollm2", "--yes")
    items = json.loads(sealed.run("model", "list", "--json").stdout)["items"]
    told = run_command("model", "list", "--json", home=demo_home).stdout
    wanted = {m["reference"]: m["digest"] for m in json.loads(told)["items"] if m["name"] == "smollm2"}
    assert {m["reference"]: m["digest"] for m in items if m["name"] == "smollm2"} == wanted
    assert "all whole" in sealed.run("model", "verify").stdout
