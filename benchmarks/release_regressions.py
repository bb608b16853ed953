"""How soon a regressed candidate is found and taken back by itself, and whether an equal one is let be; on real models.

    python -m benchmarks.release_regressions [--only NAME ...] [--runs N] [--home DIR] [--out REPORT.md]

`smollm2@int8` answers; each candidate is a release of its own beside it:

    equal      the same model: a shadow of every request for 60 of them, then a canary of half for 100; `--runs` times
    noise      INT4 of the model whose weights got Gaussian noise of a twentieth of their spread, as a shadow
    int4       INT4 without noise, as a shadow: how much worse that is, and whether it is called so
    slower     the same model whose process is stopped for so much of the time that a token takes it 1.2 times as long,
               as a canary of half
    errors     the same model with a context that two questions in a hundred do not fit, as a shadow
    errors-live   the same as a canary of half

Requests of a shadow are the copies that were compared (those that are dropped because processors are short are not),
those of a canary are its own.

What is asked are the questions of ashore's task sets, English, Chinese and code, at the temperatures 0, 0.7 and 1, each
with a number in front, so that no host knows a prompt of it from before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Final

from benchmarks.release_rig import ALIAS, READY_S, Asked, Server, known_models, prepare_models
from benchmarks.serve_cases import quiet_share
from benchmarks.serve_report import about
from release_load import ask

MODEL: Final = "smollm2"
NOISY: Final = "smollm2-noisy"
NOISE: Final = 0.05
"""Of the spread of each matrix."""
NARROW_TOKENS: Final = 512
LONG_PART: Final = 0.02
LONG_WORDS: Final = NARROW_TOKENS + 8
"""More than a narrow context holds, less than the live one does."""
TOKENS: Final = 32
FEW_TOKENS: Final = 8
"""Where it only matters whether there is an answer."""
MOST: Final = 500
TEMPERATURES: Final = (0.0, 0.7, 1.0)
SLOWER: Final = 1.2
"""So many times as long as the live one's token takes one of what is stopped."""
TURN_S: Final = 0.06
"""It is stopped once in this time."""
FIRST_STOPPED: Final = 0.05
"""Part of the time, until more is known. A sixth made a token take 1.4 times as long, for the live host gets the
processors meanwhile."""
STEERED_BY: Final = 30
"""Last answers of each that say how long a token takes."""
STEERED: Final = 0.2
"""What is stopped more, as a part of the time, for each whole that the ratio lacks."""
MOST_DROPPED: Final = 3
"""Of so many requests to what is live, at least one is to be compared."""
COPY_S: Final = 0.4
"""Between an answer and the next question of who asks a shadow, about as long as a copy takes."""
CLIENTS: Final = 3
"""Of a canary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A candidate, and how it is tried."""

    name: str
    model: str = f"{MODEL}@int8"
    options: dict[str, int] = field(default_factory=dict)
    stages: tuple[tuple[str, int], ...]
    """Stage and most requests of the candidate in it."""
    tokens: int = TOKENS
    long_part: float = 0.0
    is_stopped_at_times: bool = False
    regressed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How it went."""

    case: str
    run: int
    state: str
    why: str
    requests: dict[str, int]
    """By stage, of all clients."""
    candidates: int
    """Of these, answered by the candidate, or compared with a copy of it."""
    means: dict[str, float]
    """Of what was compared, at the stage that ended it."""
    ms_per_token: dict[str, float]
    """Median of a canary's clients, of what is live and of the candidate."""
    seconds: float


CASES: Final = {
    one.name: one
    for one in (
        Case(name="equal", stages=(("shadow", 60), ("canary", 100)), regressed=False),
        Case(name="noise", model=f"{NOISY}@int4", stages=(("shadow", MOST),)),
        Case(name="int4", model=f"{MODEL}@int4", stages=(("shadow", 300),), regressed=False),
        Case(name="slower", stages=(("canary", MOST),), is_stopped_at_times=True),
        Case(
            name="errors",
            options={"context_tokens": NARROW_TOKENS},
            stages=(("shadow", MOST),),
            tokens=FEW_TOKENS,
            long_part=LONG_PART,
        ),
        Case(
            name="errors-live",
            options={"context_tokens": NARROW_TOKENS},
            stages=(("canary", MOST),),
            tokens=FEW_TOKENS,
            long_part=LONG_PART,
        ),
    )
}


