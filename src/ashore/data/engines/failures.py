"""Errors inside a frame: an `AshoreError` becomes its fields, and its class again on the other side."""

from __future__ import annotations

import msgspec

from ashore.core.errors import AshoreError, DeniedError, EngineFailed, error_class
from ashore.core.ids import OrderId
from ashore.data.engines.model import Failed


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """The part of an error that crosses to another process."""

    code: str
    message: str
    hint: str = ""
    param: str | None = None
    retry_after_s: float | None = None


def failure_of(error: BaseException) -> Failure:
    """Return the wire form of `error`. A foreign error becomes `engine_failed` with its own text."""
    if isinstance(error, AshoreError):
        return Failure(error.code, error.message, error.hint, error.param, error.retry_after_s)
    return Failure(
        EngineFailed.code,
        f"the engine raised {type(error).__name__}: {error}",
        "see the traceback in the log of this engine host",
    )


def failed(order_id: OrderId, error: BaseException) -> Failed:
    """Return the event that ends `order_id` with `error`."""
    failure = failure_of(error)
    return Failed(order_id, failure.code, failure.message, failure.hint, failure.param, failure.retry_after_s)


def error_of(failure: Failure | Failed) -> AshoreError:
    """Return the error that `failure` was made from: the class with its `code`, `EngineFailed` if unknown.

    A permission error of a server behind an engine concerns our key, not the caller's.
    """
    cls = error_class(failure.code) or EngineFailed
    if issubclass(cls, DeniedError):
        cls = EngineFailed
    return cls(failure.message, hint=failure.hint, param=failure.param, retry_after_s=failure.retry_after_s)
