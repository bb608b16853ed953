"""Replaces secrets and files of an ashore.toml with names: a form has their mount paths, never their content. Pure.

A secret is recognised by its value as well as its key, because a password may be in an address, an engine option or
program arguments. A value that only looks like one costs a line in a Secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from ashore.core.addresses import split_url
from ashore.core.errors import Bug, InvalidSpec
from ashore.kit.sealing.keysource import format_key_source, parse_key_source
from ashore.kit.section import FROM_FILE, is_from_file
from ashore.machine.deployment.forms.leaves import Leaf, changed

FOLDER: Final = "/run/secrets/ashore"
"""Where every form mounts secrets and files."""

_WORD: Final = (
    r"api[_-]?key|access[_-]?key|secret|password|passwd|passphrase|token|credentials?|authorization|private[_-]?key"
)
_KEY: Final = re.compile(rf"(?i)(^|[_.-])({_WORD}|pwd|pat|auth|key|hook)s?$")
"""Keys whose values are secrets."""
_COUNTS: Final = re.compile(r"(?i)(^|_)(max|min|num|context|kv|batch|batched|per)_|_tokens$|^tokens")
"""Keys that count tokens."""
_TOLD: Final = re.compile(rf"(?i)(?<![a-z])({_WORD}|pwd)[\"']?\s*[=:\s]\s*[\"']?[^\s\"']{{4,}}|bearer\s+\S{{6,}}")
"""`--token=abc`, `Authorization: Bearer abc`."""
_SHAPES: Final = re.compile(
    r"(?<![A-Za-z0-9])(sk-|hf_|gh[pousr]_|glpat-|xox[abprs]-|AKIA|ASIA|eyJ[A-Za-z0-9_-]{8,}\.|hvs\.|s\.)[A-Za-z0-9_.-]{12,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
)
"""How the tokens of well-known services begin."""
_RANDOM: Final = re.compile(r"[A-Za-z0-9+_=-]{24,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One value or file that is handed to the container by its name."""

    name: str
    """Name of the file in `FOLDER`."""
    what: str
    """Its place in ashore.toml, for people."""
    is_file: bool
    """Whether ashore.toml names a file, rather than holding the value."""

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """An ashore.toml without secrets."""

    document: dict[str, Any]
    secrets: tuple[Secret, ...]
    values: frozenset[str]
    """What no form may contain."""


def hide(document: Mapping[str, Any]) -> Hidden:
    """Return ashore.toml with a path below `FOLDER` for each secret and each file.

    Raises:
        InvalidSpec: a secret stands where a name must be.
    """
    secrets: dict[str, Secret] = {}
    values: set[str] = set()

    def named(leaf: Leaf, suffix: str = "", *, is_file: bool) -> str:
        name = base = f"{leaf.name}{suffix}"
        number = 2
        while name in secrets:
            name, number = f"{base}-{number}", number + 1
        secrets[name] = Secret(name=name, what=leaf.shown, is_file=is_file)
        return secrets[name].path

    def change(leaf: Leaf) -> Any:
        if is_from_file(leaf.value):
            return {FROM_FILE: named(leaf, is_file=False)}
        if leaf.value in ("", None) or isinstance(leaf.value, bool):
            return leaf.value
        if leaf.holds == "file":
            return named(leaf, is_file=True)
        if leaf.holds == "key place":
            return f"file:{named(leaf, is_file=str(leaf.value).startswith('file:'))}"
        if leaf.holds == "key source":
            return _key_source(leaf, named)
        if not is_secret(leaf.key, leaf.value):
            return leaf.value
        if leaf.path[-1] in ("alias", "name"):
            raise InvalidSpec(
                f"{leaf.shown} seems to contain a password or token, and a name cannot be kept in a Secret",
                hint="pull the model under a plain name first: `ashore model pull SOURCE --name NAME`",
            )
        values.update(_parts(str(leaf.value)))
        return {FROM_FILE: named(leaf, is_file=False)}

    hidden = changed(document, change)
    return Hidden(document=hidden, secrets=tuple(secrets.values()), values=frozenset(values))


def is_secret(key: str, value: object) -> bool:
    """Return whether a value must not be shown, by its key or its form."""
    if isinstance(value, float):
        return False
    if _KEY.search(key) and not (isinstance(value, int) and _COUNTS.search(key)):
        return True
    if not isinstance(value, str):
        return False
    return _in_address(value) or bool(_TOLD.search(value) or _SHAPES.search(value)) or _looks_random(value)


def refuse_leaks(texts: Iterable[str], values: frozenset[str]) -> None:
    """Check that no text contains a secret. Guards against our own mistakes in any form.

    Raises:
        Bug: one does. The message does not repeat it.
    """
    for text in texts:
        if any(value in text for value in values):
            raise Bug("a rendered file would contain a secret of ashore.toml", hint="report it; nothing was written")


def _in_address(value: str) -> bool:
    """Return whether an address has a password, a user that is a token, or a secret among its options."""
    if "://" not in value:
        return False
    try:
        parts = split_url(value)
        user = parts.username if not parts.scheme.startswith(("postgres", "mysql")) else None
        return bool(parts.password or user or any(_KEY.search(name) and one for name, one in parse_qsl(parts.query)))
    except ValueError:
        return "@" in value


def _looks_random(value: str) -> bool:
    """Return whether a text contains a long run of capitals, small letters and digits, as keys do and names do not."""
    return any(
        sum(char.isdigit() for char in run) >= 4 and sum(char.isupper() for char in run) >= 4
        and sum(char.islower() for char in run) >= 4
        for run in _RANDOM.findall(value)
    )  # fmt: skip


def _parts(value: str) -> set[str]:
    """Return the parts of a secret that must not appear: all of it, and the password of an address, raw and decoded."""
    found = {value}
    if "://" in value:
        try:
            password = split_url(value).password or ""
        except ValueError:
            password = ""
        found |= {password, unquote(password)}
    return {part for part in found if len(part) >= 6}


def _key_source(leaf: Leaf, named: Any) -> str:
    """Return a key source whose files are mounted."""
    source = parse_key_source(str(leaf.value), where=leaf.shown)
    if source.kind != "transit":
        if not source.path:
            raise InvalidSpec(
                f"{leaf.shown} asks for a passphrase at a terminal, which a container has not",
                hint="write passphrase:FILE or keyring:FILE",
            )
        return f"{source.kind}:{named(leaf, is_file=True)}"
    files = {
        option: named(leaf, f"-{option.replace('_', '-')}", is_file=True)
        for option in ("token_file", "ca_file")
        if getattr(source, option)
    }
    return format_key_source(type(source)(**{**_fields(source), **files}))


def _fields(source: Any) -> dict[str, str]:
    return {name: getattr(source, name) for name in type(source).__dataclass_fields__}
