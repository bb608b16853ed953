"""A store in a folder, filled from tiny models: what the store's tests start from."""

from __future__ import annotations

from pathlib import Path

from tiny_models import make_tiny_model

from ashore.core.clock import ManualClock
from ashore.kit.store import ModelStore, StoredModel


def make_store(home: Path) -> ModelStore:
    """Return a store whose clock stands still."""
    return ModelStore(home / "store", home / "run" / "models", ManualClock())


def pull_tiny(
    store: ModelStore, folder: Path, name: str = "tiny", *, kind: str = "llama", seed: int = 0, layers: int = 2
) -> StoredModel:
    """Make a tiny model in `folder/NAME` and pull it."""
    return store.pull(str(make_tiny_model(folder / name, kind, seed=seed, layers=layers)), name=name)


def blob_of(store: ModelStore, model: StoredModel, path: str) -> Path:
    """Return where a file of a model lies."""
    digest = next(f.digest for f in model.files if f.path == path)
    return store.root / "blobs" / "sha256" / digest.removeprefix("sha256:")


def alter(blob: Path, offset: int, *, keep_times: bool = False) -> None:
    """Flip one byte of a blob; with `keep_times` as rotting disks do, without a trace in its times."""
    import os

    stat = blob.stat()
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 0xFF,)))
    blob.chmod(0o444)
    if keep_times:
        os.utime(blob, ns=(stat.st_atime_ns, stat.st_mtime_ns))
