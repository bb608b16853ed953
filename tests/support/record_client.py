"""Stand between a client and a server, and write what the client sends as files of `tests/clients`.

    python tests/support/record_client.py PORT http://127.0.0.1:8080 tests/clients/NAME CLIENT VERSION

Texts are shortened, and what names a person, a machine or a session is made the same everywhere: the files are for the
shape of requests. Each is then given a name, and what is to be asserted of its answer is looked at.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LONGEST = 120
"""Characters of a text that are kept; a call in `<tool_call>` stays whole, since the fake model makes it."""
_SECRETS = (
    (re.compile(r"ash_[0-9a-f]{8}_\w+"), "KEY"),
    (
        re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        "00000000-0000-4000-8000-000000000000",
    ),
    (re.compile(r"\b[0-9a-f]{40,64}\b"), "0" * 40),
    (re.compile(r"(?:/tmp|/var/tmp|/home|/root|/work)/[\w./+-]*"), "/home/user/project"),
)


def trimmed(value: Any) -> Any:
    """Return a body with its texts cut and what names anyone taken out."""
    if isinstance(value, dict):
        return {name: trimmed(one) for name, one in value.items()}
    if isinstance(value, list):
        return [trimmed(one) for one in value]
    if not isinstance(value, str):
        return value
    for pattern, put in _SECRETS:
        value = pattern.sub(put, value)
    return value if len(value) <= LONGEST or "<tool_call>" in value else value[: LONGEST - 1] + "…"


def main(port: str, upstream: str, folder: str, client: str, version: str) -> None:
    """Pass requests on one by one, and write each POST with a body."""
    numbers, where = itertools.count(1), Path(folder)
    where.mkdir(parents=True, exist_ok=True)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            link = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=300)
            dropped = ("host", "connection", "accept-encoding")
            link.request(
                self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() not in dropped}
            )
            answer = link.getresponse()
            data, ignored = answer.read(), answer.headers.get("x-ashore-ignored", "")
            print(
                self.command, self.path, answer.status, ignored, data[:300] if answer.status >= 400 else "", flush=True
            )
            if body:
                kept = {
                    "client": client,
                    "version": version,
                    "source": "recorded",
                    "path": urlsplit(self.path).path,
                    "status": answer.status,
                    "ignored": [one for one in ignored.split(", ") if one],
                    "body": trimmed({**json.loads(body), "model": "served"}),
                }
                text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
                (where / f"{next(numbers)}.json").write_text(text, encoding="utf-8")
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_POST = do_HEAD = pass_on

    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
