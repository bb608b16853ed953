"""`[audit]`: the audit log, which nobody can change quietly. Nothing here switches it off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, Self

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.kit.section import APlace, Section

Durability = Literal["batched", "strict"]
Days = Annotated[int, Meta(ge=1, le=36_500)]

LEAST_RETENTION_DAYS: Final = 180
"""Cybersecurity Law of the People's Republic of China, in force from 2026-01-01, Art. 23(3) (Art. 21(3) in the text of
2017): network logs are kept for at least six months."""


class AuditSection(Section, frozen=True, kw_only=True):
    """The tamper-evident audit log. It is always on."""

    WHOLE_KEPT: ClassVar[bool] = True

    durability: Durability = "batched"
    """`batched`: a record is on disk within 50 ms; `strict`: no answer is sent before its record is on disk."""
    content: Literal["digest", "sealed"] = "digest"
    """`digest`: store only keyed digests of prompts and answers; `sealed`: also store them, up to 1 MiB each, encrypted
    with a key per person, which `[sealing] key` seals. `sealed` turns the cache of whole HTTP responses off."""
    retention_days: Annotated[int, Meta(ge=LEAST_RETENTION_DAYS, le=36_500)] = LEAST_RETENTION_DAYS
    """How long records must be kept. The Cybersecurity Law of the PRC, Art. 23(3), requires six months.
    ashore itself never deletes a record."""
    checkpoint_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    """Longest time between a record and the signed checkpoint that covers it."""
    anchors: tuple[APlace, ...] = ()
    """Where checkpoints are copied: a folder, `s3://BUCKET/PATH`, `syslog+udp://`, `syslog+tcp://` or
    `syslog+unix://`."""
    archive: APlace = ""
    """Where the server and `ashore audit archive` copy closed segments: a folder or `s3://BUCKET/PATH`; empty: they
    stay on this machine."""
    archive_after_days: Days = 30
    """Least age at which a segment is removed from this machine, once its copy has been read back."""
    archive_every_s: Annotated[float, Meta(gt=0, le=86_400)] = 3600.0
    """Time between two archiving rounds of the server, if `archive` is set."""

    @classmethod
    def prepared(cls, values: Mapping[str, object], where: str) -> Mapping[str, object]:
        if "enabled" in values or "disabled" in values:
            raise InvalidSpec(f"{where} cannot be switched off", hint="remove that line; the audit log is always on")
        days = values.get("retention_days")
        if isinstance(days, int) and not isinstance(days, bool) and days < LEAST_RETENTION_DAYS:
            raise InvalidSpec(
                f"{where} retention_days = {days}; network logs are kept for at least six months "
                "(Cybersecurity Law of the PRC, Art. 23(3); Art. 21(3) in the text of 2017)",
                hint=f"write {LEAST_RETENTION_DAYS} or more",
            )
        return values

    def checked(self, where: str) -> Self:
        for text in self.anchors:
            if not text.startswith(("/", "s3://", "syslog+udp://", "syslog+tcp://", "syslog+unix://")):
                raise InvalidSpec(
                    f"{where} anchors has {text!r}",
                    hint="expected an absolute folder, s3://…, or syslog+udp|tcp|unix://…",
                )
        if self.archive and not self.archive.startswith(("/", "s3://")):
            raise InvalidSpec(
                f"{where} archive = {self.archive!r}", hint="expected an absolute folder or s3://BUCKET/PATH"
            )
        return self
