"""Checks an answer against the `response_format` of its own request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from ashore.core import UNDECODABLE
from ashore.engines import Grammar
from ashore.errors import AshoreError
from ashore.releases.schemas import AnswerSchema, json_in

Fits = Callable[[str], bool]

KEPT: Final = 64
"""Schemas that are kept compiled."""
MOST_SCHEMA_CHARS: Final = 16_384
MOST_ANSWER_CHARS: Final = 65_536
MOST_STEPS: Final = 10_000
"""Keywords looked at for one answer: ten milliseconds. A hundred fields take a few hundred."""


class AnswerSchemas:
    """Schemas of requests. Each is compiled on a thread while its first answer is made.

    An answer only has to be JSON if the schema or the answer is too long for the event loop, the schema has expressions
    that RE2 rejects, or it is not compiled yet.
    """

    def __init__(self) -> None:
        self._kept: dict[str, AnswerSchema | None] = {}
        """None: it is being compiled, or cannot be."""
        self._tasks: set[asyncio.Task[None]] = set()

    def fits(self, grammar: Grammar | None) -> Fits | None:
        """Return the check of a request's answers; None if it does not ask for JSON."""
        if grammar is None or grammar.kind not in ("json_schema", "json_object"):
            return None
        if grammar.kind == "json_object":
            return partial(is_json, kind=dict)
        source = grammar.text
        if len(source) > MOST_SCHEMA_CHARS:
            return is_json
        if source in self._kept:
            self._kept[source] = self._kept.pop(source)  # the least recently used is first
        else:
            self._kept[source] = None
            task = asyncio.get_running_loop().create_task(self._compile(source), name="answer schema")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return lambda text: self._allows(source, text)

    async def _compile(self, source: str) -> None:
        with suppress(AshoreError):
            made = await asyncio.to_thread(AnswerSchema, source, "response_format", most_steps=MOST_STEPS)
            if source in self._kept:
                self._kept[source] = made

    def _allows(self, source: str, text: str) -> bool:
        schema = self._kept.get(source)
        return is_json(text) if schema is None or len(text) > MOST_ANSWER_CHARS else schema.allows(text)


def is_json(text: str, *, kind: type = object) -> bool:
    """Return whether a text is JSON, of this kind."""
    try:
        return isinstance(json_in(text), kind)
    except UNDECODABLE:
        return False
