"""A branch office sorts damaged parcels out by a picture, on the spot, against the same asked of a far centre.

`parcels.py` draws the pictures, `sight.py` has the encoder and the head, `link.py` the narrow line to the centre.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from shared.report import Report
from shared.server import Server, kept_folder, serving
from sklearn.linear_model import LogisticRegression
from sorting.link import Link
from sorting.parcels import DAMAGED_SHARE, KINDS, SHARES, Parcel, draw_parcel
from sorting.sight import SIZE, WIDTH, BadPicture, Sight, open_picture, train_head

ROUND_TRIP_S, MBIT_S = 0.2, 2.0
CAMERA, QUALITY = 1_280, 90
"""Pixels of a side of the camera's picture, and quality of its JPEG."""
FALSE_ALARMS = 0.05
"""Of the intact parcels; the head leans so far."""
TOML = """
[[model]]
name = "smollm2"
[[model]]
name = "{head}"
alias = "parcel"
[[privacy.route]]
alias = "parcel"
prompts = {{ "*" = "allow" }}
"""
"""Rows of the head are numbers; none of them is a telephone number."""
TEMPLATES = {
    "crushed": "A corner is crushed: send to repacking and check the contents.",
    "torn": "The board is torn: send to repacking and count the contents.",
    "wet": "The parcel is wet: keep it apart and look for what leaks.",
    "open": "The parcel is open: close it with two people present.",
}
WORDS = {"crushed": ("crush", "dent"), "torn": ("torn", "tear", "hole"), "wet": ("wet", "water"), "open": ("open",)}
LANES = {"intact": "belt", "crushed": "repacking", "torn": "repacking", "wet": "apart", "open": "apart"}


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with a parcel, and what the sorter reads."""

    kind: str
    sentence: str
    by_model: bool


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--out", type=Path, required=True, help="directory of the report")
    words.add_argument("--small", action="store_true", help="few pictures")
    given = words.parse_args()
    each, tested, asked = (24, 40, 3) if given.small else (200, 300, 12)

    begun = time.perf_counter()
    sight = Sight()
    kinds = np.array([0] * 3 * each + [kind for kind in range(1, len(KINDS)) for _ in range(each)])
    parcels = [draw_parcel(seed, KINDS[kind]) for seed, kind in enumerate(kinds)]
    greys = [as_camera(one) for one in parcels]
    features = np.array([sight.features(one) for one in greys])
    sight.fit(features)
    order = np.random.default_rng(31).permutation(len(kinds))
    head = train_head(sight.numbers(features)[order], kinds[order], false_alarms=FALSE_ALARMS)
    rules = train_rules(np.array([brightness(one) for one in greys])[order], kinds[order])
    trained_s = time.perf_counter() - begun

    report = Report(title="Damaged parcels are sorted out at the branch, not at the centre", summary="")
    place = head.write(kept_folder("parcel-head"))
    size = sum(one.stat().st_size for one in place.iterdir())
    with serving(toml=TOML.format(head=place)) as server:
        missed = tell_quality(report, server, sight, rules, tested)
        tell_sentences(report, server)
        site_s, centre_s = tell_places(report, server, sight, asked)
        records = server.ashore("audit", "verify").splitlines()[-1]
    report.summary = (
        f"The branch finds {100 - missed:.0f} of 100 damaged parcels in drawn pictures and decides in "
        f"{1e3 * site_s:.0f} ms. The same takes {centre_s:.1f} s when the picture goes to a centre over a line of "
        f"{1e3 * ROUND_TRIP_S:.0f} ms and {MBIT_S:g} Mbit/s, and does not come at all when the line is cut."
    )
    report.text(
        "How it is built",
        f"A camera picture is reduced to {SIZE} x {SIZE} grey values. An encoder that never saw parcels makes "
        f"{features.shape[1]:,} features of it; {WIDTH} directions of them go to a head that ashore serves at "
        f"/v1/heads/parcel/score: {size:,} bytes, released, budgeted and audited like any model. {len(kinds):,} "
        f"pictures were drawn and learnt from in {trained_s:.0f} s. A language model writes the sorter's sentence.",
        f"The audit log after the run: {records}.",
    )
    report.picture("Drawn parcels: intact, crushed, torn, wet, open (from left to right)", contact_sheet())
    report.shown = [
        "A decision at the branch needs no line: it is fast, costs no traffic, and goes on when the line is cut.",
        "The decision is a model of ashore: released, budgeted, audited; its head has a few kilobytes.",
        "A sentence of the model is shown only if it speaks of the damage that was found; else a fixed one is.",
    ]
    report.not_shown = [
        "Real pictures: no package carries photographs of damaged parcels, so they are drawn. On your belt the errors "
        "differ: collect pictures there, and train the head on them.",
        "A faster centre: both places run on this machine. The table has what the line alone takes, which no faster "
        "machine at the centre can save.",
        "That a text model sees: it gets the kind of damage as a word, never the picture.",
    ]
    report.write(given.out)


# --- The decision ---


def decide(server: Server, sight: Sight, data: bytes) -> Decision:
    """Decide about a parcel by its picture; the sentence is for the sorter's screen."""
    kind = kind_of(server, sight, open_picture(data))
    return Decision(kind, *sentence(server, kind))


