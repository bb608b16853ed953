"""What the console needs from its server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ashore.core.principal import Principal


class Model(Protocol):
    """A model name that clients may request."""

    @property
    def alias(self) -> str: ...
    @property
    def release(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    @property
    def chats(self) -> bool: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def recommended(self) -> Mapping[str, float]: ...
    @property
    def thinks(self) -> bool: ...


class Votes(Protocol):
    """Stores votes on answers."""

    def purpose(self, tenant: str, /) -> str:
        """Return what a tenant's votes are for: `train` stores question and answer with the vote, `measure` only the
        vote, `none` refuses votes.
        """
        ...


class Serving(Protocol):
    """The request path."""

    @property
    def state(self) -> str:
        """`ready`, `loading`, `draining` or `not-recording`."""
        ...

    def models(self, principal: Principal | None = None) -> Sequence[Model]:
        """Return the models; for a principal, only those that it may use."""
        ...

    async def read_aside(self, principal: Principal, work: Callable[[], Any], /) -> Any:
        """Return the result of `work`, run on the thread for long texts."""
        ...
