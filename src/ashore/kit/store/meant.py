"""Translates names from other tools: `qwen3:8b`, `Qwen/Qwen3-8B`, the address of a file on a hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from ashore.core.errors import InvalidRequest

_HUB_ADDRESS: Final = re.compile(
    r"(?:https?://)?(?:www\.)?(?P<host>huggingface\.co|hf\.co|modelscope\.cn)/(?:models/)?(?P<repository>[\w.-]+/[\w.-]+)"
    r"(?:/(?:resolve|blob|tree)/(?P<revision>[\w.-]+)(?:/(?P<file>[^?\s]+))?)?(?::[\w.-]+)?/?(?:\?\S*)?"
)
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TAGGED: Final = re.compile(r"(?:ollama (?:run|pull) |(?:hf|ms):)?(?P<family>[A-Za-z][\w.-]*)(?::(?P<tag>[\w.-]+))?")
_MOST: Final = 3


def check_form(text: str, known: Mapping[str, str]) -> None:
    """Check that a text can be a source or the name of a model here.

    Args:
        text: As the user wrote it.
        known: Sources of the catalogue, by name.

    Raises:
        InvalidRequest: it has the form of another tool, or names no organisation on a hub; the hint has the right form.
    """
    if os.path.exists(text):  # not `Path.exists`, which raises on overlong texts
        return
    foreign = (
        text.startswith(("http://", "https://", "ollama ", "hf.co/", "huggingface.co/"))
        or (text.startswith(("hf:", "ms:")) and "/" not in text)
        or (_TAGGED.fullmatch(text) and ":" in text and not text.startswith(("pypi:", "file:")))
        or (_REPOSITORY.fullmatch(text) and not text.endswith(".gguf"))
    )
    if foreign:
        raise InvalidRequest(
            f"{text[:200]!r} is not the name or the source of a model",
            hint=meant(text, known)
            or "expected a catalogue name, hf:ORG/NAME, ms:ORG/NAME, a directory or a .gguf file; "
            "`ashore model catalog` lists the catalogue",
        )


def meant(text: str, known: Mapping[str, str]) -> str:
    """Return a hint that translates a text into ashore's form; empty if nothing is similar."""
    if found := _HUB_ADDRESS.fullmatch(text):
        kind = "ms" if "modelscope" in found["host"] else "hf"
        revision = f"@{found['revision']}" if found["revision"] not in (None, "main", "master") else ""
        file = f":{found['file']}" if (found["file"] or "").endswith(".gguf") else ""
        return f"did you mean {kind}:{found['repository']}{revision}{file}?"
    if text.startswith(("http://", "https://")):
        return "download the file, and give its path: ashore model pull ./NAME.gguf"
    if _REPOSITORY.fullmatch(text):
        return f"did you mean hf:{text}?"
    named = _TAGGED.fullmatch(text)
    if named is None:
        return ""
    near = _of_family(named["family"], named["tag"] or "", known)
    return "did you mean " + " or ".join(f"{name} ({source})" for name, source in near) + "?" if near else ""


def _of_family(family: str, tag: str, known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return names and sources of a family's entries, for the size that a tag begins with."""
    wanted, size = _plain(re.sub(r"-(instruct|chat|it)$", "", family.lower())), tag.lower().partition("-")[0]
    size = "" if size == "latest" else size
    begun = [name for name in known if _plain(name).startswith(wanted) and size in (*name.split("-"), "")]
    exact = [name for name in begun if _plain(name) == wanted + size]
    return [(name, known[name].partition("@")[0]) for name in (exact or begun)[:_MOST]]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
