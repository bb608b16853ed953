"""What the console needs of the server it stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ashore.core import Principal


class Model(Protocol):
    """A name that clients may ask for."""

    @property
    def alias(self) -> str: ...
    @property
    def release(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    @property
    def embedder(self) -> bool: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def recommended(self) -> Mapping[str, float]: ...
    @property
    def thinks(self) -> bool: ...


class Votes(Protocol):
    """Takes votes on answers."""

    def purpose(self, tenant: str, /) -> str:
        """Return what votes of a tenant are for: `train` keeps question and answer with a vote, `measure` the vote
        alone, `none` takes no votes."""
        ...


class Serving(Protocol):
    """The request path."""

    @property
    def state(self) -> str:
        """`ready`, `loading`, `draining` or `not-recording`."""
        ...

    def models(self, principal: Principal | None = None) -> Sequence[Model]:
        """Return the models, for a principal those that it may ask."""
        ...

    async def read_aside(self, principal: Principal, work: Callable[[], Any], /) -> Any:
        """Return what `work` returns, done where long texts are read."""
        ...
