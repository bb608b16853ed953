"""Reports and verdicts beside the model that they are about, in the model store."""

from __future__ import annotations

import msgspec

from ashore.core import UNDECODABLE
from ashore.errors import CorruptBlob
from ashore.evaluation.gate import ATTACHED_KIND, VERDICT_FILE, verdict_json
from ashore.evaluation.model import Report, Verdict, read_report
from ashore.evaluation.rendering import report_files
from ashore.store import Attachment, ModelStore, StoredModel

EVALUATION = "evaluation"
REPORT_FILE = "report.json"


def keep_report(store: ModelStore, model: StoredModel, report: Report) -> Attachment:
    """Store a report beside its model: JSON, Markdown, a page and its picture."""
    return store.attach(model, EVALUATION, report_files(report))


def keep_verdict(store: ModelStore, model: StoredModel, verdict: Verdict) -> Attachment:
    """Store the gate's verdict beside its model."""
    return store.attach(model, ATTACHED_KIND, {VERDICT_FILE: verdict_json(verdict)})


def kept_reports(store: ModelStore, model: StoredModel) -> tuple[Report, ...]:
    """Return the stored reports of a model, newest first.

    Raises:
        CorruptBlob: one was altered, or another ashore wrote it in a form that this one does not read.
    """
    found = []
    for attachment in store.attachments(model, EVALUATION):
        try:
            found.append(read_report(store.read_attachment(attachment, REPORT_FILE)))
        except UNDECODABLE as error:
            raise _unreadable(attachment, model, error) from error
    return tuple(found)


def gate_verdict(store: ModelStore, ref: str) -> Verdict | None:
    """Return the last gate verdict on `name[@variant]`; None if there is none.

    A verdict is about exact bytes: that of an older variant of the same name does not count.

    Raises:
        UnknownModel, UnknownVariant: there is no such model.
        CorruptBlob: the verdict was altered.
    """
    model = store.resolve(ref)
    for attachment in store.attachments(model, ATTACHED_KIND):
        try:
            return msgspec.json.decode(store.read_attachment(attachment, VERDICT_FILE), type=Verdict)
        except UNDECODABLE as error:
            raise _unreadable(attachment, model, error) from error
    return None


def _unreadable(attachment: Attachment, model: StoredModel, error: Exception) -> CorruptBlob:
    return CorruptBlob(
        f"the {attachment.kind} {attachment.digest[:19]} of {model.reference} cannot be read: {error}",
        hint="evaluate the model again",
    )
