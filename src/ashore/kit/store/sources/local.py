"""A folder of safetensors in Hugging Face form, or a `.gguf` file, on this machine. Read, never written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from ashore.core.errors import UnknownModel, UnsupportedModel
from ashore.kit.folders import child_folders, make_folder, open_given
from ashore.kit.store.ports import Origin
from ashore.kit.store.prepare import files_of, is_weights, own_files, refuse_pickle_names
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import name_from

_MAX_DEPTH: Final = 3
_MAX_FOLDERS: Final = 2_000
"""Folders that are looked at for checkpoints to name; somebody may have given `/`."""
_MAX_NAMED: Final = 6


class LocalSource:
    """A folder, or one file."""

    def __init__(self, path: Path, *, text_only: bool = False) -> None:
        self._path = path.absolute()
        self._text_only = text_only

    def resolve(self) -> Origin:
        if not os.path.exists(self._path):
            raise UnknownModel(f"{self._path} does not exist", hint="check the path")
        files = own_files(self._path)
        has_text = self._text_only and any(p.name == "tokenizer.json" for p in files)
        if not has_text and not any(is_weights(p.name) for p in files):
            self._refuse([p.name for p in files])
        return Origin(
            pinned=f"file:{self._path}",
            suggested_name=name_from(self._path.name),
            mutable=True,
            num_bytes=sum(p.stat().st_size for p in files),
        )

    def fetch(self, origin: Origin, into: Path, progress: Progress) -> Path:
        """Return the location of the files. Files named by a request are opened first, and then read through the open
        descriptors: changing a link meanwhile has no effect.
        """
        if not child_folders():
            return self._path
        shutil.rmtree(into / "given", ignore_errors=True)
        top = into / "given" / self._path.name
        for path in files_of(self._path):
            link = top / path.relative_to(self._path)
            make_folder(link.parent)
            with open_given(path) as file:
                link.symlink_to(f"/proc/{os.getpid()}/fd/{os.dup(file.fileno())}")
        return top

    def _refuse(self, names: list[str]) -> None:
        """Refuse with a hint at subfolders with models, instead of guessing one."""
        below = _checkpoints_below(self._path) if self._path.is_dir() else []
        if below:
            named = ", ".join(map(str, below[:_MAX_NAMED]))
            raise UnsupportedModel(
                f"{self._path} has no weights; {named} has some",
                hint=f"pull the checkpoint itself: ashore model pull {below[0]}",
            )
        refuse_pickle_names(names)
        raise UnsupportedModel(
            f"{self._path} has no weights: no .gguf or .safetensors file",
            hint="give a directory in Hugging Face format, or a .gguf file",
        )


def _checkpoints_below(folder: Path) -> list[Path]:
    """Return the subfolders with weights, nearest first."""
    found: list[Path] = []
    waiting = [(folder, 0)]
    for number, (place, depth) in enumerate(waiting):
        if number >= _MAX_FOLDERS:
            break
        names = _names_in(place)
        if depth and any(is_weights(name) for name in names):
            found.append(place)
        if depth < _MAX_DEPTH:
            waiting.extend((place / n, depth + 1) for n in names if not n.startswith(".") and (place / n).is_dir())
    return found


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []  # not ours to read, so nothing to name
