"""The name of a model in chat form is `chat:` and what its server calls it. Nothing of it is in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidSpec
from ashore.data.engines.model import ModelFiles
from ashore.kit.folders import make_folder

PREFIX: Final = "chat:"
MOST_NAME_CHARS: Final = 200


def check_name(name: str) -> None:
    """Check that a name says what the server calls the model.

    Raises:
        InvalidSpec: it does not.
    """
    there = name.removeprefix(PREFIX)
    if not there or len(there) > MOST_NAME_CHARS or not there.isprintable():
        raise InvalidSpec(f"{name[:40]!r} names no model of a server", hint="write chat:NAME, by its name there")


def chat_model_files(name: str, directory: Path) -> ModelFiles:
    """Return the files of such a model: an empty folder, made if it is missing.

    Raises:
        InvalidSpec: the name is wrong.
    """
    check_name(name)
    make_folder(directory)
    return ModelFiles(name=name, digest=name, directory=str(directory.absolute()), format="remote", plain_bytes=True)
