"""`[sealing]`: where the keys of sealed models are."""

from __future__ import annotations

from pathlib import Path

from ashore.config.table import Table
from ashore.errors import InvalidSpec


def read_sealing(table: Table, allow: tuple[str, ...]) -> dict[str, object]:
    """Return what `[sealing]` says, as settings: `sealing_key`, checked for its form, and `sealing_state`.

    Args:
        table: The section.
        allow: `[egress] allow`; a key service is called only where it is named there.

    Raises:
        InvalidSpec: the line has no known form, or names a host that ashore may not call.
    """
    from ashore.sealing import parse_key_source

    table.known("key", "state")
    settings: dict[str, object] = {}
    if "state" in table.values:
        settings["sealing_state"] = table.get("state", bool, True)
    text = table.get("key", str, "")
    if not text:
        return settings
    source = parse_key_source(text, where=f"{table.where} key")
    if source.kind == "transit":
        _refuse_elsewhere(source.url, allow, table.where)
    return {**settings, "sealing_key": text}


def absolute_key_source(text: str, folder: Path) -> str:
    """Return a key source whose relative paths begin at `folder`."""
    from ashore.sealing import format_key_source, parse_key_source

    return format_key_source(parse_key_source(text, folder=folder)) if text else ""


def _refuse_elsewhere(url: str, allow: tuple[str, ...], where: str) -> None:
    from ashore.errors import PermissionDenied
    from ashore.jobs.egress import check_url, parse_allow

    try:
        check_url(url, parse_allow(allow))
    except PermissionDenied as error:
        raise InvalidSpec(
            f"{where} key is at a service that ashore may not call: {error.message}",
            hint="name its host in [egress] allow",
        ) from error
