"""The routes of releases and aliases."""

from __future__ import annotations

from typing import Final

import msgspec

from ashore.api.http.admin import releases
from ashore.api.http.admin import releasetypes as t
from ashore.api.http.routes import Handler, Route

READ: Final = "release:read"
PAIRS: Final = "release:pairs"
WRITE: Final = "release:write"


def _route(
    method: str,
    path: str,
    action: str,
    handler: Handler,
    summary: str,
    *,
    takes: type[msgspec.Struct] | None = None,
    gives: type[msgspec.Struct],
    query: tuple[str, ...] = (),
) -> Route:
    return Route(
        method=method,
        path="/admin/v1" + path,
        guard="admin",
        action=action,
        asks_itself=True,
        handler=handler,
        summary=summary,
        tag="Releases",
        request=takes,
        response=gives,
        query=query,
    )


RELEASE_ROUTES: Final[tuple[Route, ...]] = (
    _route(
        "GET", "/releases", READ, releases.list_releases, "List releases, the newest first", gives=t.ReleaseList,
        query=("alias",),
    ),
    _route(
        "POST", "/releases", WRITE, releases.create_release, "Make a release", takes=t.ReleaseIn, gives=t.ReleaseOut
    ),
    _route("GET", "/releases/{release}", READ, releases.show_release, "Show a release", gives=t.ReleaseOut),
    _route(
        "GET", "/releases/{release}/evidence", READ, releases.evidence,
        "What the comparison of a release with what is live says", gives=t.FindingList,
    ),
    _route(
        "GET", "/releases/{release}/pairs", PAIRS, releases.pairs,
        "The most different answers of a release as shadow and of what was live, masked", gives=t.PairList,
    ),
    _route(
        "POST", "/releases/{release}/shadow", WRITE, releases.shadow, "Copy live requests to a release",
        takes=t.ShadowIn, gives=t.ReleaseOut,
    ),
    _route(
        "POST", "/releases/{release}/canary", WRITE, releases.canary, "Let a release answer some of the requests",
        takes=t.CanaryIn, gives=t.ReleaseOut,
    ),
    _route(
        "POST", "/releases/{release}/promote", WRITE, releases.promote, "Let a release answer all requests",
        takes=t.PromoteIn, gives=t.ReleaseOut,
    ),
    _route(
        "POST", "/releases/{release}/retire", WRITE, releases.retire, "End a release that answers for nobody",
        takes=t.RetireIn, gives=t.ReleaseOut,
    ),
    _route("GET", "/aliases", READ, releases.list_aliases, "List aliases", gives=t.AliasList),
    _route("GET", "/aliases/{alias}", READ, releases.show_alias, "Show an alias", gives=t.AliasOut),
    _route(
        "GET", "/aliases/{alias}/status", READ, releases.alias_status, "Show an alias with its releases",
        gives=t.AliasStatus,
    ),
    _route(
        "GET", "/aliases/{alias}/history", READ, releases.history, "What happened to an alias, the newest first",
        gives=t.EventList, query=("limit",),
    ),
    _route(
        "PUT", "/aliases/{alias}", WRITE, releases.set_alias, "Lead an alias to releases by hand", takes=t.AliasIn,
        gives=t.AliasOut,
    ),
    _route(
        "DELETE", "/aliases/{alias}", WRITE, releases.remove_alias, "Remove an alias that was set by hand",
        gives=t.AliasRemoved,
    ),
    _route(
        "POST", "/aliases/{alias}/rollback", WRITE, releases.rollback, "Go back to what answered before",
        takes=t.RollbackIn, gives=t.ReleaseList,
    ),
)  # fmt: skip
