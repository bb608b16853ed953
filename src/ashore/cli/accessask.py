"""How `ashore privacy policy` asks a server, whose calls are not declared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server to ask.

    Args:
        url: Its address; default: the server of this home.
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

    @staticmethod
    def printed(answer: Any, as_json: bool) -> bool:
        """Print the answer as JSON where that was asked for, and return whether it was."""
        if as_json:
            print(json.dumps(answer, ensure_ascii=False))
        return as_json
