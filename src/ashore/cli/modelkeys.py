"""`ashore model seal`, `unseal` and `rekey`: models encrypted at rest."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ashore.cli.asjob import also_a_job
from ashore.cli.athome import home_alone, settings_of
from ashore.cli.modelstore import AsJson, open_store, print_json, recorded_store
from ashore.cli.progress import TerminalProgress
from ashore.cli.sure import DryRun, Yes, go_ahead
from ashore.core import counted, human_bytes
from ashore.errors import HomeBusy
from ashore.settings import read_settings


@also_a_job("model seal")
def seal(name: str, /, *, config: Path | None = None, as_json: AsJson = False) -> None:
    """Encrypt a model and its variants, and delete the unencrypted files. If it is interrupted, run it again.

    A running server of this home must not use the model.

    Args:
        name: Model, without a variant.
        config: An ashore.toml whose [sealing] names the key source; default: ASHORE_SEALING_KEY.
        as_json: Print JSON.
    """
    with (
        unused(name, "ashore model seal"),
        recorded_store(config) as store,
        TerminalProgress() as progress,
    ):
        report = store.seal(name, progress=progress)
    if as_json:
        return print_json(dataclasses.asdict(report))
    if not report.models:
        print(f"{name} is already sealed")
        return None
    print(f"sealed {', '.join(report.models)}; {human_bytes(report.freed_bytes)} of unencrypted files deleted")
    print("keep a copy of the keys in another place: without them nobody can open the model", file=sys.stderr)
    print(
        "freed disk blocks may still hold the unencrypted bytes; if that matters, trim or wipe the disk",
        file=sys.stderr,
    )
    return None


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
        yes: Do not ask for confirmation. Required without a terminal.
        dry_run: Show what would be decrypted, and change nothing.
        as_json: Print JSON.
    """
    open_store(config).resolve(name)
    what = f"decrypt {name} and its variants: anyone who can read the disk can then read the weights"
    if not go_ahead(what, yes=yes, dry_run=dry_run, as_json=as_json):
        return None
    with (
        home_alone(read_settings().home, "ashore model unseal"),
        recorded_store(config) as store,
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
        as_json: Print JSON.
    """
    from ashore import bootstrap

    keeper = bootstrap.open_key_source(to) if to else None
    with recorded_store(config) as store:
        report = bootstrap.rekey(settings_of(config), store, to=keeper, new_key=new_key)
    if as_json:
        return print_json(dataclasses.asdict(report))
    anew = counted(len(report.rewrapped), "data key")
    print(f"{anew} re-encrypted, {len(report.current)} already used the newest key")
    return None


@contextmanager
def unused(name: str, what: str) -> Iterator[None]:
    """Hold the home; where its server runs, go on if no release of it and no host uses the model.

    Raises:
        HomeBusy: the server uses it.
    """
    from ashore.bootstrap import manifests_in_use

    settings = read_settings()
    with ExitStack() as stack:
        try:
            stack.enter_context(home_alone(settings.home, what))
        except HomeBusy:
            if {model.digest for model in open_store().list() if model.name == name} & manifests_in_use(settings):
                raise
        yield
