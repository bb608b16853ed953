"""Commands that change something are audited: who ran one, and the outcome."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from ashore.core.errors import AshoreError
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.kit.call import Actor
from ashore.kit.recorder import Act, Recorder, begin

ACTS: Final[Mapping[str, frozenset[str]]] = {
    "model": frozenset(("export", "gc", "import", "pull", "push", "rekey", "remove", "seal", "unseal")),
    "optimize": frozenset(("evaluate",)),
}
"""Verbs by noun. What a running server does is recorded by the server; `audit` records its own readings."""
OWNERS: Final = frozenset(("audit", "backup", "secret"))
"""Nouns of which every verb works in the home itself."""
OWNS: Final = (("access", "revive"), ("job", "webhook-secret"))
"""Commands of other nouns that do."""
ASKS: Final = (("audit", "mine"), ("audit", "request"))
"""Commands of those nouns that do not: they ask a server."""
JOB: Final = "--job"
"""With it a server does what a command does, and records it."""
URL: Final = "--url"
"""With it a command asks another server."""
MAX_TARGET_CHARS: Final = 200


def is_act(words: Sequence[str]) -> bool:
    """Return whether a command line changes something that an auditor asks about."""
    only_looks = any(word in ("--help", "-h", "--dry-run", JOB) for word in words)
    return len(words) >= 2 and words[1] in ACTS.get(words[0], ()) and not only_looks


def acts_as_owner(words: Sequence[str]) -> bool:
    """Return whether a command goes straight into the home, by the right of who owns it, and asks no server."""
    elsewhere = any(word in ("--help", "-h", JOB) or word.partition("=")[0] == URL for word in words)
    begun = tuple(words[:2])
    in_home = (words[0] in OWNERS and begun not in ASKS) or is_act(words) or begun in OWNS
    return len(words) >= 2 and in_home and not elsewhere


def target_of(words: Sequence[str]) -> str:
    """Return what a command acts on: its first argument. Options are left out; one of them could be a key."""
    return words[2][:MAX_TARGET_CHARS] if len(words) > 2 and not words[2].startswith("-") else ""


_acting: Final[ContextVar[str]] = ContextVar("whom this process acts for", default="")


@contextmanager
def acting_for(account: str) -> Iterator[None]:
    """Have what is done inside recorded as done by an account that asked a server for it. No variable of the
    environment does that: only the process that the job worker starts calls this."""
    before = _acting.set(account)
    try:
        yield
    finally:
        _acting.reset(before)


def os_user() -> str:
    """Return who runs this process, as the system knows it and no variable says it: `os:alice`; or the account that
    asked the server for what it does."""
    if account := _acting.get():
        return account
    try:
        return f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"os:{os.getuid()}"


def note_owner() -> None:
    """Say that a command acts as the owner of the home where a key is at hand that it does not use."""
    if os.environ.get("ASHORE_API_KEY"):
        told = f"note: acting as the owner of this home ({os_user()}), not with the key in ASHORE_API_KEY"
        print(told, file=sys.stderr)


def owner() -> Actor:
    """Return who runs this process, as the actor of a call that is done in the home itself."""
    return Actor(principal=Principal(id=os_user(), tenant=TenantId(""), kind="internal"))


@dataclass(frozen=True, slots=True)
class Owned:
    """The rights of who owns the home: they could write to its files as well."""

    allowed: bool = True
    rule: str = "the owner of the home"

    def decide(self, principal: Principal, action: str, resource: str) -> Owned:
        return self

    def holds(self, principal: Principal, action: str) -> bool:
        return True

    def require(self, principal: Principal, action: str, resource: str) -> None:
        return None


@contextmanager
def acting(action: str, resource: str) -> Iterator[Recorder]:
    """Open the audit log of the home for one act of its owner. An error inside is recorded as that act failed.

    Raises:
        AuditUnavailable: it cannot be recorded; then nothing was changed.
    """
    from ashore.cli.bootstrap import command_recorder
    from ashore.kit.settings import read_settings

    home = read_settings().home
    home.create()
    with command_recorder(home) as recorder:
        try:
            yield recorder
        except AshoreError as fault:
            owner().record(recorder, action, resource, outcome="failed", reason=f"{fault.code}: {fault.message}")
            raise


@contextmanager
def recorded(words: Sequence[str]) -> Iterator[None]:
    """Record what is done inside, where it is an act.

    Raises:
        AuditUnavailable: it cannot be recorded; then nothing was changed.
    """
    if not is_act(words):
        yield
        return
    noun, verb, target = words[0], words[1], target_of(words)
    action, resource = f"{noun}:{verb}", f"{noun}/{target}" if target else noun
    with acting(action, resource) as recorder:
        begin(recorder, Act(action=action, actor=os_user(), resource=resource))
        yield
        owner().record(recorder, action, resource)
