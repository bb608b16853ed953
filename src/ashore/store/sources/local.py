"""A folder of safetensors in Hugging Face form, or a `.gguf` file, on this machine. Read, never written."""

from __future__ import annotations

from pathlib import Path

from ashore.errors import UnknownModel
from ashore.store.ports import Origin
from ashore.store.progress import Progress
from ashore.store.refs import name_from


class LocalSource:
    """A folder, or one file."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    def resolve(self) -> Origin:
        if not self._path.exists():
            raise UnknownModel(f"{self._path} does not exist", hint="check the path")
        files = [self._path] if self._path.is_file() else [p for p in self._path.rglob("*") if p.is_file()]
        return Origin(
            pinned=f"file:{self._path}",
            suggested_name=name_from(self._path.name),
            mutable=True,
            num_bytes=sum(p.stat().st_size for p in files),
        )

    def fetch(self, origin: Origin, into: Path, progress: Progress) -> Path:
        return self._path
