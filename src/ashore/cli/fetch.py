"""`python -m ashore.cli.fetch`: bring models into the store, prepare them, and move weights to a bucket and back, in a
process of its own.

`ashore up` runs it when a model is missing or has to move. Preparing loads libraries of half a gigabyte, which must not
stay in the supervisor's memory, nor their threads in a process that forks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ashore.cli.bootstrap import build_store, prepare_variant
from ashore.cli.engine import measured
from ashore.cli.enginetables import TuningProgress
from ashore.cli.main import report
from ashore.cli.progress import TerminalProgress
from ashore.cli.uptune import BUDGET_S
from ashore.kit.processes import silence_dependencies
from ashore.kit.processes.priority import become_idle
from ashore.kit.settings import Settings, read_settings
from ashore.kit.store import ModelStore


def main(argv: Sequence[str] | None = None) -> int:
    """Pull or prepare what is named; returns an exit code as `ashore` does, having said why."""
    parser = argparse.ArgumentParser(prog="ashore.cli.fetch")
    parser.add_argument("verb", choices=("pull", "pull-text", "prepare", "back", "away", "tune"))
    parser.add_argument("names", nargs="+", help="sources or catalogue names; else name@variant")
    parser.add_argument("--to", default="", help="for `away`: s3://BUCKET/PATH")
    words = parser.parse_args(argv)
    silence_dependencies()
    return report(lambda: _run(words.verb, words.names, read_settings(), words.to))


def _run(verb: str, names: Sequence[str], settings: Settings, place: str) -> int:
    store = build_store(settings.home, settings)
    if verb == "tune":
        for name in names:
            _tune(store, settings, name)
        return 0
    with TerminalProgress() as progress:
        for name in names:
            if verb in ("back", "away"):
                if verb == "back":
                    store.fetch_back(name, progress=progress)
                else:
                    store.send_away(name, place, progress=progress)
                continue
            if verb != "prepare":
                model = store.pull(name, text_only=verb == "pull-text", progress=progress)
            else:
                parent, _, variant = name.partition("@")
                model = prepare_variant(store, store.resolve(parent), variant, told=progress.share)
            print(f"{model.reference} is in the store ({model.licence})", file=sys.stderr)
    return 0


def _tune(store: ModelStore, settings: Settings, name: str) -> None:
    """Measure a model at idle priority, and remove the variants that were made for it and not chosen."""
    become_idle()
    report, _, made = measured(
        store, settings, name, budget_s=BUDGET_S, goal="balanced", watcher=TuningProgress(BUDGET_S)
    )
    choice = report.choice_for(report.goal)
    chosen = f"{name}@{choice.variant}" if choice is not None else ""
    for reference in made.keys() - {chosen}:
        store.remove(reference)


if __name__ == "__main__":
    raise SystemExit(main())
