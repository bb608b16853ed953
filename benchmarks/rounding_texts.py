"""Perplexity of one model in several forms on five texts that nothing was tuned on, each against half precision.

    python -m benchmarks.rounding_texts --home HOME [--model smollm2] [--tokens 4096] [--forms kv,dq,weights]

Texts: English prose and Chinese prose (of this repository), code (the standard library), law (a licence), tables. All
forms read the same windows of 1,024 tokens, so a difference is paired; it is printed with twice its standard error. A
figure of speed needs a quiet machine; these do not.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from msgspec.structs import replace

from ashore.core.clock import SystemClock
from ashore.data.engines import EngineOptions, ModelFiles, ScoreText, scored
from ashore.data.engines.cards import make_engine
from ashore.data.engines.openvino.prepare import prepare_openvino
from ashore.data.engines.rounding import RoundOrder
from ashore.data.text import TextModel
from ashore.kit.store import ModelStore

WINDOW: Final = 1024
ROOT: Final = Path(__file__).parents[1]
TEXTS: Final = {
    "English": (ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/how-to").glob("[a-m]*[!N].md"))),
    "Chinese": (*tuple(sorted(ROOT.glob("docs/**/*.zh-CN.md"))), ROOT / "README.zh-CN.md"),
    "code": (Path(argparse.__file__),),
    "law": (Path("/usr/share/common-licenses/MPL-2.0"), Path("/usr/share/common-licenses/GFDL-1.3")),
    "tables": (Path("/etc/services"), Path("/usr/share/zoneinfo/zone1970.tab")),
}
EXACT: Final = {"full_precision": True}
FORMS: Final[dict[str, list[tuple[str, str, dict[str, str | int | float | bool]]]]] = {
    # name: (variant, options)
    "kv": [
        ("fp16, KV u8", "fp16", {**EXACT, "KV_CACHE_PRECISION": "u8"}),
        ("fp16 in bf16, KV bf16", "fp16", {"KV_CACHE_PRECISION": "bf16"}),
        ("fp16 in bf16, KV u8", "fp16", {"KV_CACHE_PRECISION": "u8"}),
        ("fp16 in bf16, KV u4", "fp16", {"KV_CACHE_PRECISION": "u4"}),
    ],
    "dq": [
        ("int8 as served", "int8", {}),
        ("int8, activations in groups of 32", "int8", {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}),
        ("int8, activations not rounded", "int8", {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}),
        ("int8 weights, all else exact", "int8", EXACT),
    ],
    "weights": [
        ("int8, weights in groups of 96", "int8g96", {}),
        ("int8, weights in groups of 64", "int8g64", {}),
        ("int8, weights in groups of 32", "int8g32", {}),
    ],
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--home", type=Path, required=True)
    arguments.add_argument("--model", default="smollm2")
    arguments.add_argument("--tokens", type=int, default=4096)
    arguments.add_argument("--forms", default="kv,dq,weights")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="rounding-texts-") as folder:
        scratch = Path(folder)
        source = _opened(given.home, given.model, scratch)
        text = TextModel.load(Path(source.directory))
        windows = {name: list(_windows(text, paths, given.tokens)) for name, paths in TEXTS.items()}
        variants: dict[str, ModelFiles] = {}
        base = _nats(_variant(source, "fp16", scratch, variants), EXACT, windows)
        print("| form | " + " | ".join(windows) + " | worst |\n|---|" + "--:|" * (len(windows) + 1))
        shown = [f"{np.exp(np.mean(base[name])):.2f}" for name in windows]
        print(f"| fp16 in single precision, KV f32: perplexity | {' | '.join(shown)} | |", flush=True)
        for group in given.forms.split(","):
            for label, variant, options in FORMS[group]:
                nats = _nats(_variant(source, variant, scratch, variants), options, windows)
                changes = {name: nats[name] - base[name] for name in windows}
                cells = [
                    f"{100 * np.expm1(d.mean()):+.2f} ± {200 * d.std() / len(d) ** 0.5:.2f} %" for d in changes.values()
                ]
                worst = max(100 * float(np.expm1(d.mean())) for d in changes.values())
                print(f"| {label} | {' | '.join(cells)} | {worst:+.2f} % |", flush=True)


def _opened(home: Path, reference: str, scratch: Path) -> ModelFiles:
    found = ModelStore(home / "store", scratch / "run", SystemClock()).open(reference)
    return ModelFiles(
        name=reference,
        digest=found.digest,
        directory=str(found.directory),
        format=found.format,
        weights=found.weights,
    )


def _variant(source: ModelFiles, variant: str, scratch: Path, made: dict[str, ModelFiles]) -> ModelFiles:
    if variant not in made:
        precision, _, group = variant.partition("g")
        out = scratch / variant
        order = RoundOrder(precision=precision, group_size=int(group or 0))
        rounded = prepare_openvino(Path(source.directory), source.weights, order, out)
        made[variant] = replace(
            source, name=variant, directory=str(out), format=rounded.format, weights=rounded.weights
        )
    return made[variant]


def _windows(text: TextModel, paths: tuple[Path, ...], most: int) -> Iterator[list[int]]:
    ids: list[int] = []
    for path in paths:
        ids += text.encode(path.read_text(encoding="utf-8", errors="replace")[: 8 * most])
    for at in range(0, min(most, len(ids)), WINDOW):
        yield ids[at : min(at + WINDOW, most)]


def _nats(
    files: ModelFiles, options: dict[str, str | int | float | bool], windows: dict[str, list[list[int]]]
) -> dict[str, np.ndarray]:
    engine = make_engine("openvino")
    engine.load(files, EngineOptions(kind="openvino", kv_tokens=8 * WINDOW, extra=options))
    found = {}
    for name, texts in windows.items():
        rows = scored(engine, [ScoreText(ids) for ids in texts])  # type: ignore[arg-type]
        found[name] = -np.array([row[0].logprob for one in rows for row in one])
    engine.close()
    return found


if __name__ == "__main__":
    main()
