"""`ashore secret`: the secrets of a home: listed, sealed, unsealed."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from ashore.cli.bootstrap.athome import home_alone, settings_of
from ashore.cli.columns import say
from ashore.cli.recorded import os_user
from ashore.cli.sure import AsJson
from ashore.core.counted import counted
from ashore.kit.settings import Settings

if TYPE_CHECKING:
    from ashore.cli.bootstrap.secrets import SecretReport

app = App(name="secret", help="Show which secrets of a home are sealed; seal them.")

DryRun = Annotated[bool, Parameter(negative=())]


@app.command(name="list")
def list_(*, config: Path | None = None, as_json: AsJson = False) -> None:
    """List the secrets of this home, and which of them are sealed. Shows no values; needs no key.

    Args:
        config: An ashore.toml, if it says where the state is.
    """
    from ashore.cli.bootstrap.secrets import list_home_secrets

    found = list_home_secrets(settings_of(config))
    if as_json:
        print(json.dumps({"items": [dataclasses.asdict(one) for one in found]}))
        return
    width = max((len(one.place) for one in found), default=0)
    for one in found:
        say(one.form + (f": {one.why}" if one.why else ""), first=f"{one.place.ljust(width)}  ")
    print(f"{sum(one.form == 'clear' for one in found)} could be sealed", file=sys.stderr)


@app.command
def seal(*, config: Path | None = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Seal the secrets of the state and the private keys of the audit log. After an interruption, run it again.

    `ashore up` does the same when it starts, if a key source is configured.

    Args:
        config: An ashore.toml whose [sealing] names the key source; default: ASHORE_SEALING_KEY.
        dry_run: Show what would be sealed, and change nothing.
    """
    _change("seal", settings_of(config), dry_run=dry_run, as_json=as_json)


@app.command
def unseal(*, config: Path | None = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Write the secrets of this home back unsealed.

    Args:
        config: An ashore.toml whose [sealing] names the key source; default: ASHORE_SEALING_KEY.
        dry_run: Show what would be unsealed, and change nothing.
    """
    _change("unseal", settings_of(config), dry_run=dry_run, as_json=as_json)


def _change(verb: Literal["seal", "unseal"], settings: Settings, *, dry_run: bool, as_json: bool) -> None:
    from ashore.cli.bootstrap import command_recorder, key_keeper
    from ashore.cli.bootstrap.secrets import seal_home_secrets, unseal_home_secrets
    from ashore.kit.recorder import Act, begin

    keeper = key_keeper(settings)
    change = seal_home_secrets if verb == "seal" else unseal_home_secrets
    if dry_run:
        report = change(settings, keeper, dry_run=True)
    else:
        with home_alone(settings.home, f"ashore secret {verb}"), command_recorder(settings.home, keeper) as recorder:
            act = Act(action=f"secret:{verb}", actor=os_user(), resource="secret/*")
            begin(recorder, act)
            report = change(settings, keeper)
            detail: dict[str, str | int] = {"changed": len(report.changed), "already": len(report.already)}
            recorder.record(dataclasses.replace(act, detail=detail))
    if as_json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        _show(verb, report)


def _show(verb: str, report: SecretReport) -> None:
    for place in report.changed:
        print(place)
    done = f"would be {verb}ed" if report.dry_run else f"{verb}ed"
    print(f"{counted(len(report.changed), 'secret')} {done}; {len(report.already)} already were")
    if verb == "seal" and report.changed and not report.dry_run:
        print(
            "keep a copy of the key source in another place; old snapshots, backups and freed disk blocks still hold "
            "the unsealed secrets",
            file=sys.stderr,
        )
