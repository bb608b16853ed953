"""`[backup]`: on which nodes, by which code, how often, and how fast it is read through."""

from __future__ import annotations

from dataclasses import dataclass

from ashore.config.table import Table
from ashore.errors import InvalidRequest, InvalidSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSpec:
    """`[backup]`."""

    nodes: tuple[str, ...] = ()
    """For `ashore backup init`: absolute folders and `s3://BUCKET/PATH`."""
    code: str = "2+1"
    models: tuple[str, ...] = ()
    """Names or references; empty: all."""
    keep: int = 7
    """Backups that are kept."""
    every_s: float = 0.0
    """Between two backups that a running server makes by itself; 0: it makes none."""
    scrub_every_s: float = 7 * 86_400.0
    """Between two readings of everything, where `every_s` is set."""
    scrub_bytes_per_s: int = 50_000_000
    """What a scheduled scrub reads at most, from all nodes together."""
    without_state: bool = False
    """The state is in Postgres and backed up by its own means; without this a backup of such a home is refused."""


def read_backup(table: Table) -> BackupSpec:
    """Return `[backup]`."""
    from ashore.backup import open_node, parse_code

    default = BackupSpec()
    table.known(*BackupSpec.__dataclass_fields__)
    code = table.get("code", str, default.code)
    nodes = tuple(place.rstrip("/") for place in table.texts("nodes"))
    try:
        wanted = parse_code(code).n
        for place in nodes:
            open_node(place)
    except InvalidRequest as error:
        raise InvalidSpec(f"{table.where}: {error.message}", hint=error.hint) from error
    if nodes and len(set(nodes)) != wanted:
        raise InvalidSpec(
            f"{table.where} nodes names {len(set(nodes))} places, and the code {code} needs {wanted}",
            hint="name as many places as K+M, or change the code",
        )
    return BackupSpec(
        nodes=nodes,
        code=code,
        models=table.texts("models"),
        keep=table.number("keep", default.keep, lowest=1, highest=10_000),
        every_s=table.seconds("every_s", 86_400.0) if "every_s" in table.values else default.every_s,
        scrub_every_s=table.seconds("scrub_every_s", default.scrub_every_s),
        scrub_bytes_per_s=table.number("scrub_bytes_per_s", default.scrub_bytes_per_s, lowest=1_000),
        without_state=table.get("without_state", bool, default.without_state),
    )
