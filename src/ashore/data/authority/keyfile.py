"""The bootstrap key, before there are administrators: made at the first start, in a file that only its owner reads."""

from __future__ import annotations

import os
from pathlib import Path

from ashore.core.errors import InvalidSpec
from ashore.data.authority.keys import looks_like_key, new_key


def make_first_key(path: Path) -> str:
    """Return the key in `path`, creating it (mode 0600) if missing. Safe for concurrent callers.

    Raises:
        InvalidSpec: the file holds something else.
    """
    if not path.exists():
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(new_key() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass  # another process was first; its key is used
        finally:
            scratch.unlink()
    return read_first_key(path)


def read_first_key(path: Path) -> str:
    """Return the key in `path`.

    Raises:
        InvalidSpec: the file is missing or holds no key.
    """
    try:
        key = path.read_text().strip()
    except OSError as fault:
        raise InvalidSpec(f"first key {path}: {fault.strerror}", hint="`ashore up` creates it") from fault
    except UnicodeDecodeError:
        key = ""
    if not looks_like_key(key):
        raise InvalidSpec(
            f"{path} does not contain an ashore key", hint=f"remove {path}; `ashore up` creates a new one"
        )
    return key
