"""`ashore model unseal` and `rekey`: models encrypted at rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ashore.cli.bootstrap.athome import home_alone, settings_of
from ashore.cli.bootstrap.homestore import open_store, recorded_store
from ashore.cli.progress import TerminalProgress
from ashore.cli.recorded import os_user
from ashore.cli.sure import AsJson, DryRun, Yes, go_ahead, print_json
from ashore.core.counted import counted
from ashore.kit.settings import read_settings


def unseal(
    name: str,
    /,
    *,
    config: Path | None = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Decrypt a model and its variants. Its weights are then readable on the disk.

    Args:
        name: Model, without a variant.
        config: An ashore.toml whose [sealing] names the key source; default: ASHORE_SEALING_KEY.
        dry_run: Show what would be decrypted, and change nothing.
    """
    open_store(config).resolve(name)
    what = f"decrypt {name} and its variants: anyone who can read the disk can then read the weights"
    if not go_ahead(what, yes=yes, dry_run=dry_run, as_json=as_json):
        return None
    with (
        home_alone(read_settings().home, "ashore model unseal"),
        recorded_store(config, os_user()) as store,
        TerminalProgress() as progress,
    ):
        report = store.unseal(name, progress=progress)
    if as_json:
        return print_json(dataclasses.asdict(report))
    print(f"unsealed {', '.join(report.models)}" if report.models else f"{name} is not sealed")
    return None


def rekey(
    *,
    new_key: Annotated[bool, Parameter(negative=())] = False,
    to: str = "",
    config: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Re-encrypt the data keys of sealed models, state and audit log. Rewrites no weights; servers keep running.

    Args:
        new_key: First create a new key in the keyring or the key service.
        to: Move to another key source: keyring:FILE, passphrase:FILE or transit:URL. Then set [sealing] key to it.
        config: An ashore.toml whose [sealing] names the present key source; default: ASHORE_SEALING_KEY.
    """
    from ashore.cli import bootstrap

    keeper = bootstrap.open_key_source(to) if to else None
    with recorded_store(config, os_user()) as store:
        report = bootstrap.rekey(settings_of(config), store, to=keeper, new_key=new_key)
    if as_json:
        return print_json(dataclasses.asdict(report))
    anew = counted(len(report.rewrapped), "data key")
    print(f"{anew} re-encrypted, {len(report.current)} already used the newest key")
    return None
