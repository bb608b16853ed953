"""Stages that leave a file behind: what was done is not done again, whatever stopped the run in between.

A stage is a name, the stages it builds on, what it was asked (its settings), and a function that returns facts. Its
facts are kept in `NAME.json` with a digest of the settings and of the facts it built on; when either changes it is done
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Facts = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the benchmark."""

    name: str
    run: Callable[[Mapping[str, Facts]], Facts]
    """Takes the facts of the stages it needs, by name; may be called again after it was killed."""
    needs: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of every stage."""

    facts: Mapping[str, Facts]
    failed: Mapping[str, str]
    """Stage to the reason: its own error, or the stage it waited for."""


def run_stages(
    stages: Sequence[Stage],
    folder: Path,
    *,
    again: Collection[str] = (),
    only: Collection[str] = (),
    say: Callable[[str], None] = print,
) -> Outcome:
    """Run the stages in their order, each once; one that fails takes only those with it that need it.

    Args:
        stages: Each behind those it needs.
        folder: Keeps one file for each stage that is done.
        again: Names of stages that are done again even if they are kept.
        only: If not empty, stages outside it are taken if kept and otherwise left out.
        say: Told what is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Facts] = {}
    failed: dict[str, str] = {}
    for stage in stages:
        lacking = [name for name in stage.needs if name not in facts]
        if lacking:
            failed[stage.name] = f"needs {', '.join(lacking)}"
            continue
        needed = {name: facts[name] for name in stage.needs}
        path, key = folder / f"{stage.name}.json", _key(stage, needed)
        kept = None if stage.name in again else _kept(path, key)
        if kept is not None:
            say(f"{stage.name}: kept from before")
            facts[stage.name] = kept
        elif only and stage.name not in only:
            failed[stage.name] = "left out"
        else:
            say(f"{stage.name}: begins")
            begun = time.monotonic()
            try:
                made = stage.run(needed)
            except Exception as error:  # noqa: BLE001 - the outermost loop: the other stages go on
                traceback.print_exc()
                failed[stage.name] = f"{type(error).__name__}: {error}".strip()[:500]
                say(f"{stage.name}: failed, {failed[stage.name]}")
                continue
            seconds = time.monotonic() - begun
            _keep(path, {"key": key, "seconds": round(seconds, 1), "facts": made})
            say(f"{stage.name}: done in {seconds:.0f} s")
            facts[stage.name] = made
    return Outcome(facts=facts, failed=failed)


def _key(stage: Stage, needed: Mapping[str, Facts]) -> str:
    asked = json.dumps([stage.settings, needed], sort_keys=True, default=str)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _kept(path: Path, key: str) -> Facts | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return document["facts"] if document["key"] == key else None


def _keep(path: Path, document: Mapping[str, object]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(scratch, path)
