"""Checks an answer against the `response_format` of its own request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from ashore.core.clock import Clock
from ashore.core.errors import DeadlineExceeded, InvalidSpec
from ashore.data.authority import Principal
from ashore.data.engines import Grammar
from ashore.data.path.prompt import PromptReader
from ashore.data.releases.schemas import AnswerSchema, json_in
from ashore.kit.decode import UNDECODABLE

Fits = Callable[[str], bool]

KEPT: Final = 64
"""Schemas that are kept compiled."""
MOST_SCHEMA_CHARS: Final = 16_384
MOST_ANSWER_CHARS: Final = 65_536
MOST_STEPS: Final = 10_000
"""Keywords and entries looked at for one answer: ten milliseconds. A hundred fields take a thousand."""
COMPILE_S: Final = 60.0


class AnswerSchemas:
    """Schemas of requests. Each is compiled while its first answer is made, in the queue of its principal.

    An answer only has to be JSON if the schema or the answer is too long for the event loop, the schema has expressions
    that RE2 rejects, or it is not compiled yet.
    """

    def __init__(self, reader: PromptReader, clock: Clock) -> None:
        self._reader, self._clock = reader, clock
        self._kept: dict[str, AnswerSchema | None] = {}
        """None: it is being compiled, or cannot be."""
        self._tasks: set[asyncio.Task[None]] = set()

    def fits(self, grammar: Grammar | None, principal: Principal) -> Fits | None:
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
            task = asyncio.get_running_loop().create_task(self._compile(source, principal), name="answer schema")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return lambda text: self._allows(source, text)

    async def _compile(self, source: str, principal: Principal) -> None:
        work = partial(AnswerSchema, source, "response_format", most_steps=MOST_STEPS)
        deadline_at = self._clock.monotonic_s() + COMPILE_S
        with suppress(InvalidSpec):
            try:  # a short one takes long to compile, too
                made = await self._reader.read(MOST_SCHEMA_CHARS, work, principal, deadline_at)
            except DeadlineExceeded:
                self._kept.pop(source, None)
            else:
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
