"""Translates a JSON schema to the keywords of the grammar library. The result allows no value that the schema forbids.

Every `$ref` becomes a pointer from the root, counts become integers (JSON Schema allows `2.0`), and keywords that the
library does not know are rewritten if that is exact: `propertyNames`, `unevaluatedProperties` and `unevaluatedItems` in
an object or array that stands alone, `dependentRequired`. Dates must be valid calendar dates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urljoin

from ashore.core.errors import InvalidGrammar
from ashore.core.foreign import foreign_errors

BY_NAME: Final = ("properties", "patternProperties", "$defs", "definitions")
"""Keywords with schemas by name."""
IN_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
"""Keywords with a list of schemas."""
SINGLE: Final = (
    "items",
    "additionalProperties",
    "additionalItems",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
)
"""Keywords with one schema; `items` may be a list, as in older drafts."""
COMBINE: Final = ("anyOf", "oneOf", "allOf", "$ref")
"""Keywords that put a value together from several schemas."""

_COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NAMED: Final = {"$id", "$anchor"}
_MOST_NAME_CHARS: Final = 1000
"""Of an `$id` with what it is relative to, and of the pointer to what has a name: each `$ref` repeats one of them."""
_PLACE: Final = re.compile(r"#(/.*)?")
_SPECIAL: Final = re.compile(r"([.^$*+?()\[\]{}|\\])")

_YEAR: Final = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_FOURTHS: Final = "(?:0[48]|[2468][048]|[13579][26])"
_DAYS: Final = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_DATE: Final = f"(?:{_YEAR}-{_DAYS}|(?:[0-9]{{2}}{_FOURTHS}|{_FOURTHS}00)-02-29)"
_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
FORMATS: Final = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
"""RFC 3339 without leap seconds; the library's own patterns know no leap years."""

_ESCAPE: Final = re.compile(r"\\.", re.DOTALL)
_CLASSES: Final = re.compile(r"\\.|\[\^?(?:\\.|[^\]\\])++\]?", re.DOTALL)
"""A class that nothing ends goes to the end, so that each character is read once; the library refuses it."""
_SPACES, _DIGITS, _WORDS = r"\s\x{FEFF}\x1C-\x1F\x{85}", r"\d\p{Nd}", r"\w\x{80}-\x{10FFFF}"
_NARROW: Final = {r"\s": r"[\t-\r\p{Z}]", r"\S": f"[^{_SPACES}]", r"\D": f"[^{_DIGITS}]", r"\W": f"[^{_WORDS}]"}
_WIDE: Final = {r"\s": _SPACES, r"\d": _DIGITS, r"\w": _WORDS}


def mapped(schema: Any, change: Callable[[Any, str], Any]) -> Any:
    """Return a schema with `change(part, where)` in place of each of its parts; `where` is the pointer to it."""
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for keyword in BY_NAME:
        if isinstance(inner := schema.get(keyword), dict):
            made[keyword] = {name: change(one, f"/{keyword}/{_step(name)}") for name, one in inner.items()}
    for keyword in (*IN_LISTS, *SINGLE):
        if isinstance(inner := schema.get(keyword), list):
            made[keyword] = [change(one, f"/{keyword}/{at}") for at, one in enumerate(inner)]
        elif keyword in SINGLE and keyword in schema:
            made[keyword] = change(inner, f"/{keyword}")
    return made


def parts(schema: Any) -> Iterator[tuple[Any, str]]:
    """Yield each part of a schema with its pointer."""
    found: list[tuple[Any, str]] = []

    def note(part: Any, where: str) -> Any:
        found.append((part, where))
        return part

    mapped(schema, note)
    yield from found


def plain(schema: Any, *, at: str = "#") -> Any:
    """Return a schema in the keywords of the grammar library.

    Args:
        schema: A schema, or true or false.
        at: Pointer to the schema's place in the document for the library.

    Raises:
        InvalidGrammar: a `$ref` points to nothing inside the schema.
    """
    return _plain(schema, _targets(schema, "", "", at), base="", at=at)


def conditions(schema: Any) -> Any:
    """Return a schema without `dependentRequired`: either the property is absent, or the required ones are present."""
    made = mapped(schema, lambda part, _: conditions(part))
    if not isinstance(made, dict) or "dependentRequired" not in made:
        return made
    needs = made.pop("dependentRequired")
    either = [{"anyOf": [{"properties": {name: False}}, {"required": needed}]} for name, needed in needs.items()]
    return {**made, "allOf": [*made.get("allOf", []), *either]} if either else made


def _plain(schema: Any, targets: dict[str, str], *, base: str, at: str) -> Any:
    if not isinstance(schema, dict):
        return schema
    if isinstance(name := schema.get("$id"), str):
        base = _joined(base, name)
    made = mapped(schema, lambda part, where: _plain(part, targets, base=base, at=at + where))
    made = {keyword: value for keyword, value in made.items() if keyword not in _NAMED}
    if "//json-schema.org/" not in str(made.get("$schema", "")):
        made.pop("$schema", None)
    if isinstance(reference := made.get("$ref"), str):
        made["$ref"] = _pointer(reference, targets, base)
    for keyword in _COUNTS:
        if isinstance(count := made.get(keyword), float) and count.is_integer():
            made[keyword] = int(count)
    if isinstance(made.get("pattern"), str):
        made["pattern"] = narrowed(made["pattern"])
    if isinstance(named := made.get("patternProperties"), dict):
        made["patternProperties"] = {narrowed(pattern): part for pattern, part in named.items()}
    if (pattern := FORMATS.get(str(made.get("format")))) and "pattern" not in made:
        del made["format"]
        made["pattern"] = pattern
    return _counted(_names_held(_evaluated(made, at), at), at)


