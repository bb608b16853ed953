"""Stores a tuning: the choice and its evidence in the state, the whole report as JSON in the home's cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ashore.core.errors import Bug
from ashore.data.engines.tuning.model import GOALS, Goal, Machine, TunedChoice, TuneReport
from ashore.data.engines.tuning.rules import stale
from ashore.kit.decode import UNDECODABLE
from ashore.kit.folders import make_folder
from ashore.kit.state import TuningRow, load_tuning, save_tuning
from ashore.kit.wholefile import write_whole

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Unused(msgspec.Struct, frozen=True, kw_only=True):
    """A record exists but must not be used."""

    reason: str


def report_path(folder: Path, model: str) -> Path:
    """Return the path of the last report of `model` in `folder` (`cache/tuning` of the home)."""
    return folder / (re.sub(r"[^A-Za-z0-9._-]+", "_", model) + ".json")


def save_report(report: TuneReport, folder: Path) -> Path:
    """Write the report as JSON and return its path; the last report of the same model is replaced, atomically."""
    make_folder(folder, mode=0o700)
    path = report_path(folder, report.model)
    write_whole(path, report_json(report), mode=0o644, durable=False)
    return path


def report_json(report: TuneReport) -> bytes:
    """Return the report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def read_report(path: Path) -> TuneReport:
    """Read a report from `save_report`. Raises `msgspec.DecodeError` for anything else."""
    return msgspec.json.decode(path.read_bytes(), type=TuneReport)


def record_choice(connection: Connection, report: TuneReport) -> TunedChoice:
    """Store the choice for the goal of `report` in the state, with the whole report as its evidence; `up` then uses it.

    Raises:
        Bug: the report has no choice; `require_choices` comes first.
    """
    choice = report.choice_for(report.goal)
    if choice is None:
        raise Bug(f"the report of {report.model} has no choice for {report.goal}")
    row = TuningRow(
        model=report.model,
        goal=report.goal,
        choice=msgspec.json.encode(choice).decode(),
        report=msgspec.json.encode(report).decode(),
        measured_at_s=report.measured_at_s,
    )
    save_tuning(connection, row)
    return choice


def recorded_choice(
    connection: Connection, *, model: str, model_digest: str, here: Machine, goal: Goal | None = None
) -> TunedChoice | Unused | None:
    """Return what `engine tune` chose for this model.

    Args:
        connection: An open transaction of the state.
        model: Store name without variant.
        model_digest: Digest of the model as pulled.
        here: This machine; see `describe_machine`.
        goal: Goal of the choice; None: that of the last tuning.

    Returns:
        The choice; `Unused` with the reason if it was measured on another machine, with other libraries, or for another
            model; None without a record.
    """
    found = (load_tuning(connection, model=model, goal=g) for g in GOALS if goal in (None, g))
    rows = [row for row in found if row is not None]
    if not rows:
        return None
    last = max(rows, key=lambda row: row.measured_at_s)
    try:
        choice = msgspec.json.decode(last.choice, type=TunedChoice)
    except UNDECODABLE as error:
        return Unused(
            reason=f"the saved tuning of {model} cannot be read ({error}); run `ashore engine tune {model}` again"
        )
    reason = stale(choice, model_digest=model_digest, here=here)
    return Unused(reason=f"{reason}; run `ashore engine tune {model}` again") if reason else choice
