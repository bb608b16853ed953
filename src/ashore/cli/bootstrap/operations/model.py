"""What an operation needs from its runner: the command line, or the process of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from ashore.kit.call import Call

EXIT_REFUSED: Final = 1
"""The work was done, and a gate said no."""
EXIT_DAMAGED: Final = 4
"""Something is wrong, and could not be repaired."""
EXIT_INTERRUPTED: Final = 130


class Work(Protocol):
    """The progress sink of an operation, and the actor it works for. It is also a `store.Progress`."""

    @property
    def actor(self) -> str:
        """The actor in the audit log: `os:alice`, or an account."""
        ...

    @property
    def config(self) -> Path | None:
        """An ashore.toml with the settings to use; None: those of the environment."""
        ...

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """Report bytes; a total of 0 is unknown."""
        ...

    def share(self, stage: str, done: float) -> None:
        """Report the share, 0 to 1, of the whole work that is done when `stage` begins."""
        ...

    def steps(self, stage: str, done: int, total: int, says: str = "") -> None:
        """Report steps of a stage, with a text; default: their count."""
        ...

    @property
    def in_job(self) -> bool:
        """Whether it runs as a job: what is busy is waited for, since nobody sits at a terminal."""
        ...

    def say(self, line: str) -> None:
        """Print a note beside the result."""
        ...

    def stopping(self) -> bool:
        """Return whether the operation should stop after its current step."""
        ...

    def reload(self) -> None:
        """Have the server of this home read its ashore.toml again, as `ashore reload` does."""
        ...

    def ask(self, call: Call, asked: msgspec.Struct) -> Any:
        """Return the server's answer to a call, with the rights of the operation's requester."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A result for people and programs."""

    document: Any
    """What `--json` prints."""
    lines: Sequence[str]
    """What is printed without it."""
    code: int = 0
    """Exit code."""
    says: str = ""
    """The result in one line; default: the first of `lines`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One use case behind a command and a job."""

    name: str
    """NOUN WORD, as in `jobs.operations.NAMES`."""
    takes: type[msgspec.Struct]
    """What the command takes: what the request takes, and what only the operator's machine may say."""
    do: Callable[[Any, Work], Shown]
    """Does it."""
    plan: Callable[[Any, Work], Shown] | None = None
    """Shows what `do` would do, and changes nothing; None: there is no `--dry-run`."""
    sure: Callable[[Any], str] | None = None
    """Returns what a person is asked about before the command does it, verb first; raises where it cannot be done."""
    configured: bool = False
    """Whether it reads an ashore.toml: the command has `--config`."""
    stops: bool = False
    """Whether the first Ctrl-C ends it after its current step."""
    asks_server: bool = False
    """Whether it asks a server, which `--url` and `--key` name."""
