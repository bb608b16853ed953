"""Size limits of requests, shared by all HTTP dialects and gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ashore.core.errors import InvalidRequest

MOST_NAME_CHARS: Final = 256
"""Limit of a model's name."""
MOST_MESSAGES: Final = 10_000
MOST_TOOLS: Final = 128
TOOL_NAME: Final = r"[a-zA-Z0-9_.-]+"
MOST_TOOL_NAME_CHARS: Final = 64
MOST_CHOICES: Final = 8
MOST_TOKENS: Final = 10_000_000
MOST_TOP_LOGPROBS: Final = 20
MOST_STOPS: Final = 16
MOST_STOP_CHARS: Final = 1024
MOST_PRIORITY: Final = 100
MOST_TEXTS: Final = 2048
"""Texts of one request for embeddings or completions."""
MOST_SCHEMA_BYTES: Final = 256 << 10
MOST_TEMPLATE_OPTION_BYTES: Final = 16_384
MOST_STREAMED_ECHO: Final = 16_384


def check_streamed_echo(prompt: str | Sequence[int]) -> None:
    """Refuse to stream the log-probabilities of a long prompt: they are one piece, which is written at once.

    Raises:
        InvalidRequest: it has more than `MOST_STREAMED_ECHO` characters or tokens.
    """
    if len(prompt) > MOST_STREAMED_ECHO:
        raise InvalidRequest(
            f"the prompt has {len(prompt):,} characters or tokens; a stream gives the log-probabilities of at most "
            f"{MOST_STREAMED_ECHO:,}",
            hint="ask for the whole answer, without a stream",
            param="echo",
        )


def check_schema_size(num_bytes: int, param: str) -> None:
    """Refuse a JSON schema or grammar that would take a while to compile.

    Raises:
        InvalidRequest: it has more than `MOST_SCHEMA_BYTES`.
    """
    if num_bytes > MOST_SCHEMA_BYTES:
        raise InvalidRequest(
            f"{param} has {num_bytes:,} bytes; the limit is {MOST_SCHEMA_BYTES:,}",
            hint="shorten it, for instance by moving repeated parts into $defs",
            param=param,
        )
