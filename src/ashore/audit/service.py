"""What an auditor does with the record of one home: search it, verify it. The same for the command line and the server.

Whoever reads is recorded before being answered, so each use case takes the recorder and a reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ashore.audit.model import ChainName
from ashore.audit.query import Query
from ashore.audit.search import Hit, search
from ashore.audit.segments import chains_in
from ashore.audit.verify import ChainReport, Problem, verify_chain
from ashore.core import Act, Recorder

SETTLE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who reads the record, and from where."""

    actor: str
    tenant: str = ""
    origin: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `verify` found."""

    path: str
    chains: tuple[ChainReport, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The first thing that is wrong with each chain."""
        return tuple(chain.problem for chain in self.chains if chain.problem is not None)

    @property
    def num_records(self) -> int:
        return sum(chain.records for chain in self.chains)

    @property
    def ok(self) -> bool:
        return not self.problems


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

    def verify(self, reader: Reader, *, told: Callable[[ChainName], None] = lambda chain: None) -> VerifyReport:
        """Return whether the record is what was written, and record the verdict.

        Raises:
            AuditUnavailable: that somebody verified cannot be recorded.
        """
        report = verify_folder(self._root, told=told)
        self._tell(
            "audit:verify",
            reader,
            outcome_is_good=report.ok,
            reason=report.problems[0].what if report.problems else "",
            detail={"records": report.num_records},
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


def verify_folder(root: Path, *, told: Callable[[ChainName], None] = lambda chain: None) -> VerifyReport:
    """Return whether every chain under a folder is what was written; needs no home and no server."""
    reports = []
    for chain in chains_in(root):
        told(chain)
        reports.append(verify_chain(root, chain))
    return VerifyReport(path=str(root), chains=tuple(reports))