def kind_of(server: Server, sight: Sight, grey: np.ndarray) -> str:
    row = {"picture": [round(float(one), 2) for one in sight.numbers(sight.features(grey))]}
    return str(server.post("/v1/heads/parcel/score", {"rows": [row]})["decisions"][0])


def sentence(server: Server, kind: str, nonce: str = "") -> tuple[str, bool]:
    """Return what the sorter reads, and whether the model wrote it; equal questions are answered from the cache."""
    if kind == "intact":
        return "", False
    schema = {
        "type": "object",
        "properties": {"lane": {"const": LANES[kind]}, "say": {"type": "string", "maxLength": 90}},
        "required": ["lane", "say"],
        "additionalProperties": False,
    }
    question = f"{nonce}A parcel on the belt is {kind}. Tell the worker in one short sentence what to do with it."
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": question}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "order", "schema": schema, "strict": True}},
        "temperature": 0,
        "max_tokens": 60,
    }
    try:
        said = str(json.loads(server.post("/v1/chat/completions", body)["choices"][0]["message"]["content"])["say"])
    except (ValueError, KeyError):  # cut at max_tokens
        said = ""
    return (said, True) if fits(said, kind) else (TEMPLATES[kind], False)


def fits(said: str, kind: str) -> bool:
    """Return whether a sentence speaks of this damage, of no other, and of no number that nobody measured."""
    lower = said.lower()
    others = [word for other, words in WORDS.items() if other != kind for word in words]
    return (
        any(word in lower for word in WORDS[kind])
        and not any(word in lower for word in others)
        and not any(c.isdigit() or c in "<>{}" for c in said)
        and said.rstrip().endswith((".", "!"))
    )


# --- Quality ---


def as_camera(parcel: Parcel) -> np.ndarray:
    return open_picture(jpeg(parcel.picture))


def jpeg(picture: Image.Image, side: int | None = None) -> bytes:
    saved = io.BytesIO()
    (picture.resize((side, side)) if side else picture).save(saved, "JPEG", quality=QUALITY)
    return saved.getvalue()


def brightness(grey: np.ndarray) -> list[float]:
    """Return what a simple optical check looks at: brightness, contrast, dark and bright shares, edges."""
    steps = np.abs(np.diff(grey.astype(np.float32), axis=1))
    return [grey.mean(), grey.std(), (grey < 40).mean(), (grey > 200).mean(), steps.mean(), (steps > 30).mean()]


def train_rules(values: np.ndarray, kinds: np.ndarray) -> Callable[[np.ndarray], bool]:
    """Return the baseline: rules on brightness, weighed by a logistic regression, with the same false alarms."""
    mean, spread = values.mean(0), values.std(0) + 1e-6
    aside = np.arange(len(kinds)) % 3 == 0
    model = LogisticRegression(max_iter=1_000).fit(((values - mean) / spread)[~aside], kinds[~aside] > 0)
    scores = model.decision_function((values[aside & (kinds == 0)] - mean) / spread)
    limit = float(np.quantile(scores, 1 - FALSE_ALARMS))
    return lambda grey: bool(model.decision_function((np.array([brightness(grey)]) - mean) / spread)[0] > limit)


