"""Kills a process that seals at every single step it takes on the file system, or has that step find the disk full.

Run as a process of its own: `seal_crashes.py FOLDER seal|unseal|rekey kill|full STRIDE`. Prints the number of steps;
ends with a traceback where a home was left that does not open, or that keeps what it must not.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

from crash_steps import at_each_step, kill_self
from store_making import make_store, pull_tiny

from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError
from ashore.kit.sealing.keyring import KeyringKeeper
from ashore.kit.store import ModelStore

EVENTS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree")


def main(folder: Path, verb: str, how: str, stride: int) -> int:
    pristine, work, ring = folder / "pristine", folder / "home", folder / "ring"
    store = make_store(pristine)
    model = pull_tiny(store, folder)
    made = folder / "made"
    made.mkdir()
    (made / "model.gguf").write_bytes(os.urandom(3000))
    store.add_variant(model, "q8_0", made, format="gguf", weights="model.gguf", recipe={"tool": "test"})
    wanted = {m.reference: _content(store, m.reference) for m in store.list()}
    blobs = [pristine / "store/blobs/sha256" / f.digest[7:] for m in store.list() for f in m.files]
    clear = [blob.read_bytes() for blob in blobs if blob.stat().st_size > 2000]
    needles = [data[at : at + 24] for data in clear for at in (200, len(data) // 2)]
    if verb != "seal":
        _store(pristine, ring).seal("tiny")
    step = 1 - stride
    while True:
        step += stride
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(pristine, work, copy_function=_link)
        if _run(work, ring, verb, step, how):
            break
        _check(work, ring, verb, wanted, needles)
    _check(work, ring, verb, wanted, needles)
    return step


def _run(home: Path, ring: Path, verb: str, step: int, how: str) -> bool:
    """Do it in a process that ends, or finds the disk full, at its `step`-th step; return whether it came through."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store = _store(home, ring)
            _trap(step, how)
            _act(store, verb)
            code = 0
        except (AshoreError, OSError):
            code = 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 2, -signal.SIGKILL), f"step {step} of {verb} ended with {code}"
    return code == 0


def _trap(step: int, how: str) -> None:
    def act(seen: int, event: str) -> None:
        if seen == step and how == "kill":
            kill_self()
        if seen >= step and how == "full" and event in ("open", "os.mkdir", "os.link"):
            raise OSError(errno.ENOSPC, "No space left on device", "a disk of the tests")

    at_each_step(EVENTS, act)


def _check(home: Path, ring: Path, verb: str, wanted: dict[str, object], needles: list[bytes]) -> None:
    """Assert that every model opens now, and after the same command once more, and that then nothing is left over."""
    store = _store(home, ring)
    assert {m.reference: _content(store, m.reference) for m in store.list()} == wanted
    if all(m.sealed for m in store.list()) and verb == "seal":
        _assert_no_clear_bytes(home, needles)
    _act(store, verb)
    assert {m.reference: _content(store, m.reference) for m in store.list()} == wanted
    assert {m.sealed is not None for m in store.list()} == {verb != "unseal"}
    assert store.verify().ok
    assert not (home / "store/removing.json").exists()
    staged = [p for p in (home / "store/staging").iterdir() if p.is_dir()]
    assert staged == [], staged
    store.gc()
    num_blobs = len(list((home / "store/blobs/sha256").iterdir()))
    assert num_blobs == len({f.digest for m in store.list() for f in m.files}) + 2 * len(store.list())
    assert len(list((home / "store/envelopes").glob("*.json"))) == (verb != "unseal")
    if verb == "seal":
        _assert_no_clear_bytes(home, needles)


def _assert_no_clear_bytes(home: Path, needles: list[bytes]) -> None:
    for path in (p for p in home.rglob("*") if p.is_file() and not p.is_symlink()):
        data = path.read_bytes()
        assert not any(needle in data for needle in needles), f"{path} holds clear bytes"


def _act(store: ModelStore, verb: str) -> None:
    match verb:
        case "seal":
            store.seal("tiny")
        case "unseal":
            store.unseal("tiny")
        case _:
            store.rekey(new_key=True)


def _content(store: ModelStore, ref: str) -> dict[str, str]:
    with store.reading(ref) as files:
        found = [p for p in files.directory.rglob("*") if p.is_file()]
        return {str(p.relative_to(files.directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def _store(home: Path, ring: Path) -> ModelStore:
    keeper = KeyringKeeper(ring, ManualClock())
    return ModelStore(home / "store", home / "run" / "models", ManualClock(), keeper=lambda: keeper)


def _link(source: str, target: str) -> None:
    """Link instead of copying: nothing in a store changes in place."""
    os.link(source, target)


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
