"""Commands that change something are acts: whoever ran one is found in the record, and what came of it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from ashore.errors import AshoreError

ACTS: Final[Mapping[str, frozenset[str]]] = {
    "cache": frozenset(("import", "purge")),
    "model": frozenset(("export", "gc", "import", "pull", "push", "rekey", "remove", "seal", "unseal")),
    "optimize": frozenset(("evaluate",)),
}
"""Verbs by noun. What a running server does is recorded by the server; `audit` records its own readings."""
OWNERS: Final = frozenset(("audit", "backup", "job", "secret"))
"""Nouns of which every verb works in the home itself."""
MAX_TARGET_CHARS: Final = 200


def is_act(words: Sequence[str]) -> bool:
    """Return whether a command line changes something that an auditor asks about."""
    only_looks = any(word in ("--help", "-h", "--dry-run") for word in words)
    return len(words) >= 2 and words[1] in ACTS.get(words[0], ()) and not only_looks


def acts_as_owner(words: Sequence[str]) -> bool:
    """Return whether a command goes straight into the home, by the right of who owns it, and asks no server."""
    helps = any(word in ("--help", "-h") for word in words)
    asks_server = any(word.partition("=")[0] == "--url" for word in words)
    in_home = words[0] in OWNERS or is_act(words) or words[:2] == ["access", "revive"]
    return len(words) >= 2 and in_home and not helps and not asks_server


def target_of(words: Sequence[str]) -> str:
    """Return what a command acts on: its first argument. Options are left out; one of them could be a key."""
    return words[2][:MAX_TARGET_CHARS] if len(words) > 2 and not words[2].startswith("-") else ""


def os_user() -> str:
    """Return who runs this process, as the system knows it and no variable says it: `os:alice`."""
    try:
        return f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"os:{os.getuid()}"


@contextmanager
def recorded(words: Sequence[str]) -> Iterator[None]:
    """Record what is done inside, where it is an act.

    Raises:
        AuditUnavailable: it cannot be recorded; then nothing was done.
    """
    if not is_act(words):
        yield
        return
    from ashore.bootstrap import command_recorder
    from ashore.core import Act
    from ashore.settings import read_settings

    noun, verb, target = words[0], words[1], target_of(words)
    resource, actor = f"{noun}/{target}" if target else noun, os_user()
    home = read_settings().home
    home.create()
    with command_recorder(home) as recorder:
        try:
            yield
        except AshoreError as fault:
            reason = f"{fault.code}: {fault.message}"
            recorder.record(
                Act(action=f"{noun}:{verb}", actor=actor, resource=resource, outcome="failed", reason=reason)
            )
            raise
        recorder.record(Act(action=f"{noun}:{verb}", actor=actor, resource=resource))
