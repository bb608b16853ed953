"""`ashore privacy`: detect, mask, policy, budget, query."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from ashore.cli.calls import command_of, noun_of, show_consent
from ashore.cli.columns import table
from ashore.cli.privacypolicy import policy_app
from ashore.cli.sure import OwnJson
from ashore.control.ledger.calls import CALLS as LEDGER_CALLS
from ashore.control.ledger.calls import QUERY, AnswerOut
from ashore.core.errors import InvalidRequest
from ashore.data.privacy.calls import Detected, detected
from ashore.kit.settings import read_settings

app = App(name="privacy", help="Show and set masking; ask datasets with noise.")
app.command(policy_app)
app.command(
    noun_of(
        "privacy budget",
        "Grant privacy budgets of datasets, and see what is spent.",
        LEDGER_CALLS,
        {"consent": show_consent},
    )
)


TextFile = Annotated[Path, Parameter(allow_leading_hyphen=True)]
MOST_BYTES = 64 << 20


def show_answer(answer: AnswerOut) -> None:
    """Print the figures with five digits, what the question costs, and what is left."""
    if answer.items:
        if answer.items[0].low is None:
            named = [(one.group, f"{one.value:,.5g}", f"{one.rows_off:,.5g}") for one in answer.items]
            table(("quantile", "value", "rows off, at most"), named)
        else:
            figures = [(one.group or "-", one.value, one.low or 0.0, one.high or 0.0) for one in answer.items]
            rows = [(group, *(f"{figure:,.5g}" for figure in three)) for group, *three in figures]
            table(("group", "value", "low", "high"), rows)
    if answer.repeated:
        print("answered before, with this epsilon or a larger one: costs nothing; --fresh asks anew")
        print(f"{answer.left_percent:g} % of what is for questions is left")
        return
    print(f"costs {answer.cost_percent:g} % of what is for questions; {answer.left_percent:g} % left")


app.command(command_of(QUERY, show_answer), name="query")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a text would be sent.

    Args:
        tenant: Tenant whose policy applies.
        model: Alias to which the text would be sent.
        config: An ashore.toml with the policy; default: the policy in this home's state, else the built-in one.
        as_json: Print JSON: items with kind, start, end (in characters) and action, counts, the masked text.
    """

    tenant: str = "default"
    model: str = "*"
    config: Path | None = None
    as_json: OwnJson = False


Asked = Annotated[Where, Parameter(name="*")]
NOWHERE = Where()


@app.command
def detect(file: TextFile = Path("-"), /, *, where: Asked = NOWHERE) -> None:
    """List the personal data in a text: kinds and positions, never the values.

    Args:
        file: File with the text in UTF-8; - reads standard input.
        where: Where it would be sent.
    """
    text, found = _examine(file, where)
    if where.as_json:
        print(msgspec.json.encode(found).decode())
        return
    for one in found.items:
        line = text.count("\n", 0, one.start) + 1
        column = one.start - (text.rfind("\n", 0, one.start) + 1) + 1
        place = f"line {line}, column {column}, {one.end - one.start} characters"
        print(f"{one.kind:<14} {one.action:<13} {place}")
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(found.counts.items()))
    print(told or "no personal data found", file=sys.stderr)


@app.command
def mask(file: TextFile = Path("-"), /, *, where: Asked = NOWHERE) -> None:
    """Print a text as a model would see it.

    Args:
        file: File with the text in UTF-8; - reads standard input.
        where: Where it would be sent.
    """
    _, found = _examine(file, where)
    if where.as_json:
        print(msgspec.json.encode(found).decode())
        return
    sys.stdout.write(found.masked)
    if found.blocked:
        kinds = sorted({one.kind for one in found.items if one.action == "block"})
        print(f"\na server would refuse this text: it contains {', '.join(kinds)}", file=sys.stderr)


def _examine(file: Path, where: Where) -> tuple[str, Detected]:
    from ashore.cli.bootstrap import open_privacy

    try:
        raw = sys.stdin.buffer.read(MOST_BYTES + 1) if str(file) == "-" else _read(file)
        text = raw.decode("utf-8")
    except OSError as fault:
        raise InvalidRequest(f"{file}: {fault.strerror}", hint="give an existing file, or -") from fault
    except UnicodeDecodeError as fault:
        raise InvalidRequest(
            f"{file} is not UTF-8 at byte {fault.start}", hint="convert it, for example with iconv"
        ) from fault
    if len(raw) > MOST_BYTES:
        raise InvalidRequest(f"{file} has more than {MOST_BYTES:,} bytes", hint="split it")
    privacy, _ = open_privacy(read_settings(), where.config)
    return text, detected(privacy.examine(text, tenant=where.tenant, alias=where.model))


def _read(file: Path) -> bytes:
    with open(file, "rb") as source:
        return source.read(MOST_BYTES + 1)
