"""Rows of the serving table, as text for people, Markdown and JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.row import Row

PACKAGES = ("ashore", "openvino", "openvino-genai", "xllamacpp", "httptools", "grpcio", "msgspec")


def about(command: str, *, busy_before: float, busy_after: float) -> dict[str, object]:
    """Return what a reader needs to judge the figures: machine, versions, commit, command, and how quiet it was."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": command,
        "commit": commit,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "processor": processor(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "versions": versions,
        "other_load_before": round(busy_before, 3),
        "other_load_after": round(busy_after, 3),
    }


def processor() -> str:
    """Return the processor's name and the vector instructions that it offers here."""
    name, kept = platform.machine(), ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() == "flags":
            kept = " ".join(f for f in value.split() if f.startswith(("avx", "amx")))
    return f"{name} ({kept})"


def markdown(rows: list[Row], facts: dict[str, object], not_measured: list[str]) -> str:
    """Return the report."""
    head = ["what", "measured", "bar", "aim", "verdict", "made of"]
    lines = [f"# Serving, {facts['date']}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    lines += ["", "## Where and how", ""]
    lines += [f"- {key}: {value if not isinstance(value, dict) else json.dumps(value)}" for key, value in facts.items()]
    lines += ["- the load client ran on the same cores and is part of every figure", "", "## Not measured", ""]
    lines += [f"- {line}" for line in not_measured] or ["- nothing was left out"]
    return "\n".join(lines) + "\n"


def write(folder: Path, rows: list[Row], facts: dict[str, object], not_measured: list[str]) -> Path:
    """Write `serve_<date>.md` and `.json`; the last run of a day stands."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"serve_{time.strftime('%Y%m%d', time.gmtime())}.md"
    path.write_text(markdown(rows, facts, not_measured))
    plain = {"about": facts, "rows": [asdict(r) | {"verdict": r.verdict} for r in rows], "not_measured": not_measured}
    path.with_suffix(".json").write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    return path
