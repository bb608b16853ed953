"""How `ashore access` asks the admin API of a server, and shows what it says."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server to ask.

    Args:
        url: Its address; default: the one that runs from this home.
        key: API key; default: ASHORE_API_KEY, or the home's first key.
    """

    url: str | None = None
    key: str | None = None

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return what the server answers.

        Raises:
            AshoreError: it refused, in its own words, or does not answer.
        """
        from ashore.cli.target import ask_server, find_target

        target = find_target(self.url, key=self.key)
        sent = None if body is None else json.dumps(body).encode()
        return json.loads(ask_server(target, method, f"/admin/v1{path}", body=sent))

    def pages(self, path: str, asked: Mapping[str, str]) -> list[Any]:
        """Return every item of a list that comes in pages."""
        items: list[Any] = []
        after = ""
        while True:
            query = urlencode({**asked, "limit": PAGE, **({"after": after} if after else {})})
            answer = self.ask("GET", f"{path}?{query}")
            items += answer["items"]
            if not answer["next"]:
                return items
            after = answer["next"]

    @staticmethod
    def part(name: str) -> str:
        """Return a name as a part of a path."""
        return quote(name, safe="")

    @staticmethod
    def printed(answer: Any, as_json: bool) -> bool:
        """Print the answer as JSON where that was asked for, and return whether it was."""
        if as_json:
            print(json.dumps(answer, ensure_ascii=False))
        return as_json


def moment(seconds: int | None) -> str:
    """Return a time for people, in UTC."""
    if seconds is None:
        return "-"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%MZ")


def show_key(new: Mapping[str, Any]) -> None:
    """Print a new key on stdout, and on stderr what to know about it."""
    record = new["record"]
    until = f", until {moment(record['expires_at'])}" if record["expires_at"] is not None else ""
    print(f"key {record['id']} of {record['owner']}{until}; it is shown this once:", file=sys.stderr)
    print(new["key"])
