"""Envoy's files: a bootstrap, and three watched files that it reloads when they are replaced.

Their text is in the templates of `envoy/`, with what each value is for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ashore.kit.call import CLIENT
from ashore.kit.yaml import write_yaml
from ashore.machine.edge.model import EdgePlan
from ashore.machine.edge.replies import local_replies
from ashore.machine.edge.routes import CONTROL, GRPC, HOP, HTTP, LOCAL, REMOTE, routes_of

UPSTREAM_IDLE_S: Final = 5
"""Shorter than a worker's `header_read_timeout_s` (10 s), after which it closes an idle connection."""
BUFFER_BYTES: Final = 32_768
"""Held for a connection at each end. 400 clients that send bodies with a wrong key cost Envoy 43 MiB so, and 64 with
twice as much."""
ACCESS_LINE: Final = (
    "%START_TIME% %REQ(X-REQUEST-ID)% %REQ(:METHOD)% %PATH(NQ:PATH:200)% %PROTOCOL% %RESPONSE_CODE% "
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION%ms %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n"
)


def render(plan: EdgePlan) -> Mapping[Path, str]:
    """Return the text of every file, by path. They contain no secrets: the key is referenced by its file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("envoy")), undefined=StrictUndefined, autoescape=False,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters["q"] = _quoted
    names = {
        "plan": plan, "routes": list(routes_of(plan)), "replies": write_yaml(local_replies()), "hop": HOP,
        "client": CLIENT, "http": HTTP, "grpc": GRPC, "control": CONTROL, "local": LOCAL, "remote_machines": REMOTE,
        "upstream_idle_s": UPSTREAM_IDLE_S, "buffer_bytes": BUFFER_BYTES, "access_line": ACCESS_LINE,
    }  # fmt: skip
    watched = ("clusters.yaml", "listeners.yaml", *(("secrets.yaml",) if plan.tls else ()))
    files = {plan.bootstrap: "bootstrap.yaml"} | {plan.files / name: name for name in watched}
    return {path: made.get_template(name).render(names) for path, name in files.items()}


def _quoted(value: Any) -> str:
    """Return a value as JSON, which is YAML."""
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)
