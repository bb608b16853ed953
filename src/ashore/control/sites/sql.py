"""Sites, what was released, roll-outs and reports in the state, on SQLite and Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ashore.control.sites.model import Digest, Serve, SiteName, Want
from ashore.control.sites.report import SiteReport, Usage
from ashore.control.sites.roles import Model
from ashore.core.errors import NotFound
from ashore.kit.state import execute, execute_many, insert, row_lock, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

KEPT_REPORTS: Final = 10_000
"""Reports of a site whose sequences are remembered; older ones do not count any more."""
MOST_ROWS: Final = 100_000
_NEWEST: Final = "SELECT {key} FROM {table} WHERE site = :site ORDER BY {key} DESC LIMIT 1 OFFSET :most"
State = Literal["running", "paused", "stopped", "done"]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What lets a site join, once."""

    key: str
    """SHA-256 of the secret."""
    until_s: int
    root: int
    """Version of the root that it pins."""
    tries: int = 0
    """Wrong ones so far."""
    certificate: str = ""
    """What the site got for it."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One site, as the centre knows it."""

    name: SiteName
    group: str = ""
    created_s: int
    joined_s: int = 0
    revoked_s: int = 0
    token: Token | None = None
    fingerprint: str = ""
    """SHA-256 of its certificate."""
    renewed: str = ""
    """SHA-256 of the next one, which is good beside it: the site may not have heard of it yet."""
    certified_s: int = 0
    """When that was made."""
    public_key: bytes = b""
    """Of the site, which signs its reports."""
    audit_key: str = ""
    """Public key of its audit log, as it was at joining."""
    want: Want
    published: int = 0
    """Sequence of the want that lies in the tree."""
    assigned_s: int = 0
    """When what it shall serve last changed."""
    report: SiteReport | None = None
    """The newest; without usage, checkpoints and votes."""
    seen_s: int = 0
    forked: int = 0
    """Checkpoints that differ from one with the same number: its audit log was rewritten, or restored."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A version on its way to sites, in waves."""

    id: str
    serve: tuple[Serve, ...]
    waves: tuple[tuple[str, ...], ...]
    """Names of the sites of each wave."""
    soak_s: int
    """How long a wave must serve the version and be well before the next one begins."""
    wave: int = 0
    """The wave that is under way."""
    state: State = "running"
    why: str = ""
    well_s: int = 0
    """Since when every site of the wave is; 0: not yet."""
    before: dict[str, tuple[Serve, ...]] = {}
    """What each site served before; it goes back there when the roll-out stops."""
    begun_s: int
    by: str


def load_sites(connection: Connection, *, lock: bool = False) -> dict[str, Site]:
    """Return every site by name."""
    rows = execute(connection, "SELECT body FROM site ORDER BY name" + (row_lock(connection) if lock else ""))
    found = (_site(row.body) for row in rows)
    return {one.name: one for one in found}


def load_site(connection: Connection, name: str, *, lock: bool = False) -> Site:
    """Return one site.

    Raises:
        NotFound: there is none.
    """
    statement = "SELECT body FROM site WHERE name = :name" + (row_lock(connection) if lock else "")
    body = execute(connection, statement, name=name).scalar_one_or_none()
    if body is None:
        raise NotFound(f"there is no site {name[:63]!r}", hint="`ashore site list` shows them")
    return _site(body)


def site_of(connection: Connection, fingerprint: str) -> Site | None:
    """Return the site of a certificate, unless it was revoked."""
    statement = "SELECT body FROM site WHERE fingerprint = :fingerprint OR renewed = :fingerprint"
    body = execute(connection, statement, fingerprint=fingerprint).scalar_one_or_none() if fingerprint else None
    found = None if body is None else _site(body)
    return None if found is None or found.revoked_s else found


def save_site(connection: Connection, site: Site) -> None:
    """Write a site."""
    row = {"name": site.name, "fingerprint": site.fingerprint, "renewed": site.renewed}
    upsert(connection, "site", {**row, "body": msgspec.json.encode(site).decode()}, key="name")


def load_models(connection: Connection) -> dict[Digest, tuple[str, Model]]:
    """Return every released model with its name, by digest, the newest first."""
    rows = execute(connection, "SELECT * FROM site_model ORDER BY released_s DESC, digest")
    return {row.digest: (row.name, Model(row.sha256, int(row.size))) for row in rows}


