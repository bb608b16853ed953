"""Commands of rooms that are fully derived from their calls, by noun."""

from __future__ import annotations

from cyclopts import App

from ashore.cli.calls import noun_of
from ashore.kit.listed import LISTED
from ashore.kit.rooms import room_in


def __getattr__(noun: str) -> App:
    for one in LISTED:
        if one.noun and one.noun == noun:
            return noun_of(noun, one.summary, room_in(one.folder).calls)
    raise AttributeError(noun)
