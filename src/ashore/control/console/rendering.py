"""Renders pages to HTML. Templates escape everything; none may turn that off."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache, partial
from importlib import resources
from typing import Any, Final
from urllib.parse import urlencode

import jinja2

from ashore.control.console.model import Asked
from ashore.control.console.words import LANGUAGES, Words
from ashore.core.outward import outward
from ashore.core.timespan import human_seconds

THEMES: Final = ("auto", "light", "dark")


@cache
def environment() -> jinja2.Environment:
    """Return the template environment; loads no template."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("ashore.control.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        enable_async=False,
    )
    made.filters["span"] = human_seconds
    made.globals["static"] = static_name
    made.globals["languages"] = LANGUAGES
    made.globals["themes"] = THEMES
    made.globals["outward"] = outward
    return made


def load_all() -> None:
    """Compile every template, so that no first request waits for it."""
    made = environment()
    for name in made.list_templates(extensions=["html"]):
        made.get_template(name)


def render(template: str, asked: Asked, words: Words, content: Mapping[str, Any]) -> bytes:
    """Return a rendered page, or only its main part if that was requested."""
    layout = "bare.html" if asked.part == "main" else "base.html"
    found = environment().get_template(template)
    at = partial(_address, asked)
    return found.render(t=words, root=asked.root, layout=layout, at=at, **content).encode()


def _address(asked: Asked, name: str, value: object) -> str:
    """Return the address of this page with another value of one parameter."""
    kept = [pair for pair in asked.query if pair[0] not in (name, "_lang", "_theme")]
    return "?" + urlencode([*kept, (name, str(value))])


@cache
def static_files() -> Mapping[str, bytes]:
    """Return the static files by name. They are small and requested by every browser, so they stay in memory."""
    folder = resources.files("ashore.control.console") / "static"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}


@cache
def static_name(name: str) -> str:
    """Return the address of a file below `/console/`. It changes with the content, so browsers may keep it for good."""
    return f"static/{hashlib.sha256(static_files()[name]).hexdigest()[:12]}/{name}"
