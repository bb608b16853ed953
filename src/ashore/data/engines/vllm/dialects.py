"""The forms in which servers take an order as token ids and give tokens back. Each is a `Dialect`; pure translation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ashore.core.errors import UnsupportedByEngine
from ashore.data.engines.model import Feature, Grammar, Said, TokenLogprob

MOST_WORDS_CHARS: Final = 500
"""Most characters of a server's words that an error repeats."""

Row = tuple[int, float | None, tuple[TokenLogprob, ...]]
"""A token, its log-probability, and the best ones in its place."""


@dataclass(slots=True, kw_only=True)
class Piece:
    """What one event of a stream says."""

    rows: list[Row]
    ended: str = ""
    """`stop` or `length` with the last piece; other words mean that the answer is not whole."""
    stop_token_id: int | None = None
    """The token that ended it, where the server names it."""
    cached_tokens: int | None = None
    """Prompt tokens that its prefix cache had; None: not said here."""
    error: str = ""
    """Why the server ends the stream."""
    is_refusal: bool = False
    """Whether the order is at fault."""
    said: Said | None = None
    """What was said, of a server that takes text."""
    counts: tuple[int, int] | None = None
    """Tokens of prompt and answer so far, of a server that alone knows them, within the bounds of the order."""


Read = Callable[[bytes], Piece]
"""Reads the events of one stream in order. Raises what `UNDECODABLE` names, or `EngineFailed`, for an event that is not
of its form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One form."""

    name: str
    """Value of the option `dialect`."""
    title: str
    owner: str
    """What such a server writes as `owned_by` into `/v1/models`."""
    path: str
    """Where orders go."""
    body: Callable[[Any, str], dict[str, Any]]
    """Returns the request for an order and the name of the model there, streamed. An order is a `GenerateOrder`, or a
    `SayOrder` where it takes text. Of token ids, it sets each sampling field that the server has a default for.

    Raises `UnsupportedByEngine` for an order that the form cannot express.
    """
    reader: Callable[[Any], Read]
    """Returns what reads the answer of an order."""
    takes_text: bool = False
    """Whether it takes a `SayOrder`, and its server alone knows the tokens."""
    lacks: frozenset[Feature] = frozenset()
    """Features of the card that such a server does not have."""
    version: tuple[str, str] = ("/version", "version")
    """Path and field of its version; no path: it has none."""
    about: str = ""
    """Path that says more of the model than `/v1/models`; empty: none."""
    context: Callable[[Mapping[str, Any]], int | None] = lambda told: None
    """Returns the context from the answer of `about`."""
    health: str = "/health"
    """Path that answers 200 while it is well."""
    rests: int = 1
    """A server that is well is asked so with each of so many probes."""


def no_grammar(title: str, grammar: Grammar) -> UnsupportedByEngine:
    """Return the error for a grammar that a kind of server has no form for."""
    return UnsupportedByEngine(
        f"{title} has no form for a grammar of the kind {grammar.kind!r}",
        hint="send a JSON schema, or use a model on another engine",
        param="response_format",
    )


UNSAID: Final = frozenset[Feature](("adapters", "score", "sleep"))
"""What no dialect but vLLM's has a form for."""