def tell_quality(
    report: Report, server: Server, sight: Sight, rules: Callable[[np.ndarray], bool], tested: int
) -> float:
    """Decide about parcels that were never learnt from; return the missed per cent."""
    draw = np.random.default_rng(7)
    half = tested // 2
    truth = ["intact"] * half + [str(one) for one in draw.choice(KINDS[1:], half, p=SHARES)]
    seen, by_rules, hard, times = [], [], [], []
    for number, kind in enumerate(truth):
        parcel = draw_parcel(1_000_000 + number, kind)
        data = jpeg(parcel.picture)
        begun = time.perf_counter()
        grey = open_picture(data)
        seen.append(kind_of(server, sight, grey))
        times.append(time.perf_counter() - begun)
        by_rules.append(rules(grey))
        hard.append(parcel.severity)
    damaged = np.array([one != "intact" for one in truth])
    found, simple = np.array([one != "intact" for one in seen]), np.array(by_rules)
    missed, false = (~found[damaged]).mean(), found[~damaged].mean()
    named = np.mean([a == b for a, b, f in zip(seen, truth, found, strict=True) if f and b != "intact"])
    tell_share(report, "missed", int((~found[damaged]).sum()), half, "damaged parcels missed")
    tell_share(report, "false_alarms", int(found[~damaged].sum()), half, "intact parcels sent aside")
    tell_share(
        report, "missed_by_rules", int((~simple[damaged]).sum()), half, "missed by rules on brightness (baseline)"
    )
    report.figure("kind_named", float(named), f"{100 * named:.0f} %", "found ones whose kind of damage is right")
    decided_ms = 1e3 * statistics.median(times)
    note = f"95 % within {1e3 * float(np.quantile(times, 0.95)):.0f} ms; with key, budget and audit"
    report.figure("decision_ms", decided_ms, f"{decided_ms:.0f} ms", "picture to decision, median", note=note)
    rows: list[Sequence[object]] = []
    bands = (("hard to see", 0.0, 1 / 3), ("visible", 1 / 3, 2 / 3), ("obvious", 2 / 3, 1.01))
    for kind in KINDS[1:]:
        row: list[object] = [kind]
        for _, low, high in bands:
            part = [f for f, t, s in zip(found, truth, hard, strict=True) if t == kind and low <= s < high]
            row.append(f"{sum(part)} of {len(part)}")
        rows.append(row)
    report.table("Found, by kind and by how well the damage is seen", ["kind", *(one[0] for one in bands)], rows)
    alarm = DAMAGED_SHARE * (1 - missed) + (1 - DAMAGED_SHARE) * false
    report.text(
        "",
        f"The test has as many intact parcels as damaged ones. Where {100 * DAMAGED_SHARE:.1f} % are damaged (313 of "
        f"3,234 ordered by StellaService in 2013), {100 * alarm:.0f} of 100 parcels are sent aside, and "
        f"{100 * DAMAGED_SHARE * (1 - missed) / max(alarm, 1e-9):.0f} of 100 of those are damaged.",
    )
    return 100 * float(missed)


def tell_sentences(report: Report, server: Server) -> None:
    rows, kept = [], 0
    for kind in KINDS[1:]:
        said, by_model = sentence(server, kind)
        kept += by_model
        rows.append([kind, LANES[kind], said, "the model" if by_model else "a fixed sentence"])
    report.figure("sentences", kept, f"{kept} of {len(rows)}", "sentences of the demo model that pass the check")
    report.table("What the sorter reads", ["found", "lane", "sentence", "written by"], rows)


def tell_share(report: Report, key: str, hits: int, of: int, label: str) -> None:
    z, p = 1.96, hits / of
    middle, half = p + z * z / 2 / of, z * math.sqrt(p * (1 - p) / of + z * z / 4 / of / of)
    low, high = ((middle + side * half) / (1 + z * z / of) for side in (-1, 1))
    note = f"{hits} of {of}; 95 % interval {100 * low:.0f} to {100 * high:.0f} %"
    report.figure(key, p, f"{100 * p:.1f} %", label, note=note)


# --- The branch against the centre ---