def questions(long_part: float, seed: int) -> Iterator[str]:
    """Yield questions in an order that chance draws, without end; so many of them are long."""
    draws = random.Random(seed)
    sets = package_files("ashore.lab.evaluation.tasks") / "sets"
    asked = []
    for name, form in (
        ("stdlib-en", "What does the Python function {} do?"),
        ("reviews-zh", "这条评论是好评还是差评？为什么？\n{}"),
    ):
        lines = (sets / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[1:]
        found = [form.format(json.loads(line)["prompt"]) for line in lines]
        asked += [one for one in found if len(one) < 600]
    while True:
        one = draws.choice(asked)
        yield one + " word" * LONG_WORDS if draws.random() < long_part else one


class Trying:
    """One candidate on a server, and who asks."""

    def __init__(self, server: Server, case: Case, run: int) -> None:
        self.server, self.case, self.run = server, case, run
        body = {"alias": ALIAS, "model": case.model, "options": case.options}
        self.release = str(server.must("POST", "/admin/v1/releases", body)["name"])
        self._questions = questions(case.long_part, seed=run)
        self._lock = threading.Lock()

    def result(self) -> Tried:
        """Try it, stage by stage, until it is taken back or was asked enough."""
        began_s = time.monotonic()
        requests: dict[str, int] = {}
        candidates = 0
        times: dict[str, float] = {}
        for stage, most in self.case.stages:
            self.server.must("POST", f"/admin/v1/releases/{self.release}/{stage}", SHARES[stage])
            self.server.wait(self.release, stage, "failed")
            brake = Brake() if self.case.is_stopped_at_times else None
            with stopped_at_times(self.server, self.release, brake) if brake is not None else nullcontext():
                asked = self._asked(most, clients=CLIENTS if stage == "canary" else 1, brake=brake)
            requests[stage] = len(asked)
            if stage == "canary":
                times = {
                    name: pace(asked, name, self.case.tokens)
                    for name in sorted({one.release for one in asked if one.whole})
                }
            time.sleep(1.0)
            seen = self._evidence(stage)
            candidates += self._of_candidate(asked) if stage == "canary" else seen["count"]
            if self.server.state(self.release) == "failed":
                break
        now = self.server.must("GET", f"/admin/v1/releases/{self.release}")
        if now["state"] == "canary":
            self.server.must("POST", f"/admin/v1/aliases/{ALIAS}/rollback", {})
        elif now["state"] != "failed":
            self.server.must("POST", f"/admin/v1/releases/{self.release}/retire", {})
        self.server.wait(self.release, "retired", "failed")
        return Tried(
            case=self.case.name, run=self.run, state=now["state"], why=now["why"], requests=requests,
            candidates=candidates, means=seen["means"], ms_per_token=times,
            seconds=round(time.monotonic() - began_s, 1),
        )  # fmt: skip

    def _asked(self, most: int, *, clients: int, brake: Brake | None = None) -> list[Asked]:
        """Ask until the candidate had so many requests, or was taken back. One client asks what a shadow gets."""
        asked: list[Asked] = []
        over = threading.Event()

        def is_enough() -> bool:
            if clients > 1:
                return self._of_candidate(asked) >= most
            return len(asked) >= MOST_DROPPED * most or self._evidence("shadow")["count"] >= most

        def load(number: int) -> None:
            while not over.is_set():
                with self._lock:
                    turn = len(asked)
                    if is_enough():
                        return
                    asked.append(PENDING)
                    text = next(self._questions)
                asked[turn] = ask(
                    self.server, self.server.key, ALIAS, f"{self.release}.{turn}: {text}", tokens=self.case.tokens,
                    temperature=TEMPERATURES[turn % len(TEMPERATURES)],
                )  # fmt: skip
                if clients == 1:
                    time.sleep(COPY_S)
                if brake is not None:
                    brake.steer(asked, self.release)
                if self.server.state(self.release) == "failed":
                    over.set()

        threads = [threading.Thread(target=load, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return asked

    def _of_candidate(self, asked: Sequence[Asked]) -> int:
        """Return how many requests a canary had: those it answered, and those that do not fit its context."""
        return sum(one.release == self.release or one.status == 400 for one in asked)

    def _evidence(self, stage: str) -> dict[str, Any]:
        """Return how many comparisons there were at a stage, and their means."""
        found = self.server.must("GET", f"/admin/v1/releases/{self.release}/evidence")["items"]
        for one in found:
            if one["stage"] == stage:
                means = {k.removesuffix(" mean"): v for k, v in one["details"].items() if k.endswith(" mean")}
                return {"count": one["requests"], "means": {k: round(v, 4) for k, v in means.items()}}
        return {"count": 0, "means": {}}


def pace(asked: Sequence[Asked], release: str, tokens: int) -> float:
    """Return the median milliseconds between two tokens of the clients of a release."""
    spans = [one.ended_s - one.first_s for one in asked if one.whole and one.release == release]
    return round(statistics.median(spans) * 1e3 / (tokens - 1), 2)


class Brake:
    """For which part of the time a process is stopped, so that a token of it takes `SLOWER` times as long as one of
    what is live: by what was seen so far."""

    def __init__(self) -> None:
        self.stopped = FIRST_STOPPED
        self._known = 0
        self._lock = threading.Lock()

    def steer(self, asked: Sequence[Asked], release: str) -> None:
        """Look at the last answers, once a third of them is new."""
        whole = [one for one in asked if one.whole]
        last = [[one for one in whole if (one.release == release) is of_it][-STEERED_BY:] for of_it in (True, False)]
        with self._lock:
            if min(map(len, last)) < STEERED_BY // 3 or len(whole) < self._known + STEERED_BY // 3:
                return
            self._known = len(whole)
            its, live = (statistics.median(one.ended_s - one.first_s for one in answers) for answers in last)
            self.stopped = min(0.5, max(0.0, self.stopped + STEERED * (SLOWER - its / live)))


PENDING: Final = Asked(began_s=0, first_s=0, ended_s=0, status=0, release="", whole=False)
SHARES: Final = {"shadow": {"share_percent": 100.0}, "canary": {"share_percent": 50.0}}


@contextmanager
def stopped_at_times(server: Server, release: str, brake: Brake) -> Iterator[None]:
    """Stop the host of a release for a part of the time."""
    end_s = time.monotonic() + READY_S
    while not (process := server.host(release)):
        if time.monotonic() > end_s:
            raise SystemExit(f"{release} has no host")
        time.sleep(0.1)
    over = threading.Event()

    def turns() -> None:
        while not over.is_set():
            stopped_s = brake.stopped * TURN_S
            for number, rest_s in ((signal.SIGSTOP, stopped_s), (signal.SIGCONT, TURN_S - stopped_s)):
                try:
                    os.kill(process, number)
                except ProcessLookupError:  # it was taken back
                    return
                time.sleep(rest_s)

    thread = threading.Thread(target=turns)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def add_noise(gguf: Path, to: Path, part: float, *, seed: int = 0) -> None:
    """Write a GGUF file whose matrices in half precision have Gaussian noise of a part of their spread added."""
    import numpy as np
    from gguf import GGUFReader

    shutil.copyfile(gguf, to)
    draws = np.random.default_rng(seed)
    for tensor in GGUFReader(to, "r+").tensors:
        if tensor.tensor_type.name == "F16":
            exact = tensor.data.astype(np.float32)
            tensor.data[:] = exact + draws.standard_normal(exact.shape, np.float32) * (part * exact.std())


def prepare(home: Path) -> None:
    """Bring what is compared into the store of a home; what is there stays."""
    from ashore.cli.bootstrap import build_store
    from ashore.kit.settings import Home

    prepare_models(home, MODEL, ("int8", "int4"))
    with tempfile.TemporaryDirectory(dir=home) as folder:
        noisy = Path(folder) / "noisy.gguf"
        if NOISY not in known_models(home):
            found = build_store(Home(root=home)).open(MODEL)
            add_noise(Path(found.directory) / found.weights, noisy, NOISE)
        prepare_models(home, NOISY, ("int4",), source=str(noisy))


def markdown(tried: Sequence[Tried], facts: dict[str, object]) -> str:
    """Return the report."""
    lines = [f"# Regressed candidates and equal ones, {facts['date']}", ""]
    lines += [
        "| candidate | runs | taken back | requests until then | of the candidate | its ms a token "
        "beside the live one's | bar | why |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, case in CASES.items():
        runs = [one for one in tried if one.case == name]
        if not runs:
            continue
        failed = [one for one in runs if one.state == "failed"]
        asked = [sum(one.requests.values()) for one in failed or runs]
        by_it = [one.candidates for one in failed or runs]
        bar = f"found within {MOST}" if case.regressed else "let be" if name == "equal" else ""
        lines.append(
            f"| {name} | {len(runs)} | {len(failed)} | {spread(asked)} | {spread(by_it)} | "
            f"{'; '.join(beside(one.ms_per_token) for one in runs if len(one.ms_per_token) == 2)} | {bar} | "
            f"{'; '.join(sorted({one.why for one in failed}))} |"
        )
    lines += ["", *(f"- {name}: {value}" for name, value in facts.items() if name not in ("date", "versions"))]
    return "\n".join([*lines, f"- versions: {json.dumps(facts['versions'])}", ""])


def beside(times: dict[str, float]) -> str:
    """Return the pace of a candidate beside that of what is live, which is the first release of all."""
    live, candidate = times[f"{ALIAS}-1"], next(ms for name, ms in times.items() if name != f"{ALIAS}-1")
    return f"{candidate:g}/{live:g}"


def spread(counts: Sequence[int]) -> str:
    if len(counts) == 1:
        return str(counts[0])
    return f"{statistics.median(counts):g} ({min(counts)} to {max(counts)})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--runs", type=int, default=10, help="of the equal candidate; default: 10")
    parser.add_argument("--again", type=int, default=3, help="runs of each of the others; default: 3")
    parser.add_argument("--home", type=Path, help="a home whose store has the models, or gets them; default: a new one")
    parser.add_argument("--out", type=Path, help="also write the table here, and JSON beside it")
    given = parser.parse_args()
    busy_before = quiet_share()
    tried: list[Tried] = []
    with tempfile.TemporaryDirectory(prefix="regressions-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        kept = (given.home or home).absolute()
        kept.mkdir(parents=True, exist_ok=True)
        prepare(kept)
        if kept != home:
            (home / "store").symlink_to(kept / "store")
        server = Server(home, f"{MODEL}@int8")
        try:
            for name in given.only:
                for run in range(given.runs if name == "equal" else given.again):
                    tried.append(Trying(server, CASES[name], run).result())
                    print(json.dumps(asdict(tried[-1]), ensure_ascii=False), file=sys.stderr, flush=True)
        finally:
            server.stop()
    facts = about(
        "python -m benchmarks.release_regressions " + " ".join(sys.argv[1:]),
        busy_before=busy_before,
        busy_after=quiet_share(),
    )
    report = markdown(tried, facts)
    print(report)
    if given.out:
        given.out.write_text(report, encoding="utf-8")
        plain = {"facts": facts, "runs": [asdict(one) for one in tried]}
        given.out.with_suffix(".json").write_text(json.dumps(plain, indent=1, ensure_ascii=False), encoding="utf-8")
    return int(any((one.state == "failed") is not CASES[one.case].regressed for one in tried if one.case != "int4"))


if __name__ == "__main__":
    raise SystemExit(main())
