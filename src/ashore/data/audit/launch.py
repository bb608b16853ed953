"""How a process opens its log: the supervisor's settings, and the chain of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ashore.core.errors import HomeBusy
from ashore.data.audit.digests import Digester, digest_key
from ashore.data.audit.log import AuditLog, LogOptions
from ashore.data.audit.model import ChainName
from ashore.data.audit.section import AuditSection
from ashore.data.audit.writer import ChainWriter
from ashore.kit.sealing import OpenEnvelope, SecretFolder, opened_by_link

MOST_COMMANDS: Final = 64
"""Commands of one home that may record at the same moment; each takes the first chain that is free."""


class AuditLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Location of a home's audit log."""

    path: str = ""
    """Folder of the audit; empty: there is none (tests and load generators)."""
    keys: str = ""
    """Folder of its keys."""
    key: str = ""
    """Leads to what they are sealed with, in the memory of the supervisor; empty: they lie as they are."""
    section: AuditSection = AuditSection()
    """How the operator wants it kept."""

    @property
    def opener(self) -> OpenEnvelope | None:
        """How a child of the supervisor opens its keys."""
        return opened_by_link(Path(self.key)) if self.key else None


def open_log(link: AuditLink, chain: str) -> AuditLog:
    """Return the running log of the process that writes `chain`. `close` releases the chain.

    Raises:
        HomeBusy: another process has this chain.
        AuditUnavailable: it cannot be written.
        SealingKeyMissing: the keys are sealed and cannot be opened.
    """
    digester = Digester(digest_key(SecretFolder(Path(link.keys), link.opener)))
    options = LogOptions(durability=link.section.durability, keeps_content=link.section.content == "sealed")
    return AuditLog(ChainWriter(Path(link.path), ChainName(chain)), options=options, digester=digester).start()


def open_command_log(link: AuditLink) -> AuditLog:
    """Return the log of one command: concurrent commands have their own chains, which later ones continue.

    Raises:
        AuditUnavailable: it cannot be written.
    """
    for number in range(MOST_COMMANDS):
        chain = ChainName("cli" if number == 0 else f"cli-{number}")
        try:
            writer = ChainWriter(Path(link.path), chain)
        except HomeBusy:
            if number == MOST_COMMANDS - 1:
                raise
            continue
        return AuditLog(writer, options=LogOptions(gather_s=0.0)).start(announce=False)
    raise AssertionError("unreachable")
