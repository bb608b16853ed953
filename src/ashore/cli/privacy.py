"""`ashore privacy`: detect, mask, policy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ashore.cli.privacypolicy import policy_app
from ashore.errors import InvalidRequest
from ashore.settings import read_settings

if TYPE_CHECKING:
    from ashore.privacy import Examination

app = App(name="privacy", help="See what the privacy policy does with a text, and change it.")
app.command(policy_app)

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
TextFile = Annotated[Path, Parameter(allow_leading_hyphen=True)]
MOST_BYTES = 64 << 20


@app.command
def detect(
    file: TextFile = Path("-"),
    /,
    *,
    tenant: str = "default",
    model: str = "*",
    config: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """List the personal data in a text: kinds and places, never the values.

    Args:
        file: The text, in UTF-8; - reads standard input.
        tenant: Whose policy.
        model: Alias to which the text would be sent.
        config: ashore.toml with the policy; default: the one that this home's state has, else the built-in one.
        as_json: Print JSON: items with kind, start, end (in characters) and action, counts, the masked text.
    """
    text, found = _examine(file, tenant, model, config)
    if as_json:
        print(_as_json(found))
        return
    for one in found.entities:
        line = text.count("\n", 0, one.start) + 1
        column = one.start - (text.rfind("\n", 0, one.start) + 1) + 1
        place = f"line {line}, column {column}, {one.end - one.start} characters"
        print(f"{one.kind:<14} {found.actions[one.kind]:<13} {place}")
    counts = json.loads(_as_json(found))["counts"]
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(told or "no personal data found", file=sys.stderr)


@app.command
def mask(
    file: TextFile = Path("-"),
    /,
    *,
    tenant: str = "default",
    model: str = "*",
    config: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Print a text as a model would see it.

    Args:
        file: The text, in UTF-8; - reads standard input.
        tenant: Whose policy.
        model: Alias to which the text would be sent.
        config: ashore.toml with the policy; default: the one that this home's state has, else the built-in one.
        as_json: Print JSON: items with kind, start, end (in characters) and action, counts, the masked text.
    """
    _, found = _examine(file, tenant, model, config)
    if as_json:
        print(_as_json(found))
        return
    sys.stdout.write(found.masked)
    if found.blocked:
        kinds = sorted({one.kind for one in found.entities if found.actions[one.kind] == "block"})
        print(f"\na server would refuse this text: it holds {', '.join(kinds)}", file=sys.stderr)


def _examine(file: Path, tenant: str, model: str, config: Path | None) -> tuple[str, Examination]:
    from ashore.bootstrap import open_privacy

    try:
        raw = sys.stdin.buffer.read(MOST_BYTES + 1) if str(file) == "-" else _read(file)
        text = raw.decode("utf-8")
    except OSError as fault:
        raise InvalidRequest(f"{file}: {fault.strerror}", hint="give an existing file, or -") from fault
    except UnicodeDecodeError as fault:
        raise InvalidRequest(f"{file} is not UTF-8 at byte {fault.start}", hint="convert it, as with iconv") from fault
    if len(raw) > MOST_BYTES:
        raise InvalidRequest(f"{file} has more than {MOST_BYTES:,} bytes", hint="split it")
    privacy, _ = open_privacy(read_settings(), config)
    return text, privacy.examine(text, tenant=tenant, alias=model)


def _read(file: Path) -> bytes:
    with open(file, "rb") as source:
        return source.read(MOST_BYTES + 1)


def _as_json(found: Examination) -> str:
    counts: dict[str, int] = {}
    for one in found.entities:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    items = [
        {"kind": one.kind, "start": one.start, "end": one.end, "action": found.actions[one.kind]}
        for one in found.entities
    ]
    told = {"items": items, "counts": counts, "masked": found.masked, "blocked": found.blocked}
    return json.dumps(told, ensure_ascii=False)
