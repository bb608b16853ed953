"""What the interface says of itself (RFC 7643, sections 5 to 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ashore.control.scim.bodies import ENTERPRISE, GROUP, USER

CORE: Final = "urn:ietf:params:scim:schemas:core:2.0:"
MOST_RESULTS: Final = 1000
_TEXTS: Final = ("displayName", "nickName", "title", "userType", "preferredLanguage", "locale", "timezone")
_NAME: Final = ("formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix")
_ADDRESS: Final = ("formatted", "streetAddress", "locality", "region", "postalCode", "country", "type")
_WORK: Final = ("employeeNumber", "costCenter", "organization", "division", "department")


def _one(name: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "type": kind, "multiValued": False, "description": name, "required": False, "caseExact": False,
        "mutability": "readWrite", "returned": "default", "uniqueness": "none", **more,
    }  # fmt: skip


def _several(name: str, parts: Sequence[str] = ("value", "display", "type"), **more: Any) -> dict[str, Any]:
    some = [*map(_one, parts), *([_one("primary", "boolean")] if "type" in parts else [])]
    return _one(name, "complex", multiValued=True, subAttributes=some, **more)


def _schema(urn: str, name: str, attributes: Sequence[Mapping[str, Any]], base: str) -> dict[str, Any]:
    meta = {"resourceType": "Schema", "location": f"{base}/Schemas/{urn}"}
    return {
        "schemas": [CORE + "Schema"], "id": urn, "name": name, "description": name, "attributes": attributes,
        "meta": meta,
    }  # fmt: skip


def schemas(base: str) -> list[dict[str, Any]]:
    """Return `/Schemas`."""
    member = [
        _one("value", mutability="immutable"), _one("display", mutability="immutable"),
        _one("type", mutability="immutable"),
        _one("$ref", "reference", referenceTypes=["User"], mutability="immutable", caseExact=True),
    ]  # fmt: skip
    held = [
        _one("value", mutability="readOnly"), _one("display", mutability="readOnly"),
        _one("$ref", "reference", referenceTypes=["Group"], mutability="readOnly", caseExact=True),
    ]  # fmt: skip
    user = [
        _one("userName", required=True, uniqueness="server"), *map(_one, _TEXTS),
        _one("name", "complex", subAttributes=[*map(_one, _NAME)]), _one("active", "boolean"),
        _several("emails"), _several("phoneNumbers"), _several("addresses", _ADDRESS), _several("roles"),
        _several("entitlements"),
        _one("groups", "complex", multiValued=True, mutability="readOnly", subAttributes=held),
    ]  # fmt: skip
    manager = _one("manager", "complex", subAttributes=[_one("value"), _one("displayName", mutability="readOnly")])
    group = [_one("displayName", required=True), _one("members", "complex", multiValued=True, subAttributes=member)]
    return [
        _schema(USER, "User", user, base), _schema(GROUP, "Group", group, base),
        _schema(ENTERPRISE, "EnterpriseUser", [*map(_one, _WORK), manager], base),
    ]  # fmt: skip


def types(base: str) -> list[dict[str, Any]]:
    """Return `/ResourceTypes`."""
    more = [{"schema": ENTERPRISE, "required": False}]
    return [
        {
            "schemas": [CORE + "ResourceType"], "id": name, "name": name, "description": name,
            "endpoint": f"/{name}s", "schema": urn, "schemaExtensions": more if name == "User" else [],
            "meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/{name}"},
        }
        for name, urn in (("User", USER), ("Group", GROUP))
    ]  # fmt: skip


def service(base: str) -> dict[str, Any]:
    """Return `/ServiceProviderConfig`."""
    return {
        "schemas": [CORE + "ServiceProviderConfig"], "patch": {"supported": True},
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": MOST_RESULTS}, "changePassword": {"supported": False},
        "sort": {"supported": False}, "etag": {"supported": False},
        "authenticationSchemes": [
            {"type": "oauthbearertoken", "name": "Key", "description": "A key of an account with the role provisioner."}
        ],
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }  # fmt: skip
