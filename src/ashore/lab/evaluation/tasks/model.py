"""A task: a header that defines prompts and judge, and the items."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["choice", "classify", "exact", "extract", "schema"]
Style = Literal["plain", "chat"]

LIKELIHOOD_KINDS: tuple[Kind, ...] = ("choice", "classify")
"""Judged by how likely the model finds given answers; the others by what it writes."""


class Shot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An example shown before every item."""

    prompt: str
    answer: str


class TaskHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """First line of a task file."""

    task: str
    kind: Kind
    language: str = ""
    source: str = ""
    """Where the items come from."""
    licence: str = ""
    style: Style | None = None
    """`plain` text, or `chat` through the model's template. Default: plain for likelihoods, chat for answers where the
    model has a template."""
    system: str = ""
    """System message of a chat; stands before the rest of a plain prompt."""
    template: str = "{prompt}"
    """Text of one question; `{prompt}` is the item's."""
    separator: str = " "
    """Between question and answer in plain text."""
    shots: tuple[Shot, ...] = ()
    labels: tuple[str, ...] = ()
    """The answers of `classify`."""
    normalise: bool = False
    """Compare choices by log-probability for each byte instead of as a whole: for long ones of different lengths."""
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    """Strings at which a written answer ends."""
    schema: dict[str, Any] | None = None
    """What answers of `schema` must satisfy, unless an item says otherwise."""


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One further line of a task file; which fields it needs depends on the kind."""

    prompt: str
    answer: int | str | tuple[str, ...] | None = None
    """`choice`: number of the right one, from 0. `classify`: the label. `exact`: the answer, or those that count.
    `extract`: everything that is to be found."""
    choices: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task, ready to be run."""

    header: TaskHeader
    items: tuple[Item, ...]
    lines: tuple[int, ...]
    """Line of each item in its file: what reports name, for an item's text may be private."""
    digest: str
    """SHA-256 of the file."""

    @property
    def name(self) -> str:
        return self.header.task

    def first(self, number: int) -> Task:
        """Return the task with its first items only; 0 is all."""
        if not number:
            return self
        return msgspec.structs.replace(self, items=self.items[:number], lines=self.lines[:number])
