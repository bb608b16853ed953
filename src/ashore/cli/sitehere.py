"""`ashore site` at a site: join a centre, look, hold, bring a stick, leave. The site's own process does the work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from cyclopts import Parameter

from ashore.cli.sure import AsJson, Yes, go_ahead
from ashore.core.counted import counted
from ashore.core.errors import Conflict, InvalidRequest, NotFound, NotReady, SourceUnreachable
from ashore.core.foreign import foreign_errors, short_reason
from ashore.core.timespan import human_moment, parse_seconds
from ashore.kit.recorder import Act
from ashore.kit.recordfile import read_record, write_record
from ashore.kit.settings import Home, read_settings
from ashore.kit.wholefile import write_whole

if TYPE_CHECKING:
    from ashore.control.sites import Status

WAIT_S: Final = 60.0
BRING_S: Final = 24 * 3600.0
"""Longest time for a stick: models are copied from it."""
JOIN_BYTES: Final = 1 << 20
FILES: Final = (
    "joined.json",
    "site.pem",
    "centre-ca.pem",
    "root.json",
    "until",
    "escalate",
    "status.json",
    "parts.json",
)


def join(centre: str, /, *, token: str, stick: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Join a centre with a token of `ashore site create`. The key of this site is made here and stays here.

    Set role = "site" and centre = "…" under [sites] in ashore.toml, and restart `ashore up`; then the site takes what
    the centre assigns.

    Args:
        centre: Address of the centre, https://centre.example.
        token: As the centre printed it; it works once.
        stick: Use the link for joining only; models and reports travel on a stick.
    """
    import asyncio
    import ssl

    import httpx

    from ashore.cli.bootstrap import as_served, audit_opener, owned_state
    from ashore.control.sites.agent import Joined
    from ashore.control.sites.identity import site_key
    from ashore.control.sites.joining import ask, take_answer
    from ashore.data.audit import Checkpoints
    from ashore.data.audit.signing import PUBLIC_KEYS, read_public_keys
    from ashore.kit.egress import server_of
    from ashore.kit.extras import require
    from ashore.kit.folders import make_folder
    from ashore.kit.outgoing import ask_checked

    require(("tuf", "zstandard"), "site", "`ashore site join`")
    settings = read_settings()
    home, folder = settings.home, settings.home.sites
    if (folder / "joined.json").exists():
        raise Conflict("this home is a site already", hint="`ashore site status`; `ashore site leave` ends that")
    with owned_state(as_served(settings)) as (database, recorder):
        name = token.partition(".")[0]
        key = site_key(database)
        assert Checkpoints(home.audit, home.audit_keys, audit_opener(home)).home
        audit_key = read_public_keys(home.audit_keys / PUBLIC_KEYS)[-1].text
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # the proofs of the token are what counts
        with foreign_errors(f"{centre} is not the address of a centre", InvalidRequest, hint="give https://HOST:PORT"):
            servers = (server_of(centre),)
        if not centre.startswith("https://"):
            raise InvalidRequest(f"{centre}: a site joins over https://", hint="name the edge of the centre")
        try:
            answer = asyncio.run(
                ask_checked(
                    f"{centre.rstrip('/')}/site/v1/join", servers, method="POST",
                    content=ask(token, key.request(name), audit_key),
                    headers={"content-type": "application/json"}, verify=trusting, most_bytes=JOIN_BYTES,
                    timeout_s=WAIT_S,
                )
            )  # fmt: skip
        except (httpx.HTTPError, OSError) as fault:  # a time-out is an OSError
            raise SourceUnreachable(
                f"{centre} does not answer: {short_reason(fault)}", hint="check the address and the link"
            ) from fault
        if answer.status != 200:
            raise InvalidRequest(
                f"the centre refused with {answer.status}: {answer.body[:300].decode(errors='replace')}",
                hint="a token works once and for a day; ask who runs the centre for a new one",
            )
        joined = take_answer(token, answer.body)
        make_folder(folder, mode=0o700)
        write_whole(folder / "site.pem", joined.certificate.encode())
        if joined.centre_ca:
            write_whole(folder / "centre-ca.pem", joined.centre_ca.encode())
        write_whole(folder / "root.json", joined.root)
        said = Joined(site=name, centre="" if stick else centre.rstrip("/"), joined_s=time.time())
        write_record(folder / "joined.json", said)
        recorder.record(Act(action="site:joined", actor="owner", resource=f"site/{name}", detail={"centre": centre}))
    print(f"{name} is a site of {centre}")


def status(*, as_json: AsJson = False) -> None:
    """Show what this site serves for its centre, what it fetches, and since when it has had news."""
    found = _status(read_settings().home)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    for line in _lines(found):
        print(line)


def sync(*, as_json: AsJson = False) -> None:
    """Ask the centre for news now, and show how that went."""
    home = read_settings().home
    before = _status(home).at_s
    write_record(home.sites / "asked.json", {})
    deadline_s = time.monotonic() + WAIT_S
    while (home.sites / "asked.json").exists() or _status(home).at_s <= before:
        if time.monotonic() > deadline_s:
            raise NotReady("the site's process does not answer", hint="is `ashore up` running? see `ashore logs`")
        time.sleep(0.2)
    status(as_json=as_json)


