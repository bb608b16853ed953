"""Names that a shell completes: aliases, releases and models of this home, with no server asked.

Completion must be fast, so only what reads three files is imported. Unreadable files yield no names.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from ashore.kit.settings import Home

Kind = Literal["alias", "release", "model", "any"]
"""any: an alias, or a model of the store."""

_RELEASE: Final = ("burn", "canary", "evidence", "pairs", "promote", "retire", "shadow", "show")
_STORED: Final = ("export", "fetch", "push", "remove", "seal", "show", "unseal", "verify")
_MAKING: Final = ("compare", "distill", "evaluate", "prune", "quantize")
ARGUMENTS: Final[Mapping[str, Kind]] = {
    **{f"alias {verb}": "alias" for verb in ("history", "remove", "set", "show")},
    **{f"model {verb}": "alias" for verb in ("cool", "pin", "unpin", "warm")},
    **{f"learn {verb}": "alias" for verb in ("dataset", "pause", "resume", "revert", "run", "status")},
    **{f"release {verb}": "release" for verb in _RELEASE},
    **{f"model {verb}": "model" for verb in _STORED},
    **{f"optimize {verb}": "model" for verb in _MAKING},
    **{
        f"{words}": "model"
        for words in ("backup restore", "backup run", "deploy render systemd", "fleet ray", "site publish")
    },
    **{
        f"{words}": "model"
        for words in ("engine selftest", "engine serve", "engine tune", "train private", "train sft", "up")
    },
    "release rollback": "alias",
    "release status": "alias",
    "chat": "alias",
}
"""What the arguments of a command name."""
OPTIONS: Final[Mapping[str, Kind]] = {"--model": "any", "--alias": "alias", "--against": "model", "--teacher": "model"}
_PLAIN: Final = re.compile(r"\w[\w.:@/+-]*")
"""What a shell takes as it stands: others it would run, split or draw."""
REF_NAME: Final = "org.opencontainers.image.ref.name"


def names_for(words: Sequence[str], home: Home) -> list[str]:
    """Return what the last of `words` may become: all that stands behind `ashore` up to the cursor.

    Args:
        words: The last one is what was typed of it so far, perhaps nothing.
        home: Whose names.
    """
    *before, typed = words or ("",)
    kind = _kind(before)
    found = {name for name in _names(kind, home) if name.startswith(typed)} if kind else set()
    return sorted(name for name in found if _PLAIN.fullmatch(name))


def _kind(before: Sequence[str]) -> Kind | None:
    if not before or before[-1].startswith("-"):
        return OPTIONS.get(before[-1]) if before else None
    plain = [word for word in before if not word.startswith("-")]
    command = next((key for n in (3, 2, 1) if (key := " ".join(plain[:n])) in ARGUMENTS), "")
    if command == "alias set" and len(plain) > 2:
        return "release"
    return ARGUMENTS.get(command)


def _names(kind: Kind, home: Home) -> Iterator[str]:
    if kind in ("alias", "any"):
        yield from _rows(home, "SELECT name FROM release_alias")
        yield from _served(home)
    if kind == "release":
        yield from _rows(home, "SELECT name FROM release")
    if kind in ("model", "any"):
        for one in _read(home.store / "index.json").get("manifests", ()):
            if name := one.get("annotations", {}).get(REF_NAME):
                yield name


def _served(home: Home) -> Iterator[str]:
    """Yield the aliases of the running server; its state may be in Postgres."""
    for one in _read(home.topology).get("models", ()):
        alias = one.get("alias", "")
        yield alias
        yield from (f"{alias}:{adapter}" for adapter in one.get("adapters", ()))


def _rows(home: Home, select: str) -> list[str]:
    with contextlib.suppress(sqlite3.Error):
        state = sqlite3.connect(f"{home.state_db.as_uri()}?mode=ro", uri=True, timeout=0.1)
        with contextlib.closing(state):
            return [str(row[0]) for row in state.execute(select)]
    return []


def _read(path: Any) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return {}
