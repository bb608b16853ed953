"""`/admin/v1/privacy`: try the policy on a text; read and change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from ashore.access import Principal
from ashore.api.decode import decode
from ashore.api.http.exchange import Exchange
from ashore.errors import NotReady
from ashore.privacy import Examination, PrivacyDesk, PrivacyPolicy, StoredPolicy

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class DetectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text to look at."""

    text: str
    tenant: str = ""
    """Whose policy; empty: that of the caller's tenant."""
    model: str = "*"
    """Alias at which the text would be sent."""


class EntityOut(msgspec.Struct, frozen=True):
    """One thing found. Positions are characters (Unicode code points) of the text that was sent."""

    kind: str
    start: int
    end: int
    action: str


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /admin/v1/privacy/detect`. The values themselves are not repeated."""

    items: list[EntityOut]
    counts: dict[str, int]
    masked: str
    """The text as a model would see it."""
    blocked: bool


class PolicyOut(msgspec.Struct, frozen=True, kw_only=True):
    """The policy in force."""

    version: int
    source: Literal["state", "ashore.toml"]
    policy: PrivacyPolicy
    kinds: list[str]
    """Every kind that may be found."""


class PolicyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new policy."""

    replaces: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    """Version that was read before the change."""
    policy: PrivacyPolicy | None
    """None: the policy of ashore.toml holds again."""
    dry_run: bool = False
    """Refuse what would be refused, and change nothing."""


_detect_decoder = msgspec.json.Decoder(DetectRequest)
_change_decoder = msgspec.json.Decoder(PolicyChange)


async def detect(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/privacy/detect`."""
    request = decode(await exchange.body(app.limits), _detect_decoder)
    tenant = request.tenant or principal.tenant
    privacy = _desk(app).privacy
    alias, behind = request.model, app.serving.behind(request.model)
    found = await app.desk.call(lambda: privacy.examine(request.text, tenant=tenant, alias=alias, behind=behind))
    await exchange.respond(200, [JSON], _encode(detected(found)))


async def policy(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/privacy/policy`."""
    desk = _desk(app)
    await exchange.respond(200, [JSON], _encode(_shown(desk, await app.desk.call(desk.stored))))


async def change(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`PUT /admin/v1/privacy/policy`."""
    desk = _desk(app)
    request = decode(await exchange.body(app.limits), _change_decoder)
    if request.dry_run:
        would = await app.desk.call(lambda: desk.would_change(request.policy, replaces=request.replaces))
        return await exchange.respond(200, [JSON], _encode(_shown(desk, would)))
    stored = await app.desk.call(
        lambda: desk.change(request.policy, replaces=request.replaces, who=principal.id, tenant=principal.tenant)
    )
    return await exchange.respond(200, [JSON], _encode(_shown(desk, stored)))


def detected(found: Examination) -> Detected:
    """Return what was found in the form of the interface."""
    counts: dict[str, int] = {}
    for one in found.entities:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    return Detected(
        items=[EntityOut(one.kind, one.start, one.end, found.actions[one.kind]) for one in found.entities],
        counts=counts,
        masked=found.masked,
        blocked=found.blocked,
    )


def _shown(desk: PrivacyDesk, stored: StoredPolicy) -> PolicyOut:
    policy = stored.policy or desk.from_file
    finder = desk.privacy.now.finder
    return PolicyOut(
        version=stored.version,
        source="ashore.toml" if stored.policy is None else "state",
        policy=policy,
        kinds=list(dict.fromkeys((*finder.kinds, *policy.custom_kinds()))),
    )


def _desk(app: HttpApp) -> PrivacyDesk:
    if app.privacy is None:
        raise NotReady("this server has no privacy policy", hint="start it with `ashore up`")
    return app.privacy
