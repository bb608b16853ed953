"""The rows on quantising of the optimising table: bytes, perplexity and speed of each form beside its peers.

    python -m benchmarks.optimise.quantise --home HOME --work FOLDER [--out FOLDER] [--tokens 8192] [--rounds 5]
                                           [--second NAME] [--only STAGE ...] [--again STAGE ...]

HOME is a home with the demo model (it is pulled if it is not there). Stages leave their facts in FOLDER and are not
done twice; `--out` receives the rows as Markdown and JSON. "F16" is the demo weights dequantised, "FP32" four bytes a
parameter.
`--second` names a model of another architecture in that home, in F16 GGUF: it gets the forms of llama.cpp.

Calibration text: the language reference in Python's `pydoc_data` and licences that Debian ships, none of them of the
GNU family. Judged on: the GPL version 3, of which nothing was tuned on. Needs `ashore[train]` for the peers.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.optimise import decode
from benchmarks.optimise.judging import judge_as_served
from benchmarks.optimise.stages import Facts, Outcome, Stage, run_stages
from benchmarks.row import Row

LICENCES: Final = Path("/usr/share/common-licenses")
TUNED_ON: Final = ("Apache-2.0", "Artistic", "Artistic-2.0", "BSD", "CC-BY-4.0", "CC0-1.0", "MPL-2.0", "OFL-1.1")
JUDGED_ON: Final = "GPL-3"
REFERENCE_CHARACTERS: Final = 120_000
WINDOW: Final = 1024
"""Tokens that are scored with each other as context."""
DEMO: Final = "smollm2"
GROUPED: Final = "int8-g96"
"""Eight bits with a scale for each 96 weights: 1.4 % larger than with one for each row."""
OPENVINO: Final = ("fp16", "int8", GROUPED, "int4")
GGUF: Final = ("q8_0", "q5_k_m", "q4_k_m")


def calibration_text() -> str:
    """Return the text that forms are tuned on."""
    from pydoc_data.topics import topics

    reference = "\n\n".join(text for _, text in sorted(topics.items()))[:REFERENCE_CHARACTERS]
    licences = [(LICENCES / name).read_text(encoding="utf-8", errors="replace") for name in TUNED_ON]
    return "\n\n".join([reference, *licences])


def judged_windows(folder: Path, tokens: int) -> tuple[tuple[int, ...], ...]:
    """Return the judged text in windows of token ids, at most `tokens` in all."""
    from ashore.data.text import TextModel

    ids = TextModel.load(folder).encode((LICENCES / JUDGED_ON).read_text(encoding="utf-8"), bare=True)[:tokens]
    return tuple(tuple(ids[at : at + WINDOW]) for at in range(0, len(ids) - 1, WINDOW))


def perplexity(losses: Sequence[Sequence[float]]) -> float:
    """Return the perplexity of windows of negative log-likelihoods, each token counting alike."""
    each = [loss for window in losses for loss in window]
    return math.exp(sum(each) / len(each))


class Bench:
    """The demo model of one home, its forms, and what is known of them."""

    def __init__(self, home: Path, work: Path, *, model: str, tokens: int, rounds: int) -> None:
        from ashore.cli.bootstrap import build_store
        from ashore.kit.settings import Home, read_settings

        work.mkdir(parents=True, exist_ok=True)
        self.home, self.work, self.model, self.tokens, self.rounds = home, work, model, tokens, rounds
        self.store = build_store(Home(root=home), read_settings())
        self.text = work / "calibration.txt"
        self.text.write_text(calibration_text(), encoding="utf-8")

    def gguf_stages(self) -> list[Stage]:
        """Return the stages of a model that llama.cpp alone runs."""
        judged = {"tokens": self.tokens, "window": WINDOW}
        stages = [Stage(name="judge_pulled", run=partial(self.judge, ""), settings=judged)]
        for to in GGUF:
            stages += self._form(to)
        return stages

    def stages(self) -> list[Stage]:
        """Return the stages of the demo model."""
        forms: list[Stage] = []
        for to in (*OPENVINO, *GGUF):
            forms += self._form(to)
        torch = [
            Stage(name=f"torch_{how}", run=partial(self.torch, how), settings={"tokens": self.tokens})
            for how in ("eager", "compile", "dynamic")
        ]
        timed = ("make_fp16", "make_int8", f"make_{GROUPED}", "make_int4")
        speed = Stage(name="speed", run=self.speed, needs=timed, settings={"rounds": self.rounds})
        return [*forms, speed, *torch]

    def _form(self, to: str) -> tuple[Stage, Stage]:
        judged = {"tokens": self.tokens, "window": WINDOW}
        return (
            Stage(name=f"make_{to}", run=partial(self.make, to), settings={"to": to, "model": self.model}),
            Stage(name=f"judge_{to}", run=partial(self.judge, to), needs=(f"make_{to}",), settings=judged),
        )

    def make(self, to: str, facts: Mapping[str, Facts]) -> Facts:
        """Make one form by the command that users give; return its size and how long it took."""
        words = [sys.executable, "-m", "ashore.cli.main", "optimize", "quantize", self.model, "--json"]
        words += ["--to", "int8", "--group-size", "96", "--name", to] if to == GROUPED else ["--to", to]
        if to in ("int4", "q5_k_m", "q4_k_m"):
            words += ["--calibration", str(self.text)]
        begun = time.monotonic()
        ended = subprocess.run(words, env=_environ(self.home), capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(ended.stderr.strip().splitlines()[-1])
        made = json.loads(ended.stdout)
        weights = [f["num_bytes"] for f in made["files"] if f["path"].endswith((".bin", ".gguf", ".safetensors"))]
        return {
            "weight_bytes": sum(weights),
            "parameters": made["shape"]["num_parameters"],
            "seconds": round(time.monotonic() - begun, 1),
            "recipe": {k: v for k, v in made["recipe"].items() if not k.startswith("parameter.four_bit")},
            "digest": made["digest"],
        }

    def judge(self, to: str, facts: Mapping[str, Facts]) -> Facts:
        """Return the perplexity of one form as served, and in exact arithmetic where its engine has it."""
        from ashore.data.engines import Rounded

        files = self.store.open(f"{self.model}@{to}" if to else self.model)
        windows = judged_windows(Path(files.directory), self.tokens)
        made = Rounded(format=files.format, weights=files.weights)
        found: Facts = {"served": perplexity(judge_as_served(Path(files.directory), made, windows))}
        if to in OPENVINO:
            found["exact"] = perplexity(judge_as_served(Path(files.directory), made, windows, exact=True))
        return found

    def speed(self, facts: Mapping[str, Facts]) -> Facts:
        """Return tokens a second of one stream, the forms in turns."""
        models = {to: f"{self.model}@{to}" for to in ("fp16", "int8", GROUPED, "int4")}
        rates = decode.measure(self.home, models, kind="openvino", streams=1, rounds=self.rounds)
        return {"median": {to: rates.median(to) for to in models}, "rounds": dict(rates.rounds)}

    def torch(self, how: str, facts: Mapping[str, Facts]) -> Facts:
        """Return perplexity and tokens a second of the model in PyTorch, by a process of its own."""
        files = self.store.open(self.model)
        windows = self.work / "windows.json"
        windows.write_text(json.dumps(judged_windows(Path(files.directory), self.tokens)))
        words = [sys.executable, "-m", "benchmarks.optimise.torch_peer", how, str(files.directory), files.format]
        words += [files.weights, str(windows), str(self.rounds)]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(" ".join(ended.stderr.strip().splitlines()[-2:]))
        return dict(json.loads(ended.stdout.splitlines()[-1]))


def rows(outcome: Outcome, *, model: str) -> list[Row]:
    """Return the rows on quantising; one whose stages failed says why."""
    facts: Mapping[str, Any] = outcome.facts

    def row(what: str, needs: str, judge: Any, **judged: Any) -> Row:
        missing = [f"{n}: {outcome.failed.get(n, 'not run')}" for n in needs.split() if n not in facts]
        value, detail = (None, "; ".join(missing)) if missing else judge()
        return Row(what=f"{model}: {what}", value=value, detail=detail, **judged)

    def smaller(to: str) -> tuple[float, str]:
        made = facts[f"make_{to}"]
        full = 4 * made["parameters"]
        return full / made[
            "weight_bytes"
        ], f"{made['weight_bytes']:,} of {full:,} bytes, made in {made['seconds']:.0f} s"

    def worse(to: str, how: str) -> tuple[float, str]:
        exact, mine = facts["judge_fp16"]["exact"], facts[f"judge_{to}"][how]
        return 100 * (mine / exact - 1), f"{mine:.3f} against {exact:.3f}"

    def faster(to: str, peer: str) -> tuple[float, str]:
        mine, theirs = facts["speed"]["median"][to], facts[peer]["tok_per_s"]
        return mine / theirs, f"{mine:.1f} against {theirs:.1f} tokens/s"

    def beside_dynamic() -> tuple[float, str]:
        value, detail = faster("int8", "torch_dynamic")
        theirs, exact = facts["torch_dynamic"]["perplexity"], facts["judge_fp16"]["exact"]
        return value, f"{detail}; its perplexity {theirs:.2f}, {100 * (theirs / exact - 1):+.0f} %"

    less: dict[str, Any] = {"unit": "%", "lower_is_better": True}
    return [
        row("INT8, times smaller than FP32", "make_int8", partial(smaller, "int8"), unit="x", bar=3.9),
        row("INT8 as served, perplexity above F16", "judge_fp16 judge_int8", partial(worse, "int8", "served"),
            bar=1.0, aim=0.3, **less),
        row("INT8 in F32 arithmetic, perplexity above F16", "judge_fp16 judge_int8", partial(worse, "int8", "exact"),
            bar=0.6, aim=0.2, **less),
        row("INT8 in groups of 96, times smaller than FP32", f"make_{GROUPED}", partial(smaller, GROUPED), unit="x",
            bar=3.9),
        row("INT8 in groups of 96 as served, perplexity above F16", f"judge_fp16 judge_{GROUPED}",
            partial(worse, GROUPED, "served"), bar=1.0, aim=0.3, **less),
        row("INT8 in groups of 96 in F32 arithmetic, perplexity above F16", f"judge_fp16 judge_{GROUPED}",
            partial(worse, GROUPED, "exact"), bar=0.6, aim=0.2, **less),
        row("INT8 in groups of 96, one stream, against PyTorch FP32 eager", "speed torch_eager",
            partial(faster, GROUPED, "torch_eager"), unit="x", bar=5, aim=6.5),
        row("INT8, one stream, against PyTorch FP32 eager", "speed torch_eager", partial(faster, "int8", "torch_eager"),
            unit="x", bar=5, aim=6.5),
        row("INT8, one stream, against torch.compile FP32", "speed torch_compile",
            partial(faster, "int8", "torch_compile"), unit="x", bar=None),
        row("INT8, one stream, against PyTorch quantize_dynamic", "speed torch_dynamic judge_fp16", beside_dynamic,
            unit="x", bar=1.8),
        row("INT4, times smaller than FP32", "make_int4", partial(smaller, "int4"), unit="x", bar=5.9, aim=6.3),
        row("INT4 as served, perplexity above F16", "judge_fp16 judge_int4", partial(worse, "int4", "served"),
            bar=12, aim=6, **less),
    ]  # fmt: skip


def gguf_rows(outcome: Outcome, *, model: str, reference: str, how: str) -> list[Row]:
    """Return size and loss of each form for llama.cpp, against the perplexity `how` of the stage `reference`."""
    facts: Mapping[str, Any] = outcome.facts
    table = []
    for to in GGUF:
        made, judged, base = (facts.get(name) for name in (f"make_{to}", f"judge_{to}", reference))
        if made is None or judged is None or base is None:
            why = "; ".join(f"{name}: {reason}" for name, reason in outcome.failed.items()) or "not run"
            table.append(Row(what=f"{model}: {to} for llama.cpp", value=None, unit="%", bar=None, detail=why))
            continue
        smaller = 4 * made["parameters"] / made["weight_bytes"]
        detail = f"{smaller:.2f} times smaller than FP32; {judged['served']:.3f} against {base[how]:.3f}"
        table.append(
            Row(
                what=f"{model}: {to} as llama.cpp serves it, perplexity above F16",
                value=100 * (judged["served"] / base[how] - 1),
                unit="%",
                bar=None,
                lower_is_better=True,
                detail=detail,
            )
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--second")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--again", nargs="*", default=())
    words = parser.parse_args()
    bench = Bench(words.home, words.work, model=DEMO, tokens=words.tokens, rounds=words.rounds)
    bench.store.pull(DEMO)
    outcome = run_stages(bench.stages(), words.work, only=words.only, again=words.again)
    table = [
        *rows(outcome, model=DEMO),
        *gguf_rows(outcome, model=DEMO, reference="judge_fp16", how="exact"),
    ]
    outcomes = {DEMO: outcome}
    if words.second:
        work = words.work / words.second
        second = Bench(words.home, work, model=words.second, tokens=words.tokens, rounds=words.rounds)
        outcomes[words.second] = run_stages(second.gguf_stages(), work, only=words.only, again=words.again)
        table += gguf_rows(outcomes[words.second], model=words.second, reference="judge_pulled", how="served")
    lines = ["| what | measured | bar | aim | verdict | made of |", "|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in table]
    print("\n".join(lines))
    if words.out:
        words.out.mkdir(parents=True, exist_ok=True)
        (words.out / "quantise.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        stages = {name: {"facts": each.facts, "failed": each.failed} for name, each in outcomes.items()}
        document = {"rows": [row.plain() for row in table], "models": stages}
        (words.out / "quantise.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def _environ(home: Path) -> dict[str, str]:
    import os

    return {**os.environ, "ASHORE_HOME": str(home)}


if __name__ == "__main__":
    raise SystemExit(main())
