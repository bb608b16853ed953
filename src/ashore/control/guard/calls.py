"""Calls on guard lists: make, change, list and remove them, and try them on a text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from ashore.core.clock import Clock
from ashore.core.errors import Conflict, InvalidRequest, NotFound
from ashore.data.guard import (
    MOST_LISTS,
    MOST_WORDS,
    Compiled,
    Do,
    Guard,
    GuardList,
    Where,
    count_lists,
    find_list,
    load_lists,
    remove_list,
    save_list,
    words_in,
)
from ashore.kit.call import Actor, Call, Nothing
from ashore.kit.recorder import Recorder
from ashore.kit.state import Database

READ: Final = "guard:read"
WRITE: Final = "guard:write"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDesk:
    """The lists of one home."""

    guard: Guard
    database: Database
    clock: Clock
    recorder: Recorder


def words_of_file(path: str) -> list[str]:
    """Return the words of a file with one a line.

    Raises:
        InvalidRequest: it cannot be read, or has no words or too many.
    """
    try:
        return list(words_in(Path(path).expanduser().read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as fault:
        raise InvalidRequest(
            f"cannot read the words in {path}: {getattr(fault, 'strerror', '') or 'it is not UTF-8'}",
            hint="give a text file in UTF-8 with one word a line",
        ) from fault


Alias = Annotated[str, Meta(max_length=200)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ListName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which list."""

    name: Name
    """Name of the list."""


class ListIn(ListName, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list, or what to change of one. What is left out stays; a new list needs category and words."""

    category: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_/ -]{0,63}$")] | None = None
    """What the words are about: `violence`, or any other name. `/v1/moderations` reports it."""
    words: Annotated[
        Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=MOST_WORDS)] | None,
        Meta(extra={"reads": words_of_file}),
    ] = None
    """Words and phrases. On the command line, a file with one a line; lines with # in front are left out."""
    do: Do | None = None
    """monitor: count and record what is found, the default. block: refuse the prompt, and end an answer before the
    word."""
    where: Where | None = None
    """Where to look: prompts, answers, or both, the default."""
    aliases: Annotated[Annotated[list[Alias], Meta(max_length=64)] | None, Meta(extra={"commas": True})] = None
    """Aliases that it holds for, separated by commas. Empty: every alias."""
    refusal: Annotated[str, Meta(max_length=500)] | None = None
    """What a client reads when the list blocks something. Empty: the name and category of the list."""


CheckedText = Annotated[str, Meta(extra={"positional": True}, description="Text to check against every list.")]


class ListOut(msgspec.Struct, frozen=True, kw_only=True):
    """One list, without its words."""

    name: str
    category: str
    do: str
    where: str
    num_words: int
    aliases: list[str]
    refusal: str
    digest: str
    """Name of its content, which the audit log has with each change."""
    changed_at: int
    changed_by: str


class WordOut(msgspec.Struct, frozen=True, kw_only=True):
    """One word that was found. Positions count characters of the text that was sent."""

    name: str
    category: str
    do: str
    start: int
    end: int


class ListGone(msgspec.Struct, frozen=True, kw_only=True):
    """The list is removed."""

    name: str


def list_lists(desk: GuardDesk, actor: Actor, asked: Nothing) -> list[ListOut]:
    """List guard lists, without their words."""
    with desk.database.read() as connection:
        return [_out(one) for one in load_lists(connection)]


def put_list(desk: GuardDesk, actor: Actor, asked: ListIn) -> ListOut:
    """Make a guard list, or change one. Takes effect in every process within one second.

    A new list only monitors. See what it finds in the audit log and in the metric ashore_guard_words_total, then have
    it block.
    """
    given = {name: value for name in _FIELDS if (value := getattr(asked, name)) is not None}
    for name in ("words", "aliases"):
        if name in given:
            given[name] = tuple(dict.fromkeys(given[name]))
    if any("\n" in word for word in given.get("words", ())):
        raise InvalidRequest("a word has a line break", hint="give one word or phrase a line", param="words")
    if given.get("words"):  # refused here and not by every process; before the transaction, as others wait for that
        Compiled(GuardList(name=asked.name, category="", words=given["words"]))
    with desk.database.write() as connection:
        before = find_list(connection, asked.name)
        one = before or GuardList(name=asked.name, category="", words=())
        one = replace(one, **given, changed_s=int(desk.clock.now_s()), changed_by=actor.principal.id)
        if not one.category or not one.words:
            raise InvalidRequest(
                f"the new list {one.name} has no {'words' if one.category else 'category'}",
                hint="give --category and --words", param="words" if one.category else "category",
            )  # fmt: skip
        if before is None and (count := count_lists(connection)) >= MOST_LISTS:
            raise Conflict(f"there are {count} guard lists; at most {MOST_LISTS} are kept", hint="remove one")
        save_list(connection, one)
        detail: dict[str, str | int] = {"digest": one.digest, "do": one.do, "where": one.where, "words": len(one.words)}
        actor.record(desk.recorder, "guard:put", f"guard/{one.name}", detail=detail, on=connection)
    return _out(one)


def delete_list(desk: GuardDesk, actor: Actor, asked: ListName) -> ListGone:
    """Remove a guard list. Takes effect in every process within one second."""
    with desk.database.write() as connection:
        if not remove_list(connection, asked.name):
            raise NotFound(f"there is no guard list {asked.name!r}", hint="see `ashore guard list`")
        actor.record(desk.recorder, "guard:remove", f"guard/{asked.name}", on=connection)
    return ListGone(name=asked.name)


def check_text(desk: GuardDesk, actor: Actor, text: CheckedText) -> list[WordOut]:
    """Try every guard list on a text."""
    return [
        WordOut(name=one.name, category=one.category, do=one.do, start=start, end=end)
        for one, start, end in sorted(desk.guard.every.find(text), key=lambda found: found[1:])
    ]


_FIELDS: Final = ("category", "words", "do", "where", "aliases", "refusal")
LIST: Final = Call("guard", "list", "GET", "/guard/lists", READ, list_lists, on_server=True)
CALLS: Final = (
    LIST,
    Call("guard", "put", "PUT", "/guard/lists/{name}", WRITE, put_list, on_server=True),
    Call("guard", "remove", "DELETE", "/guard/lists/{name}", WRITE, delete_list, on_server=True),
    Call("guard", "check", "POST", "/guard/check", "guard:check", check_text, on_server=True, reads_text=True),
)


def _out(one: GuardList) -> ListOut:
    return ListOut(
        name=one.name, category=one.category, do=one.do, where=one.where, num_words=len(one.words),
        aliases=list(one.aliases), refusal=one.refusal, digest=one.digest, changed_at=one.changed_s,
        changed_by=one.changed_by,
    )  # fmt: skip
