"""Audit log and records of commands and the supervisor."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ashore.cli.bootstrap.state import open_state
from ashore.cli.bootstrap.stores import Keeper, key_keeper
from ashore.core.clock import SystemClock
from ashore.core.errors import SealingKeyMissing
from ashore.kit.recorder import Act, Recorder
from ashore.kit.reserve import Reserve
from ashore.kit.settings import Home, Settings

if TYPE_CHECKING:
    from ashore.data.audit import AuditSection
    from ashore.kit.sealing import OpenEnvelope
    from ashore.kit.state import Database

RECORD_TIMEOUT_S = 10.0
_log = logging.getLogger("ashore.audit")


def audit_opener(home: Home, keeper: Keeper | None = None) -> OpenEnvelope:
    """Return how a command opens the audit keys: through the running server, else with a key source.

    Args:
        home: Of the audit.
        keeper: From `key_keeper`; default: that of the environment.
    """
    from ashore.kit.sealing import opened_by_link
    from ashore.kit.settings import read_settings

    return opened_by_link(home.audit_key, keeper or (lambda: key_keeper(read_settings())()))


@contextmanager
def command_recorder(home: Home, keeper: Keeper | None = None) -> Iterator[Recorder]:
    """Yield the recorder of one command; its records are on disk when the block ends.

    They are then signed. If the signing key is sealed and unavailable, that is a warning on stderr and not an error:
    the records are written, and the next signature covers them.

    Args:
        home: Home of the audit log.
        keeper: From `key_keeper`, for a home whose keys are sealed; default: that of the environment.

    Raises:
        AuditUnavailable: it cannot be written; acts that must be recorded must not proceed.
    """
    from ashore.data.audit import AuditLink, Checkpoints, open_command_log

    with closing(open_command_log(AuditLink(path=str(home.audit), keys=str(home.audit_keys)))) as log:
        yield log
        log.settle(RECORD_TIMEOUT_S)
    try:
        Checkpoints(home.audit, home.audit_keys, audit_opener(home, keeper)).make(int(SystemClock().now_s() * 1e6))
    except SealingKeyMissing as fault:
        _log.warning("recorded, but not signed yet: %s (%s)", fault.message, fault.hint)


@contextmanager
def owned_state(settings: Settings) -> Iterator[tuple[Database, Recorder]]:
    """Yield the state and the recorder of a home to one command of its owner; a migration is reported on stderr."""
    with (
        closing(open_state(settings, say=lambda line: print(line, file=sys.stderr))) as state,
        command_recorder(settings.home) as recorder,
    ):
        yield state, recorder


@contextmanager
def supervisor_recorder(spec: AuditSection, home: Home) -> Iterator[Recorder]:
    """Yield the recorder of the supervisor while it runs.

    The notary signs the records of all processes, and the archivist uploads closed segments.

    Raises:
        AuditUnavailable: it cannot be written; nothing is served then.
        InvalidSpec: the key that signs is gone.
        SealingKeyMissing: the key is sealed, and this process cannot open it.
    """
    from ashore.control.audit import Archivist, Notary, open_anchor, open_archive
    from ashore.data.audit import Checkpoints, open_log
    from ashore.machine.deployment import audit_link

    clock, link = SystemClock(), audit_link(spec, home)
    Reserve(home.root).make()
    log = open_log(link, "supervisor")
    checkpoints = Checkpoints(home.audit, home.audit_keys, link.opener)
    try:
        anchors = [open_anchor(place, checkpoints.home) for place in spec.anchors]
        notary = Notary(
            home.audit, checkpoints, anchors=anchors, recorder=log, clock=clock, every_s=spec.checkpoint_s
        ).start()
        archivist = None
        if spec.archive:
            archivist = Archivist(
                home.audit, checkpoints, open_archive(spec.archive), recorder=log, clock=clock,
                after_days=spec.archive_after_days, every_s=spec.archive_every_s,
            ).start()  # fmt: skip
        detail: dict[str, str | int] = {
            "archive": spec.archive,
            "content": spec.content,
            "durability": spec.durability,
            "retention_days": spec.retention_days,
            "checkpoint_s": str(spec.checkpoint_s),
            "anchors": " ".join(spec.anchors),
        }
        log.record(Act(action="audit:settings", actor="system", resource="audit/record", detail=detail))
        try:
            yield log
        finally:
            if archivist is not None:
                archivist.close()
            log.settle(RECORD_TIMEOUT_S)
            log.close()
            notary.close()
    finally:
        log.close()
