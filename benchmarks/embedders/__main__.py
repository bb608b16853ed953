"""Embedders against sentence-transformers: vectors of 22 layouts, tokens a second, and what is found in a Chinese FAQ.

    python -m benchmarks.embedders FOLDER --peer PYTHON [--faq FOLDER] [--report FILE]

PYTHON is of an environment with torch, sentence-transformers and optimum-intel. FOLDER gets models and a store. The FAQ
is that of Debian (packages debian-faq-zh-cn and debian-faq, GPL-2+), unpacked: a question is a heading, a passage the
text below it; the passages of both languages are searched together. multilingual-e5-small comes from the catalogue.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.embedders.made import SHAPES, TEXTS
from benchmarks.row import Row, report
from numpy.typing import NDArray

from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, ContextTooLong
from ashore.data.engines import EngineInfo, EngineOptions, ModelFiles
from ashore.data.engines.openvino.engine import OpenVinoEngine
from ashore.data.path.embedding import encode_inputs
from ashore.data.text import TextModel
from ashore.kit.store import ModelStore

MADE = str(Path(__file__).with_name("made.py"))
LEAST = {"f32": 0.9999, "bf16": 0.9995}
E5 = "multilingual-e5-small"


class Served:
    """A model of the store in an engine of this process."""

    def __init__(self, store: ModelStore, source: str, name: str, **extra: str) -> None:
        self.stored = store.pull(source, name=name)
        self.folder = store.open(self.stored.reference).directory
        files = ModelFiles(
            name=name, digest="d", directory=str(self.folder), format="safetensors", weights=self.stored.weights
        )
        self.engine = OpenVinoEngine()
        self.info: EngineInfo = self.engine.load(files, EngineOptions(kind="openvino", threads=2, extra=extra))
        self.text = TextModel.load(self.folder)

    def vectors(self, texts: list[str], kind: str = "") -> NDArray[np.float64]:
        """Return unit vectors, [N, D]; every text within the model's context."""
        ids = encode_inputs(texts, self.text, self.info, input_type=kind)  # type: ignore[arg-type]
        return np.array([v for at in range(0, len(ids), 32) for v in self.engine.embed(ids[at : at + 32])])


def compare(folder: Path, peer: str) -> list[Row]:
    """Pull and serve every shape, and compare its vectors in both precisions."""
    subprocess.run([peer, MADE, "shapes", str(folder / "shapes")], check=True)
    wanted: dict[str, dict[str, list[list[float]]]] = json.loads((folder / "shapes" / "vectors.json").read_text())
    rows, store = [], ModelStore(folder / "store", folder / "run", SystemClock())
    for precision, least in LEAST.items():
        verdicts = {
            name: judge(store, folder / "shapes" / f"shape-{at}", f"shape-{at}-{precision}", precision, wanted[name])
            for at, name in enumerate(SHAPES)
        }
        right = {name: one for name, one in verdicts.items() if isinstance(one, float)}
        wrong = [f"{name} {one:.5f}" for name, one in right.items() if not one >= least]
        refused = "; ".join(f"{name}: {one}" for name, one in verdicts.items() if isinstance(one, str))
        rows.append(
            Row(
                what=f"shapes in {precision} served with another vector than sentence-transformers", value=len(wrong),
                unit=f"of {len(SHAPES)}", bar=0, lower_is_better=True,
                detail=f"{'; '.join(wrong) or 'none'}. Served: {len(right)}. Refused at the pull: {refused}",
            )
        )  # fmt: skip
        rows.append(
            Row(
                what=f"least cosine of a shape served in {precision}", value=min(right.values()), unit="", bar=least,
                detail=", ".join(f"{name} {right[name]:.6f}" for name in sorted(right, key=right.__getitem__)[:3]),
            )
        )  # fmt: skip
    return rows


def judge(
    store: ModelStore, source: Path, name: str, precision: str, wanted: dict[str, list[list[float]]]
) -> float | str:
    """Return the least cosine of any text and prompt, or why the model or every text was refused."""
    try:
        served = Served(store, str(source), name, INFERENCE_PRECISION_HINT=precision)
    except AshoreError as fault:
        return f"{fault.code}: {fault.message}"[:200]
    found = []
    for kind, expected in wanted.items():
        for text, one in zip(TEXTS, expected, strict=True):
            try:
                got = served.vectors([text], kind)[0]
            except ContextTooLong:
                continue  # refused in words, where sentence-transformers cuts the text
            found.append(float(got @ one / np.linalg.norm(one)) if len(got) == len(one) else 0.0)
    served.engine.close()
    return min(found)


