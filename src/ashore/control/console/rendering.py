"""Renders pages to HTML. Templates escape everything; none may turn that off."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache, partial
from importlib import resources
from typing import Any, Final
from urllib.parse import urlencode

import jinja2

from ashore.control.console.kit import Table
from ashore.control.console.model import Asked
from ashore.control.console.pages import BY_NAME
from ashore.control.console.words import LANGUAGES, Words
from ashore.core.clock import SystemClock
from ashore.core.outward import outward
from ashore.core.timespan import human_moment, human_seconds

FIGURES: Final = frozenset({"number", "none", "absent"})
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
    made.filters["exact"] = human_moment
    made.filters["short"] = lambda text: f"{text.partition(':')[2][:8] or text[:12]}…"
    made.filters["plain"] = lambda text: text.replace("`", "")
    made.filters["mark"] = lambda text: hashlib.sha256(text.encode()).hexdigest()[:12]
    made.globals["numbers_of"] = numbers_of
    made.globals["page_icon"] = lambda name: BY_NAME[name].icon
    made.globals["page_group"] = lambda name: BY_NAME[name].group
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
    now_s = SystemClock().now_s()
    return found.render(t=words, root=asked.root, layout=layout, at=at, now_s=now_s, **content).encode()


def _address(asked: Asked, name: str, value: object) -> str:
    """Return the address of this page with another value of one parameter; without it where the value is empty."""
    gone = {name, "_lang", "_theme", "_row", "_form"} | (set() if name in ("_lang", "_theme") else {"_first"})
    kept = [pair for pair in asked.query if pair[0] not in gone and pair[1]]
    return "?" + urlencode([*kept, *([(name, str(value))] if value != "" else [])])


def numbers_of(block: Table) -> frozenset[str]:
    """Return the columns of a table that hold figures, which stand at the right."""
    kinds = ({row.cells[at].kind for row in block.rows} for at in range(len(block.columns)))
    return frozenset(name for name, of in zip(block.columns, kinds, strict=True) if "number" in of and of <= FIGURES)


@cache
def static_files() -> Mapping[str, bytes]:
    """Return the static files by name. They are small and requested by every browser, so they stay in memory."""
    folder = resources.files("ashore.control.console") / "static"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}


@cache
def static_name(name: str) -> str:
    """Return the address of a file below `/console/`. It changes with the content, so browsers may keep it for good."""
    return f"static/{hashlib.sha256(static_files()[name]).hexdigest()[:12]}/{name}"