def _evaluated(schema: dict[str, Any], at: str) -> dict[str, Any]:
    """Rewrite `unevaluated…` as `additional…` if nothing else evaluates."""
    made = dict(schema)
    for keyword, same in (("unevaluatedProperties", "additionalProperties"), ("unevaluatedItems", "items")):
        if keyword in schema:
            beside = [one for one in COMBINE if one in schema]
            if beside:
                raise _refused(keyword, at, f"beside {beside[0]}")
            value = made.pop(keyword)
            made.setdefault(same, value)
    return made


def _names_held(schema: dict[str, Any], at: str) -> dict[str, Any]:
    """Rewrite `propertyNames` as the properties that an object may have."""
    names = schema.get("propertyNames", True)
    rest = {keyword: value for keyword, value in schema.items() if keyword != "propertyNames"}
    if names is True or names in ({}, {"type": "string"}):
        return rest
    beside = [keyword for keyword in ("properties", "patternProperties", *COMBINE) if keyword in schema]
    if beside or not (names is False or isinstance(names, dict)):
        raise _refused("propertyNames", at, f"beside {' '.join(beside)}")
    if names is False:
        return {**rest, "maxProperties": 0}
    values = rest.pop("additionalProperties", True)
    match {keyword: value for keyword, value in names.items() if (keyword, value) != ("type", "string")}:
        case {"pattern": str(pattern), **more} if not more:
            allowed = {pattern: values}
        case {"enum": list(among), **more} if not more:
            allowed = {_exactly(name): values for name in among if isinstance(name, str)}
        case {"const": str(name), **more} if not more:
            allowed = {_exactly(name): values}
        case {"maxLength": int(most), **more} if not more or more == {"minLength": more.get("minLength")}:
            allowed = {f"^(?s:.{{{more.get('minLength', 0)},{most}}})$": values}
        case {"minLength": int(least), **more} if not more:
            allowed = {f"^(?s:.{{{least},}})$": values}
        case _:
            raise _refused("propertyNames", at, "unless it is an enum, a pattern or a length")
    return {**rest, "patternProperties": allowed, "additionalProperties": False}


def _counted(schema: dict[str, Any], at: str) -> dict[str, Any]:
    """Drop `minProperties` if the required ones suffice; a free name written twice would count twice."""
    least, required = schema.get("minProperties"), schema.get("required")
    if not isinstance(least, int) or least < 2:
        return schema
    if not isinstance(required, list) or len(set(map(str, required))) < least:
        raise _refused("minProperties", at, "where it is more than 1 and than what is required")
    return {keyword: value for keyword, value in schema.items() if keyword != "minProperties"}


def narrowed(pattern: str) -> str:
    """Return a regular expression whose classes are restricted to what ECMA-262 and Python share."""
    return _CLASSES.sub(_narrow, pattern)


def _narrow(found: re.Match[str]) -> str:
    text = found.group()
    if text[0] != "[":
        return _NARROW.get(text, text)
    return _ESCAPE.sub(lambda escape: (_WIDE if text[1] == "^" else _NARROW).get(escape.group(), escape.group()), text)


def _targets(schema: Any, base: str, where: str, at: str) -> dict[str, str]:
    """Return the pointer to each named part of a schema: by address, and by address and anchor."""
    found = {} if where else {"": at}
    if isinstance(schema, dict):
        if isinstance(name := schema.get("$id"), str):
            base = _joined(base, name)
            found[base.removesuffix("#")] = _short(at + where)
        if isinstance(anchor := schema.get("$anchor"), str):
            found[_short(f"{base}#{anchor}")] = _short(at + where)
        for part, inside in parts(schema):
            found |= _targets(part, base, where + inside, at)
    return found


def _pointer(reference: str, targets: dict[str, str], base: str) -> str:
    address, _, fragment = (base + reference if reference[:1] == "#" else _joined(base, reference)).partition("#")
    whole = targets.get(address)
    if whole is not None and _PLACE.fullmatch(f"#{fragment}"):
        return whole + fragment
    if (named := targets.get(f"{address}#{fragment}")) is not None:
        return named
    raise InvalidGrammar(
        f"the $ref {reference[:100]!r} points to nothing inside the schema; no other schema is fetched",
        hint="copy the referenced schema into $defs",
    )


def _joined(base: str, name: str) -> str:
    with foreign_errors(f"the address {name[:100]!r} cannot be read", InvalidGrammar, hint="correct $id and $ref"):
        address = urljoin(base, _short(name))
    return _short(address)


def _short(name: str) -> str:
    if len(name) > _MOST_NAME_CHARS:
        raise InvalidGrammar(
            f"the name or place {name[:100]!r}… of a part of the schema has {len(name)} characters; the limit is "
            f"{_MOST_NAME_CHARS}",
            hint="shorten $id, $anchor, $ref and the names of the properties around them",
        )
    return name


def _refused(keyword: str, at: str, when: str) -> InvalidGrammar:
    return InvalidGrammar(
        f"the keyword {keyword!r} at {at[:100]} cannot be enforced while generating, {when}",
        hint="remove it, and check the answer against it in your application",
    )


def _exactly(text: str) -> str:
    return "^" + _SPECIAL.sub(r"\\\1", text) + "$"


def _step(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1").replace("%", "%25")
