"""What the doctor reads of the topology that the supervisor wrote for its workers, and no more.

The whole topology (`data/path/topology.py`) brings half a second of modules with it, and a first look that waits for
them looks late. The names are those of the whole; a test holds the two together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ashore.data.engines import EngineKind


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is read; what stands beside it in the file is passed over."""


class ServedPart(Part, frozen=True, kw_only=True):
    """One alias, or a release beside it, and the replicas behind it."""

    alias: str
    release: str
    kind: EngineKind
    sockets: tuple[str, ...]
    embedder: bool = False


class ListenPart(Part, frozen=True, kw_only=True):
    """Where one worker serves HTTP."""

    host: str = ""
    port: int = 0
    uds: str = ""

    @property
    def where(self) -> Path | tuple[str, int]:
        return Path(self.uds) if self.uds else (self.host, self.port)


class WorkerPart(Part, frozen=True, kw_only=True):
    """One API worker."""

    http: ListenPart


class EdgePart(Part, frozen=True, kw_only=True):
    """The edge in front of the workers."""

    url: str


class LinkPart(Part, frozen=True, kw_only=True):
    """Where the shared cache, or the state, is."""

    url: str = ""


class AuditSectionPart(Part, frozen=True, kw_only=True):
    """What ashore.toml says of the audit log."""

    anchors: tuple[str, ...] = ()


class AuditPart(Part, frozen=True, kw_only=True):
    """The audit log."""

    section: AuditSectionPart


class IssuerPart(Part, frozen=True, kw_only=True):
    """A provider of tokens."""

    issuer: str


class AccessPart(Part, frozen=True, kw_only=True):
    """Who may do what."""

    issuers: tuple[IssuerPart, ...] = ()


class EgressPart(Part, frozen=True, kw_only=True):
    """Which hosts may be called."""

    allow: tuple[str, ...] = ()


class TopologyPart(Part, frozen=True, kw_only=True):
    """What the workers serve, and where they and their neighbours are."""

    models: tuple[ServedPart, ...] = ()
    beside: tuple[ServedPart, ...] = ()
    http: ListenPart
    workers: tuple[WorkerPart, ...] = ()
    edge: EdgePart | None = None
    redis: LinkPart
    state: LinkPart
    audit: AuditPart
    access: AccessPart
    egress: EgressPart = EgressPart()
    sections: dict[str, dict[str, Any]] = {}

    @property
    def served(self) -> tuple[ServedPart, ...]:
        return (*self.models, *self.beside)

    @property
    def listening(self) -> tuple[Path | tuple[str, int], ...]:
        """Where each API worker listens: a question there does not pass the edge."""
        return tuple(one.http.where for one in self.workers) or (self.http.where,)
