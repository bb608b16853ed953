"""What comes in bodies of SCIM (RFC 7643, 7644), and how a PATCH changes a resource. Pure.

Forgiving in form, for Entra ID and Okta send what the standard does not say: `op` in any case, "False" as text, values
without a path, `members[value eq "…"]`, URNs before names. Strict in effect: what is not understood is an error, and an
`active` that is removed means that nobody is let in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from ashore.core.errors import InvalidRequest

Kind = Literal["User", "Group"]
Body = dict[str, Any]

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
NAME: Final[Mapping[Kind, str]] = {"User": "userName", "Group": "displayName"}
"""What each kind is found by."""
KEPT: Final[Mapping[Kind, tuple[str, ...]]] = {
    "User": (
        "userName", "externalId", "displayName", "active", "emails", "name", "title", "roles", "preferredLanguage",
        "nickName", "userType", "profileUrl", "locale", "timezone", "phoneNumbers", "addresses", "entitlements",
        ENTERPRISE,
    ),
    "Group": ("displayName", "externalId", "members"),
}  # fmt: skip
_CANON: Final = {kind: {name.lower(): name for name in names} for kind, names in KEPT.items()}
_OWN: Final = ("schemas", "id", "meta", "groups", "password")
"""What is not changed by a body: ours alone, or nothing that may be kept."""
MOST_OPERATIONS: Final = 200
"""Of a PATCH; and names of an operation that has no path."""
MOST_MEMBERS: Final = 50_000
MOST_CHARS: Final[Mapping[Kind, int]] = {"User": 32_768, "Group": 8 << 20}
"""Of all that is kept of one resource. Many small requests, or one value for each row of a list, may add up to more."""
MOST_TEXT: Final = 300
"""Characters of a name, of an `externalId`, and of what a group says of a member."""
_DEEPEST: Final = 8
_MEMBER: Final = ("value", "display", "type", "$ref")
_PATH: Final = re.compile(
    r"(?:(urn:[\w:.\-]{1,100}?:(?:User|Group))[:.])?([A-Za-z$]\w{0,60})"
    r'(?:\[(\w{1,60})\s+eq\s+"?([^"\]]{0,300})"?\])?(?:\.([A-Za-z$]\w{0,60}))?',
    re.IGNORECASE,
)


def wrong(what: str, kind: str, hint: str = "see RFC 7644, section 3.5.2") -> InvalidRequest:
    """Return the error about a body, with its `scimType`."""
    return InvalidRequest(what, hint=hint, param=kind)


def cleaned(kind: Kind, body: Mapping[str, Any]) -> Body:
    """Return what is kept of a whole resource, under the names of the standard.

    Raises:
        InvalidRequest: what it is found by is missing, or a value has the wrong form.
    """
    found: Body = {}
    for name, value in body.items():
        known = _CANON[kind].get(name.lower())
        if known is not None and value is not None:
            found[known] = truth(value) if known == "active" else value
    called = found.get(NAME[kind])
    if not isinstance(called, str) or not called.strip() or len(called) > MOST_TEXT:
        raise wrong(f"{NAME[kind]} is missing, or no text of at most {MOST_TEXT} characters", "invalidValue")
    _check_size(found, MOST_CHARS[kind])
    if len(str(found.get("externalId", ""))) > MOST_TEXT:
        raise wrong(f"externalId has more than {MOST_TEXT} characters", "invalidValue")
    if kind == "User":
        found.setdefault("active", True)
    elif "members" in found:
        found["members"] = _member_rows(found["members"])
    return found


def _check_size(body: Body, most: int) -> None:
    """Check what a body holds in sum, before anything writes it out. One text may stand in it many times.

    Raises:
        InvalidRequest: it has more than `most` characters, is nested too deeply, or has a NUL, which no state keeps.
    """
    left = most
    waiting: list[tuple[Any, int]] = [(body, _DEEPEST)]
    while waiting:
        value, depth = waiting.pop()
        left -= 4
        if isinstance(value, str):
            left -= len(value)
            if "\0" in value:
                raise wrong("a text has the character NUL", "invalidValue")
        elif isinstance(value, dict):
            left -= sum(map(len, value))
            waiting += [(one, depth - 1) for one in value.values()]
        elif isinstance(value, list):
            waiting += [(one, depth - 1) for one in value]
        if left < 0:
            raise wrong(f"it has more than {most:,} characters in all", "invalidValue")
        if depth < 0:
            raise wrong(f"it is nested more than {_DEEPEST} levels deep", "invalidValue")


def _member_rows(rows: object) -> list[Body]:
    """Return what is kept of the members of a group.

    Raises:
        InvalidRequest: one is no object with a value, or there are too many.
    """
    if not isinstance(rows, list) or len(rows) > MOST_MEMBERS or not all(members({"members": rows})):
        raise wrong(f"members are objects with a value, at most {MOST_MEMBERS:,}", "invalidValue")
    kept = {str(one["value"]): one for one in rows}
    return [{name: str(one[name])[:MOST_TEXT] for name in _MEMBER if one.get(name)} for one in kept.values()]


def truth(value: object) -> bool:
    """Return a truth value, also where it came as text.

    Raises:
        InvalidRequest: it is none.
    """
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise wrong("active is no true or false", "invalidValue")
    return value


def members(body: Mapping[str, Any]) -> list[str]:
    """Return the ids of a group's members; an empty text for what is none."""
    rows = body.get("members") or []
    if not isinstance(rows, list):
        return [""]
    return [str(one.get("value") or "") if isinstance(one, dict) else "" for one in rows]


