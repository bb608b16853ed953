"""The page of clients, from the requests that are replayed: `python tests/support/client_page.py` writes it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from suite_venv import SUITES, TOO_HARD

ROOT: Final = Path(__file__).parents[2]
CLIENTS: Final = ROOT / "tests" / "clients"
PAGE: Final = ROOT / "docs" / "reference" / "clients.md"
FIELDS: Final = {"client", "version", "source", "path", "status", "ignored", "body", "calls", "refused"}
"""Of a file: whose request it is and where it comes from, what is asked, and what of the answer must hold.

`source` is `recorded`, or the project and file or thread that the request was built from; `calls` are words that the
answer must have, such as the tool that it calls; `refused` is a part of the message of an error.
"""
REAL: Final = {
    "aider": "makes an edit",
    "claude-code": "runs a command, and tells what it gave",
    "cline": "runs a command, and tells what it gave",
    "codex": "runs a command, applies a patch, starts an agent of its own",
    "continue": "runs a command, and tells what it gave",
    "langchain": "calls a tool over chat, Responses and Messages",
    "litellm": "chats, streams, embeds",
    "llamaindex": "calls a tool, and tells what it gave",
    "ollama-python": "lists, chats, streams, calls a tool, embeds; with `[http] ollama`",
    "openai-agents": "calls a tool, and tells what it gave",
    "opencode": "runs a command, and tells what it gave",
    "pydantic-ai": "calls a tool, and tells what it gave",
}
"""Clients that did a first task against `ashore up fake:tools`, by folder."""

INTRO: Final = """# Clients

Written by `python tests/support/client_page.py` from the requests in `tests/clients`, which a test replays; do not
edit.

Set the client's base URL to `http://127.0.0.1:8080/v1` (Claude Code: without `/v1`) and its key to the one that
`ashore up` names; `ashore launch claude`, `codex` or `opencode` does that for one run and writes no file. What a
client sends that changes no answer is left out, and the answer says so in `x-ashore-ignored`. Coding agents want a
context of 64,000 tokens or more: the prompt of Claude Code and Codex CLI with their tools alone has 10,000 to 25,000.

| client | version | talks | requests replayed | left out and named | a first task with the real one |
|---|---|---|---|---|---|
"""

SUITES_INTRO: Final = """
## Suites of other projects

They run against ashore as they are published, each by a target of its own.

| suite | version | target | what it shows |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client and its requests."""

    folder: str
    name: str
    requests: tuple[dict[str, Any], ...]

    @property
    def row(self) -> str:
        """Its line of the table."""
        routes = dict.fromkeys(f"`{one['path']}`" for one in self.requests)
        ignored = sorted({f"`{name}`" for one in self.requests for name in one["ignored"]})
        refused = [f"refused: {one['refused']}" for one in self.requests if "refused" in one]
        cells = (
            self.name,
            ", ".join(dict.fromkeys(one["version"] for one in self.requests)),
            " ".join(routes),
            f"{len(self.requests)}",
            "; ".join([" ".join(ignored) or "–", *refused]),
            REAL.get(self.folder, "–"),
        )
        return f"| {' | '.join(cells)} |\n"

    @property
    def source(self) -> str:
        """Where its requests come from."""
        found = dict.fromkeys(re.sub(r" \S+\.(go|py|ts)$", "", one["source"]) for one in self.requests)
        return f"- {self.name}: {'; '.join(found)}\n"


def clients() -> list[Client]:
    """Return every client that has requests."""
    found = []
    for folder in sorted(CLIENTS.iterdir()):
        requests = tuple(json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json")))
        if requests:
            found.append(Client(folder=folder.name, name=requests[0]["client"], requests=requests))
    return sorted(found, key=lambda one: one.name.lower())


def page() -> str:
    """Return `docs/reference/clients.md`."""
    rows = clients()
    suites = SUITES_INTRO + "".join(f"| {' | '.join(row)} |\n" for row in suite_rows())
    said = "\n## Where the requests come from\n\nThe file is named in each request.\n\n"
    return INTRO + "".join(one.row for one in rows) + suites + said + "".join(one.source for one in rows)


def suite_rows() -> list[tuple[str, ...]]:
    """Return name, version, target and meaning of the suites of other projects."""
    versions = {name: ", ".join(one.replace("==", " ") for one in packages) for name, packages in SUITES.items()}
    weak = " ".join(f"`{name}`" for name in TOO_HARD)
    return [
        (
            "[JSON-Schema-Test-Suite](https://github.com/json-schema-org/JSON-Schema-Test-Suite)",
            "draft 2020-12",
            "`make test-schemas`; a part in `make test`",
            "what random models write under each schema that is taken is valid, and no value that it forbids gets "
            "through; nine in ten of those about structure are taken; a refusal names the keyword",
        ),
        (
            "[lm-evaluation-harness](https://github.com/EleutherAI/lm-evaluation-harness)",
            versions["lm-eval"],
            "`make test-lm-eval`",
            "its log-likelihood tasks over `/v1/completions` find what `ashore optimize evaluate` finds",
        ),
        (
            "[langchain-tests](https://pypi.org/project/langchain-tests/), chat models",
            versions["langchain"],
            "`make test-langchain`",
            "`ChatOpenAI` over chat and Responses, and `ChatAnthropic`, pass all tests about text against "
            "`fake:agent`, which answers as a capable model would; against the demo model, all but those for which it "
            f"is too weak: {weak}",
        ),
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
