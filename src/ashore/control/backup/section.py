"""`[backup]`: on which nodes, by which code, how often, and how fast it is read through."""

from __future__ import annotations

from typing import Annotated, Self

from msgspec import Meta
from msgspec.structs import replace

from ashore.control.backup.code import parse_code
from ashore.control.backup.nodes import open_node
from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.kit.section import APlace, Seconds, Section


class BackupSection(Section, frozen=True, kw_only=True):
    """The backup of this home: its nodes, its code, and how often a running server makes one."""

    nodes: tuple[APlace, ...] = ()
    """K+M absolute folders or `s3://BUCKET/PATH`, for `ashore backup init`."""
    code: str = "2+1"
    """K+M: any M of the K+M nodes may be lost."""
    models: tuple[str, ...] = ()
    """Models to back up, by name or reference; empty: all."""
    keep: Annotated[int, Meta(ge=1, le=10_000)] = 7
    """Number of backups to keep."""
    every_s: Annotated[float, Meta(ge=0, le=366 * 86_400.0)] = 0.0
    """Time between two backups by a running server; 0: it makes none."""
    scrub_every_s: Seconds = 7 * 86_400.0
    """Time between two scrubs, which read everything, if `every_s` is set."""
    scrub_bytes_per_s: Annotated[int, Meta(ge=1_000, le=2**40)] = 50_000_000
    """Most bytes per second that a scheduled scrub reads, from all nodes together."""
    without_state: bool = False
    """Leave out the state, which is in Postgres and backed up separately. Such a home needs it for a backup."""

    def checked(self, where: str) -> Self:
        nodes = tuple(place.rstrip("/") for place in self.nodes)
        try:
            wanted = parse_code(self.code).n
            for place in nodes:
                open_node(place)
        except InvalidRequest as error:
            raise InvalidSpec(f"{where}: {error.message}", hint=error.hint) from error
        if nodes and len(set(nodes)) != wanted:
            raise InvalidSpec(
                f"{where} nodes names {len(set(nodes))} places, but the code {self.code} needs {wanted}",
                hint="name K+M places, or change the code",
            )
        return replace(self, nodes=nodes)
