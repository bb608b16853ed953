"""Reads traces of requests from files in published formats.

Forms: BurstGPT (https://github.com/HPMLL/BurstGPT, CC-BY-4.0), Azure's LLM inference traces of 2023 and 2024
(https://github.com/Azure/AzurePublicDataset, CC-BY-4.0), and JSON lines of our own.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO

from ashore.core.errors import InvalidRequest
from ashore.core.foreign import foreign_errors
from ashore.data.dispatch.model import Request

MAX_REQUESTS: Final = 1_000_000
MOST_SPAN_S: Final = 400 * 86_400
"""From the first arrival to the last: each second of it is simulated."""
MOST_TOKENS: Final = 100_000_000
"""Limit of a prompt or of an answer."""
MOST_LINE_CHARS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Form:
    """Names of the columns."""

    arrival: str
    prompt: str
    output: str


FORMS: Final = (
    Form("Timestamp", "Request tokens", "Response tokens"),
    Form("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    Form("arrival_s", "prompt_tokens", "output_tokens"),
)


def read_trace(
    file: Path, *, deadline_s: float, per_token_s: float = 0.0, faster: float = 1.0, limit: int = 0
) -> list[Request]:
    """Read a trace, sorted by arrival; requests without an answer are left out.

    Args:
        file: CSV with the columns of one of `FORMS`, or JSON lines with `arrival_s`, `prompt_tokens`, `output_tokens`
            and, if any, `deadline_s` (seconds from the arrival).
        deadline_s: From arrival to the whole answer, if the trace has none.
        per_token_s: Added for each token of the answer.
        faster: Speed-up factor of arrivals.
        limit: First requests alone; 0: all.

    Raises:
        InvalidRequest: the file cannot be read, has none of these forms, or no request.
    """
    found: list[tuple[float, int, int, float]] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            bounded = _short_lines(lines, file)
            is_json = file.suffix in (".jsonl", ".ndjson")
            rows = _json_rows(bounded) if is_json else _csv_rows(bounded, file)
            for at, (arrival_s, prompt, output, own_s) in rows:
                are_lengths = 0 <= prompt <= MOST_TOKENS and 0 <= output <= MOST_TOKENS
                if not (math.isfinite(arrival_s) and are_lengths and math.isfinite(own_s)):
                    raise InvalidRequest(
                        f"{file}, line {at}: not a request", hint=f"lengths are at least 0, and at most {MOST_TOKENS:,}"
                    )
                if output:
                    found.append((arrival_s, prompt, output, own_s or deadline_s + per_token_s * output))
                if len(found) >= (limit or MAX_REQUESTS):
                    break
    except OSError as fault:
        raise InvalidRequest(f"{file}: {fault.strerror}", hint="name a file with a trace") from fault
    except csv.Error as fault:
        raise InvalidRequest(f"{file}: {fault}", hint="correct that file") from fault
    except UnicodeDecodeError as fault:
        raise InvalidRequest(f"{file} is not a text file", hint="give a CSV or JSON lines") from fault
    if not found:
        raise InvalidRequest(f"{file} has no request with an answer", hint="check the columns of its tokens")
    found.sort()
    begin_s = found[0][0]
    if not (found[-1][0] - begin_s) / faster <= MOST_SPAN_S:
        raise InvalidRequest(
            f"{file} spans {(found[-1][0] - begin_s) / faster:,.3g} s; at most {MOST_SPAN_S:,} are simulated",
            hint="read fewer requests with --requests, or let them come faster",
        )
    return [
        Request(
            number=number,
            arrival_s=(arrival_s - begin_s) / faster,
            prompt_tokens=prompt,
            output_tokens=output,
            deadline_s=(arrival_s - begin_s) / faster + due_s,
        )
        for number, (arrival_s, prompt, output, due_s) in enumerate(found)
    ]


def _short_lines(lines: TextIO, file: Path) -> Iterator[str]:
    """Yield lines of bounded length; an endless one does not fill the memory."""
    at = 0
    while line := lines.readline(MOST_LINE_CHARS):
        at += 1
        if len(line) == MOST_LINE_CHARS:
            raise InvalidRequest(f"{file}, line {at} is longer than {MOST_LINE_CHARS:,} characters", hint="correct it")
        yield line


def _csv_rows(lines: Iterator[str], file: Path) -> Iterator[tuple[int, tuple[float, int, int, float]]]:
    reader = csv.DictReader(lines)
    names = reader.fieldnames or []
    form = next((one for one in FORMS if {one.arrival, one.prompt, one.output} <= set(names)), None)
    if form is None:
        raise InvalidRequest(
            f"{file} has the columns {', '.join(names)[:200] or 'none'}",
            hint="expected " + "; or ".join(f"{one.arrival}, {one.prompt}, {one.output}" for one in FORMS),
        )
    for row in reader:
        with foreign_errors(f"{file}, line {reader.line_num}", InvalidRequest, hint="correct that line"):
            told = float(row.get("deadline_s") or 0)
            yield (
                reader.line_num,
                (_seconds(row[form.arrival]), int(float(row[form.prompt])), int(float(row[form.output])), told),
            )


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[int, tuple[float, int, int, float]]]:
    for at, line in enumerate(lines, 1):
        if not line.strip():
            continue
        with foreign_errors(
            f"line {at} is not a request", InvalidRequest, hint="expected arrival_s, prompt_tokens, output_tokens"
        ):
            row = json.loads(line)
            yield (
                at,
                (
                    float(row["arrival_s"]),
                    int(row["prompt_tokens"]),
                    int(row["output_tokens"]),
                    float(row.get("deadline_s", 0)),
                ),
            )


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text[:26]).timestamp()
