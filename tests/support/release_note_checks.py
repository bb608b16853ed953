"""`release note`, in a package that has it: what is found of it, printed as JSON."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from release_site import release_site

from ashore.cli.main import main
from ashore.control.faces.table import ROUTES
from ashore.data.http.openapi import describe


def said(*words: str) -> str:
    with redirect_stdout(io.StringIO()) as page:
        main(list(words))
    return page.getvalue()


def checks(run: Path) -> dict[str, object]:
    path = json.loads(describe(ROUTES))["paths"]["/admin/v1/releases/{release}/notes"]
    found: dict[str, object] = {"help": said("release", "note", "--help"), "summary": path["post"]["summary"]}
    with release_site(run) as site:
        found["over http"] = site.do("release note", release="chat-1", text="looks good")["name"]
        words = ("release", "note", "chat-1", "looks better", "--json", "--url", site.worker.root, "--key", site.owner)
        found["command"] = json.loads(said(*words))["name"]
        found["refused"] = site.refuse("release note", release="chat-1", text="x", key=site.developer)[0]
        found["too long"] = site.refuse("release note", release="chat-1", text="x" * 301)[2]
        found["log"] = site.worker.said()
    return found


if __name__ == "__main__":
    print(json.dumps(checks(Path(sys.argv[1]))))
