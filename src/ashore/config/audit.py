"""`[audit]`: the record nobody can quietly change. Nothing here switches it off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from ashore.config.table import Table
from ashore.errors import InvalidSpec

AuditDurability = Literal["batched", "strict"]
AuditContent = Literal["digest", "sealed"]

LEAST_RETENTION_DAYS: Final = 180
"""Cybersecurity Law of the People's Republic of China, in force from 2026-01-01, Art. 23(3) (Art. 21(3) in the text of
2017): network logs are kept for at least six months."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSpec:
    """`[audit]`."""

    durability: AuditDurability = "batched"
    """batched: on disk within 50 ms of being told. strict: no answer before its record is on disk."""
    content: AuditContent = "digest"
    """digest: prompt and answer as keyed digests alone. sealed: also as ciphertext under a key of each person."""
    retention_days: int = LEAST_RETENTION_DAYS
    checkpoint_s: float = 30.0
    """Longest time between a record and the signed checkpoint that covers it."""
    anchors: tuple[str, ...] = ()
    """Where checkpoints are copied: a folder, `s3://BUCKET/PATH`, `syslog+udp://`, `syslog+tcp://` or `syslog+unix://`."""
    archive: str = ""
    """Where closed segments go: a folder or `s3://BUCKET/PATH`; empty: they stay here."""
    archive_after_days: int = 30
    """A segment is not removed from this machine before it is so old and its copy has been read back."""
    archive_every_s: float = 3600.0
    """Between two rounds of archiving by the server itself, where there is an archive."""


def read_audit(table: Table) -> AuditSpec:
    """Return `[audit]`."""
    default = AuditSpec()
    if "enabled" in table.values or "disabled" in table.values:
        raise InvalidSpec(f"{table.where} cannot be switched off", hint="remove that line; the audit is always on")
    table.known(*AuditSpec.__dataclass_fields__)
    days = table.number("retention_days", default.retention_days, lowest=1, highest=36_500)
    if days < LEAST_RETENTION_DAYS:
        raise InvalidSpec(
            f"{table.where} retention_days = {days}; network logs are kept for at least six months "
            "(Cybersecurity Law of the PRC, Art. 23(3); Art. 21(3) in the text of 2017)",
            hint=f"write {LEAST_RETENTION_DAYS} or more",
        )
    return AuditSpec(
        durability=cast(AuditDurability, table.choice("durability", default.durability, get_args(AuditDurability))),
        content=cast(AuditContent, table.choice("content", default.content, get_args(AuditContent))),
        retention_days=days,
        checkpoint_s=table.seconds("checkpoint_s", default.checkpoint_s, highest=3600.0),
        anchors=tuple(_place(text, table.where) for text in table.texts("anchors")),
        archive=_archive(table.get("archive", str, ""), table.where),
        archive_after_days=table.number("archive_after_days", default.archive_after_days, lowest=1, highest=36_500),
        archive_every_s=table.seconds("archive_every_s", default.archive_every_s, highest=86_400.0),
    )


def _place(text: str, where: str) -> str:
    known = ("/", "s3://", "syslog+udp://", "syslog+tcp://", "syslog+unix://")
    if not text.startswith(known):
        raise InvalidSpec(
            f"{where} anchors has {text!r}", hint="expected an absolute folder, s3://…, or syslog+udp|tcp|unix://…"
        )
    return text


def _archive(text: str, where: str) -> str:
    if text and not text.startswith(("/", "s3://")):
        raise InvalidSpec(f"{where} archive = {text!r}", hint="expected an absolute folder or s3://BUCKET/PATH")
    return text
