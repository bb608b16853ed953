"""Allowed targets after a log-in: pages of this console only. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from ashore.control.sessions.model import CONSOLE, Visit

MOST_CHARS: Final = 1000
_PAGE: Final = re.compile(r"/console(?:/[A-Za-z0-9._~@:+%,=-]+)*/?(?:\?[A-Za-z0-9._~@:+%,=&/*-]*)?")


def home(visit: Visit) -> str:
    """Return the path of the console's first page."""
    return f"{visit.prefix}{CONSOLE}"


def next_of(visit: Visit, asked: str) -> str:
    """Return the requested page if it is one of this console, else the first page.

    A browser reads `//evil`, `/\\evil` and a tab in between as another host; all of these are rejected.
    """
    if not asked or len(asked) > MOST_CHARS or not asked.startswith(f"{visit.prefix}{CONSOLE}"):
        return home(visit)
    page = asked[len(visit.prefix) :]
    path = unquote(unquote(page.partition("?")[0]))
    if not _PAGE.fullmatch(page) or ".." in path or "//" in path or "\\" in path or not path.isprintable():
        return home(visit)
    return asked
