"""From readings to a diagnosis: every rule is asked, the worst comes first, a consequence stands below its cause."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ashore.control.doctor.model import SEVERITIES, Diagnosis, Finding, Unknown
from ashore.control.doctor.readings import Readings
from ashore.control.doctor.rule import Rule

_SURE = {"certain": 0, "likely": 1, "possible": 2}


def diagnose(readings: Readings, rules: Sequence[Rule]) -> Diagnosis:
    """Return what the rules find. Pure; costs milliseconds.

    Args:
        readings: What was measured.
        rules: To be asked, in any order.
    """
    found: list[Finding] = []
    unknown, asked = [], 0
    for one in rules:
        if not (one.down or readings.server.running):
            continue
        lacking = next((why for name in one.needs if (why := readings.lacks(name))), "")
        if lacking:
            unknown.append(Unknown(rule=one.id, missing=lacking))
            continue
        asked += 1
        found += one.judge(readings)
    return Diagnosis(
        at_s=readings.at_s, span_s=readings.span_s, findings=_ordered(found), unknown=tuple(unknown), rules=asked
    )


def _ordered(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, each cause followed by what it explains. `explains` has no circles."""
    present = {one.rule for one in found}
    causes = {rule: one.rule for one in reversed(found) for rule in one.explains if rule in present}

    def root(rule: str) -> str:
        while rule in causes:
            rule = causes[rule]
        return rule

    worst: dict[str, tuple[int, int, str]] = {}
    for one in found:
        first = root(one.rule)
        worst[first] = min(worst.get(first, _weight(one)), _weight(one))
    told = [replace(one, because_of=causes.get(one.rule, "")) for one in found]
    return tuple(sorted(told, key=lambda one: (worst[root(one.rule)], bool(one.because_of), _weight(one))))


def _weight(finding: Finding) -> tuple[int, int, str]:
    return SEVERITIES.index(finding.severity), _SURE[finding.sure], finding.rule
