"""The commands of rooms that need nothing of their own here: each is asked for by its noun."""

from __future__ import annotations

from cyclopts import App

from ashore.cli.calls import noun_of
from ashore.listed import LISTED
from ashore.rooms import room_in


def __getattr__(noun: str) -> App:
    for one in LISTED:
        if one.noun and one.noun == noun:
            return noun_of(noun, one.summary, room_in(one.folder).calls)
    raise AttributeError(noun)
