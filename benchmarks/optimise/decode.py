"""Tokens a second of several stored models on one engine, measured in turns so that a noisy moment hits all alike.

Each model is loaded by a process of its own (`python -m benchmarks.optimise.decode HOME REFERENCE KIND`) that then
answers lines as `serve_inprocess.py` does; only one of them computes at a time.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.serve_inprocess import closed_loop

PROMPT_TOKENS = 16
NEW_TOKENS = 128
"""Few and many, so that what is measured is decoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Tokens a second of each model in each round, at one number of streams."""

    streams: int
    rounds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        return statistics.median(self.rounds[name])

    def factor(self, name: str, base: str) -> float:
        """Return the median over the rounds of `name` against `base`."""
        return statistics.median(a / b for a, b in zip(self.rounds[name], self.rounds[base], strict=True))


class Decoder:
    """One loaded model in a process of its own; a context manager that ends it."""

    def __init__(self, home: Path, reference: str, kind: str) -> None:
        self._command = [sys.executable, "-m", "benchmarks.optimise.decode", str(home), reference, kind]

    def __enter__(self) -> Decoder:
        self._child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def tok_per_s(self, streams: int, requests: int) -> float:
        """Return the tokens a second of `requests` answers, `streams` of them at a time."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{streams} {requests} {PROMPT_TOKENS} {NEW_TOKENS} 0\n")
        return float(self._read()["tok_per_s"])

    def _read(self) -> dict[str, float]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"`{' '.join(self._command[1:])}` ended with {self._child.wait()}")
        return dict(json.loads(line))


def measure(home: Path, models: Mapping[str, str], *, kind: str, streams: int, rounds: int) -> Rates:
    """Measure every model (name to reference) `rounds` times in turns, after one turn that warms up."""
    with ExitStack() as stack:
        decoders = {n: stack.enter_context(Decoder(home, reference, kind)) for n, reference in models.items()}
        requests = max(2, streams)
        for decoder in decoders.values():
            decoder.tok_per_s(streams, streams)
        found: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(rounds):
            for name, decoder in decoders.items():
                found[name].append(decoder.tok_per_s(streams, requests))
    return Rates(streams=streams, rounds={name: tuple(each) for name, each in found.items()})


def main() -> None:
    from ashore.cli.bootstrap import build_store, stored_files
    from ashore.data.engines import EngineOptions
    from ashore.data.engines.cards import make_engine
    from ashore.kit.settings import Home

    home, reference, kind = sys.argv[1:]
    files = stored_files(build_store(Home(root=Path(home))), reference)
    engine = make_engine(kind)
    info = engine.load(files, EngineOptions(kind=kind))
    print(json.dumps({"vocab_size": info.vocab_size}), flush=True)
    for number, line in enumerate(sys.stdin):
        print(json.dumps(closed_loop(engine, info.vocab_size, number * 100_000, line)), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