def save_model(connection: Connection, digest: Digest, name: str, model: Model, now_s: int) -> None:
    """Write a released model; its parts may have got another way since."""
    row = {"digest": digest, "name": name, "sha256": model.sha256, "size": model.size, "released_s": now_s}
    upsert(connection, "site_model", row, key="digest", keep=("released_s",))


def load_rollouts(connection: Connection, *, open_only: bool = False) -> list[Rollout]:
    """Return the roll-outs, the newest first."""
    rows = execute(
        connection, "SELECT body FROM site_rollout WHERE ended <= :most ORDER BY id DESC", most=int(not open_only)
    )
    return [_rollout(row.body) for row in rows]


def save_rollout(connection: Connection, one: Rollout) -> None:
    """Write a roll-out."""
    ended = int(one.state in ("stopped", "done"))
    upsert(
        connection, "site_rollout", {"id": one.id, "ended": ended, "body": msgspec.json.encode(one).decode()}, key="id"
    )


def keep_report(connection: Connection, report: SiteReport) -> bool:
    """Count what is in a report, unless it came before; return whether it is new. The site's row is locked."""
    site, sequence = report.site, report.sequence
    floor = execute(connection, _NEWEST.format(table="site_report", key="sequence"), site=site, most=KEPT_REPORTS)
    if sequence <= (floor.scalar_one_or_none() or 0):
        return False
    if not insert(connection, "site_report", {"site": site, "sequence": sequence}, once=True):
        return False
    execute_many(
        connection,
        "INSERT INTO site_usage (site, day, tenant, model, requests, prompt_tokens, completion_tokens) VALUES "
        "(:site, :day, :tenant, :model, :requests, :prompt_tokens, :completion_tokens) "
        "ON CONFLICT (site, day, tenant, model) DO UPDATE SET requests = site_usage.requests + excluded.requests, "
        "prompt_tokens = site_usage.prompt_tokens + excluded.prompt_tokens, "
        "completion_tokens = site_usage.completion_tokens + excluded.completion_tokens",
        [{"site": site, **msgspec.to_builtins(one)} for one in report.usage],
    )
    votes = enumerate(map(msgspec.to_builtins, report.votes))
    insert(connection, "site_vote", *({"site": site, "sequence": sequence, "part": at, **one} for at, one in votes))
    return True


def keep_checkpoints(connection: Connection, site: str, lines: Sequence[tuple[int, str]]) -> int:
    """Keep checkpoints by number, the first of each; return how many differ from a kept one."""
    forked = 0
    for number, line in lines:
        if not insert(connection, "site_checkpoint", {"site": site, "number": number, "line": line}, once=True):
            kept = "SELECT line FROM site_checkpoint WHERE site = :site AND number = :number"
            forked += execute(connection, kept, site=site, number=number).scalar_one() != line
    return forked


def forget_oldest(connection: Connection, site: str) -> None:
    """Keep no more than so much of each kind of what a site reports, so that one that lies fills no disk."""
    for table, key, most in (
        ("site_report", "sequence", KEPT_REPORTS), ("site_usage", "day", MOST_ROWS),
        ("site_vote", "sequence", MOST_ROWS), ("site_checkpoint", "number", MOST_ROWS),
    ):  # fmt: skip
        last = _NEWEST.format(table=table, key=key)
        execute(connection, f"DELETE FROM {table} WHERE site = :site AND {key} < ({last})", site=site, most=most)


def load_checkpoints(connection: Connection, site: str) -> list[str]:
    """Return the lines that a site handed in, by number."""
    statement = "SELECT line FROM site_checkpoint WHERE site = :site ORDER BY number"
    return [str(row.line) for row in execute(connection, statement, site=site)]


def load_usage(connection: Connection, site: str) -> list[Usage]:
    """Return what a site has used, by day, tenant and model."""
    statement = (
        "SELECT day, tenant, model, requests, prompt_tokens, completion_tokens FROM site_usage WHERE site = :site "
        "ORDER BY day DESC, tenant, model LIMIT 1000"
    )
    return [Usage(**row) for row in execute(connection, statement, site=site).mappings()]


_site: Final = msgspec.json.Decoder(Site).decode
_rollout: Final = msgspec.json.Decoder(Rollout).decode