def patched(kind: Kind, body: Mapping[str, Any], operations: object) -> Body:
    """Return a resource after the operations of a PATCH.

    Raises:
        InvalidRequest: one is not understood.
    """
    if not isinstance(operations, list) or len(operations) > MOST_OPERATIONS:
        raise wrong(f"Operations is no list of at most {MOST_OPERATIONS}", "invalidSyntax")
    changed = msgspec.json.decode(msgspec.json.encode(body))  # a copy, and all of it
    held = {one["value"]: one for one in changed.get("members", ())}
    if kind == "Group":  # many operations come on one of many members
        changed["members"] = held
    for one in operations:
        if not isinstance(one, dict):
            raise wrong("an operation is no object", "invalidSyntax")
        verb = str(one.get("op", "")).lower()
        if verb not in ("add", "replace", "remove"):
            raise wrong(f"op is {str(one.get('op'))[:40]!r}", "invalidSyntax")
        _operate(kind, changed, verb, str(one.get("path") or ""), one.get("value"))
    return cleaned(kind, {**changed, "members": [*held.values()]} if kind == "Group" else changed)


def _operate(kind: Kind, body: Body, verb: str, path: str, value: Any, *, inside: bool = False) -> None:
    whole = path.lower() in (USER.lower(), GROUP.lower())
    if not path or whole:
        if inside or verb == "remove" or not isinstance(value, dict) or len(value) > MOST_OPERATIONS:
            raise wrong("an operation without a path has an object of attributes as its value", "noTarget")
        for name, inner in value.items():
            if name.lower() not in _OWN:  # Okta sends the id of a group along
                _operate(kind, body, verb, name, inner, inside=True)
        return
    if path.lower() == ENTERPRISE.lower():
        if verb == "remove":
            body.pop(ENTERPRISE, None)
        elif isinstance(value, dict):
            body[ENTERPRISE] = {**body.get(ENTERPRISE, {}), **value}
        return
    found = _PATH.fullmatch(path)
    if found is None:
        raise wrong(f"the path {path[:80]!r} is not understood", "invalidPath")
    urn, name, key, wanted, part = found.groups()
    if name.lower() in _OWN:
        raise wrong(f"{name} cannot be changed", "mutability")
    at, known = body, _CANON[kind].get(name.lower())
    if urn and urn.lower() == ENTERPRISE.lower():
        at = body.setdefault(ENTERPRISE, {})
        known = _named(at, name)
    if known is None:
        return  # an attribute that is not kept
    if known == "active":
        body["active"] = verb != "remove" and truth(value)  # not assigned is not active
    elif known == "members" and at is body:
        if part or (key and key.lower() != "value"):
            raise wrong(f"the path {path[:80]!r}: members are named by their value alone", "invalidPath")
        _change_members(at[known], verb, value, wanted if key else None)
    elif key:
        _among(at, known, verb, value, key, wanted or "", part)
    elif part:
        inner = at.setdefault(known, {})
        if not isinstance(inner, dict):
            raise wrong(f"the path {path[:80]!r} names a part of a list", "invalidPath")
        _set(inner, verb, _named(inner, part), value)
    elif isinstance(at.get(known), list) or (verb == "add" and isinstance(value, list)):
        at[known] = _list(at.get(known) or [], verb, value)
    elif isinstance(value, dict) and isinstance(at.get(known), dict):
        at[known] = {**at[known], **value}
    else:
        _set(at, verb, known, value)


def _change_members(held: dict[str, Any], verb: str, value: Any, wanted: str | None) -> None:
    """Change the members of a group, each under its id."""
    if wanted is not None:
        named: list[Any] = [{**(value if isinstance(value, dict) else {}), "value": wanted}]
    else:
        named = value if isinstance(value, list) else [value] if value else []
    if not all(members({"members": named})) or (verb == "add" and not named):
        raise wrong("members are objects with a value", "invalidValue")
    if wanted is None and (verb == "replace" or not named):  # nothing named beside the path: all are meant
        held.clear()
    for one in named:
        held.pop(str(one["value"]), None)
        if verb != "remove":
            held[str(one["value"])] = one


def _among(at: Body, known: str, verb: str, value: Any, key: str, wanted: str, part: str | None) -> None:
    """Change those rows of a list that a filter names."""
    rows = [one for one in at.get(known) or [] if isinstance(one, dict)]
    wanted_folded = wanted.casefold()
    hit = [one for one in rows if str(one.get(_named(one, key), "")).casefold() == wanted_folded]
    if verb == "remove" and not part:
        gone = set(map(id, hit))
        at[known] = [one for one in rows if id(one) not in gone]
        return
    if not hit and verb != "remove":  # Entra ID: the work address of somebody who had none
        hit = [{key: wanted}]
        rows += hit
    for one in hit:
        if part:
            _set(one, verb, _named(one, part), value)
        elif isinstance(value, dict):
            one.update(value)
    at[known] = rows


def _list(rows: Sequence[Any], verb: str, value: Any) -> list[Any]:
    given = value if isinstance(value, list) else [value]
    ids = {str(one.get("value")) for one in given if isinstance(one, dict)}
    if verb == "remove":  # Entra ID names the members beside the path; without any, all are meant
        return [one for one in rows if value and isinstance(one, dict) and str(one.get("value")) not in ids]
    kept = (
        [] if verb == "replace" else [one for one in rows if isinstance(one, dict) and str(one.get("value")) not in ids]
    )
    return [*kept, *given]


def _set(at: Body, verb: str, name: str, value: Any) -> None:
    if verb == "remove":
        at.pop(name, None)
    else:
        at[name] = value


def _named(at: Mapping[str, Any], name: str) -> str:
    return name if name in at else next((one for one in at if one.lower() == name.lower()), name)
