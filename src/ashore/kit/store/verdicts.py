"""Verdicts of the gate of an evaluation, beside the model that they are about."""

from __future__ import annotations

from typing import Final

import msgspec

from ashore.core.foreign import foreign_errors
from ashore.kit.store.model import Attachment, StoredModel
from ashore.kit.store.service import ModelStore

KIND: Final = "gate"
FILE: Final = "verdict.json"


class VerdictLine(msgspec.Struct, frozen=True, kw_only=True):
    """One limit and its measured figure."""

    metric: str
    about: str
    """Name of the text or task; empty for the whole model."""
    limit: float
    seen: float | None
    """None: it was not measured."""
    worst: float | None = None
    """The end of the 95 % interval that speaks against the model, where there is one."""
    passed: bool
    why: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Verdict of the gate."""

    version: int = 1
    passed: bool
    model: str
    digest: str
    against: str
    created: str
    gate: str
    """SHA-256 of the gate file."""
    lines: tuple[VerdictLine, ...]


def keep_verdict(store: ModelStore, model: StoredModel, verdict: Verdict) -> Attachment:
    """Store the gate's verdict beside its model."""
    return store.attach(model, KIND, {FILE: msgspec.json.format(msgspec.json.encode(verdict), indent=1)})


def gate_verdict(store: ModelStore, ref: str) -> Verdict | None:
    """Return the last gate verdict on `name[@variant]`; None if there is none.

    A verdict is about exact bytes: that of an older variant of the same name does not count.

    Raises:
        UnknownModel, UnknownVariant: there is no such model.
        CorruptBlob: the verdict was altered.
    """
    model = store.resolve(ref)
    for attachment in store.attachments(model, KIND):
        with foreign_errors(
            f"the {attachment.kind} {attachment.digest[:19]} of {model.reference} cannot be read",
            hint="evaluate the model again",
        ):
            return msgspec.json.decode(store.read_attachment(attachment, FILE), type=Verdict)
    return None
