"""Reports beside the model that they are about, in the model store."""

from __future__ import annotations

from ashore.core.foreign import foreign_errors
from ashore.kit.store import Attachment, ModelStore, StoredModel
from ashore.lab.evaluation.model import Report, read_report
from ashore.lab.evaluation.rendering import report_files

EVALUATION = "evaluation"
REPORT_FILE = "report.json"


def keep_report(store: ModelStore, model: StoredModel, report: Report) -> Attachment:
    """Store a report beside its model: JSON, Markdown, a page and its picture."""
    return store.attach(model, EVALUATION, report_files(report))


def kept_reports(store: ModelStore, model: StoredModel) -> tuple[Report, ...]:
    """Return the stored reports of a model, newest first.

    Raises:
        CorruptBlob: one was altered, or another ashore wrote it in a form that this one does not read.
    """
    found = []
    for attachment in store.attachments(model, EVALUATION):
        with foreign_errors(
            f"the {attachment.kind} {attachment.digest[:19]} of {model.reference} cannot be read",
            hint="evaluate the model again",
        ):
            found.append(read_report(store.read_attachment(attachment, REPORT_FILE)))
    return tuple(found)
