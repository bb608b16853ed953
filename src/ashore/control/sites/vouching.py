"""An auditor looks at a site: a copy of its audit log, against the checkpoints that it handed in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ashore.control.audit import verify_folder
from ashore.control.sites.sql import load_checkpoints, load_site
from ashore.core.errors import NotFound
from ashore.data.audit import PublicKey

if TYPE_CHECKING:
    from ashore.control.audit import VerifyReport
    from ashore.kit.state import Database


def verify_site(database: Database, site: str, path: Path) -> tuple[VerifyReport, int]:
    """Return how a copy of a site's audit log stands against what the site handed in, and how many checkpoints that is.

    The key that is trusted is the one of the day on which the site joined; each later one is named by that before it.

    Raises:
        NotFound: there is no such site, or it has never joined.
    """
    with database.read() as connection:
        found, lines = load_site(connection, site), load_checkpoints(connection, site)
    key = PublicKey.from_text(found.audit_key)
    if key is None:
        raise NotFound(f"{site} has not joined, or without a key of its audit log", hint="`ashore site show` says so")
    with tempfile.NamedTemporaryFile("w", suffix=".checkpoints") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        return verify_folder(path, trusted=(key,), anchor=file.name if lines else ""), len(lines)