def hold(until: str, /) -> None:
    """Fetch and switch to nothing until then; the site serves and reports on. A new hold replaces the one before.

    Args:
        until: A duration (2h, 7d), a date (2027-01-31), or `off`.
    """
    from ashore.cli.bootstrap import as_served, owned_state

    if until == "off":
        until_s = 0.0
    elif until[:4].isdigit() and "-" in until:
        with foreign_errors(f"{until!r} is not a date", InvalidRequest, hint="write 2027-01-31, or 7d"):
            until_s = time.mktime(time.strptime(until, "%Y-%m-%d"))
    else:
        until_s = time.time() + parse_seconds(until)
    settings = read_settings()
    _status(settings.home)
    with owned_state(as_served(settings)) as (_, recorder):
        recorder.record(Act(action="site:hold", actor="owner", resource="site/here", detail={"until_s": int(until_s)}))
    write_record(settings.home.sites / "asked.json", {"hold_until_s": until_s})
    print("held until " + human_moment(until_s) if until_s else "not held")


def import_(directory: Path, /) -> None:
    """Take from a stick what the centre wants here, and leave this site's report on it.

    Args:
        directory: Where the stick of `ashore site export` is mounted.
    """
    home = read_settings().home
    if not (directory / "metadata").is_dir():
        raise InvalidRequest(f"{directory} has no metadata of a centre", hint="`ashore site export` at the centre")
    _status(home)
    told = home.sites / "brought.json"
    told.unlink(missing_ok=True)
    write_record(home.sites / "asked.json", {"bring": str(directory.resolve())})
    deadline_s = time.monotonic() + BRING_S
    while not told.exists():
        if time.monotonic() > deadline_s:
            raise NotReady("the stick was not read in a day", hint="see `ashore logs`")
        time.sleep(0.2)
    if why := msgspec.json.decode(told.read_bytes())["why"]:
        raise InvalidRequest(f"nothing was taken from {directory}: {why}", hint="export the stick again at the centre")
    for line in _lines(_status(home)):
        print(line)
    print(f"the report of this site is in {directory}; bring it back: ashore site collect {directory}")


def leave(*, yes: Yes = False) -> None:
    """End being a site. What is served goes on; the key of the site, and the budgets and pairs that the centre set, are
    deleted. The centre should revoke it as well."""
    import shutil

    from ashore.cli.bootstrap import as_served, owned_state
    from ashore.control.sites import read_parts
    from ashore.control.sites.identity import SECRET
    from ashore.control.sites.rows import SiteRows
    from ashore.core.clock import SystemClock
    from ashore.kit.state import execute

    settings = read_settings()
    folder = settings.home.sites
    if not (folder / "joined.json").exists():
        raise NotFound("this home is no site", hint="`ashore site join CENTRE --token TOKEN`")
    if not go_ahead("leave the centre and delete the key of this site", yes=yes):
        return
    with owned_state(as_served(settings)) as (database, recorder):
        SiteRows(database, recorder, SystemClock()).apply({}, read_parts(folder))
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "trusted", ignore_errors=True)
        with database.write() as connection:
            execute(connection, "DELETE FROM secret WHERE name = :name", name=SECRET)
        recorder.record(Act(action="site:leave", actor="owner", resource="site/here"))
    print('left; set role = "" under [sites], and have the centre revoke this site')


def _status(home: Home) -> Status:
    from ashore.control.sites import Status

    if not (home.sites / "joined.json").exists():
        raise NotFound("this home is no site", hint="`ashore site join CENTRE --token TOKEN`")
    found = read_record(home.sites / "status.json", Status)
    if found is None:
        raise NotReady(
            "the site's process has not run yet", hint='set role = "site" under [sites] of ashore.toml; `ashore up`'
        )
    return found


def _lines(found: Status) -> Iterator[str]:
    def day(at_s: float) -> str:
        return human_moment(at_s) if at_s else "never"

    yield f"{found.site}, site of {found.centre or 'a centre that is reached by sticks'}"
    yield f"  last news    {day(found.news_s)}" + (
        f"; serves without until {day(found.until_s)}" if found.until_s else ""
    )
    yield f"  assignment   {found.sequence}, {found.phase}" + (", frozen by the centre" if found.frozen else "")
    for alias, digest in sorted(found.serving.items()):
        yield f"  {alias:<12} {digest}"
    for digest, why in found.failed.items():
        yield f"  not taken    {digest}: {why}"
    if found.done < 1:
        yield f"  fetching     {found.done:.0%}"
    if found.hold_until_s > time.time():
        yield f"  held until   {day(found.hold_until_s)}"
    if found.waiting:
        yield f"  {counted(found.waiting, 'report')} not at the centre yet"
    if found.note:
        yield f"  {found.note}"


HERE: Final = (join, status, sync, hold, import_, leave)
