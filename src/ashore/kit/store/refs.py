"""References to stored models: `name`, `name@variant`, `name@sha256:…`, and how a name is formed from a source or from
another model."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ashore.core.errors import CorruptBlob, InvalidRequest
from ashore.core.ids import Digest

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_VARIANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A parsed reference. At most one of `variant` and `digest` is set."""

    name: str
    variant: str = ""
    digest: Digest | None = None


def parse_reference(text: str) -> Reference:
    """Return the parts of `name`, `name@variant` or `name@sha256:…`.

    Raises:
        InvalidRequest: the text has none of these forms.
    """
    name, at, rest = text.partition("@")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{text!r} is not a model reference: {name!r} is not a valid name",
            hint="expected name, name@variant or name@sha256:<64 hex digits>; names have a-z 0-9 . _ -",
        )
    if not at:
        return Reference(name=name)
    if is_digest(rest):
        return Reference(name=name, digest=Digest(rest))
    if not _VARIANT.fullmatch(rest):
        raise InvalidRequest(
            f"{text!r} is not a model reference: {rest!r} is neither a variant nor a digest",
            hint="expected name, name@variant or name@sha256:<64 hex digits>",
        )
    return Reference(name=name, variant=rest)


def made_name(parent: str, how: str) -> str:
    """Return the default name of a model derived from a stored one: `tiny-sft`.

    Raises:
        InvalidRequest: `parent` is not a reference.
    """
    return f"{parse_reference(parent).name}-{how}"


def pruned_name(parent: str, share: float) -> str:
    """Return `made_name` for a model without a share of its parameters: `tiny-pruned30`."""
    return made_name(parent, f"pruned{round(share * 100)}")


def is_digest(text: str) -> bool:
    """Return whether `text` is `sha256:` and 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def checked_digest(text: object) -> Digest:
    """Return a validated digest. Raises `CorruptBlob` if it is malformed: it would become a path."""
    if not isinstance(text, str) or not is_digest(text):
        raise CorruptBlob(f"{ascii(text)[:90]} is not a digest", hint="pull or import the model again")
    return Digest(text)


def name_from(text: str) -> str:
    """Return a store name made from the last part of a source: `org/DeepSeek-R1` gives `deepseek-r1`."""
    last = text.rstrip("/").rsplit("/", 1)[-1].lower()
    last = re.sub(r"\.gguf$", "", last)
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")
    if not _NAME.fullmatch(cleaned):
        raise InvalidRequest(f"no store name can be formed from {text!r}", hint="give one: --name NAME")
    return cleaned


def unpinned(source: str) -> str:
    """Return a source without its version (`pypi:x==1`) or revision (`hf:o/n@commit`, `ms:o/n@tag`)."""
    mark = {"pypi": "==", "hf": "@", "ms": "@"}.get(source.partition(":")[0])
    return source.partition(mark)[0] if mark else source
