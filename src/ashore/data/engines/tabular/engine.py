"""The engine of heads: the prompt is a question in JSON, the answer too, a byte a token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from ashore.core.errors import AshoreError, NotReady
from ashore.core.ids import OrderId
from ashore.data.engines.failures import failed
from ashore.data.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    Finished,
    GenerateOrder,
    ModelFiles,
    Token,
)
from ashore.data.engines.ordercheck import check_order
from ashore.data.engines.tabular.form import MOST_ROWS, Head
from ashore.data.engines.tabular.sealed import SealedRows
from ashore.kit.decode import decode

CONTEXT_BYTES = 1 << 20


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prompt: rows to score, or nothing, which asks for the card."""

    rows: Annotated[list[Any], Meta(min_length=1, max_length=MOST_ROWS)] | None = None


_decoder = msgspec.json.Decoder(Question)


class TabularEngine:
    """Implements `Engine`, and `CanEmbed` for rows that are encrypted."""

    def __init__(self) -> None:
        self._head: Head | None = None
        self._sealed: SealedRows | None = None
        self._info: EngineInfo | None = None
        self._digest = ""
        self._events: list[EngineEvent] = []
        self._read = self._said = 0

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        self._head = Head.load(Path(files.directory), files.weights)
        self._sealed, self._digest = SealedRows(self._head), files.digest
        self._info = EngineInfo(
            kind="tabular", version=f"numpy {np.__version__}", model=files.name, precision="integers", vocab_size=257,
            context_tokens=CONTEXT_BYTES, kv_tokens=64 * CONTEXT_BYTES, max_sequences=64, features=("head",),
        )  # fmt: skip
        return self._info

    def submit(self, order: GenerateOrder) -> None:
        try:
            if self._info is None:
                raise NotReady("the head is not loaded")
            check_order(order, self._info)
            said = self._answer(bytes(order.prompt_ids))
        except AshoreError as error:
            self._events.append(failed(order.order_id, error))
            return
        cut = said[: order.max_new_tokens]
        self._events += [Token(order.order_id, byte) for byte in cut]
        reason: Literal["stop", "length"] = "stop" if len(cut) == len(said) else "length"
        self._events.append(Finished(order.order_id, reason, len(order.prompt_ids), 0, len(cut)))
        self._read += len(order.prompt_ids)
        self._said += len(cut)

    def cancel(self, order_id: OrderId) -> None:
        if any(one.order_id == order_id for one in self._events):
            self._events = [one for one in self._events if one.order_id != order_id]
            self._events.append(Finished(order_id, "cancelled", 0, 0, 0))

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        events, self._events = self._events, []
        if not events:
            time.sleep(timeout_s)
        return events

    def wait_on(self) -> tuple[int | None, float | None]:
        return None, 0.0 if self._events else None

    def stats(self) -> EngineStats:
        return EngineStats(prompt_tokens=self._read, completion_tokens=self._said, kv_tokens_total=CONTEXT_BYTES)

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the answers to encrypted rows: each the words of 32 bits of its bytes, the last cut by the first."""
        if self._sealed is None:
            raise NotReady("the head is not loaded")
        return [self._sealed.score(bytes(ids)) for ids in batch]

    def close(self) -> None:
        if self._sealed is not None:
            self._sealed.close()

    def _answer(self, question: bytes) -> bytes:
        assert self._head is not None and self._sealed is not None
        rows = decode(question, _decoder).rows
        if rows is not None:
            return msgspec.json.encode(self._head.answer(rows, self._digest))
        card = msgspec.to_builtins(self._head.form)
        return msgspec.json.encode({"head": self._digest, **card, "encrypted": self._sealed.parameters})
