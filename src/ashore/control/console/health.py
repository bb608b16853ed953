"""Doctor: what is wrong, the worst first, each with what was measured and the command that mends it."""

from __future__ import annotations

from typing import Any

from ashore.control.console.kit import Act, Row, Table, state, text
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page


async def doctor_page(reader: Reader) -> Answer:
    """Return what the doctor finds: what is wrong as cards, advice as a list, and what it could not judge."""
    found = await reader.ask("doctor findings")
    if found is None:
        return await tab_page(reader, BY_NAME["doctor"])
    wrong = [(one, state(one.severity), _acts(reader, one)) for one in found.items if one.severity != "advice"]
    advice = [one for one in found.items if one.severity == "advice"]
    unknown = tuple(Row(cells=(text(one.rule), text(one.missing))) for one in found.unknown)
    return reader.page(
        "doctor.html",
        "doctor",
        tabs=reader.tabs("doctor"),
        lead=reader.words("doctor.lead", rules=found.rules, count=len(wrong), advice=len(advice)),
        acts=(
            Act(address="doctor", word="doctor.again"),
            *reader.may("doctor rules"),
            *reader.may("doctor changes"),
            *reader.may("doctor apply"),
        ),
        at_s=found.at_s,
        wrong=wrong,
        advice=[(one, _acts(reader, one)) for one in advice],
        unknown=Table(name="unknown", columns=("rule", "missing"), rows=unknown, total=len(unknown)),
        command="ashore doctor",
    )


def _acts(reader: Reader, finding: Any) -> tuple[Act, ...]:
    """Return the act that makes the change of a finding, if it carries one."""
    return reader.may("doctor apply", "doctor.apply", rules=finding.rule) if finding.change is not None else ()