def speed(folder: Path, peer: str, texts: list[str]) -> Row:
    """Return tokens a second against sentence-transformers on OpenVINO, both in a process without a server."""
    served = Served(ModelStore(folder / "store", folder / "run", SystemClock()), E5, "e5-fast")
    total = sum(map(len, encode_inputs(texts, served.text, served.info)))  # type: ignore[arg-type]
    served.vectors(texts[:32])
    (folder / "texts.json").write_text(json.dumps(texts))
    ours, theirs = [], []
    for _ in range(3):
        for _ in range(3):
            began = time.monotonic()
            served.vectors(texts)
            ours.append(time.monotonic() - began)
        line = [peer, MADE, "speed", str(served.folder), str(folder / "texts.json")]
        theirs += json.loads(
            subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
    served.engine.close()
    mine, peers = total / statistics.median(ours), total / statistics.median(theirs)
    return Row(
        what="tokens/s of multilingual-e5-small against sentence-transformers on OpenVINO", value=mine / peers,
        unit="times", bar=1.5,
        detail=f"{mine:,.0f} ({served.info.precision}) and {peers:,.0f}; {len(texts)} texts, {total} tokens",
    )  # fmt: skip


class Sections(HTMLParser):
    """Reads a page as pairs of a heading and the text up to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self._at = 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "h3", "h4"):
            self.found.append(["", ""])
            self._at = 0

    def handle_endtag(self, tag: str) -> None:
        self._at = 1 if tag in ("h2", "h3", "h4") else self._at

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][self._at] += data


def sections(folder: Path, language: str) -> list[tuple[str, str]]:
    """Return headings without their numbers, and the texts below them."""
    found = []
    for file in sorted(folder.rglob(f"*.{language}.html")):
        page = Sections()
        page.feed(file.read_text(encoding="utf-8", errors="replace"))
        for heading, text in page.found:
            words, passage = (
                re.sub(r"^\s*(Chapter|第)?\s*[\d.]+\s*(章)?[\s.]*", "", heading).strip(),
                " ".join(text.split()),
            )
            if words and len(passage) > 60:
                found.append((words, passage[:1000]))
    return found


def in_chinese(text: str) -> bool:
    return sum("一" <= letter <= "鿿" for letter in text) > 0.15 * len(text)


def hits(folder: Path, faq: dict[str, list[tuple[str, str]]]) -> Row:
    """Return how often the passage of a Chinese question is among the first five of all passages."""
    served = Served(ModelStore(folder / "store", folder / "run", SystemClock()), E5, "e5-found")
    asked = [one for one in faq["zh"] if in_chinese(one[0]) and in_chinese(one[1])]
    passages = [text for _, text in asked] + [text for _, text in faq["en"]]
    cut = [served.text.decode(served.text.encode(text)[1:400]) for text in passages]
    scores = served.vectors([heading for heading, _ in asked], "query") @ served.vectors(cut, "passage").T
    places = [(scores[at] > scores[at, at]).sum() for at in range(len(asked))]
    served.engine.close()
    first = np.mean(np.array(places) == 0)
    return Row(
        what="Chinese questions whose passage is among the first five", value=float(np.mean(np.array(places) < 5)),
        unit="", bar=0.75,
        detail=f"{len(asked)} questions, {len(passages)} passages; the very first: {first:.2f}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--faq", type=Path)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    rows: list[Any] = compare(given.folder, given.peer)
    if given.faq:
        faq = {"zh": sections(given.faq, "zh-cn"), "en": sections(given.faq, "en")}
        rows += [hits(given.folder, faq), speed(given.folder, given.peer, [text for _, text in faq["en"]])]
    table = report(rows, "benchmarks.embedders")
    print(table)
    if given.report:
        given.report.write_text(f"# Embedders\n\n{__doc__}\n{table}", encoding="utf-8")


if __name__ == "__main__":
    main()
