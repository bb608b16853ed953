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
from ashore.cli.main import report
from ashore.cli.progress import TerminalProgress
from ashore.kit.processes import silence_dependencies
from ashore.kit.settings import Settings, read_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Pull or prepare what is named; returns an exit code as `ashore` does, having said why."""
    parser = argparse.ArgumentParser(prog="ashore.cli.fetch")
    parser.add_argument("verb", choices=("pull", "pull-text", "prepare", "back", "away"))
    parser.add_argument("names", nargs="+", help="sources or catalogue names; else name@variant")
    parser.add_argument("--to", default="", help="for `away`: s3://BUCKET/PATH")
    words = parser.parse_args(argv)
    silence_dependencies()
    return report(lambda: _run(words.verb, words.names, read_settings(), words.to))


def _run(verb: str, names: Sequence[str], settings: Settings, place: str) -> int:
    store = build_store(settings.home, settings)
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


if __name__ == "__main__":
    raise SystemExit(main())
