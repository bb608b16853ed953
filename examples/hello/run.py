"""A first application: notes of a night shift become rows of a table, by a schema that the model cannot leave."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from shared.report import Report
from shared.server import serving

NOTES = (
    "Pump 3 lost pressure at 02:10. Seal replaced, back at 02:40. No stop of the line.",
    "Line B stood still for 25 minutes, a belt had torn. Spare belts: one left.",
    "Oven 2 ran 4 degrees too warm from midnight on. Thermostat set again.",
    "Nothing happened on line A.",
    "Forklift 7 leaks oil; it stands outside with a note on it.",
    "Inspector came at 05:00 and looked at the emergency exits. All free.",
)
SCHEMA = {
    "type": "object",
    "properties": {
        "what": {"type": "string", "maxLength": 60},
        "line_stopped": {"type": "boolean"},
        "urgency": {"enum": ["none", "today", "now"]},
    },
    "required": ["what", "line_stopped", "urgency"],
    "additionalProperties": False,
}


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--small", action="store_true")
    given = words.parse_args()
    notes = NOTES[:2] if given.small else NOTES

    rows, times_ms = [], []
    with serving("smollm2") as server:
        for note in notes:
            begun = time.perf_counter()
            answer = server.post(
                "/v1/chat/completions",
                {
                    "model": "smollm2",
                    "messages": [
                        {"role": "system", "content": "Write the note of a shift as JSON."},
                        {"role": "user", "content": note},
                    ],
                    "response_format": {"type": "json_schema", "json_schema": {"name": "note", "schema": SCHEMA}},
                    "temperature": 0,
                    "max_tokens": 80,
                },
            )
            times_ms.append((time.perf_counter() - begun) * 1e3)
            row = json.loads(answer["choices"][0]["message"]["content"])
            rows.append((note, row["what"], "yes" if row["line_stopped"] else "no", row["urgency"]))
        audited = server.ashore("audit", "search", "--json").count('"route"')

    report = Report(
        title="Notes of a shift as a table",
        summary=f"A model on this machine read {len(rows)} notes and filled a table whose form it cannot leave.",
    )
    report.figure(
        "valid",
        len(rows),
        f"{len(rows)} of {len(notes)}",
        "answers fit the schema",
        bar="all",
        met=len(rows) == len(notes),
    )
    report.figure(
        "median_ms", statistics.median(times_ms), f"{statistics.median(times_ms):.0f} ms", "median time of a note"
    )
    report.figure("audited", audited, str(audited), "requests in the audit log", bar="all", met=audited >= len(notes))
    report.table("The table", ["note", "what", "line stopped", "urgency"], rows)
    report.chart(
        "Time of each note",
        "Milliseconds of each request, in the order of the table.",
        lambda axes, colour: axes.bar(range(1, len(times_ms) + 1), times_ms, color=colour),
    )
    report.shown = ["Every answer has the form that the schema asks for, also from a very small model."]
    report.not_shown = ["That the table is right: the demo model has 135 million parameters. A form is not the truth."]
    report.write(given.out)


if __name__ == "__main__":
    main()