def centre_of(server: Server, sight: Sight) -> ThreadingHTTPServer:
    """Return a centre that decides by the same code: a picture is posted, the decision comes back."""
    lock = threading.Lock()

    class Centre(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(min(int(self.headers["content-length"]), 20 << 20))
            try:
                with lock:
                    found: dict[str, Any] = {"kind": (one := decide(server, sight, data)).kind, "say": one.sentence}
                    status = 200
            except BadPicture as fault:
                found, status = {"error": str(fault)}, 400
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Write no log."""

    centre = ThreadingHTTPServer(("127.0.0.1", 0), Centre)
    threading.Thread(target=centre.serve_forever, daemon=True).start()
    return centre


def tell_places(report: Report, server: Server, sight: Sight, asked: int) -> tuple[float, float]:
    """Ask the branch and the centre about the same parcels, in turn; return the medians in seconds."""
    centre = centre_of(server, sight)
    link = Link(centre.server_port, delay_s=ROUND_TRIP_S / 2, bytes_per_s=MBIT_S * 1e6 / 8)
    ways: dict[str, list[float]] = {"branch": [], "centre": [], "centre, small picture": []}
    sent: dict[str, list[int]] = {name: [] for name in ways}
    alike = 0
    with httpx.Client(base_url=f"http://127.0.0.1:{link.port}", timeout=60, trust_env=False) as far:
        far.post("/", content=jpeg(Image.new("L", (SIZE, SIZE))))  # opens the connection, which is kept
        for number in range(asked):
            picture = draw_parcel(2_000_000 + number, KINDS[1 + number % 4], CAMERA).picture
            full, small = jpeg(picture), jpeg(picture, 320)
            kinds = []
            for name, data in (("branch", full), ("centre", full), ("centre, small picture", small)):
                before, begun = link.carried_bytes, time.perf_counter()
                kinds.append(
                    decide(server, sight, data).kind if name == "branch" else far.post("/", content=data).json()["kind"]
                )
                ways[name].append(time.perf_counter() - begun)
                sent[name].append(link.carried_bytes - before)
            alike += kinds[0] == kinds[1]
        fresh = [timed(lambda n=n: sentence(server, "torn", f"Parcel {n}. ")) for n in range(min(asked, 6))]
        link.cut.set()
        lost = 0
        for number in range(3):
            data = jpeg(draw_parcel(3_000_000 + number, "torn").picture)
            decide(server, sight, data)
            try:
                far.post("/", content=data, timeout=2)
            except httpx.TimeoutException:
                lost += 1
    link.close()
    centre.shutdown()
    site_s, centre_s, small_s = (statistics.median(times) for times in ways.values())
    new_s = statistics.median(fresh)
    ratio = site_s / centre_s
    report.figure("site_s", site_s, f"{1e3 * site_s:.0f} ms", "decision and sentence at the branch, median")
    report.figure("centre_s", centre_s, f"{centre_s:.2f} s", "the same, asked of the centre, median")
    report.figure(
        "ratio", ratio, f"{ratio:.3f}", "branch as a share of the centre", bar="at most 1/3", met=ratio <= 1 / 3
    )
    note = "the branch decided 3 of 3"
    report.figure(
        "lost_when_cut", lost, f"{lost} of 3", "decisions of the centre lost while the line is cut", note=note
    )
    rows = []
    for name, times in ways.items():
        new = statistics.median(times) + new_s
        seconds = [f"{one:.3f} s" for one in (statistics.median(times), max(times), new)]
        rows.append([name, *seconds, f"{statistics.median(sent[name]) / 1e3:.0f} kB"])
    whole = statistics.median(sent["centre"])
    line_s = ROUND_TRIP_S + whole * 8 / MBIT_S / 1e6
    columns = ["asked of", "median", "longest", "with a sentence never asked before", "over the line"]
    report.table(
        "The same decision in two places",
        columns,
        rows,
        note=f"{asked} parcels, asked in turn on a connection that is kept; same machine and code, {alike} equal.",
    )
    hourly = 3600 * MBIT_S * 1e6 / 8 / whole
    report.text(
        "Read it both ways",
        f"Of the centre's time the line takes {line_s:.2f} s: a picture of {whole / 1e3:.0f} kB at {MBIT_S:g} Mbit/s, "
        f"and a round trip. No faster machine there saves that, and the line is full at {hourly:,.0f} parcels an hour.",
        f"A branch that sends only a picture of 320 pixels waits {small_s:.2f} s; its own decision takes "
        f"{site_s / small_s:.2f} of that. The smaller the picture, the smaller the advantage, and the less is left to "
        "look at later.",
        f"A sentence that was never asked before takes {new_s:.1f} s more on this machine, in both places. It depends "
        "on the kind of damage alone, so the cache answers all others. With a new sentence each time the shares are "
        f"{(site_s + new_s) / (centre_s + new_s):.2f} and {(site_s + new_s) / (small_s + new_s):.2f}: then the "
        "language model takes the time, not the line.",
    )
    report.chart("", "Each decision, in seconds.", lambda axes, colour: draw_ways(axes, colour, ways), size=(9, 2.4))
    return site_s, centre_s


def timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def draw_ways(axes: Any, colour: str, ways: dict[str, list[float]]) -> None:
    for row, (name, times) in enumerate(ways.items()):
        axes.scatter(times, [row] * len(times), s=22, alpha=0.7, color=colour if name == "branch" else "#8a929b")
    axes.set_yticks(range(len(ways)), list(ways))
    axes.set_xlabel("s")
    axes.set_xlim(left=0)


def contact_sheet() -> bytes:
    sheet = Image.new("RGB", (5 * 200, 2 * 200))
    for column, kind in enumerate(KINDS):
        for row in range(2):
            sheet.paste(draw_parcel(10 + row, kind).picture.resize((200, 200)), (200 * column, 200 * row))
    saved = io.BytesIO()
    sheet.save(saved, "PNG")
    return saved.getvalue()


if __name__ == "__main__":
    main()
