"""What an auditor does with the record of one home: search it, verify it. The same for the command line and the server.

Whoever reads is recorded before being answered, so each use case takes the recorder and a reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ashore.audit.model import ChainName
from ashore.audit.query import Query
from ashore.audit.search import Hit, search
from ashore.audit.signing import PublicKey
from ashore.audit.verifyfolder import VerifyReport, verify_folder
from ashore.core import Act, Recorder

SETTLE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who reads the record, and from where."""

    actor: str
    tenant: str = ""
    origin: str = ""
    request_id: str = ""


class AuditService:
    """The record of one home, for those who may read it."""

    def __init__(self, root: Path, recorder: Recorder) -> None:
        self._root = root
        self._recorder = recorder

    def search(self, query: Query, reader: Reader) -> list[Hit]:
        """Return what answers the query, newest first; recorded before it is looked for.

        Raises:
            AuditUnavailable: that somebody reads cannot be recorded.
        """
        given = {
            name: value
            for name, value in msgspec.to_builtins(query).items()
            if value and value != getattr(Query(), name)
        }
        self._tell("audit:search", reader, detail=given)
        return search(self._root, query)

    def verify(
        self,
        reader: Reader,
        *,
        trusted: Sequence[PublicKey],
        anchor: str = "",
        told: Callable[[ChainName], None] = lambda chain: None,
    ) -> VerifyReport:
        """Return whether the record is what was written, and record the verdict.

        Raises:
            AuditUnavailable: that somebody verified cannot be recorded.
        """
        report = verify_folder(self._root, trusted=trusted, anchor=anchor, told=told)
        self._tell(
            "audit:verify",
            reader,
            outcome_is_good=report.ok,
            reason=report.problems[0].what if report.problems else "",
            detail={"records": report.num_records, "checkpoints": report.checkpoints.count, "anchor": anchor},
        )
        return report

    def _tell(
        self,
        action: str,
        reader: Reader,
        *,
        outcome_is_good: bool = True,
        reason: str = "",
        detail: dict[str, str | int] | None = None,
    ) -> None:
        self._recorder.record(
            Act(
                action=action,
                actor=reader.actor,
                tenant=reader.tenant,
                origin=reader.origin,
                request_id=reader.request_id,
                resource="audit/record",
                outcome="done" if outcome_is_good else "failed",
                reason=reason,
                detail=detail or {},
            )
        )
        self._recorder.settle(SETTLE_S)
