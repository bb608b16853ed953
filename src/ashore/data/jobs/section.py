"""`[jobs]` and `[egress]`: work that may wait, and hosts that ashore may call."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from msgspec import Meta

from ashore.kit.egress import LOOPBACK, Allowed, parse_allow
from ashore.kit.section import APlace, Seconds, Section


class JobsSection(Section, frozen=True, kw_only=True):
    """Background work: batches, background responses, webhooks, uploaded files."""

    WHOLE_KEPT: ClassVar[bool] = True

    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 8
    """Jobs that run at once on this machine."""
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 10
    """Most attempts of one job; then it becomes a dead letter. An attempt that a crash of ashore ended is none of them,
    but a job that was under way at two crashes is given up."""
    result_ttl_s: Seconds = 30 * 86_400.0
    """How long results and files are kept."""
    max_file_bytes: Annotated[int, Meta(ge=1024, le=2**40)] = 512 << 20
    """Largest file that may be uploaded to `/v1/files`."""

    operations: Annotated[int, Meta(ge=1, le=64)] = 1
    """Operations that compute (quantising, pruning, distilling, evaluating, training) that run at once; others wait."""
    transfers: Annotated[int, Meta(ge=1, le=64)] = 2
    """Operations that wait for disks and networks (pulling, verifying, sealing) that run at once."""
    folders: tuple[APlace, ...] = ()
    """Folders, and `s3://BUCKET/PATH`, from which operations that are asked for over the API may pull models and read
    data."""

    @property
    def result_ttl_ms(self) -> int:
        return int(self.result_ttl_s * 1000)


class EgressSection(Section, frozen=True, kw_only=True):
    """External hosts that ashore may call. It calls no others."""

    WHOLE_KEPT: ClassVar[bool] = True

    allow: tuple[str, ...] = ()
    """Hosts: `host`, `host:port`, or `host@network` to restrict its addresses, such as `hooks.corp@10.0.0.0/8`. A host
    that one of them redirects to must be listed, too. Their certificates are verified by the authorities of the system,
    where yours is, by `SSL_CERT_FILE`, and by the public ones."""

    @property
    def with_own(self) -> tuple[Allowed, ...]:
        """Those hosts, and this machine."""
        return parse_allow([*LOOPBACK, *self.allow])

    def checked(self, where: str) -> Self:
        parse_allow(self.allow)
        return self
