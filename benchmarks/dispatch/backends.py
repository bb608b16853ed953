"""Back ends of a simulation, from a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.data.dispatch import Backend
from ashore.kit.textfile import read_toml


class _File(msgspec.Struct, forbid_unknown_fields=True):
    backend: Annotated[list[Backend], Meta(min_length=1, max_length=64)]


def load_backends(file: Path) -> tuple[Backend, ...]:
    """Read `[[backend]]` tables.

    Raises:
        InvalidSpec: the file cannot be read, is not TOML, or a table is not a back end.
    """
    hint = "each [[backend]] has name, price_per_hour, prefill_tokens_per_s, decode_tokens_per_s, stream_tokens_per_s"
    document = read_toml(file, hint="name a file with [[backend]] tables")
    try:
        told = msgspec.convert(document, _File)
    except msgspec.ValidationError as fault:
        raise InvalidSpec(f"{file}: {fault}", hint=hint) from fault
    names = [one.name for one in told.backend]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidSpec(f"{file} has two back ends called {twice[0]!r}", hint="give each a name of its own")
    return tuple(told.backend)
